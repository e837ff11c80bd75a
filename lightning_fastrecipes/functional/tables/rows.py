"""Columns and rows of a table that are named in messages."""

import json
from collections import Counter
from collections.abc import Iterable
from keyword import iskeyword
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.messages import name_some

_MAX_NAMED = 5
_LISTS = (list, tuple, set, frozenset, dict, np.ndarray)

LISTS_CURE = (
    "Make a column of true and false for each thing that is listed; several may be targets together"
    " (`TabularMultiTarget`)."
)
"""What to do with a column of lists, such as tags."""


def name_rows(index: "pd.Index[Any]", is_meant: npt.NDArray[np.bool_]) -> str:
    """List the labels of the first five rows, and how many there are, for a message.

    >>> name_rows(pd.RangeIndex(9), np.arange(9) == 3)
    'row 3'
    >>> name_rows(pd.RangeIndex(9), np.arange(9) > 1)
    'rows 2, 3, 4, 5, 6, ... (7 in all)'
    """
    labels = index[np.flatnonzero(is_meant)]
    shown = ", ".join(str(label) for label in labels[:_MAX_NAMED])
    rest = f", ... ({len(labels):,} in all)" if len(labels) > _MAX_NAMED else ""
    return f"row{'s' if len(labels) != 1 else ''} {shown}{rest}"


def name_values(values: "pd.Series[Any]", is_meant: npt.NDArray[np.bool_]) -> str:
    """Count rows for a message, and show the first five with their values.

    >>> name_values(pd.Series([4, 5, 6]), np.array([True, False, True]))
    '2 rows (0: 4, 2: 6)'
    """
    meant = values[is_meant]
    named = [f"{label}: {_plain(value)!r}" for label, value in meant[:_MAX_NAMED].items()]
    more = ", ..." if len(meant) > _MAX_NAMED else ""
    return f"{len(meant):,} row{'s' if len(meant) != 1 else ''} ({', '.join(named)}{more})"


def in_expression(name: str) -> str:
    """Return the name of a column as ``derive`` and ``where`` take it.

    >>> in_expression("Sales"), in_expression("Dez. 2012"), in_expression("class")
    ('Sales', '`Dez. 2012`', '`class`')
    """
    return name if name.isidentifier() and not iskeyword(name) else f"`{name}`"


def derive_step(name: str, expression: str) -> str:
    """Return the step that makes a column anew, to be put into a recipe or a list of steps.

    ``{}`` stands for the column in the expression.

    >>> derive_step("x", "{}.clip(0, 9)"), derive_step("Dez. 2012", "{}.fillna(0)")
    ('derive: {"x": "x.clip(0, 9)"}', 'derive: {"Dez. 2012": "`Dez. 2012`.fillna(0)"}')
    """
    return f"derive: {json.dumps({name: expression.replace('{}', in_expression(name))})}"


def holds_lists(column: "pd.Series[Any]") -> bool:
    """Return whether some values are lists or the like.

    >>> holds_lists(pd.Series([["a"], None])), holds_lists(pd.Series(["a", None]))
    (True, False)
    """
    return bool(column.map(lambda value: isinstance(value, _LISTS)).any())


def refuse_lists(*columns: "pd.Series[Any]") -> None:
    """Raise a `DataError` if a column holds lists, which have no order and no equals."""
    for column in columns:
        if column.dtype == object and holds_lists(column):
            raise DataError(f"`{column.name}` must hold single values, but has lists. {LISTS_CURE}")


def check_unique(names: Iterable[Any], what: str = "The table") -> None:
    """Refuse a table that has two columns of one name."""
    twice = [str(name) for name, count in Counter(names).items() if count > 1]
    if twice:
        cure = "Rename or drop one."
        if any(name.strip().replace(".", "").isdigit() for name in twice):
            cure += (
                " If its first line is no header, name the columns: `column_names` of a"
                " `LabelTable`, `header` of `reading`."
            )
        raise DataError(
            f"{what} must have each column once, but has {name_some(twice)} more than once. {cure}"
        )


def column_of(df: pd.DataFrame, column: str, what: str = "The table") -> "pd.Series[Any]":
    """Return a column; a `DataError` if the table does not have it, or has it twice."""
    count = list(df.columns).count(column)
    if count != 1:
        times = "twice" if count else "no column"
        raise DataError(
            f"{what} must have one column {name_some([str(column)])}, but has {times} of that name."
            f" Its columns are {name_some([str(name) for name in df.columns])}."
        )
    values: pd.Series[Any] = df[column]
    return values


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
