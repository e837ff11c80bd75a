"""What expressions refuse to compare, add or cast, since pandas would say something wrong."""

from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype, is_bool_dtype, is_string_dtype

from lightning_fastrecipes.errors import DataError

Column: TypeAlias = "pd.Series[Any]"

_KINDS = {"b": "numbers", "i": "numbers", "u": "numbers", "f": "numbers", "M": "dates"}
_OBJECTS = ("decimal", "date", "datetime", "timedelta", "timedelta64", "empty")
"""Python objects that a column may hold to be computed with."""


def is_text(value: Any) -> bool:
    """Return whether a value, or a column, is text.

    >>> is_text("a"), is_text(pd.Series(["a", None])), is_text(pd.Series([1]))
    (True, True, False)
    """
    if not isinstance(value, pd.Series):
        return isinstance(value, str)
    if value.dtype == object:
        return infer_dtype(value, skipna=True) == "string"
    return is_string_dtype(value.dtype)


def check_comparable(left: Any, right: Any) -> None:
    """Raise a `DataError` for text beside numbers, or numbers beside dates, which never are equal.

    ``right`` may be a list of values. What is missing altogether is comparable with everything.

    >>> check_comparable(pd.Series(["02139"]), "02139")
    >>> check_comparable(pd.Series(["02139"]), 2139)
    Traceback (most recent call last):
    lightning_fastrecipes.errors.DataError: numbers and text are never equal. ...
    """
    for other in right if isinstance(right, list) else [right]:
        kinds = {_kind(left), _kind(other)} - {None}
        if kinds in ({"text", "numbers"}, {"dates", "numbers"}):
            raise DataError(
                f"{' and '.join(sorted(filter(None, kinds)))} are never equal. Put numbers into"
                " quotes, or make numbers of the text, with `.astype('float')`"
            )


def check_sum(left: Any, right: Any) -> None:
    """Raise a `DataError` for the sum of two conditions, which pandas takes for `or`."""
    if all(isinstance(one, pd.Series) and is_bool_dtype(one.dtype) for one in (left, right)):
        raise DataError(
            "the sum of two conditions is no count. Write `1 * (a > 0) + (b > 0)` to count them, or"
            " `or`"
        )


def computable(value: Any) -> Any:
    """Refuse text and objects, of which ``*`` and ``%`` could make any amount."""
    is_object = isinstance(value, pd.Series) and value.dtype == object
    if is_text(value) or (is_object and infer_dtype(value, skipna=True) not in _OBJECTS):
        raise DataError(
            "text and other objects cannot be computed with; + joins text with text. Make numbers"
            " of it first, with `.astype('float')`"
        )
    return value


def single(value: Any) -> Any:
    """Refuse a column where a single value is needed."""
    if isinstance(value, pd.Series):
        raise DataError(
            "a list must hold single values, but holds a column. Compare them with `==`"
        )
    return value


def negated(value: Any) -> Any:
    """Return the opposite of conditions."""
    if isinstance(value, (bool, np.bool_)):
        return not value
    if isinstance(value, pd.Series) and is_bool_dtype(value.dtype):
        return ~value
    raise DataError("`not` needs something that is true or false, such as `Open == 1`")


def cast(column: Column, dtype: Any) -> Column:
    """Cast as ``Series.astype`` does, but refuse whole numbers that the type does not hold.

    >>> cast(pd.Series([1000]), "int8")
    Traceback (most recent call last):
    lightning_fastrecipes.errors.DataError: `int8` holds whole numbers from -128 to 127, but ...
    """
    found: Column = column.astype(dtype)
    if found.dtype.kind in "iu" and column.dtype.kind in "iuf" and column.notna().any():
        bounds = np.iinfo(str(found.dtype).lower())
        least, most = column.min(), column.max()
        if np.ceil(least) < bounds.min or np.floor(most) > bounds.max or float(most) >= 2.0**64:
            raise DataError(
                f"`{dtype}` holds whole numbers from {bounds.min} to {bounds.max}, but the column"
                f" has those from {least:g} to {most:g}"
            )
    return found


def _kind(value: Any) -> str | None:
    """Return what is compared; ``None`` if nothing is there, or it is something else."""
    if isinstance(value, pd.Series):
        if value.dtype.kind in _KINDS:
            return _KINDS[value.dtype.kind] if value.notna().any() else None
        is_words = infer_dtype(value, skipna=True) == "string"
        return "text" if is_words else None
    if isinstance(value, str):
        return "text"
    return "numbers" if isinstance(value, (bool, int, float, np.number)) else None
