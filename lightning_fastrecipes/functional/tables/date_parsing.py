"""Text and numbers as dates, in one format that is said."""

import warnings
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.tables.rows import name_values, refuse_lists

_MICRO, _LAST = 1e6, 2.5e17
"""Microseconds of a second, and until the year 9892."""
_COUNTS = {
    "unix": (1.0, 0),
    "unix_ms": (1e3, 0),
    "unix_us": (1e6, 0),
    "unix_ns": (1e9, 0),
    "excel": (1 / 86_400, -25_569 * 86_400),
}
"""How many there are in a second, and the second since 1970 at which they begin."""


def parse_dates(values: "pd.Series[Any]", date_format: str = "ISO8601") -> "pd.Series[Any]":
    """Turn a column into datetimes; each different text is parsed once.

    Datetimes are returned as they are. Whole numbers are read as text, such as 20171201 with
    ``%Y%m%d``; with ``unix``, ``unix_ms``, ``unix_us`` and ``unix_ns`` they count from 1970, with
    ``excel`` days from the end of 1899, fractions included, to the microsecond. Empty text is a
    missing date. Raise `DataError` if a value is no date in this format, ``ISO8601``, one of these
    or a pattern of ``strptime``; the message names its row.

    >>> parse_dates(pd.Series(["31.12.2016", ""]), "%d.%m.%Y").dt.year.tolist()
    [2016.0, nan]
    """
    if date_format == "mixed":
        raise DataError(
            "`date_format` must be one format for all rows, got 'mixed', by which pandas would swap"
            " days and months from row to row. Say how the dates are written, as '%d.%m.%Y'."
        )
    kind = values.dtype.kind
    if kind == "M" and not isinstance(values.dtype, pd.ArrowDtype):
        return values
    if kind in "iufb" and (date_format == "ISO8601" or kind == "b"):
        raise DataError(
            f"`{values.name}` must hold dates or text, but is of the type {values.dtype}. Say what"
            " its numbers are by `date_format`: 'unix' for seconds since 1970, 'unix_ms', 'excel',"
            " or '%Y%m%d' for 20171201."
        )
    refuse_lists(values)
    codes, unique = pd.factorize(values)
    parsed = _parse(pd.Series(unique), values.name, date_format)
    is_wrong = parsed.isna().to_numpy() & (pd.Series(unique).astype(str) != "").to_numpy()
    if is_wrong.any():
        rows = name_values(values, np.append(is_wrong, False)[codes])
        raise DataError(
            f"`{values.name}` must hold dates in the format '{date_format}', but cannot be read in"
            f" {rows}. Correct them, empty them, or give another `date_format`."
        )
    taken = parsed.array.take(codes, allow_fill=True)
    return pd.Series(taken, values.index, name=values.name, copy=False)


def _parse(unique: "pd.Series[Any]", name: Any, date_format: str) -> "pd.Series[Any]":
    if date_format in _COUNTS:
        return _counted(unique, *_COUNTS[date_format])
    if unique.dtype.kind in "iuf":
        whole = unique.astype("float64") == np.floor(unique.astype("float64"))
        unique = unique.where(whole).astype("Int64").astype(object).astype(str)
    elif unique.dtype.kind == "M":
        unique = unique.astype(object)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)  # pandas 2, mixed time zones
            parsed = pd.to_datetime(unique, format=date_format, errors="coerce")
    except (ValueError, FutureWarning) as error:  # mixed time zones, or no such pattern
        raise DataError(
            f"`{name}` must hold dates in the format '{date_format}', but pandas says: {error}"
            " Convert the column with `pandas.to_datetime` first."
        ) from error
    return _with_far_dates(parsed, unique, date_format)


def _with_far_dates(
    parsed: "pd.Series[Any]", unique: "pd.Series[Any]", date_format: str
) -> "pd.Series[Any]":
    """Add what pandas 2 leaves out: dates so far away that nanoseconds cannot count them."""
    far = {
        place: date
        for place in np.flatnonzero(parsed.isna())
        if (date := _far_date(str(unique.iloc[place]), date_format)) is not None
    }
    if far and parsed.dt.tz is None:
        dates = parsed.to_numpy("datetime64[us]", copy=True)
        dates[list(far)] = np.array(list(far.values()), "datetime64[us]")
        return pd.Series(dates)
    return parsed


def _far_date(text: str, date_format: str) -> datetime | None:
    try:
        is_iso = date_format == "ISO8601"
        date = datetime.fromisoformat(text) if is_iso else datetime.strptime(text, date_format)
    except ValueError:
        return None
    is_far = not 1677 < date.year < 2262
    return date if is_far and date.tzinfo is None else None


def _counted(unique: "pd.Series[Any]", per_second: float, start: int) -> "pd.Series[Any]":
    """Turn counts since some second into datetimes, missing where there are none."""
    numbers = pd.to_numeric(unique, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    micros = np.where(np.abs(numbers) < _LAST * per_second, numbers, np.nan) * (_MICRO / per_second)
    if per_second < 1:
        micros = np.round(micros, -3)  # Excel's fractions of a day are exact to a millisecond
    is_known = np.abs(micros) < _LAST
    whole = np.where(is_known, np.round(micros), 0).astype(np.int64) + start * int(_MICRO)
    dates = whole.astype("datetime64[us]")
    dates[~is_known] = np.datetime64("NaT")
    return pd.Series(dates)
