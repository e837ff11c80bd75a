"""New columns from others: a small language with Python's syntax that runs no code."""

import ast
import operator
import re
import unicodedata
import warnings
from collections.abc import Callable, Mapping
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_scalar

from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.tables.column_methods import (
    ATTRIBUTES,
    FUNCTIONS,
    METHODS,
    Column,
    Word,
    check_room,
    in_64_bits,
)
from lightning_fastrecipes.functional.tables.narrowing import widen_column
from lightning_fastrecipes.functional.tables.operands import (
    check_comparable,
    check_sum,
    computable,
    is_text,
    negated,
    single,
)

_MAX_LENGTH, _MAX_DEPTH, _MAX_TEXT = 10_000, 200, 1_000
_MAX_INTEGER, _MAX_EXPONENT = 2**64, 64

_OPERATORS: Mapping[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
    ast.Pow: operator.pow, ast.And: operator.and_, ast.Or: operator.or_,
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge,
}  # fmt: skip
_PLAIN = (bool, int, float, str, np.generic, pd.Timestamp, pd.Timedelta, pd.Series, pd.DataFrame)
_TOKENS = re.compile(
    r"""('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")|`([^`]*)`|(@\s*\w+)|([&|])""", re.DOTALL
)


def evaluate(frame: pd.DataFrame, name: str, expression: str) -> Column:
    """Compute a column from those of a table.

    Only what is listed here exists; nothing else is ever looked up.

    - Columns by name, in backticks where the name is no word: ``Sales``, ```Dez. 2012```.
    - Numbers, text, ``True``, ``False``, ``None``; lists after ``in``, ``==`` and ``!=``.
    - ``+ - * / // % **``, comparisons, ``in``, ``not in``, ``and``, ``or``, ``not``. As in
      ``DataFrame.query``, ``&`` and ``|`` mean ``and`` and ``or``.
    - ``@date(text)`` and ``@date(text, '%d.%m.%Y')``: text as dates; ``@date(number, 'unix')``,
      ``'unix_ms'`` or ``'excel'``: seconds since 1970, days of Excel; see ``parse_dates``.
    - ``@ymd(year, month, day)``, and ``@iso_week(year, week)`` for its Monday: numbers as dates.
    - ``@days(number)``: numbers as time spans, to add to dates.
    - ``@where(condition, yes, no)``: one of two values by row.
    - Functions of numbers such as ``log1p(Sales)``; see ``column_methods.FUNCTIONS``.
    - Methods of columns as in pandas, such as ``Days.clip(0, 720)``, ``(Date - Since).dt.days`` or
      ``file.str.slice(0, 2)``; see ``column_methods.METHODS``. Regular expressions are RE2's.

    Numbers have 64 bits, however narrow the columns are; whole ones that need more become floats.
    ``mean``, ``shift`` and the like look at other rows, so that a row gets another value in another
    table.

    The column has the ``name``, and the index of the table, which is not changed. Raise `DataError`
    if the expression uses anything else, is too large, or cannot be computed.

    >>> table = pd.DataFrame({"year": [2015.0, None], "week": [1, 2]})
    >>> [str(day)[:10] for day in evaluate(table, "since", "@iso_week(year, week)")]
    ['2014-12-29', 'NaT']
    """
    found = _evaluated(frame, expression, f"`{name}` cannot be computed by")
    return found.rename(name).set_axis(frame.index)


