"""New columns from others, by pandas' own expression language and a few functions of dates."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.tables.dates import parse_dates

Column: TypeAlias = "pd.Series[Any]"
Floats = npt.NDArray[np.float64]

_DAYS_PER_WEEK = 7
_THURSDAY = 3  # the first of January 1970


def evaluate(frame: pd.DataFrame, name: str, expression: str) -> Column:
    """Compute a column from those of a table.

    The language is that of ``DataFrame.eval``: columns by name (in backticks if it is no word),
    arithmetic, comparisons, ``and``, ``or``, ``not``, ``in``, and the methods of a column, such as
    ``CompetitionDays.clip(0, 720) // 30``, ``(Date - Since).dt.days``, ``Km.fillna(0)`` or
    ``file.str.slice(0, 2)``. (Pandas 2 knows no method of a bracket of plain arithmetic, such as
    ``(a + b).abs()``: name it first.) Besides there are

    - ``@date(text)`` and ``@date(text, '%d.%m.%Y')``: text as dates;
    - ``@ymd(year, month, day)``: numbers as dates;
    - ``@iso_week(year, week)``: the Monday of a week of ISO 8601;
    - ``@days(number)``: whole numbers as lengths of time, to add to dates;
    - ``@where(condition, yes, no)``: one of two values by row.

    Numbers are computed with 64 bits, however narrow the columns are, so that none overflows.
    A missing part makes a missing date.

    Args:
        frame: The table, which is not changed.
        name: Name of the column that is made, for messages.
        expression: What to compute.

    Returns:
        One value per row, with the index of the table.

    Raises:
        DataError: If the expression cannot be computed.

    Example:
        >>> table = pd.DataFrame({"year": [2015.0, None], "week": [1, 2]})
        >>> [str(day)[:10] for day in evaluate(table, "since", "@iso_week(year, week)")]
        ['2014-12-29', 'NaT']
    """
    used = [column for column in frame if str(column) in expression]
    # Numbered rows, since pandas would multiply those of an index that repeats itself.
    rows = pd.RangeIndex(len(frame))
    wide = pd.DataFrame({c: _widened(frame[c]).set_axis(rows) for c in used}, rows, copy=False)
    functions = {known: partial(function, rows) for known, function in _FUNCTIONS.items()}
    try:
        found: Any = wide.eval(expression, engine="python", local_dict=functions, global_dict={})
    except DataError as error:
        raise DataError(f"`{name}` cannot be computed by {expression!r}: {error}") from error
    # Whatever pandas' parser, or the method of a column, says of what it cannot do.
    except (NameError, SyntaxError, ValueError, TypeError, AttributeError, LookupError) as error:
        raise _cannot(frame, name, expression, str(error)) from error
    except NotImplementedError as error:
        raise _cannot(frame, name, expression, str(error)) from error
    if isinstance(found, pd.DataFrame) or found is None:
        raise _cannot(frame, name, expression, "it gives a table, not a column")
    if np.ndim(found) == 0:
        found = np.full(len(frame), found)
    if len(found) != len(frame):
        raise _cannot(
            frame, name, expression, f"it gives {len(found)} values for {len(frame)} rows"
        )
    return pd.Series(found, rows, name=name).set_axis(frame.index)


def _cannot(frame: pd.DataFrame, name: str, expression: str, reason: str) -> DataError:
    return DataError(
        f"`{name}` cannot be computed by {expression!r}: {reason}. The columns are"
        f" {', '.join(map(repr, frame.columns))}, and the functions"
        f" {', '.join('@' + function for function in _FUNCTIONS)}."
    )


def _widened(values: Column) -> Column:
    """Return numbers room, and text instead of categories, which do not compute."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return values.astype(values.cat.categories.dtype)
    kind = {"i": "int64", "u": "int64", "f": "float64"}.get(values.dtype.kind)
    if kind is None or str(values.dtype).lower() in (kind, "uint64"):
        return values
    is_nullable = isinstance(values.dtype, pd.api.extensions.ExtensionDtype)
    widened: Column = values.astype(kind.capitalize() if is_nullable else kind)  # type: ignore[call-overload]
    return widened


