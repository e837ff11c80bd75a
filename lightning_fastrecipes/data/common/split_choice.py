"""How a data set is split: by shares, a column, dates, whole groups, folds, or lists of rows."""

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, fields, replace
from datetime import date
from typing import Any, TypeAlias, get_args

import numpy as np
import pandas as pd
from typing_extensions import override

from lightning_fastrecipes.data.common.row_splits import FoldSplit, RowSplit
from lightning_fastrecipes.data.common.split_base import (
    Shares,
    SplitBase,
    asked_splits,
    check_shares,
)
from lightning_fastrecipes.data.common.split_names import SplitName
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.messages import name_some, shown, suggestion
from lightning_fastrecipes.typed import check_mapping, check_types, from_mapping

_MOST_DAYS = 100_000
_BOUNDS = ("val_from", "val_until", "test_from", "test_until")


@dataclass(frozen=True)
class FractionSplit(Shares):
    """Draw splits at random. Splits that the data bring along, such as a folder `val`, are kept.

    Images are drawn class by class, so that every split has the same mix.

    Args:
        val: Share to validate on, in [0, 1).
        test: Share to test on, in [0, 1).
        seed: Another seed draws other samples; nothing else changes them.
        stratify: Column of a table, such as that of the classes, whose values every split shall
            have in the same mix: each value is shared out by itself. Not for images.

    Raises:
        ValueError: If a share is out of its range, or nothing is left to train on.
    """

    val: float = 0.2
    test: float = 0.0
    seed: int = 0
    stratify: str | None = None

    @property
    @override
    def columns(self) -> list[str]:
        return [] if self.stratify is None else [self.stratify]


@dataclass(frozen=True)
class ColumnSplit(SplitBase):
    """Read the split of each row from a column that says ``train``, ``val`` or ``test``.

    ``training``, ``valid``, ``validation``, ``dev`` and so on mean the same, in any case. Booleans
    and 0 and 1 do as well: 1 is ``val``, or what the name of the column says, such as ``is_test``.

    Args:
        column: Name of the column.
        missing: How to draw a split that no row is in; there is no such split if not given.

    Raises:
        ConfigurationError: If a value is not of its type.
    """

    column: str
    missing: FractionSplit | None = None

    def __post_init__(self) -> None:
        check_types(self)

    @property
    @override
    def asked(self) -> set[SplitName]:
        return {"train"} if self.missing is None else self.missing.asked


@dataclass(frozen=True)
class DateSplit(SplitBase):
    """Hold out ranges of dates, or the latest rows. Rows of one date stay together.

    With ranges, rows before *and after* them are trained on, unless ``past_only``.

    Args:
        column: Column of dates.
        val_from: First date to validate on, such as ``2014-08-01``; open if not given.
        val_until: Last date to validate on, the whole of that day; if not given, validation
            ends where ``test_from`` begins, or with the table.
        test_from: First date to test on.
        test_until: Last date to test on.
        past_only: Drop training rows dated after the start of validation or test, to avoid
            leakage.
        val_last: Share of the rows to validate on, in [0, 1): the latest ones, before those to
            test on. In place of ranges.
        test_last: Share of the rows to test on, in [0, 1): the latest ones. In place of ranges.
        gap_days: Days, at least 0, before the first date of validation or test and after its last
            that nobody trains on, such as the reach of features that look back.

    Raises:
        ValueError: If an argument is out of its range, two of them contradict one another, or
            nothing is held out.
    """

    column: str
    val_from: str | date | None = None
    val_until: str | date | None = None
    test_from: str | date | None = None
    test_until: str | date | None = None
    past_only: bool = False
    val_last: float = 0.0
    test_last: float = 0.0
    gap_days: float = 0.0

    def __post_init__(self) -> None:
        check_types(self)
        if not 0 <= self.gap_days <= _MOST_DAYS:
            raise ValueError(
                f"`gap_days` must lie between 0 and {_MOST_DAYS:,}, got {self.gap_days}."
            )
        check_shares({"val_last": self.val_last, "test_last": self.test_last})
        shares = [name for name in ("val_last", "test_last") if getattr(self, name) > 0]
        bounds = list(self.bounds)  # reads the dates
        if bounds and shares:
            raise ValueError(f"`{shares[0]}` and `{bounds[0]}` contradict one another. Give one.")
        if not bounds and not shares:
            raise ValueError(
                "`DateSplit` must hold out some rows, but has neither a range of dates nor a share."
                " Give `val_from`, or `val_last` for the latest rows."
            )
        if self.past_only and not bounds:
            raise ValueError(
                "`past_only` needs a range of dates, such as `val_from`. Give one, or leave it"
                " out: `val_last` and `test_last` hold out the latest rows anyway."
            )

    @property
    def bounds(self) -> dict[str, np.datetime64]:
        """Ends of the ranges that are given, in microseconds, by the names of their arguments."""
        given = {name: getattr(self, name) for name in _BOUNDS}
        return {name: _moment(name, value) for name, value in given.items() if value is not None}

    @property
    def fractions(self) -> list[float]:
        """Shares of training, validation and test, in the order of time."""
        return [1 - self.val_last - self.test_last, self.val_last, self.test_last]

    @property
    @override
    def asked(self) -> set[SplitName]:
        named = {name.partition("_")[0] for name in self.bounds}
        return asked_splits(self.val_last or "val" in named, self.test_last or "test" in named)


