"""How long ago something happened, and how long until it does again, for every row of a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.tables.date_parsing import parse_dates
from lightning_fastrecipes.functional.tables.rows import column_of, name_values, refuse_lists

_MOST_DAYS = 3_652_059  # of the years 1 to 9999

Array = npt.NDArray[Any]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def add_elapsed(
    df: pd.DataFrame,
    columns: Sequence[str],
    date: str,
    group: str | Sequence[str] | None = None,
    *,
    window_days: int = 7,
    past_only: bool = False,
    date_format: str = "ISO8601",
) -> pd.DataFrame:
    """Add days since the last event and until the next, and how many days near by had one.

    An event is a day of a group on which any row of that group says so; the time of day does not
    count. For each column ``Promo`` of events there are added

    - ``AfterPromo``: days since the last event; 0 on a day with one. ``float32``, missing where
      the group had none up to then.
    - ``BeforePromo``: days until the next event, just so. Not with ``past_only``.
    - ``AfterPromo_never`` and ``BeforePromo_never``: whether the value beside is missing. Always
      there.
    - ``Promo_bw``: days with an event among this one and the ``window_days`` - 1 before.
    - ``Promo_fw``: the same of this one and those after. Not with ``past_only``.

    Days are those of the calendar: a row that is missing, as of a shop that is closed, makes no
    window longer. Rows keep their order and number, however many share a date.

    Args:
        df: The table; never changed.
        columns: Columns of events: true and false, or numbers of which all but 0 are an event. A
            missing value is no event.
        date: Column of dates, as ``add_datepart`` takes it, without gaps.
        group: Column, or columns, whose values say which rows belong together, without gaps; all
            rows belong together if not given.
        window_days: Length of a window in days, this day included, at least 1.
        past_only: Whether a row may use only days before its own. Events that are planned,
            such as holidays, are known before they come; for those that are seen only when they
            happen, say True: ``AfterPromo`` is then at least 1, ``Promo_bw`` counts the
            ``window_days`` days that end with yesterday, and nothing looks ahead.
        date_format: How dates in text or numbers are written, as for ``add_datepart``.

    Returns:
        A new table with the same index; the new columns are last.

    Raises:
        DataError: If a column is not there, holds something else, or has gaps that it may not; or
            if a new column is there already.
        ValueError: If ``window_days`` is below 1 or beyond any date, or ``columns`` or ``group``
            is empty.

    Example:
        >>> table = pd.DataFrame({"Store": 1, "Promo": [1, 0, 0, 1]})
        >>> table["Date"] = pd.to_datetime(["2015-07-01", "2015-07-02", "2015-07-08", "2015-07-09"])
        >>> added = add_elapsed(table, ["Promo"], "Date", "Store")
        >>> added[["AfterPromo", "BeforePromo", "Promo_bw", "Promo_fw"]].astype(int).values.tolist()
        [[0, 0, 1, 1], [1, 7, 1, 0], [7, 1, 0, 1], [0, 0, 1, 1]]

    Note:
        The course counts ``BeforePromo`` down from below (-7, -1, 0), turns never into
        -9223372036854775808, and its windows are 7 rows, not 7 days; fastai's 2.8 turns never into
        0, which is today.
    """
    groups = [group] if isinstance(group, str) else list(group or ())
    if isinstance(columns, str) or not columns or (group is not None and not groups):
        raise ValueError(
            f"`columns` must be a list of at least one column, and `group` must name one or be left"
            f" out, got {columns!r} and {group!r}."
        )
    check_window(window_days)
    events = {name: _events(column_of(df, name)) for name in columns}
    days = _Days.of(_day_numbers(df, date, date_format), _group_numbers(df, groups), window_days)
    added: dict[str, Array] = {}
    for name, is_event in events.items():
        added |= days.past(name, is_event, window_days, past_only)
        if not past_only:
            added |= days.future(name, is_event, window_days)
    taken = [name for name in added if name in df]
    if taken:
        raise DataError(
            "The table must not have the columns that `add_elapsed` adds, but has"
            f" {', '.join(map(repr, taken))}. Rename or drop them."
        )
    return pd.concat([df, pd.DataFrame(added, df.index, copy=False)], axis=1)


def check_window(days: int) -> None:
    """Raise a `ValueError` for a window without a day, or with more than any dates span."""
    if not 1 <= days <= _MOST_DAYS:
        raise ValueError(f"`window_days` must be from 1 to {_MOST_DAYS:,} days, got {days}.")


@dataclass(frozen=True)
class _Days:
    """The different days of all groups as numbers on one line, groups far apart.

    ``keys`` has one number per day of a group, sorted; ``row_day`` the position in it of every row.
    ``stride`` is the distance of groups; no day, and no window, reaches that far.
    """

    keys: Integers
    row_day: Integers
    stride: int

    @classmethod
    def of(cls, day: Integers, group: Integers, window_days: int) -> "_Days":
        first = int(day.min()) if len(day) else 0
        stride = (int(day.max()) - first if len(day) else 0) + window_days + 1
        keys, row_day = np.unique(group * stride + (day - first), return_inverse=True)
        return cls(keys, row_day, stride)

    def past(
        self, name: str, is_event: Flags, window_days: int, strictly: bool
    ) -> dict[str, Array]:
        """Look back, from this day or from the one before."""
        events = self._days_with(is_event)
        end = np.searchsorted(events, self.keys, side="left" if strictly else "right")
        start = np.searchsorted(
            events, self.keys - window_days, side="left" if strictly else "right"
        )
        last = self._day_of(events, end - 1)
        is_never = (end == 0) | (last < self.keys - self.keys % self.stride)
        return self._columns(f"After{name}", self.keys - last, is_never) | {
            f"{name}_bw": _narrow(end - start, window_days)[self.row_day]
        }

    def future(self, name: str, is_event: Flags, window_days: int) -> dict[str, Array]:
        """Look ahead, from this day."""
        events = self._days_with(is_event)
        start = np.searchsorted(events, self.keys, side="left")
        end = np.searchsorted(events, self.keys + window_days, side="left")
        following = self._day_of(events, start)
        is_never = (start == len(events)) | (following // self.stride > self.keys // self.stride)
        return self._columns(f"Before{name}", following - self.keys, is_never) | {
            f"{name}_fw": _narrow(end - start, window_days)[self.row_day]
        }

    def _days_with(self, is_event: Flags) -> Integers:
        has_event = np.zeros(len(self.keys), bool)
        has_event[self.row_day[is_event]] = True
        return self.keys[has_event]

    def _day_of(self, events: Integers, position: Integers) -> Integers:
        if len(events) == 0:
            return np.zeros_like(position)
        days: Integers = events[position.clip(0, len(events) - 1)]
        return days

    def _columns(self, name: str, num_days: Integers, is_never: Flags) -> dict[str, Array]:
        values = num_days.astype(np.float32)
        values[is_never] = np.nan
        return {name: values[self.row_day], f"{name}_never": is_never[self.row_day]}


def _narrow(counts: Integers, largest: int) -> Array:
    return counts.astype(np.min_scalar_type(-largest))


def _events(values: "pd.Series[Any]") -> Flags:
    if values.dtype.kind not in "biuf":
        raise DataError(
            f"`{values.name}` must say with true and false, or with numbers, where an event is, but"
            f" is of the type {values.dtype}. Make a column that does, such as"
            f" \"{values.name} != '0'\"."
        )
    return (values != 0).to_numpy(bool, na_value=False) & values.notna().to_numpy()


def _day_numbers(df: pd.DataFrame, date: str, date_format: str) -> Integers:
    dates = parse_dates(column_of(df, date), date_format)
    if dates.hasnans:
        raise DataError(
            f"`{date}` must have a date in every row, but has none in"
            f" {name_values(dates, dates.isna().to_numpy())}. Fill them in, or drop these rows."
        )
    local = dates.dt.tz_localize(None) if isinstance(dates.dtype, pd.DatetimeTZDtype) else dates
    return local.to_numpy().astype("datetime64[D]").astype(np.int64)


def _group_numbers(df: pd.DataFrame, groups: Sequence[str]) -> Integers:
    numbers: Integers = np.zeros(len(df), np.int64)
    for name in groups:
        values = column_of(df, name)
        refuse_lists(values)
        codes, different = pd.factorize(values)
        if (codes < 0).any():
            raise DataError(
                f"`{name}` must say in every row which group it belongs to, but does not in"
                f" {name_values(values, codes < 0)}. Fill it in, or drop these rows."
            )
        # Renumbered each time, so that many columns with many values do not overflow.
        numbers = pd.factorize(numbers * max(len(different), 1) + codes)[0]
    return numbers