def _date(rows: pd.RangeIndex, text: Any, date_format: str = "ISO8601") -> Column:
    [values] = _aligned(rows, text)
    return parse_dates(values, date_format)


def _ymd(rows: pd.RangeIndex, year: Any, month: Any, day: Any) -> Column:
    parts = _aligned(rows, year, month, day)
    y, m, d, is_known = *(_floats(part) for part in parts), _known(parts)
    months = np.where(is_known, (y - 1970) * 12 + m - 1, 0).astype(np.int64)
    first = months.astype("datetime64[M]").astype("datetime64[D]")
    days = first + np.where(is_known, d - 1, 0).astype(np.int64)
    is_wrong = (m < 1) | (m > 12) | (days.astype("datetime64[M]") != first.astype("datetime64[M]"))
    return _dates(days, is_known, is_wrong, parts, "year, month and day")


def _iso_week(rows: pd.RangeIndex, year: Any, week: Any) -> Column:
    parts = _aligned(rows, year, week)
    y, w, is_known = *(_floats(part) for part in parts), _known(parts)
    years = np.where(is_known, y - 1970, 0).astype(np.int64).astype("datetime64[Y]")
    # The fourth of January is always in the first week.
    fourth = years.astype("datetime64[D]").astype(np.int64) + 3
    weeks = np.where(is_known, w - 1, 0).astype(np.int64)
    days = fourth - (fourth + _THURSDAY) % _DAYS_PER_WEEK + weeks * _DAYS_PER_WEEK
    # The Thursday says which year a week belongs to.
    thursday = (days + _THURSDAY).astype("datetime64[D]")
    is_wrong = (w < 1) | (thursday.astype("datetime64[Y]") != years)
    return _dates(days.astype("datetime64[D]"), is_known, is_wrong, parts, "year and week")


def _days(rows: pd.RangeIndex, number: Any) -> Column:
    [parts] = _aligned(rows, number)
    is_known = parts.notna().to_numpy()
    days = np.where(is_known, _floats(parts), 0).astype(np.int64)
    lengths = days.astype("timedelta64[D]").astype("timedelta64[s]")
    lengths[~is_known] = np.timedelta64("NaT")
    return pd.Series(lengths, rows)


def _where(rows: pd.RangeIndex, condition: Any, yes: Any, no: Any) -> Column:
    parts = _aligned(rows, condition, yes, no)
    is_true = parts[0].fillna(False).astype(bool) if parts[0].hasnans else parts[0].astype(bool)
    return parts[1].where(is_true, parts[2])


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "date": _date,
    "ymd": _ymd,
    "iso_week": _iso_week,
    "days": _days,
    "where": _where,
}


def _aligned(rows: pd.RangeIndex, *values: Any) -> list[Column]:
    """Repeat what is one value as often as there are rows."""
    return [value if isinstance(value, pd.Series) else pd.Series(value, rows) for value in values]


def _floats(values: Column) -> Floats:
    return values.to_numpy(np.float64, na_value=np.nan)


def _known(parts: list[Column]) -> npt.NDArray[np.bool_]:
    known: npt.NDArray[np.bool_] = np.logical_and.reduce([part.notna() for part in parts])
    return known


def _dates(
    days: npt.NDArray[np.datetime64],
    is_known: npt.NDArray[np.bool_],
    is_wrong: npt.NDArray[np.bool_],
    parts: list[Column],
    what: str,
) -> Column:
    wrong = np.flatnonzero(is_wrong & is_known)
    if len(wrong):
        rows = [
            f"{parts[0].index[row]}: {tuple(float(part.iloc[row]) for part in parts)}"
            for row in wrong[:5]
        ]
        raise DataError(
            f"there is no day of this {what} in {len(wrong):,} rows ({', '.join(rows)}). Correct"
            " them first."
        )
    dates = days.astype("datetime64[s]")
    dates[~is_known] = np.datetime64("NaT")
    return pd.Series(dates, parts[0].index)
