"""Parts of a date as columns: what ``add_datepart`` of the fast.ai course makes, made right."""

import re
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.tables.date_parsing import parse_dates
from lightning_fastrecipes.functional.tables.rows import column_of

Array = npt.NDArray[Any]
Days = npt.NDArray[np.int64]

DAY_PARTS = (
    "Year", "Month", "Week", "Day", "Dayofweek", "Dayofyear", "Is_month_end", "Is_month_start",
    "Is_quarter_end", "Is_quarter_start", "Is_year_end", "Is_year_start",
)  # fmt: skip
TIME_PARTS = ("Hour", "Minute", "Second")
CYCLES = ("Month", "Day", "Dayofweek", "Dayofyear")
"""Parts of a day that can be put on a circle; all of ``TIME_PARTS`` can."""

_HolidayDays = Callable[[Array], Days]
"""From years to the days since 1970 that are holidays."""

_SECONDS_PER_DAY = 86_400
_CHUNK = 1 << 14
"""Rows worked on at once, so that what lies between the input and the result stays small."""


def add_datepart(
    df: pd.DataFrame,
    column: str,
    drop: bool = True,
    time: bool = False,
    prefix: str | None = None,
    *,
    date_format: str = "ISO8601",
    cyclical: bool | Sequence[str] = False,
    holidays: str | None = None,
    flag_missing: bool | None = None,
) -> pd.DataFrame:
    """Add the parts of a date as columns, in the order of the fast.ai course.

    Year, Month, Week (of ISO 8601), Day, Dayofweek (Monday is 0), Dayofyear, Is_month_end,
    Is_month_start, Is_quarter_end, Is_quarter_start, Is_year_end, Is_year_start, with ``time``
    Hour, Minute and Second, and Elapsed: whole seconds since 1970, whatever the unit that pandas
    keeps the dates in. After these come the pairs of ``cyclical``, Is_holiday and Is_missing,
    as asked for.

    Dates with a time zone give the parts of their local time; Elapsed counts from 1970 in UTC.

    A missing date makes every part missing, never a number: the columns then have pandas' nullable
    types (``Int8``, ``boolean``, ...).

    Args:
        df: The table; never changed.
        column: Column of dates: datetimes, Python dates, or text in ``date_format``.
        drop: Whether to leave the column of dates out; else it is kept, as datetimes.
        time: Whether to add Hour, Minute and Second.
        prefix: What the new columns' names begin with; ``column`` without a last ``Date`` or
            ``date`` if not given.
        date_format: How dates that are text are written: ``ISO8601``, or a pattern of ``strptime``
            such as ``%d.%m.%Y``. Empty text is a missing date. Numbers may count ``unix`` seconds,
            ``unix_ms``, ``unix_us`` or ``unix_ns`` since 1970, or days as ``excel`` does.
        cyclical: Parts whose sine and cosine to add as ``..._sin`` and ``..._cos``, so that the
            last of December lies beside the first of January: any of Month, Day, Dayofweek and
            Dayofyear, with ``time`` also Hour, Minute and Second. True means all of them. Months
            and years go round in as many steps as they have days.
        holidays: Country whose public holidays Is_holiday marks: its code of two letters, with a
            region if need be, such as ``DE`` or ``DE-BY``. Needs the package ``holidays``.
        flag_missing: Whether to add Is_missing, which marks missing dates. By default if and only
            if there are some, so that a table without gaps has the course's columns and no other;
            where several tables must get the same columns, say True or False.

    Returns:
        A new table with the same index; the new columns are last, in the narrowest types that hold
        every date.

    Raises:
        DataError: If there is no such column, it holds no dates, or a new column is there already.
        ValueError: If a part of ``cyclical`` does not exist, or ``holidays`` is not a known place.
        ModuleNotFoundError: If ``holidays`` is given, but the package is not installed.

    Example:
        >>> table = pd.DataFrame({"SaleDate": ["2017-12-01"], "Sales": [5]})
        >>> parts = add_datepart(table, "SaleDate")
        >>> parts.columns[:4].tolist(), parts["SaleElapsed"].item()
        (['Sales', 'SaleYear', 'SaleMonth', 'SaleWeek'], 1512086400)

    Note:
        fast.ai changes the table it is given, fails on missing dates or turns them into numbers,
        and on pandas 3 gives an Elapsed that is a thousand times too small.
    """
    cycles = _checked_cycles(cyclical, time)
    holiday_days = None if holidays is None else _holiday_days(holidays)
    dates = parse_dates(column_of(df, column), date_format)
    is_missing = dates.isna().to_numpy() if dates.hasnans else None
    parts = _make_parts(dates, is_missing, time, cycles, holiday_days)
    if is_missing is not None if flag_missing is None else flag_missing:
        parts["Is_missing"] = np.zeros(len(dates), bool) if is_missing is None else is_missing
    prefix = re.sub("[Dd]ate$", "", str(column)) if prefix is None else prefix
    named = {prefix + name: values for name, values in parts.items()}
    rest = df.drop(columns=column)
    taken = [name for name in named if name in rest or (not drop and name == column)]
    if taken:
        raise DataError(
            f"The table must not have the columns that `add_datepart` adds, but has"
            f" {', '.join(map(repr, taken))}. Rename them, or give another `prefix`."
        )
    if not drop:
        rest = df.assign(**{column: dates})
    return pd.concat([rest, pd.DataFrame(named, df.index, copy=False)], axis=1)