@dataclass(frozen=True)
class GroupSplit(Shares):
    """Draw splits at random, but keep rows of one group together, such as photos of one patient.

    Shares, and the mix of classes, are met as nearly as whole groups allow.

    Args:
        column: Column that names the group of each row.
        val: Share of the rows to validate on, in [0, 1).
        test: Share of the rows to test on, in [0, 1).
        seed: Another seed draws other groups.

    Raises:
        ValueError: If a share is out of its range, or nothing is left to train on.
    """

    column: str
    val: float = 0.2
    test: float = 0.0
    seed: int = 0


Split: TypeAlias = FractionSplit | ColumnSplit | DateSplit | GroupSplit | FoldSplit | RowSplit
"""One of the ways to split."""

SplitChoice: TypeAlias = Split | float | str | dict[str, Any] | None
"""A split; a number is the share to validate on, a text the column that names the splits."""

_SHARE_KEYS = {"val", "test", "seed"}


def as_split(choice: SplitChoice) -> Split:
    """Turn what a user gives for ``split`` into one of the classes.

    A number is the share to validate on, a text the column that names the splits. The keys of a
    mapping say which class is meant: ``folds`` or ``fold`` a ``FoldSplit``, lists a ``RowSplit``,
    ``column`` alone a ``ColumnSplit``, with shares a ``GroupSplit``, with dates a ``DateSplit``;
    else it is a ``FractionSplit``.

    >>> as_split(0.1)
    FractionSplit(val=0.1, test=0.0, seed=0, stratify=None)
    >>> as_split({"column": "patient", "val": 0.25})
    GroupSplit(column='patient', val=0.25, test=0.0, seed=0)
    >>> as_split({"val": [0, 4], "test": [2]})
    RowSplit(val=[0, 4], test=[2])
    """
    if isinstance(choice, Split):
        return choice
    if choice is None:
        return FractionSplit()
    if isinstance(choice, str):
        return ColumnSplit(choice)
    if isinstance(choice, Mapping):
        return _from_mapping(choice)
    if isinstance(choice, bool) or not isinstance(choice, int | float):
        raise TypeError(
            "`split` must be a share to validate on, the name of a column, lists of rows such as"
            " `{'val': [0, 1]}`, or one of"
            f" {', '.join(way.__name__ for way in get_args(Split))}, got {shown(choice)}."
        )
    return FractionSplit(choice)


