"""How well a model does on parts of the data, by any column of the table that describes them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lightning_fastrecipes.functional.intervals import Interval
from lightning_fastrecipes.reporting import blocks
from lightning_fastrecipes.reporting.blocks import Block

_MOST_VALUES = 20
_MOST_COLUMNS = 12
_FEWEST_ROWS = 5
_NUM_RANGES = 4

Measure = Callable[[npt.NDArray[np.int64]], tuple[float, Interval]]


def slice_blocks(
    frame: pd.DataFrame, measure: Measure, name: str, *, low_is_bad: bool
) -> list[Block | None]:
    """Return a table of the values of columns: rows, and a metric with its interval.

    Numbers of many values are divided into quarters. ``measure`` takes the indices of rows;
    ``low_is_bad`` says which end of the metric comes first.
    """
    rows: list[list[Any]] = []
    for column in list(frame)[:_MOST_COLUMNS]:
        for value, places in _parts(frame[column]):
            if len(places) < _FEWEST_ROWS:
                continue
            found, (low, high) = measure(places)
            between = f"{low:.4g} to {high:.4g}" if np.isfinite([low, high]).all() else None
            rows.append([str(column), value, len(places), found, between])
    rows.sort(key=lambda row: row[3] if low_is_bad else -row[3])
    note = (
        "The worst first. Slices whose intervals overlap may well be alike; of twenty slices one"
        " stands out by chance. Slices of fewer than five rows are left out."
    )
    columns = ["column", "value", "rows", name, "95 % interval"]
    return [blocks.table(f"{name} by part of the data", columns, rows, note)]


def _parts(column: "pd.Series[Any]") -> list[tuple[str, npt.NDArray[np.int64]]]:
    """Return the values of a column with their rows; none of a column that names each row."""
    values = column.replace("", None)
    numbers = pd.to_numeric(values, errors="coerce")
    is_number = bool(numbers.notna().sum() == values.notna().sum()) and values.notna().any()
    if is_number and numbers.nunique() > _MOST_VALUES:
        ranges = pd.qcut(numbers, _NUM_RANGES, duplicates="drop")
        texts = ranges.map(lambda one: f"{one.left:.4g} to {one.right:.4g}").astype(object)
    elif values.nunique() <= _MOST_VALUES:
        texts = values.astype(object)
    else:
        return []
    texts = texts.where(values.notna(), "(none)").astype(str)
    found = [
        (str(value), np.flatnonzero((texts == value).to_numpy())) for value in dict.fromkeys(texts)
    ]
    return found if len(found) > 1 else []
