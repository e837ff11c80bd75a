"""The narrowest type that holds what is in a column."""

from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype

from lightning_fastrecipes.functional.tables.rows import check_unique

Column: TypeAlias = "pd.Series[Any]"

_INTEGERS = ("int8", "int16", "int32")


def narrow_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Return another frame, in which every column has the narrowest type that holds what is in it.

    Whole numbers become ``int8`` to ``int64``; others ``float32`` if that changes none of them;
    text of few different values becomes categories; categories that are intervals become text. True
    and false, dates and other objects stay as they are. Raise `DataError` if a column's name is
    there twice.

    >>> table = pd.DataFrame({"store": [1, 2, 1115], "km": [0.5, 1, 2]})
    >>> [str(kind) for kind in narrow_frame(table).dtypes]
    ['int16', 'float32']
    """
    check_unique(frame.columns)
    narrowed = {name: narrow_column(_as_words(frame[name])) for name in frame}
    return pd.DataFrame(narrowed, frame.index, copy=False)


def narrow_column(values: Column) -> Column:
    """Return one column the narrowest type that holds what is in it, as ``narrow_frame`` does."""
    is_nullable = isinstance(values.dtype, pd.api.extensions.ExtensionDtype)
    kind = values.dtype.kind
    if kind in "iu":
        low, high = (values.min(), values.max()) if values.notna().any() else (0, 0)
        for narrow in _INTEGERS:
            if np.iinfo(narrow).min <= low and high <= np.iinfo(narrow).max:
                return _cast(values, narrow.capitalize() if is_nullable else narrow)
        return values
    if kind == "f" and str(values.dtype).lower() == "float64":
        return _narrow_floats(values, "Float32" if is_nullable else "float32")
    if kind == "O" and not isinstance(values.dtype, pd.CategoricalDtype):
        found = infer_dtype(values, skipna=True)
        if found == "boolean":
            return values.astype("boolean" if values.hasnans else "bool")
        if found == "string":
            num_different = values.nunique()
            return values.astype("category") if 2 * num_different <= len(values) else values
    return values


def widen_column(values: Column) -> Column:
    """Return numbers with 64 bits, and text instead of categories, to compute with."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return values.astype(values.cat.categories.dtype)
    kind = {"i": "int64", "u": "int64", "f": "float64"}.get(values.dtype.kind)
    if kind is None or str(values.dtype).lower() in (kind, "uint64"):
        return values
    is_nullable = isinstance(values.dtype, pd.api.extensions.ExtensionDtype)
    return _cast(values, kind.capitalize() if is_nullable else kind)


def _as_words(values: Column) -> Column:
    """Return the names of categories that are intervals, as ``pandas.cut`` makes them."""
    dtype = values.dtype
    if not isinstance(dtype, pd.CategoricalDtype) or not isinstance(
        dtype.categories.dtype, pd.IntervalDtype
    ):
        return values
    return values.cat.rename_categories(dtype.categories.astype(str).tolist())


def _narrow_floats(values: Column, narrow: str) -> Column:
    numbers = values.to_numpy(np.float64, na_value=np.nan)
    for some in (numbers[: 1 << 10], numbers):  # most show at once that they need 64 bits
        with np.errstate(over="ignore", invalid="ignore"):
            small = some.astype(np.float32)
        if not ((small == some) | (some != some)).all():
            return values
    return _cast(values, narrow)


def _cast(values: Column, kind: str) -> Column:
    cast: Column = values.astype(kind)  # type: ignore[call-overload]
    return cast