def as_folds(choice: SplitChoice, folds: int) -> FoldSplit:
    """Return the first fold of a split that draws the rows to validate on as folds.

    What it keeps together, its strata, dates and seed hold for the folds as well, and the rows to
    test on stay the same. Raise `ConfigurationError` if it names the rows to validate on.

    >>> as_folds({"column": "patient", "val": 0.2, "test": 0.1}, 5).within
    GroupSplit(column='patient', val=0.2, test=0.1, seed=0)
    """
    split = as_split(choice)
    if isinstance(split, FoldSplit):
        return replace(split, fold=0, folds=folds)
    if isinstance(split, FractionSplit | GroupSplit):
        drawn = FoldSplit(0, folds, seed=split.seed)
        if isinstance(split, GroupSplit):
            drawn = replace(drawn, column=split.column)
        else:
            drawn = replace(drawn, stratify=split.stratify)
        return replace(drawn, within=split if split.test else None)
    if isinstance(split, DateSplit) and not split.bounds and not split.gap_days:
        return FoldSplit(0, folds, split.test_last, date=split.column)
    raise ConfigurationError(
        f"Folds draw the rows to validate on, but `split` names them: {split}. Give shares, such as"
        " `{val: 0.2, test: 0.1}`, perhaps with a `column` of what stays together; or a `date` by"
        " which folds follow one another."
    )


def _from_mapping(values: Mapping[str, Any]) -> Split:
    keys = set(values)
    kind: type[Split] = FractionSplit
    lists = {name for name in ("train", "val", "test") if _is_list(values.get(name))}
    if lists:
        kind = RowSplit
    elif keys & {"fold", "folds"}:
        kind = FoldSplit
    elif keys & {field.name for field in fields(DateSplit)} - {"column"}:
        kind = DateSplit
    elif "column" in keys:
        kind = GroupSplit if keys & _SHARE_KEYS else ColumnSplit
    known = [field.name for field in fields(kind)]
    for key in values:
        if key not in known:
            every = {field.name for way in get_args(Split) for field in fields(way)}
            raise ValueError(
                f"`split` has the key '{key}', but {kind.__name__} takes {name_some(known)}."
                f"{suggestion(key, every) or ' Remove it.'}"
            )
    if kind not in (FractionSplit, FoldSplit, RowSplit) and "column" not in keys:
        raise ValueError(
            f"`split` with '{next(iter(keys))}' needs a column of dates. Add `column`."
        )
    if isinstance(missing := values.get("missing"), Mapping):
        values = {**values, "missing": from_mapping(FractionSplit, missing, "split.missing")}
    if isinstance(within := values.get("within"), Mapping):
        values = {**values, "within": _from_mapping(within)}
    if kind is not RowSplit:  # which checks its lists, of whatever library, by itself
        check_mapping(kind, values, "split")
    return kind(**values)


def _is_list(value: Any) -> bool:
    return (isinstance(value, Sequence | Set | range) and not isinstance(value, str)) or (
        hasattr(value, "tolist") and getattr(value, "ndim", 1) > 0
    )


def _moment(name: str, value: str | date) -> np.datetime64:
    """Read an end of a range; the last day of one counts as a whole."""
    text = str(value).strip()
    # Others than those that begin with the year, such as 01/02/2014, are read in two ways.
    is_plain = re.match(r"\d{4}", text) is not None
    try:
        moment = pd.Timestamp(text if is_plain else "no date")
    except ValueError as error:
        raise ValueError(
            f"`{name}` must be a date such as '2014-08-01', got {shown(value)}. Write year, month,"
            " day."
        ) from error
    if pd.isna(moment) or moment.tzinfo is not None:
        raise ValueError(
            f"`{name}` must be a date without a time zone such as '2014-08-01', got {shown(value)}."
        )
    found = np.datetime64(moment.to_datetime64().astype("datetime64[us]"))
    is_whole_day = moment == moment.normalize() and ":" not in text
    if name.endswith("_until") and is_whole_day:
        found += np.timedelta64(1, "D") - np.timedelta64(1, "us")
    return found
