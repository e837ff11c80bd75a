"""Which row of a table is of which split: by fraction, by a column, or by date."""

from dataclasses import dataclass
from datetime import date as calendar_date
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from lightning_fastrecipes.data.common.split_choice import SPLIT_NAMES
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.splits import hashed_split, time_split

TableSplitName = Literal["train", "val", "test"]
Rows = npt.NDArray[np.int64]
Dates = npt.NDArray[np.datetime64]

TABLE_SPLITS: tuple[TableSplitName, ...] = get_args(TableSplitName)

_VALID_FRACTION = 0.2
_FRACTIONS = ("val_fraction", "test_fraction")
_MAX_NAMED = 5


@dataclass(frozen=True)
class TableSplit:
    """How rows are shared out: give fractions, ``column``, or ``date``.

    With ``date`` alone the fractions are cut off by time: the last rows are tested on, those before
    them validated on, and rows of one date stay together. With ``date`` and a range, such as
    ``val_from`` and ``val_until``, the rows within it are held out; rows before *and after* it
    are trained on, unless ``only_past``.

    Args:
        val_fraction: Share to validate on, in [0, 1); 0.2 if neither a column nor a range says.
        test_fraction: Share to test on, in [0, 1).
        split_seed: Another seed draws other rows by fraction; nothing else changes them.
        column: Column that says ``train``, ``val`` (or ``val``) or ``test``.
        date: Column of dates.
        val_from: First date to validate on, such as ``2014-08-01``; open if not given.
        val_until: Last date to validate on, the whole of that day; open if not given, or up to
            ``test_from``.
        test_from: First date to test on.
        test_until: Last date to test on.
        only_past: Whether rows after the first date that is held out are trained on by nobody, so
            that the model knows nothing of the future.

    Raises:
        ValueError: If an argument is out of its range, or two of them contradict one another.
    """

    val_fraction: float | None = None
    test_fraction: float = 0.0
    split_seed: int = 0
    column: str | None = None
    date: str | None = None
    val_from: str | calendar_date | None = None
    val_until: str | calendar_date | None = None
    test_from: str | calendar_date | None = None
    test_until: str | calendar_date | None = None
    only_past: bool = False

    def __post_init__(self) -> None:
        for name, fraction in zip(_FRACTIONS, self._fractions()[1:], strict=True):
            if not 0 <= fraction < 1:
                raise ValueError(f"`{name}` must lie in [0, 1), got {fraction}.")
        if self._fractions()[0] <= 0:
            raise ValueError(
                "`val_fraction` and `test_fraction` must leave something to train on, got"
                f" {self._fractions()[1:]}. Lower one of them."
            )
        for name, value in self._bounds().items():
            _bound(name, value)
        self._refuse_contradictions()

    @property
    def columns(self) -> list[str]:
        """Name the columns that a split depends on."""
        return [name for name in (self.column, self.date) if name is not None]

    def key(self) -> dict[str, str | int | float | bool | None]:
        """Describe the split by plain values, for the key of a cache."""
        return {
            "fractions": str(self._fractions()),
            "split_seed": self.split_seed,
            "column": self.column,
            "date": self.date,
            "only_past": self.only_past,
            **{name: str(value) for name, value in self._bounds().items()},
        }

    def rows(self, frame: pd.DataFrame) -> dict[TableSplitName, Rows]:
        """Return which rows are of which split.

        Args:
            frame: A table with at least :attr:`columns`; its index names rows in messages.

        Returns:
            Sorted row numbers, from 0, of ``train``, ``val`` and ``test``. Validation and test
            are empty only where nobody asked for them.

        Raises:
            DataError: If a column is missing, a value of it cannot be used, or a split is empty.
        """
        if not len(frame):
            raise DataError("The table must have rows, but has none. Check its file and `where`.")
        for name in self.columns:
            if name not in frame:
                raise DataError(
                    f"`split` needs the column '{name}', but the table has only:"
                    f" {', '.join(map(repr, frame.columns))}. Correct its name."
                )
        if self.column is not None:
            parts = _by_names(frame[self.column])
        elif self.date is None:
            parts = hashed_split(len(frame), self._fractions(), self.split_seed)
        else:
            dates = _dates(frame[self.date])
            parts = (
                self._by_ranges(dates, frame.index)
                if self._bounds()
                else time_split(dates, self._fractions())
            )
        found = dict(zip(TABLE_SPLITS, parts, strict=True))
        self._refuse_empty(found, len(frame))
        return found

    def _bounds(self) -> dict[str, str | calendar_date]:
        """Return the ends of ranges that are given, by the names of their arguments."""
        names = ("val_from", "val_until", "test_from", "test_until")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def _fractions(self) -> list[float]:
        val = _VALID_FRACTION if self.val_fraction is None else self.val_fraction
        return [1 - val - self.test_fraction, val, self.test_fraction]

    def _refuse_contradictions(self) -> None:
        bounds = list(self._bounds())
        ways = ["column"] if self.column is not None else []
        ways += ["date"] if self.date is not None else []
        if len(ways) > 1:
            raise ValueError("`column` and `date` contradict one another. Give one.")
        if bounds and self.date is None:
            raise ValueError(f"`{bounds[0]}` needs `date`, the name of a column of dates. Give it.")
        if self.only_past and not bounds:
            raise ValueError(
                "`only_past` needs a range of dates, such as `val_from`. Give one, or leave it"
                " out: fractions by date are cut off the end, and nothing later is left."
            )
        ruling = "column" if self.column is not None else bounds[0] if bounds else None
        for name, is_given in {
            "val_fraction": self.val_fraction is not None,
            "test_fraction": self.test_fraction > 0,
        }.items():
            if ruling is not None and is_given:
                raise ValueError(f"`{name}` and `{ruling}` contradict one another. Give one.")

    def _by_ranges(self, dates: Dates, index: "pd.Index[Any]") -> list[Rows]:
        bounds = {name: _bound(name, value) for name, value in self._bounds().items()}
        test = _within(dates, bounds, "test")
        if "val_until" not in bounds and "val_from" in bounds and "test_from" in bounds:
            bounds["val_until"] = bounds["test_from"] - np.timedelta64(1, "us")
        val = _within(dates, bounds, "val")
        both = np.flatnonzero(val & test)
        if len(both):
            raise DataError(
                "The ranges to validate and to test on must not overlap, but both hold"
                f" {name_rows(index[both])}. Move `val_until` or `test_from`."
            )
        train = ~(val | test)
        if self.only_past:
            train &= dates < dates[~train].min(initial=dates.max() + np.timedelta64(1, "us"))
        return [np.flatnonzero(part) for part in (train, val, test)]

    def _refuse_empty(self, found: dict[TableSplitName, Rows], num_rows: int) -> None:
        if self._bounds():
            asked = {name.partition("_")[0] for name in self._bounds()}
        elif self.column is None:
            fractions = zip(TABLE_SPLITS, self._fractions(), strict=True)
            asked = {name for name, fraction in fractions if fraction > 0}
        else:
            asked = set[str]()
        for name, rows in found.items():
            if name in asked | {"train"} and not len(rows):
                counts = ", ".join(f"{len(found[other]):,} of '{other}'" for other in found)
                raise DataError(
                    f"The split '{name}' must have rows, but of {num_rows:,} there are {counts}."
                    f" Change `split`: {self}."
                )


