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
from pyarrow import ArrowException

from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.tables.column_methods import (
    ATTRIBUTES,
    FUNCTIONS,
    METHODS,
    Column,
    Word,
    check_room,
    is_text,
)

_MAX_LENGTH = 10_000
_MAX_DEPTH = 200
_MAX_TEXT = 1_000
_MAX_INTEGER = 2**64
_MAX_EXPONENT = 64

_OPERATORS: Mapping[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
    ast.Pow: operator.pow, ast.And: operator.and_, ast.Or: operator.or_,
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge,
}  # fmt: skip
_OBJECTS = ("decimal", "date", "datetime", "timedelta", "timedelta64", "empty")
"""Python objects that a column may hold to be computed with."""
_PLAIN = (bool, int, float, str, np.generic, pd.Timestamp, pd.Timedelta, pd.Series, pd.DataFrame)
_TOKENS = re.compile(
    r"""('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")|`([^`]*)`|(@\s*\w+)|([&|])""", re.DOTALL
)
_ERRORS = (
    ArithmeticError, ArrowException, AttributeError, LookupError, MemoryError, NotImplementedError,
    RecursionError, TypeError, ValueError,
)  # fmt: skip
"""What pandas raises for values that an operator or a method cannot take."""


def evaluate(frame: pd.DataFrame, name: str, expression: str) -> Column:
    """Compute a column from those of a table.

    Only what is listed here exists; nothing else is ever looked up.

    - Columns by name, in backticks where the name is no word: ``Sales``, ```Dez. 2012```.
    - Numbers, text, ``True``, ``False``, ``None``; lists after ``in``, ``==`` and ``!=``.
    - ``+ - * / // % **``; ``< <= == != >= >``, ``in``, ``not in``; ``and``, ``or``, ``not``. As in
      ``DataFrame.query``, ``&`` and ``|`` mean ``and`` and ``or``.
    - ``@date(text)`` and ``@date(text, '%d.%m.%Y')``: text as dates.
    - ``@ymd(year, month, day)``: numbers as dates.
    - ``@iso_week(year, week)``: the Monday of a week of ISO 8601.
    - ``@days(number)``: whole numbers as time spans, to add to dates.
    - ``@where(condition, yes, no)``: one of two values by row.
    - Functions of numbers, such as ``log1p(Sales)``, ``sqrt``, ``floor``, ``sin``.
    - Methods of a column as in pandas, those of ``column_methods.METHODS``: ``Km.fillna(0)``,
      ``Days.clip(0, 720) // 30``, ``(Date - Since).dt.days``, ``file.str.slice(0, 2)``. Regular
      expressions are those of RE2.

    Numbers are computed with 64 bits, however narrow the columns are, so that none overflows. A
    missing part makes a missing date. ``mean``, ``shift`` and the like look at other rows, so that
    a row gets another value in another table.

    Args:
        frame: The table, which is not changed.
        name: Name of the column that is made, for messages.
        expression: What to compute.

    Returns:
        One value per row, with the index of the table.

    Raises:
        DataError: If the expression uses anything else, is too large, or cannot be computed.

    Example:
        >>> table = pd.DataFrame({"year": [2015.0, None], "week": [1, 2]})
        >>> [str(day)[:10] for day in evaluate(table, "since", "@iso_week(year, week)")]
        ['2014-12-29', 'NaT']
    """
    try:
        return _Evaluation(frame).run(expression).rename(name).set_axis(frame.index)
    except _ERRORS as error:
        raise DataError(
            f"`{name}` cannot be computed by {_short(expression)!r}: {_reason(error)}."
        ) from error


