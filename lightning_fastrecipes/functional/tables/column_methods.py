"""The functions and methods of columns that expressions may call; no others exist for them."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pyarrow import compute

from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.tables.date_parsing import parse_dates
from lightning_fastrecipes.functional.tables.operands import (
    cast,
    check_comparable,
    is_text,
)

Column: TypeAlias = "pd.Series[Any]"
Floats = npt.NDArray[np.float64]

_DAYS_PER_WEEK = 7
_MICROSECONDS = 86_400_000_000
_THURSDAY = 3  # the first of January 1970
_LAST_YEAR = 9999
_MAX_DAYS = 10_000_000
_ROOM, _ROOM_PER_ROW = 100_000_000, 200
"""Characters that text made by an expression may have, in all or for each row."""

_PATTERNS = {
    "dtype": r"str|string|category|bool(ean)?|[Uu]?[Ii]nt(8|16|32|64)?|[Ff]loat(32|64)?"
    r"|(datetime|timedelta)64\[(s|ms|us|ns)\]",
    "date_format": r"(%[A-Za-z%]|[^%]){1,50}",
    "freq": r"\d{0,4}[A-Za-z]{1,3}",
    "tz": r"(?!dateutil)[A-Za-z_]+(/[A-Za-z_+-]+\d*)*",
}
"""What texts must be that pandas takes as instructions."""
_LARGEST = {"decimals": 20, "width": 1_000}
_PATTERN = ("pat", "case", "na", "regex")


@dataclass(frozen=True)
class Word:
    """A function or method that an expression may call, with the names of its arguments in order.

    ``compute`` takes the column, or the rows of the table for a function, and the arguments.
    """

    name: str
    arguments: Sequence[str]
    compute: Callable[..., Any]

    def call(self, owner: Any, args: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """Call it with arguments that are among its own and within bounds."""
        given = dict(zip(self.arguments, args, strict=False))
        wrong = [name for name in keywords if name not in self.arguments or name in given]
        if len(args) > len(self.arguments) or wrong:
            raise DataError(
                f"`{self.name}` takes ({', '.join(self.arguments)}), but got"
                f" {', '.join(wrong) or f'{len(args)} arguments'}"
            )
        given |= keywords
        for name, value in given.items():
            pattern, largest = _PATTERNS.get(name), _LARGEST.get(name)
            if pattern and value is not None and not re.fullmatch(pattern, str(value)):
                raise DataError(f"`{name}` of `{self.name}` cannot be {value!r}")
            if largest and not (isinstance(value, int) and abs(value) <= largest):
                raise DataError(f"`{name}` of `{self.name}` must be at most {largest:,}")
        return self.compute(owner, **given)


def in_64_bits(compute_it: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    """Compute with two values; whole numbers that 64 bits do not hold become floats.

    >>> import operator
    >>> in_64_bits(operator.add, pd.Series([2**62]), pd.Series([2**62])).tolist()
    [9.223372036854776e+18]
    """
    found = compute_it(left, right)
    if not isinstance(found, pd.Series) or found.dtype.kind not in "iu":
        return found
    with np.errstate(all="ignore"):
        floats = compute_it(left * 1.0, right * 1.0)
    least, most = (-(2.0**63), 2.0**63) if found.dtype.kind == "i" else (0.0, 2.0**64)
    return floats if ((floats < least) | (floats >= most)).any() else found


def check_room(rows: "pd.Index[Any]", *parts: Any, times: int = 1) -> None:
    """Refuse to make more text than a table may hold."""
    lengths = [
        int(part.str.len().sum()) if isinstance(part, pd.Series) else len(part) * len(rows)
        for part in parts
    ]
    if sum(lengths) * times > max(_ROOM, _ROOM_PER_ROW * len(rows)):
        raise DataError(f"it would make {sum(lengths) * times:,} characters of text")


def _date(rows: pd.RangeIndex, text: Any, date_format: str = "ISO8601") -> Column:
    [values] = _aligned(rows, text)
    return parse_dates(values, date_format)


def _ymd(rows: pd.RangeIndex, year: Any, month: Any, day: Any) -> Column:
    parts = _aligned(rows, year, month, day)
    (y, m, d), is_known, is_wrong = _known_parts(parts)
    months = np.where(is_known, (y - 1970) * 12 + m - 1, 0).astype(np.int64)
    first = months.astype("datetime64[M]").astype("datetime64[D]")
    days = first + np.where(is_known, d - 1, 0).astype(np.int64)
    is_wrong |= (m < 1) | (m > 12) | (days.astype("datetime64[M]") != first.astype("datetime64[M]"))
    return _dates(days, is_known, is_wrong, parts, "year, month and day")


def _iso_week(rows: pd.RangeIndex, year: Any, week: Any) -> Column:
    parts = _aligned(rows, year, week)
    (y, w), is_known, is_wrong = _known_parts(parts)
    years = np.where(is_known, y - 1970, 0).astype(np.int64).astype("datetime64[Y]")
    # The fourth of January is always in the first week.
    fourth = years.astype("datetime64[D]").astype(np.int64) + 3
    weeks = np.where(is_known, w - 1, 0).astype(np.int64)
    days = fourth - (fourth + _THURSDAY) % _DAYS_PER_WEEK + weeks * _DAYS_PER_WEEK
    # The Thursday says which year a week belongs to.
    thursday = (days + _THURSDAY).astype("datetime64[D]")
    is_wrong |= (w < 1) | (thursday.astype("datetime64[Y]") != years)
    return _dates(days.astype("datetime64[D]"), is_known, is_wrong, parts, "year and week")


def _days(rows: pd.RangeIndex, number: Any) -> Column:
    [parts] = _aligned(rows, number)
    is_known, numbers = parts.notna().to_numpy(), _floats(parts)
    if (np.abs(numbers[is_known]) > _MAX_DAYS).any():
        raise DataError(f"`days` must be at most {_MAX_DAYS:,}")
    days = np.where(is_known, numbers, 0.0)
    if (days == np.floor(days)).all():
        lengths = days.astype(np.int64).astype("timedelta64[D]").astype("timedelta64[s]")
    else:
        lengths = np.round(days * _MICROSECONDS).astype(np.int64).astype("timedelta64[us]")
    lengths[~is_known] = np.timedelta64("NaT")
    return pd.Series(lengths, rows)


def _where(rows: pd.RangeIndex, condition: Any, yes: Any, no: Any) -> Column:
    parts = _aligned(rows, condition, yes, no)
    is_true = parts[0].fillna(False).astype(bool) if parts[0].hasnans else parts[0].astype(bool)
    return parts[1].where(is_true, parts[2])


def _aligned(rows: pd.RangeIndex, *values: Any) -> list[Column]:
    """Repeat what is one value as often as there are rows."""
    return [value if isinstance(value, pd.Series) else pd.Series(value, rows) for value in values]


def _floats(values: Column) -> Floats:
    return values.to_numpy(np.float64, na_value=np.nan)


def _known_parts(
    parts: list[Column],
) -> tuple[list[Floats], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return the parts of dates, 1 where one cannot be, and which are known and which wrong."""
    is_known = np.logical_and.reduce([part.notna() for part in parts])
    numbers = [_floats(part) for part in parts]
    is_wrong = np.logical_or.reduce([np.abs(part) > _LAST_YEAR for part in numbers])
    return [np.where(is_wrong, 1.0, part) for part in numbers], is_known, is_wrong


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