def _make_parts(
    dates: "pd.Series[Any]",
    is_missing: npt.NDArray[np.bool_] | None,
    time: bool,
    cycles: Sequence[str],
    holidays: _HolidayDays | None,
) -> dict[str, Any]:
    """Return every part by name: looked up by day, and filled in by chunks of rows."""
    is_local = isinstance(dates.dtype, pd.DatetimeTZDtype)
    elapsed = _seconds(dates.dt.tz_convert(None) if is_local else dates, is_missing)
    local = _seconds(dates.dt.tz_localize(None), is_missing) if is_local else elapsed
    days = _different_days(local)
    by_day = _parts_of_days(days, cycles, holidays)
    nothing = _parts_of_seconds(local[:0], cycles) if time else {}
    names = [*DAY_PARTS, *(TIME_PARTS if time else ())]
    names += [name for name in [*by_day, *nothing] if name not in names]
    found: dict[str, Any] = {
        name: np.empty(len(local), (by_day | nothing)[name].dtype) for name in names
    }
    is_gapless = len(days) > 0 and days[-1] - days[0] == len(days) - 1
    for start in range(0, len(local), _CHUNK):
        rows = slice(start, start + _CHUNK)
        day = local[rows] // _SECONDS_PER_DAY
        index = day - days[0] if is_gapless else np.searchsorted(days, day)
        for name, values in by_day.items():
            # Any mode but "raise" writes to its place without a copy between.
            np.take(values, index, out=found[name][rows], mode="clip")
        if time:
            seconds = local[rows] - day * _SECONDS_PER_DAY
            for name, values in _parts_of_seconds(seconds, cycles).items():
                found[name][rows] = values
    position = len(DAY_PARTS) + (len(TIME_PARTS) if time else 0)
    items = list(found.items())
    found = dict([*items[:position], ("Elapsed", elapsed), *items[position:]])
    if is_missing is not None:
        found = {name: _with_gaps(values, is_missing) for name, values in found.items()}
    return found


def _seconds(dates: "pd.Series[Any]", is_missing: npt.NDArray[np.bool_] | None) -> Days:
    """Count whole seconds since 1970; a missing date is as good as the first that is not."""
    seconds = dates.to_numpy().astype("datetime64[s]").view(np.int64)
    if is_missing is not None:
        known = seconds[~is_missing]
        seconds[is_missing] = known[0] if len(known) else 0
    return seconds