def select_rows(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """Keep the rows for which an expression is true; see ``evaluate``. A missing one is not true.

    Raise `DataError` if it cannot be computed, is no condition, or leaves no rows.

    >>> select_rows(pd.DataFrame({"Sales": [0, 5, 7]}), "Sales > 0").index.tolist()
    [1, 2]
    """
    what = "`where` must be a condition on columns such as 'Sales > 0', got"
    found = _evaluated(frame, where, what)
    if not is_bool_dtype(found.dtype):
        raise DataError(f"{what} {_short(where)!r}: it gives {found.dtype}. Compare it.")
    kept = frame[found.fillna(False).to_numpy(bool)]
    if not len(kept):
        raise DataError(
            f"`where` must leave rows, but of {len(frame):,} none is {_short(where)!r}. Change it."
        )
    return kept


def _evaluated(frame: pd.DataFrame, expression: str, what: str) -> Column:
    try:
        return _Evaluation(frame).run(expression)
    except Exception as error:  # whatever pandas says of values that it cannot take
        reason = "it needs too much memory" if isinstance(error, MemoryError) else str(error)
        raise DataError(f"{what} {_short(expression)!r}: {reason.rstrip('.')}.") from error


class _Evaluation:
    """One expression over one table."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame
        # Numbered rows, since pandas would multiply those of an index that repeats itself.
        self._rows = pd.RangeIndex(len(frame))
        names = {str(column): column for column in frame}
        # Python reads every word in its normal form.
        normal = {unicodedata.normalize("NFKC", name): column for name, column in names.items()}
        self._names = normal | names
        self._aliases: dict[str, str] = {}
        self._columns: dict[str, Column] = {}

    def run(self, expression: str) -> Column:
        with np.errstate(all="ignore"):
            found = self._value(self._parse(expression))
        if found is None or isinstance(found, pd.DataFrame):
            raise DataError("it gives a table or nothing, not a column")
        if not isinstance(found, pd.Series):
            found = pd.Series(np.full(len(self._rows), found), self._rows)
        return found

    def _parse(self, expression: str) -> ast.expr:
        """Read an expression, within bounds; names in backticks become words first."""
        if len(expression) > _MAX_LENGTH:
            raise DataError(f"it has {len(expression):,} characters, more than {_MAX_LENGTH:,}")
        mark = "_" + "q" * (1 + max(map(len, re.findall("q+", expression)), default=0))

        def plain(token: re.Match[str]) -> str:
            text, name, function, connective = token.groups()
            if text is not None:
                return str(text)
            if connective is not None:
                return " and " if connective == "&" else " or "
            alias = f"{mark}{len(self._aliases)}"
            self._aliases[alias] = name if function is None else function.replace(" ", "")
            return f" {alias} "

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # such as of '\d' in a text
                tree = ast.parse(_TOKENS.sub(plain, expression).strip(), mode="eval").body
        except (SyntaxError, ValueError) as error:
            reason = error.msg if isinstance(error, SyntaxError) else error
            raise DataError(f"invalid syntax: {reason}".replace(": invalid syntax", "")) from error
        except (RecursionError, MemoryError) as error:
            raise DataError("it is nested too deeply") from error
        level: list[ast.AST] = [tree]
        for _ in range(_MAX_DEPTH):
            level = [child for node in level for child in ast.iter_child_nodes(node)]
            if not level:
                return tree
        raise DataError(f"it is nested more than {_MAX_DEPTH} levels deep")

    def _value(self, node: ast.expr) -> Any:
        """Compute one part: a column or a single value."""
        match node:
            case ast.Constant(value=value):
                return _bounded(value)
            case ast.Name(id=word):
                return self._column(self._aliases.get(word, word))
            case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=operand):
                return negated(self._value(operand))
            case ast.UnaryOp(op=op, operand=operand):
                value = computable(self._value(operand))
                return -value if isinstance(op, ast.USub) else value
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return self._computed(type(op), self._value(left), self._value(right))
            case ast.BoolOp(op=op, values=values):
                return reduce(_OPERATORS[type(op)], map(self._value, values))
            case ast.Compare():
                return self._compared(node)
            case ast.Attribute(value=base, attr=word):
                return self._attribute(base, word)
            case ast.Subscript(value=ast.Attribute(attr="str") as text, slice=ast.Slice() as part):
                limits = [
                    limit or ast.Constant(None) for limit in (part.lower, part.upper, part.step)
                ]
                return self._called(ast.Attribute(text, "slice"), limits, [])
            case ast.Subscript(value=ast.Attribute(attr="str") as text, slice=place) if not (
                # Pandas 2 looks text up in texts, and finds nothing.
                isinstance(place, ast.Constant) and isinstance(place.value, str)
            ):
                return self._called(ast.Attribute(text, "get"), [place], [])
            case ast.Call(func=func, args=args, keywords=keywords):
                return self._called(func, args, keywords)
        raise self._refusal(node)

    def _values(self, node: ast.expr) -> Any:
        """Compute one part that may be a list of single values, too."""
        if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
            return [single(self._value(item)) for item in node.elts]
        return self._value(node)

    def _column(self, name: str) -> Column:
        if name not in self._columns:
            if name not in self._names:
                known = ", ".join(map(repr, self._names))
                raise DataError(
                    f"{name!r} is not defined. The columns are {_short(known, 1_000)}, and the"
                    f" functions {', '.join(FUNCTIONS)}"
                )
            self._columns[name] = widen_column(self._frame[self._names[name]]).set_axis(self._rows)
        return self._columns[name]

    def _computed(self, op: type[ast.AST], left: Any, right: Any) -> Any:
        if op is ast.Add and is_text(left) and is_text(right):
            check_room(self._rows, left, right)
        else:
            computable(left)
            computable(right)
        if op is ast.Add:
            check_sum(left, right)
        if op is ast.Pow and not isinstance(right, pd.Series) and abs(right) > _MAX_EXPONENT:
            raise DataError(f"a power must be at most {_MAX_EXPONENT}, but is {right}")
        return _bounded(in_64_bits(_OPERATORS[op], left, right))

    def _compared(self, node: ast.Compare) -> Any:
        """Compare each value with the next one."""
        nodes = [node.left, *node.comparators]
        values = [self._value(node.left), *map(self._values, node.comparators)]
        found = []
        for op, (left_node, right_node), (one, other) in zip(
            node.ops, pairwise(nodes), pairwise(values), strict=True
        ):
            left, right = self._as_stored(one, right_node), self._as_stored(other, left_node)
            check_comparable(left, right)
            if type(op) in _OPERATORS and not isinstance(right, list):
                found.append(_OPERATORS[type(op)](left, right))
                continue
            is_membership = isinstance(op, (ast.In, ast.NotIn, ast.Eq, ast.NotEq))
            if not (is_membership and isinstance(left, pd.Series) and not is_scalar(right)):
                raise DataError(f"{self._source(node)!r} must be `column in [value, ...]`")
            is_in = left.isin(right)
            found.append(~is_in if isinstance(op, (ast.NotIn, ast.NotEq)) else is_in)
        return reduce(operator.and_, found)

    def _as_stored(self, value: Any, other: ast.expr) -> Any:
        """Round a number as the 32-bit column that it is compared with: 0.1 equals a stored 0.1."""
        if isinstance(value, list):
            return [self._as_stored(item, other) for item in value]
        if not isinstance(value, float) or not isinstance(other, ast.Name):
            return value
        column = self._frame[self._names[self._aliases.get(other.id, other.id)]]
        return float(np.float32(value)) if str(column.dtype).lower() == "float32" else value

    def _owner(self, base: ast.expr) -> tuple[str, Column]:
        """Return the column whose word stands after a dot, and ``str.`` or ``dt.`` before it."""
        prefix = ""
        if isinstance(base, ast.Attribute) and base.attr in ("str", "dt"):
            prefix, base = f"{base.attr}.", base.value
        column = self._value(base)
        if not isinstance(column, pd.Series):
            raise DataError(f"{self._source(base)!r} is no column, so it has no methods")
        return prefix, column

    def _attribute(self, base: ast.expr, word: str) -> Any:
        if isinstance(base, ast.Call):
            found = self._value(base)
            if isinstance(found, pd.DataFrame) and word in found:  # of `dt.isocalendar()`
                return found[word]
        prefix, column = self._owner(base)
        if prefix + word in ATTRIBUTES:
            return ATTRIBUTES[prefix + word](column)
        hint = " without brackets" if prefix + word in METHODS else ""
        raise self._unknown(prefix, word, ATTRIBUTES, hint)

    def _called(self, func: ast.expr, args: list[ast.expr], keywords: list[ast.keyword]) -> Any:
        owner: Any
        word: Word | None
        if isinstance(func, ast.Name):
            name = self._aliases.get(func.id, func.id).removeprefix("@")
            owner, word = self._rows, FUNCTIONS.get(f"@{name}") or FUNCTIONS.get(name)
            unknown = DataError(f"there is no function {name!r}. There are {', '.join(FUNCTIONS)}")
        elif isinstance(func, ast.Attribute):
            prefix, owner = self._owner(func.value)
            word = METHODS.get(prefix + func.attr)
            unknown = self._unknown(prefix, func.attr, METHODS)
        else:
            raise self._refusal(func)
        if word is None:
            raise unknown
        given = {item.arg or "**": self._values(item.value) for item in keywords}
        return _bounded(word.call(owner, [self._values(arg) for arg in args], given))

    def _unknown(
        self, prefix: str, word: str, known: Mapping[str, Any], hint: str = ""
    ) -> DataError:
        words = [name.removeprefix(prefix) for name in known if name.startswith(prefix)]
        listed = ", ".join(name for name in words if "." not in name) or "none"
        what = f"`.{prefix[:-1]}`" if prefix else "a column"
        return DataError(f"{what} has no attribute {word!r}{hint}. There are {listed}")

    def _refusal(self, node: ast.AST) -> DataError:
        return DataError(
            f"{self._source(node)!r} is not part of the language. There are columns, numbers, text,"
            " lists after `in`, + - * / // % **, comparisons, and, or, not, the functions"
            f" {', '.join(FUNCTIONS)}, and methods of columns"
        )

    def _source(self, node: ast.AST) -> str:
        text = ast.unparse(node)
        for alias, name in reversed(self._aliases.items()):
            text = text.replace(alias, name)
        return _short(text)


def _short(text: str, length: int = 200) -> str:
    return text if len(text) <= length else f"{text[:length]}..."


def _bounded(value: Any) -> Any:
    if isinstance(value, int) and abs(value) >= _MAX_INTEGER:
        raise DataError("a whole number must fit into 64 bits")
    if isinstance(value, str) and len(value) > _MAX_TEXT:
        raise DataError(f"a text has {len(value):,} characters, more than {_MAX_TEXT:,}")
    if value is not None and not isinstance(value, _PLAIN):
        raise DataError(f"{_short(repr(value))} is no number and no text")
    return value