def select_rows(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """Keep the rows for which a condition is true; a missing one is not.

    Args:
        frame: The table, which is not changed.
        where: An expression that is true or false in each row; see ``evaluate``.

    Returns:
        These rows, with their labels.

    Raises:
        DataError: If the condition cannot be computed, is no condition, or leaves no rows.

    Example:
        >>> select_rows(pd.DataFrame({"Sales": [0, 5, 7]}), "Sales > 0").index.tolist()
        [1, 2]
    """
    try:
        found = _Evaluation(frame).run(where)
        if not pd.api.types.is_bool_dtype(found.dtype):
            raise DataError(f"it gives {found.dtype}. Compare it with something")
    except _ERRORS as error:
        raise DataError(
            f"`where` must be a condition on columns such as 'Sales > 0', got {_short(where)!r}:"
            f" {_reason(error)}."
        ) from error
    kept = frame[found.fillna(False).to_numpy(bool)]
    if not len(kept):
        raise DataError(
            f"`where` must leave rows, but of {len(frame):,} none is {_short(where)!r}. Change it."
        )
    return kept


def _reason(error: Exception) -> str:
    return "it needs too much memory" if isinstance(error, MemoryError) else str(error).rstrip(".")


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
            raise DataError(
                f"it must have at most {_MAX_LENGTH:,} characters, but has {len(expression):,}"
            )
        mark = "_q"
        while mark in expression:
            mark += "q"

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
                return _negated(self._value(operand))
            case ast.UnaryOp(op=op, operand=operand):
                value = _computable(self._value(operand))
                return -value if isinstance(op, ast.USub) else value
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return self._computed(type(op), self._value(left), self._value(right))
            case ast.BoolOp(op=op, values=values):
                return reduce(_OPERATORS[type(op)], map(self._value, values))
            case ast.Compare():
                return self._compared(node)
            case ast.Attribute(value=base, attr=word):
                return self._attribute(base, word)
            case ast.Subscript(value=ast.Attribute(value=base, attr="str"), slice=place):
                return self._sliced(base, place)
            case ast.Call(func=func, args=args, keywords=keywords):
                return self._called(func, args, keywords)
        raise self._refusal(node)

    def _values(self, node: ast.expr) -> Any:
        """Compute one part that may be a list of single values, too."""
        if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
            return [self._value(item) for item in node.elts]
        return self._value(node)

    def _column(self, name: str) -> Column:
        if name not in self._columns:
            if name not in self._names:
                known = ", ".join(map(repr, self._names))
                raise DataError(
                    f"{name!r} is not defined. The columns are {_short(known, 1_000)}, and the"
                    f" functions {', '.join(FUNCTIONS)}"
                )
            self._columns[name] = _widened(self._frame[self._names[name]]).set_axis(self._rows)
        return self._columns[name]

    def _computed(self, op: type[ast.AST], left: Any, right: Any) -> Any:
        if op is ast.Add and is_text(left) and is_text(right):
            check_room(self._rows, left, right)
        else:
            _computable(left)
            _computable(right)
        if op is ast.Pow and not isinstance(right, pd.Series) and abs(right) > _MAX_EXPONENT:
            raise DataError(f"a power must be at most {_MAX_EXPONENT}, but is {right}")
        return _bounded(_OPERATORS[op](left, right))

    def _compared(self, node: ast.Compare) -> Any:
        """Compare each value with the next one."""
        nodes = [node.left, *node.comparators]
        values = [self._value(node.left), *map(self._values, node.comparators)]
        found = []
        for place, (op, (left, right)) in enumerate(zip(node.ops, pairwise(values), strict=True)):
            is_not = isinstance(op, (ast.NotIn, ast.NotEq))
            left = _as_stored(left, self._is_narrow(nodes[place + 1]))
            right = _as_stored(right, self._is_narrow(nodes[place]))
            if type(op) in _OPERATORS and not isinstance(right, list):
                found.append(_OPERATORS[type(op)](left, right))
            elif isinstance(op, (ast.In, ast.NotIn, ast.Eq, ast.NotEq)) and (
                isinstance(left, pd.Series) and isinstance(right, (list, pd.Series))
            ):
                is_in = left.isin(right)
                found.append(~is_in if is_not else is_in)
            else:
                raise DataError(
                    f"{self._source(node)!r} must be `column in [value, ...]`, a column first and"
                    " then a list"
                )
        return reduce(operator.and_, found)

    def _is_narrow(self, node: ast.expr) -> bool:
        """Return whether a part is a column whose fractions are stored with 32 bits."""
        name = self._aliases.get(node.id, node.id) if isinstance(node, ast.Name) else None
        return (
            name in self._names and str(self._frame[self._names[name]].dtype).lower() == "float32"
        )

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

    def _sliced(self, base: ast.expr, place: ast.expr) -> Any:
        """Compute ``text.str[1]`` and ``text.str[1:3]``."""
        _, column = self._owner(base)
        if not isinstance(place, ast.Slice):
            return METHODS["str.get"].call(column, [self._value(place)], {})
        parts = {"start": place.lower, "stop": place.upper, "step": place.step}
        given = {word: self._value(part) for word, part in parts.items() if part is not None}
        return METHODS["str.slice"].call(column, [], given)

    def _called(self, func: ast.expr, args: list[ast.expr], keywords: list[ast.keyword]) -> Any:
        owner: Any
        word: Word | None
        if isinstance(func, ast.Name):
            name = self._aliases.get(func.id, func.id).removeprefix("@")
            owner, word = self._rows, FUNCTIONS.get(f"@{name}") or FUNCTIONS.get(name)
            if word is None:
                raise DataError(f"there is no function {name!r}. There are {', '.join(FUNCTIONS)}")
        elif isinstance(func, ast.Attribute):
            prefix, owner = self._owner(func.value)
            word = METHODS.get(prefix + func.attr)
            if word is None:
                raise self._unknown(prefix, func.attr, METHODS)
        else:
            raise self._refusal(func)
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


def _widened(values: Column) -> Column:
    """Return numbers with room, and text instead of categories, which do not compute."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return values.astype(values.cat.categories.dtype)
    kind = {"i": "int64", "u": "int64", "f": "float64"}.get(values.dtype.kind)
    if kind is None or str(values.dtype).lower() in (kind, "uint64"):
        return values
    is_nullable = isinstance(values.dtype, pd.api.extensions.ExtensionDtype)
    widened: Column = values.astype(kind.capitalize() if is_nullable else kind)  # type: ignore[call-overload]
    return widened


def _bounded(value: Any) -> Any:
    if isinstance(value, int) and abs(value) >= _MAX_INTEGER:
        raise DataError("a whole number must fit into 64 bits")
    if isinstance(value, str) and len(value) > _MAX_TEXT:
        raise DataError(
            f"a text must have at most {_MAX_TEXT:,} characters, but has {len(value):,}"
        )
    if value is not None and not isinstance(value, _PLAIN):
        raise DataError(f"{_short(repr(value))} is no number and no text")
    return value


def _computable(value: Any) -> Any:
    """Refuse text and objects, of which ``*`` and ``%`` could make any amount."""
    is_object = isinstance(value, pd.Series) and value.dtype == object
    if is_text(value) or (
        is_object and pd.api.types.infer_dtype(value, skipna=True) not in _OBJECTS
    ):
        raise DataError(
            "text and other objects cannot be computed with: text can be joined to text by +."
            " Make numbers of it first, with `.astype('float')`"
        )
    return value


def _negated(value: Any) -> Any:
    if isinstance(value, (bool, np.bool_)):
        return not value
    if isinstance(value, pd.Series) and pd.api.types.is_bool_dtype(value.dtype):
        return ~value
    raise DataError("`not` needs something that is true or false, such as `Open == 1`")


def _as_stored(value: Any, is_narrow: bool) -> Any:
    """Round a number as the column that it is compared with: 0.1 equals a stored 0.1."""
    if is_narrow and isinstance(value, list):
        return [_as_stored(item, is_narrow) for item in value]
    return float(np.float32(value)) if is_narrow and isinstance(value, float) else value
