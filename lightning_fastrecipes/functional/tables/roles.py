"""What the columns of a table are for, by what is in them: nobody has to list them by hand."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd

from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.decisions import counted
from lightning_fastrecipes.functional.tables.codes import is_text_column
from lightning_fastrecipes.functional.tables.date_parsing import parse_dates
from lightning_fastrecipes.functional.tables.missing_codes import read_as_missing, stray_words
from lightning_fastrecipes.messages import suggestion

Column: TypeAlias = "pd.Series[Any]"
Role = Literal["category", "number", "date", "group", "left out"]

ROWS_PER_VALUE = 50
"""Rows that each value of a whole number must have on average, to be learned as a category."""

ROWS_PER_TEXT = 4
"""Rows that each value of a text must have on average, to be learned as a category.

Of 800 rows, a column that says much gained nothing at 4 rows a value, and one that says nothing
cost much.
"""

MOST_VALUES = 32
"""Different values of a whole number above which it is never taken for a category."""

_DATE_FORMATS = (
    "ISO8601", "%Y/%m/%d", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%d.%m.%Y", "%d.%m.%Y %H:%M",
    "%d.%m.%Y %H:%M:%S", "%m/%d/%Y", "%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M:%S", "%d/%m/%Y",
    "%d/%m/%Y %H:%M", "%d/%m/%Y %H:%M:%S", "%d-%m-%Y", "%b %d, %Y", "%d %b %Y",
)  # fmt: skip
_LIKE_DATE = re.compile(r"\s*(\d{1,4}[-/. ]\w{1,9}[-/., ]+\d{1,4}|[A-Za-z]{3} \d)")
_ID_NAME = re.compile(r"(?:(?:^|[_\- .])(?:id|uuid|guid|key)|[a-z](?:Id|ID))\d*$|^(?:ID|Id)$")
_OWNER_NAME = re.compile(
    r"(?:^|[_\- ])(patient|subject|person|user|customer|client|participant|household|session"
    r"|device|case|animal|student|player|group)(?:s|[_\- ]?(?:id|ID|name|nr|no))?$",
    re.IGNORECASE,
)
_COUNTED_NAME = re.compile(r"(?:Unnamed: \d+|index|row(?:[_\- ]?(?:id|number|names?|nr))?|)$", re.I)
_LEAST_SHARE_OF_ID = 0.95
_LEAST_ROWS = 20
_LEAST_GROUPS = 20
_WORDS_OF_PROSE = 4
_LEAK = 0.99999
_EXACT, _WEIGHT = 1e-9, 1e-3


@dataclass(frozen=True)
class ColumnRole:
    """What a column is for, and why, in words that follow its name.

    ``date_format`` is how its dates are written, for ``parse_dates``; ``None`` if it has none.
    ``reason`` holds the figure that the role rests on.
    """

    name: str
    role: Role
    reason: str
    date_format: str | None = None


def find_roles(frame: pd.DataFrame, target: str, but: Collection[str] = ()) -> list[ColumnRole]:
    """Return what each column but the target and those of ``but`` is for, in their order.

    The rules, the first that fits: nothing or one value is left out; dates are dates; numbers that
    count the rows, and text of which nearly every row has its own, are left out; the name of an
    owner or an id that repeats is a group; text is a category if each value has ``ROWS_PER_TEXT``
    rows on average, whole numbers too if they are few and each has ``ROWS_PER_VALUE``; other text
    is left out, other numbers are numbers. What repeats another column, or says the target by
    itself, is left out. Raise `DataError` if there is no such target.

    >>> table = pd.DataFrame({"id": range(300), "size": [1.5, 2, 3] * 100, "y": [1, 2, 2] * 100})
    >>> [(role.name, role.role) for role in find_roles(table, "y")]
    [('id', 'left out'), ('size', 'number')]
    """
    if target not in frame:
        meant = suggestion(target, map(str, frame))
        raise DataError(
            f"The table has no column '{target}' to predict.{meant} Give another `target`."
        )
    known = frame[frame[target].notna()]
    roles: list[ColumnRole] = []
    seen: dict[int, str] = {}
    for name in frame:
        if name == target or name in but:
            continue
        column = known[name]
        leak = leak_in_words(column, known[target])
        role = role_of(column) if leak is None else ColumnRole(str(name), "left out", leak)
        if role.role in ("category", "number"):
            digest = hash(pd.util.hash_pandas_object(column, index=False).to_numpy().tobytes())
            if (other := seen.setdefault(digest, str(name))) != str(name):
                role = ColumnRole(str(name), "left out", f"the same as '{other}' in every row")
        roles.append(role)
    return roles


def role_of(column: Column) -> ColumnRole:
    """Return what one column is for, by its name and values alone."""
    name, values = str(column.name), column.dropna()
    num_rows = len(column)

    def role(role: Role, reason: str, date_format: str | None = None) -> ColumnRole:
        return ColumnRole(name, role, reason, date_format)

    if not len(values):
        return role("left out", "empty in all rows")
    try:
        different = int(values.nunique())
    except TypeError:
        return role("left out", f"holds {type(values.iloc[0]).__name__}s, which are no values")
    if different == 1 and len(values) == num_rows:
        return role("left out", f"'{values.iloc[0]}' in all {num_rows:,} rows")
    if (date_format := date_format_of(values)) is not None:
        return role("date", f"dates, {counted(different, 'different one')}", date_format)
    is_own = is_own_of_rows(different, len(values))
    is_id = bool(_ID_NAME.search(name) or _OWNER_NAME.search(name))
    if is_text_column(column):
        return _text_role(name, values, different, is_own=is_own, is_id=is_id)
    if values.dtype.kind not in "iufb":
        return role("left out", f"holds {values.dtype}, which is neither number nor text")
    numbers = values.to_numpy(np.float64)
    is_whole = bool(np.all(numbers == np.floor(numbers)))
    if is_whole and is_own and (is_id or _counts_rows(name, numbers)):
        return role("left out", f"counts or names the rows: {different:,} in {num_rows:,} rows")
    if is_whole and is_id and _is_group(different, len(values)):
        return role("group", f"{different:,} groups in {num_rows:,} rows")
    if not is_whole or different <= 2:
        return role("number", f"{different:,} different")
    if different <= MOST_VALUES and len(values) >= ROWS_PER_VALUE * different:
        return role(
            "category", f"{different} whole numbers, {len(values) / different:.0f} rows each"
        )
    return role("number", f"{different:,} whole")


def date_format_of(values: Column) -> str | None:
    """Return how the dates of a column without gaps are written, ``None`` if it holds none.

    Where day and month could be either, the one is taken by which the rows are more in order, and
    the day first if both are alike.

    >>> date_format_of(pd.Series(["31/12/2016", "01/01/2017"]))
    '%d/%m/%Y'
    >>> date_format_of(pd.Series(["3", "4"])) is None
    True
    """
    if values.dtype.kind == "M":
        return "ISO8601"
    if not is_text_column(values):
        return None
    different = pd.Series(values.unique()[:2000]).astype(object)
    if not all(isinstance(text, str) and _LIKE_DATE.match(text) for text in different):
        return None
    fitting = []
    for place, date_format in enumerate(_DATE_FORMATS):
        try:
            dates = parse_dates(different, date_format)
        except DataError:
            continue
        in_order = float((dates.diff().iloc[1:] >= pd.Timedelta(0)).mean())
        fitting.append((in_order, date_format.startswith("%d"), -place, date_format))
    return max(fitting)[-1] if fitting else None


def joint_leak(frame: pd.DataFrame, target: str, numbers: Collection[str]) -> list[str]:
    """Return columns of numbers that together give a number to be predicted exactly, if any do.

    >>> table = pd.DataFrame({"new": [1, 2, 4, 8.0], "old": [5, 1, 3, 2.0], "x": [1, 3, 2, 2.0]})
    >>> joint_leak(table.assign(y=table["new"] + table["old"]), "y", ["new", "old", "x"])
    ['new', 'old']
    """
    names = list(numbers)
    known = frame[[*names, target]].dropna().astype(np.float64)
    if len(known) <= len(names) or not names:
        return []
    centred = known - known.mean()
    scaled = (centred / centred.std().replace(0, 1)).to_numpy()
    weights, *_ = np.linalg.lstsq(scaled[:, :-1], scaled[:, -1], rcond=None)
    rest = float(np.mean((scaled[:, -1] - scaled[:, :-1] @ weights) ** 2))
    if rest > _EXACT:
        return []
    return [name for name, weight in zip(names, weights, strict=True) if abs(weight) > _WEIGHT]


def _text_role(
    name: str, values: Column, different: int, *, is_own: bool, is_id: bool
) -> ColumnRole:
    strays = stray_words(values)
    hint = f"; a number if {read_as_missing(strays)} makes gaps of that" if strays else ""
    if is_own and not strays:
        return ColumnRole(name, "left out", f"{different:,} texts in {len(values):,} rows")
    if is_id and _is_group(different, len(values)):
        return ColumnRole(name, "group", f"{different:,} groups in {len(values):,} rows")
    words = float(np.mean([str(text).count(" ") + 1 for text in values.unique()[:500]]))
    if words > _WORDS_OF_PROSE and different > len(values) / 4:
        return ColumnRole(name, "left out", f"prose of {words:.0f} words, {different:,} different")
    if different >= _LEAST_ROWS and len(values) < ROWS_PER_TEXT * different:
        few = f"{different:,} values in {len(values):,} rows, too few rows each to learn from"
        return ColumnRole(name, "left out", few + hint)
    return ColumnRole(name, "category", counted(different, "value") + hint)


def _counts_rows(name: str, numbers: Any) -> bool:
    """Return whether whole numbers without repetition are those of the rows."""
    steps = np.diff(numbers)
    return bool(_COUNTED_NAME.match(name)) or bool(len(steps) and np.all(steps == 1))


def _is_group(different: int, num_rows: int) -> bool:
    return (
        different >= _LEAST_GROUPS and num_rows >= 1.2 * different and different >= num_rows / 100
    )


def is_own_of_rows(different: int, num_rows: int) -> bool:
    """Return whether nearly every row has a value of its own, as of an id."""
    return num_rows >= _LEAST_ROWS and different >= _LEAST_SHARE_OF_ID * num_rows


def leak_in_words(column: Column, target: Column) -> str | None:
    """Return in words that a column says the target by itself, ``None`` if it does not.

    >>> leak_in_words(pd.Series(range(30)), 2.5 * pd.Series(range(30)))
    'says the target by itself: their correlation is 1.000000'
    """
    both = column.notna()
    if both.sum() < _LEAST_ROWS:
        return None
    column, target = column[both], target[both]
    if column.dtype.kind in "iuf" and target.dtype.kind in "iuf" and target.nunique() > 2:
        mine, wanted = column.to_numpy(np.float64), target.to_numpy(np.float64)
        if mine.std() == 0 or wanted.std() == 0:
            return None
        found = abs(float(np.corrcoef(mine, wanted)[0, 1]))
        if found > _LEAK:
            return f"says the target by itself: their correlation is {found:.6f}"
        return None
    try:
        codes, values = pd.factorize(column)
        wanted_codes, classes = pd.factorize(target)
    except TypeError:
        return None
    if not 2 <= len(values) <= 50 or len(values) != len(classes):
        return None
    pairs = {*zip(codes.tolist(), wanted_codes.tolist(), strict=True)}
    if len(pairs) == len(values):
        return f"says the target by itself: each of its {len(values)} values is one class"
    return None
