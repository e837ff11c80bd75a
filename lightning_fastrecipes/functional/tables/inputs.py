"""Whatever holds a table in memory, as a data frame."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from lightning_fastrecipes.errors import DataError


def is_in_memory(source: Any) -> bool:
    """Return whether a source is a table itself, or names files.

    >>> is_in_memory({"a": [1]}), is_in_memory(["a.csv", "b.csv"])
    (True, False)
    """
    if isinstance(source, (list, tuple)):
        return len(source) > 0 and all(map(is_in_memory, source))
    return isinstance(source, (pd.Series, Mapping, np.ndarray)) or _is_frame(source)


def as_frame(source: Any) -> pd.DataFrame:
    """Return a table as a data frame.

    A data frame is returned as it is. A mapping is of columns, or of one row if it holds single
    values; a list is of tables one below the other; an array has the columns ``0``, ``1`` and so
    on, unless its fields have names; a series is one row. Other libraries' frames, such as those of
    polars, come by the Arrow or the data frame interchange protocol. Raise `DataError` if it is
    nothing of these.

    >>> as_frame({"shop": "a", "km": 2.5}).to_dict("list")
    {'shop': ['a'], 'km': [2.5]}
    """
    if isinstance(source, pd.DataFrame):
        return source
    if isinstance(source, pd.Series):
        return source.to_frame().T.infer_objects()
    try:
        if isinstance(source, Mapping):
            is_row = not any(isinstance(value, _COLUMNS) for value in source.values())
            return pd.DataFrame([source] if is_row else dict(source))
        if isinstance(source, np.ndarray):
            return _of_array(source)
        if isinstance(source, (list, tuple)):
            return _below_one_another([as_frame(part) for part in source])
        if hasattr(source, "__arrow_c_stream__"):
            read: pd.DataFrame = pa.table(source).to_pandas()
            return read
        if hasattr(source, "__dataframe__"):
            return pd.api.interchange.from_dataframe(source)
    except DataError:
        raise
    except (ValueError, TypeError, pa.ArrowException) as error:
        raise DataError(
            f"The {type(source).__name__} must hold a table: columns of one length. It is none:"
            f" {str(error)[:500]}."
        ) from error
    raise DataError(
        "A table must be a file, a data frame, a mapping of columns, an array or a list of these,"
        f" got {type(source).__name__}."
    )


_COLUMNS = (list, tuple, np.ndarray, pd.Series, pd.Index, pd.api.extensions.ExtensionArray)


def _is_frame(source: Any) -> bool:
    is_class = isinstance(source, type)
    is_foreign = hasattr(source, "__arrow_c_stream__") or hasattr(source, "__dataframe__")
    return isinstance(source, pd.DataFrame) or (is_foreign and not is_class)


def _of_array(array: Any) -> pd.DataFrame:
    if array.dtype.names:
        return pd.DataFrame(array)
    if array.ndim != 2:
        raise DataError(
            f"An array must have two axes, rows and columns, to be a table, got {array.ndim}. Put"
            " a target beside the other columns, as in `numpy.column_stack([x, y])`."
        )
    # Before pandas 3 a frame would share its numbers with the array.
    return pd.DataFrame(array, columns=[str(i) for i in range(array.shape[1])], copy=True)


def _below_one_another(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    names = [[str(name) for name in frame] for frame in frames]
    other = next((found for found in names if {*found} != {*names[0]}), None)
    if other is not None:
        raise DataError(
            "Tables of a list are put one below the other, so they must have the same columns, but"
            f" differ in {sorted({*other} ^ {*names[0]})[:10]}. For columns and a target apart, put"
            " both into one table."
        )
    return pd.concat(frames, ignore_index=True)