def _by_numpy(rows: pd.RangeIndex, *, name: str, **numbers: Any) -> Any:
    return getattr(np, name)(*map(_number, numbers.values()))


def _number(value: Any) -> Any:
    # numpy would call methods of objects.
    if is_text(value) or (isinstance(value, pd.Series) and value.dtype == object):
        raise DataError("it needs numbers. Make them first, with `.astype('float')`")
    return value


def _of_column(column: Column, name: str, *, is_number: bool = False, **arguments: Any) -> Any:
    """Call a method that pandas has by a name of our own lists."""
    return attrgetter(name)(_number(column) if is_number else column)(**arguments)


def _is_in(column: Column, values: Sequence[Any]) -> Column:
    check_comparable(column, values)
    return column.isin(values)


def _matched(
    form: str, column: Column, pat: str, case: bool = True, na: Any = False, regex: bool = True
) -> Column:
    """Search text for a regular expression in linear time, whatever the expression."""
    search = compute.match_substring_regex if regex else compute.match_substring
    pattern = form.format(pat) if regex else pat
    found = _by_arrow(column, search, pattern, ignore_case=not case)
    # Not `fillna`, which warns of a conversion before pandas 3.
    found = found.where(found.notna(), na)
    return found.astype(bool) if isinstance(na, bool) else found


def _extracted(column: Column, pat: str, expand: bool = False) -> Column:
    is_found = _matched("{}", column, pat)
    whole = rf"\A[\s\S]*?(?:{pat})[\s\S]*\z"
    return _by_arrow(column, compute.replace_substring_regex, whole, r"\1").where(is_found)


def _replaced(column: Column, pat: str, repl: str, regex: bool = False) -> Column:
    check_room(column.index, column, times=1 + len(repl))
    replace = compute.replace_substring_regex if regex else compute.replace_substring
    return _by_arrow(column, replace, pat, repl)


def _counted(column: Column, pat: str) -> Column:
    return _by_arrow(column, compute.count_substring_regex, pat)


def _split(column: Column, pat: str | None = None, n: int = -1) -> Column:
    return column.str.split(pat, n=n, regex=None if pat is None else False)