def _different_days(seconds: Days) -> Days:
    """List the days to look up, sorted: all from first to last unless the rows are fewer."""
    if len(seconds) == 0:
        return seconds
    first, last = seconds.min() // _SECONDS_PER_DAY, seconds.max() // _SECONDS_PER_DAY
    if last - first < len(seconds):
        return np.arange(first, last + 1)
    return np.unique(seconds // _SECONDS_PER_DAY)


def _parts_of_days(
    days: Days, cycles: Sequence[str], holidays: _HolidayDays | None
) -> dict[str, Array]:
    """Return the parts of days since 1970 in the types of the result."""
    dates = pd.DatetimeIndex(days.astype("datetime64[D]").astype("datetime64[s]"))
    year = dates.year.to_numpy()
    fits = np.abs(year).max(initial=0) <= np.iinfo(np.int16).max
    parts: dict[str, Array] = {
        "Year": year.astype(np.int16 if fits else np.int32),
        "Month": dates.month.to_numpy(np.int8),
        "Week": dates.isocalendar()["week"].to_numpy(np.int8),
        "Day": dates.day.to_numpy(np.int8),
        "Dayofweek": dates.day_of_week.to_numpy(np.int8),
        "Dayofyear": dates.day_of_year.to_numpy(np.int16),
    }
    for name in DAY_PARTS[len(parts) :]:
        parts[name] = np.asarray(getattr(dates, name.lower()), bool)
    turns = {
        "Month": (parts["Month"] - 1) / 12,
        "Day": (parts["Day"] - 1) / dates.days_in_month.to_numpy(),
        "Dayofweek": parts["Dayofweek"] / 7,
        "Dayofyear": (parts["Dayofyear"] - 1) / (365 + dates.is_leap_year),
    }
    parts |= _circle({name: turns[name] for name in cycles if name in turns})
    if holidays is not None:
        parts["Is_holiday"] = np.isin(days, holidays(year))
    return parts


def _parts_of_seconds(seconds: Days, cycles: Sequence[str]) -> dict[str, Array]:
    """Return the parts of seconds since midnight in the types of the result."""
    parts: dict[str, Array] = {
        "Hour": (seconds // 3600).astype(np.int8),
        "Minute": (seconds // 60 % 60).astype(np.int8),
        "Second": (seconds % 60).astype(np.int8),
    }
    steps = {"Hour": 24, "Minute": 60, "Second": 60}
    return parts | _circle({c: parts[c] / steps[c] for c in cycles if c in steps})


def _circle(turns: dict[str, Array]) -> dict[str, Array]:
    return {
        f"{name}_{function.__name__}": function(2 * np.pi * turn).astype(np.float32)
        for name, turn in turns.items()
        for function in (np.sin, np.cos)
    }


def _with_gaps(values: Array, is_missing: npt.NDArray[np.bool_]) -> Any:
    if values.dtype.kind == "f":
        values[is_missing] = np.nan
        return values
    # Each column has gaps of its own to write to.
    masked = pd.arrays.BooleanArray if values.dtype.kind == "b" else pd.arrays.IntegerArray
    return masked(values, is_missing.copy())


def check_parts(cyclical: bool | Sequence[str], time: bool, holidays: str | None) -> None:
    """Raise the `ValueError` or `ModuleNotFoundError` of ``add_datepart``, without any table."""
    _checked_cycles(cyclical, time)
    if holidays is not None:
        _holiday_days(holidays)


def _checked_cycles(cyclical: bool | Sequence[str], time: bool) -> list[str]:
    known = [*CYCLES, *(TIME_PARTS if time else ())]
    if isinstance(cyclical, bool):
        return known if cyclical else []
    wrong = [name for name in cyclical if name not in known]
    if isinstance(cyclical, str) or wrong:
        raise ValueError(
            f"`cyclical` must be True, False, or a list of some of {', '.join(known)}, got"
            f" {cyclical!r}. Hour, Minute and Second need `time=True`."
        )
    return list(dict.fromkeys(cyclical))


def _holiday_days(place: str) -> _HolidayDays:
    """Look a country up now, so that a wrong one is refused first; its holidays come later."""
    try:
        library = import_module("holidays")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"`holidays` is {place!r}, which needs the package `holidays`, but it is not installed."
            " Install it (pip install holidays), or leave the argument out."
        ) from error
    country, _, region = place.partition("-")
    try:
        if not re.fullmatch("[A-Z]{2,3}", country):  # the package has more than countries
            raise NotImplementedError(f"no country has the code {country!r}.")  # noqa: TRY301
        library.country_holidays(country, subdiv=region or None)
    except NotImplementedError as error:
        raise ValueError(
            "`holidays` must be the code of a country that the package `holidays` knows, with a"
            f" region if need be, such as 'DE' or 'DE-BY', got {place!r}. It says: {error}"
        ) from error

    def find(years: Array) -> Days:
        found = library.country_holidays(
            country, subdiv=region or None, years=np.unique(years).tolist()
        )
        return np.array(list(found), "datetime64[D]").astype(np.int64)

    return find
