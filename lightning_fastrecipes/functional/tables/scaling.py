"""One continuous table column: gaps filled with the median, then scaled by mean and deviation."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.labels.numbers import LARGEST, mean_and_std
from lightning_fastrecipes.functional.tables.encoding import chunks
from lightning_fastrecipes.functional.tables.rows import name_rows

Doubles = npt.NDArray[np.float64]

FAR = 100.0
"""Values farther than this many deviations from the mean are like none that was trained on."""

FARTHEST = 1e6
"""Values farther than this many deviations from the mean are held there, so that all are finite."""


@dataclass(frozen=True)
class ContinuousColumn:
    """How a continuous column is filled and scaled, as learned from the training rows.

    The median stands in for a gap. Mean and deviation are those with gaps filled; ``std`` is 0 if
    there is one value only. ``has_flag`` says whether there were gaps, and so a column that flags
    them.
    """

    name: str
    median: float
    mean: float
    std: float
    has_flag: bool

    @classmethod
    def fit(cls, column: "pd.Series[Any]", name: str) -> "ContinuousColumn":
        """Learn from the training rows.

        Raise `DataError` if all rows are missing, or some are infinite.

        >>> ContinuousColumn.fit(pd.Series([1.0, 2.0, None, 6.0]), "x")
        ContinuousColumn(name='x', median=2.0, mean=2.75, std=1.920..., has_flag=True)
        """
        present = present_numbers(column)
        if not len(present):
            raise DataError(
                f"Column {name!r} must hold at least one number in the training rows, but all"
                f" {len(column):,} are missing. Leave it out of `continuous`."
            )
        has_gaps = len(present) < len(column)
        low, high = float(present.min()), float(present.max())
        if max(-low, high) > LARGEST:
            _refuse_infinite(column, name)
        median = float(np.median(present, overwrite_input=True))  # the copy is ours to sort
        if low == high:
            return cls(name, low, low, 0.0, has_gaps)
        mean, std = mean_and_std(lambda: _filled_chunks(column, median))
        return cls(name, median, mean, std, has_gaps)

    def encode(
        self, column: "pd.Series[Any]", out: npt.NDArray[Any], flags: npt.NDArray[Any] | None
    ) -> int:
        """Write the scaled value of each row, and whether it was missing.

        Raise `DataError` if a value is infinite; the rows are named.
        """
        num_gaps = 0
        for rows in chunks(len(column)):
            numbers = as_numbers(column.iloc[rows])
            gaps = np.isnan(numbers)
            numbers[gaps] = self.median
            if not (np.abs(numbers) <= LARGEST).all():
                _refuse_infinite(column, self.name)
            out[rows] = self._scaled(numbers)
            if flags is not None:
                flags[rows] = gaps
            num_gaps += int(gaps.sum())
        return num_gaps

    def _scaled(self, numbers: Doubles) -> Doubles | float:
        if self.std == 0:
            return 0.0
        with np.errstate(over="ignore"):
            return np.clip((numbers - self.mean) / self.std, -FARTHEST, FARTHEST)


def as_numbers(column: "pd.Series[Any]") -> Doubles:
    """Return a copy of a column as doubles, gaps as NaN."""
    return np.array(column.to_numpy(dtype=np.float64, na_value=np.nan))


def present_numbers(column: "pd.Series[Any]") -> npt.NDArray[Any]:
    """Copy the numbers that are there, in the column's own narrow type if it is a plain one."""
    dtype = column.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in "iuf" and dtype != np.float16:
        values: npt.NDArray[Any] = column.to_numpy()
    else:
        values = as_numbers(column)
    present: npt.NDArray[Any] = values[~np.isnan(values)]
    return present


def _filled_chunks(column: "pd.Series[Any]", median: float) -> Iterator[Doubles]:
    for rows in chunks(len(column)):
        numbers = as_numbers(column.iloc[rows])
        numbers[np.isnan(numbers)] = median
        yield numbers


def _refuse_infinite(column: "pd.Series[Any]", name: str) -> None:
    rows = name_rows(column.index, np.abs(as_numbers(column)) > LARGEST)
    raise DataError(
        f"Column {name!r} must hold finite numbers, but has infinite ones, or ones beyond 3e38, in"
        f" {rows}. Mend them, or make them missing."
    )