def _padded(column: Column, name: str, width: int, **arguments: Any) -> Any:
    check_room(column.index, column, "x" * width)
    return _of_column(column, name, width=width, **arguments)


def _formatted(column: Column, date_format: str) -> Column:
    check_room(column.index, date_format, times=10)
    return column.dt.strftime(date_format)


def _by_arrow(column: Column, function: Callable[..., Any], *args: Any, **options: Any) -> Column:
    if not is_text(column) and column.notna().any():
        raise DataError("it needs a column of text. Make it text first, with `.astype('str')`")
    text = pa.array(column, pa.large_string(), from_pandas=True)
    found: Column = function(text, *args, **options).to_pandas().set_axis(column.index)
    return found


def _words(signatures: str, compute: Callable[..., Any], **fixed: Any) -> dict[str, Word]:
    """Read signatures such as ``clip lower upper, isna``; ``compute`` is told the name."""
    words = [signature.split() for signature in signatures.split(",")]
    return {
        name: Word(name, arguments, partial(compute, name=name, **fixed))
        for name, *arguments in words
    }


FUNCTIONS: Mapping[str, Word] = {
    "@date": Word("@date", ("text", "date_format"), _date),
    "@ymd": Word("@ymd", ("year", "month", "day"), _ymd),
    "@iso_week": Word("@iso_week", ("year", "week"), _iso_week),
    "@days": Word("@days", ("number",), _days),
    "@where": Word("@where", ("condition", "yes", "no"), _where),
    "arctan2": Word("arctan2", ("y", "x"), partial(_by_numpy, name="arctan2")),
    **_words(
        "abs x, arccos x, arccosh x, arcsin x, arcsinh x, arctan x, arctanh x, ceil x, cos x,"
        "cosh x, exp x, expm1 x, floor x, log x, log10 x, log1p x, sin x, sinh x, sqrt x, tan x,"
        "tanh x",
        _by_numpy,
    ),
}
METHODS: Mapping[str, Word] = {
    **_words(
        "abs, cumsum, diff periods, max, mean, median, min, round decimals, std, sum",
        _of_column,
        is_number=True,
    ),
    "astype": Word("astype", ("dtype",), cast),
    "isin": Word("isin", ("values",), _is_in),
    **_words(
        "between left right inclusive, bfill, clip lower upper, combine_first other,"
        "ffill, fillna value, isna, isnull, mask cond other, notna, notnull, nunique,"
        "replace to_replace value, shift periods, where cond other,"
        "dt.ceil freq, dt.day_name, dt.floor freq, dt.isocalendar, dt.month_name, dt.normalize,"
        "dt.round freq, dt.total_seconds, dt.tz_convert tz, dt.tz_localize tz,"
        "str.capitalize, str.casefold, str.endswith pat na, str.find sub, str.get i, str.isalnum,"
        "str.isalpha, str.isdecimal, str.isdigit, str.islower, str.isnumeric, str.isspace,"
        "str.istitle, str.isupper, str.len, str.lower, str.lstrip to_strip,"
        "str.removeprefix prefix, str.removesuffix suffix, str.rstrip to_strip,"
        "str.slice start stop step, str.startswith pat na, str.strip to_strip, str.swapcase,"
        "str.title, str.upper",
        _of_column,
    ),
    **_words(
        "str.center width fillchar, str.ljust width fillchar, str.pad width side fillchar,"
        "str.rjust width fillchar, str.zfill width",
        _padded,
    ),
    "dt.strftime": Word("dt.strftime", ("date_format",), _formatted),
    "str.contains": Word("str.contains", _PATTERN, partial(_matched, "{}")),
    "str.match": Word("str.match", _PATTERN, partial(_matched, r"\A(?:{})")),
    "str.fullmatch": Word("str.fullmatch", _PATTERN, partial(_matched, r"\A(?:{})\z")),
    "str.count": Word("str.count", ("pat",), _counted),
    "str.extract": Word("str.extract", ("pat", "expand"), _extracted),
    "str.replace": Word("str.replace", ("pat", "repl", "regex"), _replaced),
    "str.split": Word("str.split", ("pat", "n"), _split),
}
ATTRIBUTES: Mapping[str, Callable[[Column], Any]] = {
    f"dt.{name}": attrgetter(f"dt.{name}")
    for name in (
        "day", "day_of_week", "day_of_year", "dayofweek", "dayofyear", "days", "days_in_month",
        "daysinmonth", "hour", "is_leap_year", "is_month_end", "is_month_start", "is_quarter_end",
        "is_quarter_start", "is_year_end", "is_year_start", "microsecond", "microseconds",
        "minute", "month", "quarter", "second", "seconds", "weekday", "year",
    )
}  # fmt: skip
