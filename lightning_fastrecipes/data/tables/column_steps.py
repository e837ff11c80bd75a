"""Steps that make columns of a table from its others: dates, events, expressions, new values."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import pandas as pd
from typing_extensions import override

from lightning_fastrecipes.data.tables.joins import Joins
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.tables.dates import add_datepart, check_parts
from lightning_fastrecipes.functional.tables.elapsed import add_elapsed, check_window
from lightning_fastrecipes.functional.tables.expressions import evaluate
from lightning_fastrecipes.functional.tables.narrowing import narrow_column
from lightning_fastrecipes.functional.tables.rows import column_of, refuse_lists
from lightning_fastrecipes.messages import shown


class Step(ABC):
    """Something that is done to a table before it is split and encoded.

    ``key`` is what a recipe calls it.
    """

    key: ClassVar[str]

    @abstractmethod
    def apply(self, frame: pd.DataFrame, folder: Path, joins: Joins = None) -> pd.DataFrame:
        """Return a new table of the same rows in the same order, with what the step adds.

        The frame is not changed. ``folder`` is what relative paths of side tables start from. How
        well the keys of joins fit is noted in ``joins``.
        """

    def files(self, folder: Path) -> list[Path]:
        """List the files, which exist, that the result depends on."""
        return []


@dataclass(frozen=True)
class DateParts(Step):
    """Add the parts of a date as columns; see ``add_datepart``, whose arguments these are.

    The column of dates stays, as datetimes, unless ``drop`` says otherwise, and whether there is a
    column Is_missing never depends on the data.
    """

    key: ClassVar[str] = "date_parts"
    column: str
    drop: bool = False
    time: bool = False
    prefix: str | None = None
    date_format: str = "ISO8601"
    cyclical: bool | Sequence[str] = False
    holidays: str | None = None
    flag_missing: bool = False

    def __post_init__(self) -> None:
        try:
            check_parts(self.cyclical, self.time, self.holidays)
        except ModuleNotFoundError as error:
            raise ValueError(str(error)) from error

    @override
    def apply(self, frame: pd.DataFrame, folder: Path, joins: Joins = None) -> pd.DataFrame:
        return add_datepart(frame, **vars(self))


@dataclass(frozen=True)
class Elapsed(Step):
    """Add days since and until events; see ``add_elapsed``, whose arguments these are."""

    key: ClassVar[str] = "elapsed"
    columns: str | Sequence[str]
    date: str
    group: str | Sequence[str] | None = None
    window_days: int = 7
    past_only: bool = False
    date_format: str = "ISO8601"

    def __post_init__(self) -> None:
        set_names(self, "columns", "group")
        for argument in ("columns", "group"):
            names = getattr(self, argument)
            if not names and (argument == "columns" or names is not None):
                raise ValueError(f"`{argument}` must name at least one column, got none.")
        check_window(self.window_days)

    @override
    def apply(self, frame: pd.DataFrame, folder: Path, joins: Joins = None) -> pd.DataFrame:
        return add_elapsed(frame, **vars(self))


@dataclass(frozen=True)
class Derive(Step):
    """Make columns from others, one after the other; see ``expressions.evaluate`` for the language.

    Args:
        columns: From the name of a column, new or not, to its expression.
    """

    key: ClassVar[str] = "derive"
    columns: Mapping[str, str | float | bool]

    def __post_init__(self) -> None:
        is_mapping = isinstance(self.columns, Mapping) and len(self.columns) > 0
        if not is_mapping or not all(isinstance(name, str) for name in self.columns):
            raise ValueError(
                "`derive` must map names of columns to expressions, such as {Weekend: 'Dayofweek >"
                f" 4'}}, with names that are text, got {shown(self.columns)}."
            )

    @override
    def apply(self, frame: pd.DataFrame, folder: Path, joins: Joins = None) -> pd.DataFrame:
        for name, expression in self.columns.items():
            frame = frame.assign(**{name: narrow_column(evaluate(frame, name, str(expression)))})
        return frame


@dataclass(frozen=True)
class Map(Step):
    """Replace the values of a column by others.

    Args:
        column: The column to read.
        values: From what is in the column to what shall be.
        to: Column to write; ``column`` itself if not given.
        other: What becomes of values that ``values`` does not name: an ``error``, ``keep`` them, or
            ``missing``. Missing values stay missing.

    Raises:
        ValueError: If ``values`` is empty or ``other`` is something else.
    """

    key: ClassVar[str] = "map"
    column: str
    values: Mapping[Any, Any] = field(default_factory=dict)
    to: str | None = None
    other: Literal["error", "keep", "missing"] = "error"

    def __post_init__(self) -> None:
        if not isinstance(self.values, Mapping) or not self.values:
            raise ValueError(f"`values` must map old values to new ones, got {self.values!r}.")
        if self.other not in ("error", "keep", "missing"):
            raise ValueError(f"`other` must be error, keep or missing, got {self.other!r}.")

    @override
    def apply(self, frame: pd.DataFrame, folder: Path, joins: Joins = None) -> pd.DataFrame:
        column = column_of(frame, self.column)
        refuse_lists(column)
        codes, different = pd.factorize(column)
        unnamed = [value for value in different if value not in self.values]
        if unnamed and self.other == "error":
            raise DataError(
                f"`values` must name every value of '{self.column}', but {len(unnamed)} are not"
                f" named: {', '.join(map(repr, unnamed[:10]))}. Add them, or set `other`."
            )
        kept = {value: value for value in unnamed if self.other == "keep"}
        new = pd.Series([(kept | dict(self.values)).get(value) for value in different])
        taken = pd.Series(new.array.take(codes, allow_fill=True), frame.index)
        return frame.assign(**{self.to or self.column: narrow_column(taken)})


def set_names(step: Any, *arguments: str) -> None:
    """Take one name of a column for a list of one, and refuse what is no list of names."""
    for argument in arguments:
        names = getattr(step, argument)
        names = [names] if isinstance(names, str) else names
        if names is not None and not (
            isinstance(names, Sequence) and all(isinstance(name, str) for name in names)
        ):
            raise ValueError(f"`{argument}` must be a list of names of columns, got {names!r}.")
        object.__setattr__(step, argument, None if names is None else tuple(names))