def name_rows(rows: npt.ArrayLike) -> str:
    """Name rows for a message: the first five, and how many there are.

    Args:
        rows: Row numbers, from 0.

    Returns:
        Such as ``row 7`` or ``rows 1, 5, 7, 8, 9, ... (12 in all)``.

    Example:
        >>> name_rows([3]), name_rows(range(7))
        ('row 3', 'rows 0, 1, 2, 3, 4, ... (7 in all)')
    """
    numbers = np.asarray(rows).tolist()
    shown = ", ".join(str(number) for number in numbers[:_MAX_NAMED])
    rest = f", ... ({len(numbers):,} in all)" if len(numbers) > _MAX_NAMED else ""
    return f"row{'s' if len(numbers) != 1 else ''} {shown}{rest}"


def _by_names(column: pd.Series) -> list[Rows]:
    codes, names = pd.factorize(column, use_na_sentinel=True)
    splits = [SPLIT_NAMES.get(name) if isinstance(name, str) else None for name in names]
    wrong = np.isin(codes, [i for i, split in enumerate(splits) if split is None] + [-1])
    if wrong.any():
        rows = np.flatnonzero(wrong)
        raise DataError(
            f"The column '{column.name}' must say 'train', 'val', 'val' or 'test', but says"
            f" {column.iloc[rows[0]]!r} in {name_rows(column.index[rows])}. Correct it, or drop"
            " those rows."
        )
    return [
        np.flatnonzero(np.isin(codes, [i for i, found in enumerate(splits) if found == split]))
        for split in TABLE_SPLITS
    ]


def _dates(column: pd.Series) -> Dates:
    """Return dates in microseconds, in the clock time of their own zone."""
    if pd.api.types.is_numeric_dtype(column):
        raise DataError(
            f"The column '{column.name}' must hold dates, but holds {column.dtype}. Turn it into"
            " dates, or name another column."
        )
    zone = getattr(column.dtype, "tz", None)
    if zone is not None:
        parsed = column.dt.tz_localize(None)
    else:
        parsed = pd.to_datetime(column, format="ISO8601", errors="coerce")
    missing = np.flatnonzero(parsed.isna())
    if len(missing):
        raise DataError(
            f"The column '{column.name}' must hold a date such as '2014-08-01' in every row, but"
            f" holds {column.iloc[missing[0]]!r} in {name_rows(column.index[missing])}. Correct or"
            " drop them."
        )
    return cast(Dates, parsed.to_numpy().astype("datetime64[us]"))


def _bound(name: str, value: str | calendar_date) -> np.datetime64:
    """Read an end of a range; the last day of one is meant as a whole."""
    try:
        moment = pd.Timestamp(str(value))
    except ValueError as error:
        raise ValueError(
            f"`{name}` must be a date such as '2014-08-01', got {value!r}. Write year, month, day."
        ) from error
    if pd.isna(moment) or moment.tzinfo is not None:
        raise ValueError(
            f"`{name}` must be a date without a time zone such as '2014-08-01', got {value!r}."
        )
    found = moment.to_datetime64().astype("datetime64[us]")
    is_whole_day = moment == moment.normalize() and ":" not in str(value)
    if name.endswith("_until") and is_whole_day:
        found += np.timedelta64(1, "D") - np.timedelta64(1, "us")
    return cast(np.datetime64, found)


def _within(dates: Dates, bounds: dict[str, np.datetime64], split: str) -> npt.NDArray[np.bool_]:
    start, end = bounds.get(f"{split}_from"), bounds.get(f"{split}_until")
    within = np.full(len(dates), start is not None or end is not None)
    if start is not None:
        within &= dates >= start
    if end is not None:
        within &= dates <= end
    return within
