"""Splits for cross-validation, and splits that somebody else has drawn."""

import hashlib
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from typing_extensions import override

from lightning_fastrecipes.data.common.split_base import (
    Shares,
    SplitBase,
    asked_splits,
    check_shares,
)
from lightning_fastrecipes.data.common.split_names import SplitName
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.splits import (
    fold_parts,
    grouped_split,
    stratified_split,
    time_split,
)
from lightning_fastrecipes.messages import name_some
from lightning_fastrecipes.typed import check_types

_MOST_FOLDS = 1000
_LISTS: tuple[SplitName, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class FoldSplit(SplitBase):
    """Validate on one of several folds, and train on the others.

    Every row but those to test on is of one fold, the same whichever ``fold`` is asked for, so that
    one training for each of them validates on every row once. Folds of images have the same mix of
    classes; an image without which a class is not trained on stays in training. By a column of
    dates a fold is trained on what comes before it: the earliest rows are in no fold, and those
    after it are left out.

    Args:
        fold: Which one to validate on, from 0 to ``folds - 1``.
        folds: How many there are, from 2 to 1,000.
        test: Share of the rows to test on, in [0, 1); the same for every fold.
        within: A ``FractionSplit`` or ``GroupSplit``, in place of ``test``: what it tests on is
            tested on, and the folds are of all other rows.
        seed: Another seed draws other folds.
        column: Column of a table whose values stay together in a fold, such as that of patients.
        stratify: Column of a table, such as that of the classes, whose values every fold shall have
            in the same mix. Not for images.
        date: Column of dates by which the folds follow one another; the latest rows are those to
            test on, and rows of one date stay together. Not for images.

    Raises:
        ValueError: If a number is out of its range, or ``date`` stands beside another column, or
            ``within`` beside ``test`` or ``date``, or it keeps other rows together.
        TypeError: If a value is not of its type.

    Example:
        >>> [FoldSplit(fold, folds=3).fold for fold in range(3)]
        [0, 1, 2]
    """

    fold: int = 0
    folds: int = 5
    test: float = 0.0
    seed: int = 0
    column: str | None = None
    stratify: str | None = None
    date: str | None = None
    within: Shares | None = None

    def __post_init__(self) -> None:
        check_types(self)
        self._check_within()
        if not 2 <= self.folds <= _MOST_FOLDS:
            raise ValueError(f"`folds` must lie between 2 and {_MOST_FOLDS:,}, got {self.folds}.")
        if not 0 <= self.fold < self.folds:
            raise ValueError(
                f"`fold` must be one of 0 to {self.folds - 1}, since there are {self.folds} folds,"
                f" got {self.fold}."
            )
        check_shares({"test": self.test})
        if self.date is not None and (self.column or self.stratify):
            raise ValueError(
                "`date` lets folds follow one another in time, where `column` and `stratify` draw"
                " them. Give one of them."
            )

    def _check_within(self) -> None:
        if self.within is None:
            return
        if not isinstance(self.within, Shares):
            raise TypeError(
                "`within` must be a `FractionSplit` or a `GroupSplit`, such as"
                f" `{{'val': 0.2, 'test': 0.1}}`, got {self.within!r}."
            )
        if self.test or self.date:
            name = "test" if self.test else "date"
            raise ValueError(f"`within` says which rows are tested on: leave `{name}` out.")
        kept = getattr(self.within, "column", None)
        if kept != self.column:
            raise ValueError(
                "`within` must keep together rows of the same `column` as the folds, but its column"
                f" is {kept!r}, and that of the folds {self.column!r}."
            )

    @property
    @override
    def columns(self) -> list[str]:
        named = [self.column, self.stratify, self.date]
        named += [] if self.within is None else self.within.columns
        return list(dict.fromkeys(name for name in named if name is not None))

    @property
    @override
    def asked(self) -> set[SplitName]:
        return asked_splits(True, self.test if self.within is None else self.within.test)

    def parts(
        self,
        groups: Sequence[Any] | None,
        strata: Sequence[Any],
        names: Sequence[str] | None = None,
    ) -> list[npt.NDArray[np.int64]]:
        """Return the places of the rows to train, to validate and to test on, each sorted.

        ``groups`` are what stays together, if anything does; ``strata`` and ``names`` are those of
        ``functional.splits.stratified_split``.
        """
        shares = [self.test, *[(1 - self.test) / self.folds] * self.folds]
        if groups is not None:
            test, *folds = grouped_split(groups, shares, self.seed, strata=strata)
        else:
            rest, test = stratified_split(
                strata, [1 - self.test, self.test], self.seed, names=names
            )
            named = None if names is None else [names[place] for place in rest]
            inner = [strata[place] for place in rest]
            folds = [rest[part] for part in fold_parts(inner, self.folds, self.seed, names=named)]
        train = [part for number, part in enumerate(folds) if number != self.fold]
        return [np.sort(np.concatenate(train)), folds[self.fold], test]

    def parts_in_time(self, dates: npt.NDArray[np.datetime64]) -> list[npt.NDArray[np.int64]]:
        """Return the places of the rows before the fold, of the fold, and of those to test on."""
        share = (1 - self.test) / (self.folds + 1)
        *blocks, test = time_split(dates, [*[share] * (self.folds + 1), self.test])
        before = np.sort(np.concatenate(blocks[: self.fold + 1]))
        return [before, blocks[self.fold + 1], test]


@dataclass(frozen=True, repr=False)
class RowSplit(SplitBase):
    """Name the rows of each split, such as those that scikit-learn has drawn.

    Rows are numbers from 0 as in the source, on from file to file, or values of a column. Those in
    no list are left out, which a line says.

    Args:
        train: Rows to train on; if not given, all that are in no other list.
        val: Rows to validate on.
        test: Rows to test on.
        column: Column of ids; then the lists are of values in it, all rows of which are meant.

    Raises:
        ValueError: If a row is in two lists, or twice in one, or all lists are empty.
        TypeError: If a list is none, or numbers of rows are no whole numbers.

    Example:
        >>> RowSplit(val=[0, 5])
        RowSplit(val=[0, 5])
        >>> RowSplit(train=["ann", "bob"], val=["eve"], column="patient").columns
        ['patient']
    """

    train: Sequence[int | str] | None = None
    val: Sequence[int | str] = ()
    test: Sequence[int | str] = ()
    column: str | None = None

    def __post_init__(self) -> None:
        for name in _LISTS:
            if (given := getattr(self, name)) is not None:
                object.__setattr__(self, name, _plain_list(name, given, self.column is None))
        if not self.val and not self.test:
            raise ValueError("`split` must list rows for `val` or `test`, but both are empty.")
        homes: dict[Any, str] = {}
        for name in _LISTS:
            rows = getattr(self, name) or ()
            if shared := [str(row) for row in rows if row in homes]:
                raise ValueError(
                    f"A row must be in one split, but '{name}' and '{homes[_first(rows, homes)]}'"
                    f" both list {name_some(shared)}. Keep each in one."
                )
            homes.update(dict.fromkeys(rows, name))

    def __repr__(self) -> str:
        """Return what is given, of long lists the first rows."""
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        shown = [
            f"{name}={reprlib.repr(list(value) if isinstance(value, tuple) else value)}"
            for name, value in given.items()
            if value not in (None, ())
        ]
        return f"RowSplit({', '.join(shown)})"

    @property
    @override
    def asked(self) -> set[SplitName]:
        return asked_splits(self.val, self.test)

    @override
    def key(self) -> dict[str, Any]:
        lists = repr([getattr(self, name) for name in _LISTS])
        digest = hashlib.blake2b(lists.encode(), digest_size=16).hexdigest()
        return {"split": "RowSplit", "column": self.column, "rows": digest}

    def splits(self, rows: "pd.Series[Any]") -> tuple["pd.Series[Any]", str]:
        """Return the split of each row, ``None`` for those in no list, and what there is to say.

        ``rows`` are the numbers of the rows, or their ids. Raise `DataError` if a row that is
        listed is not there.
        """
        homes = {row: name for name in _LISTS for row in getattr(self, name) or ()}
        missing = [str(row) for row in homes.keys() - set(rows.tolist())]
        if missing:
            where = "numbered from 0" if self.column is None else f"by the column '{self.column}'"
            raise DataError(
                f"`split` lists {len(missing):,} rows that the table, {where}, does not have:"
                f" {name_some(sorted(missing))}. Correct the lists, and leave out of them what"
                " `where` leaves out."
            )
        otherwise = "train" if self.train is None else None
        found = pd.Series([homes.get(row, otherwise) for row in rows], rows.index, dtype=object)
        num_unused = int(found.isna().sum())
        said = f"{num_unused:,} of {len(rows):,} rows are in no list and left out"
        return found, said if num_unused else ""


def refuse_other_index(split: object, frame: pd.DataFrame) -> None:
    """Refuse numbers of rows for a frame whose index has other numbers: which ones are meant?"""
    is_numbered = not isinstance(split, RowSplit) or split.column is not None
    if not is_numbered and not frame.index.equals(pd.RangeIndex(len(frame))):
        raise DataError(
            "`split` lists rows by their numbers from 0, but the index of the frame has other"
            " labels, so that either could be meant. Call `frame.reset_index(drop=True)` before the"
            " rows are chosen, or list values of a `column`."
        )


def _plain_list(name: str, given: Any, are_numbers: bool) -> tuple[Any, ...]:
    items = given.tolist() if hasattr(given, "tolist") else given
    if isinstance(items, (str, bytes, dict)) or not hasattr(items, "__iter__"):
        raise TypeError(f"`{name}` of `split` must be a list of rows, got {reprlib.repr(given)}.")
    rows = [item.item() if isinstance(item, np.generic) else item for item in items]
    wrong = [row for row in rows if isinstance(row, bool) or not isinstance(row, int) or row < 0]
    if are_numbers and wrong:
        raise TypeError(
            f"`{name}` of `split` must list numbers of rows from 0, got {reprlib.repr(wrong[0])}."
            " For ids give their `column`, for true and false the places of what is true."
        )
    if any(isinstance(row, (list, dict, set)) for row in rows):
        raise TypeError(f"`{name}` of `split` must list single values, got {reprlib.repr(rows)}.")
    different = tuple(dict.fromkeys(rows))
    if are_numbers and len(different) < len(rows):
        twice = sorted({row for row in rows if rows.count(row) > 1} if len(rows) < 1000 else ())
        raise ValueError(
            f"`{name}` of `split` lists rows more than once{': ' * bool(twice)}"
            f"{reprlib.repr(twice) if twice else ''}. List each once."
        )
    return different


def _first(rows: Sequence[Any], homes: dict[Any, str]) -> Any:
    return next(row for row in rows if row in homes)
