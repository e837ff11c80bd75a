"""Name columns and rows of a table in messages."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lightning_fastrecipes.errors import DataError

_MAX_NAMED = 5


def name_rows(values: "pd.Series[Any]", is_meant: npt.NDArray[np.bool_]) -> str:
    """List rows for a message: the first few with their values, and how many there are.

    Args:
        values: A column; its index names the rows.
        is_meant: Which rows to name. Shape ``(rows,)``.

    Returns:
        Such as ``2 rows (7: 'x', 9: 'y')``.

    Example:
        >>> name_rows(pd.Series([4, 5, 6]), np.array([True, False, True]))
        '2 rows (0: 4, 2: 6)'
    """
    positions = np.flatnonzero(is_meant)
    named = [
        f"{values.index[position]}: {_plain(values.iloc[position])!r}"
        for position in positions[:_MAX_NAMED]
    ]
    if len(positions) > _MAX_NAMED:
        named.append("...")
    rows = "row" if len(positions) == 1 else "rows"
    return f"{len(positions):,} {rows} ({', '.join(named)})"


def column_of(df: pd.DataFrame, column: str, what: str = "The table") -> "pd.Series[Any]":
    """Return a column, or say which ones there are.

    Args:
        df: The table.
        column: Name of a column that the table should have once.
        what: What to call the table.

    Returns:
        The column.

    Raises:
        DataError: If the table does not have it, or has it twice.
    """
    count = int((df.columns == column).sum())
    if count != 1:
        found = ", ".join(map(repr, df.columns[:20]))
        times = "twice" if count else "no column"
        raise DataError(
            f"{what} must have one column '{column}', but has {times} of that name. Its columns"
            f" are {found}{', ...' if len(df.columns) > 20 else ''}."
        )
    values: pd.Series[Any] = df[column]
    return values


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
