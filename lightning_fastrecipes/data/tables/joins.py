"""Find for every row of a table its row of a side table."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from lightning_fastrecipes.data.tables.frames import Roles
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.tables.codes import is_text_column
from lightning_fastrecipes.functional.tables.narrowing import narrow_column
from lightning_fastrecipes.functional.tables.rows import refuse_lists

Column: TypeAlias = "pd.Series[Any]"
Positions = npt.NDArray[np.int64]

logger = logging.getLogger(__name__)

_MAX_EXAMPLES = 5
_EXACT = 2**53
_MOST_KEYS = 2**62
"""Combinations of keys that integers of 64 bits can tell apart."""


@dataclass(frozen=True)
class JoinReport:
    """How well the keys of a table and of a side table fit.

    The columns of the side table are missing in ``num_unmatched`` of ``num_rows`` rows;
    ``examples`` are the first few different keys of those.
    """

    table: str
    num_rows: int
    num_unmatched: int
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return one sentence for people."""
        text = (
            f"join with '{self.table}': {self.num_rows - self.num_unmatched:,} of"
            f" {self.num_rows:,} rows found their row"
        )
        if not self.num_unmatched:
            return f"{text}."
        more = ", ..." if len(self.examples) == _MAX_EXAMPLES else "."
        return (
            f"{text}; the columns are missing in {self.num_unmatched:,}, such as those of"
            f" {', '.join(self.examples)}{more}"
        )


class JoinNotes(list[JoinReport]):
    """Where steps note their joins, those of side tables before their own.

    In training, at least one row ``must_match``; rows to predict may all be of unknown keys.
    ``roles`` are those of the columns of the prepared table; ``side_text`` names the columns that
    were text in each side table, in the order they were read.
    """

    def __init__(self, must_match: bool = True, roles: Roles = Roles()) -> None:  # noqa: B008 - frozen
        super().__init__()
        self.must_match = must_match
        self.roles = roles
        self.side_text: list[list[str]] = []

    def side_roles(self, suffix: str) -> Roles:
        """Return the roles of the columns of the next side table, which end in ``suffix`` then."""

        def own(names: Iterable[str]) -> list[str]:
            return [name.removesuffix(suffix) for name in names if name.endswith(suffix)]

        place, learned = len(self.side_text), self.roles.side_text
        text = learned[place] if place < len(learned) else ()
        words = {name: self.roles.words[name + suffix] for name in own(self.roles.words)}
        return Roles(own(self.roles.codes), text, own(self.roles.numbers), words)

    def note_text(self, side: pd.DataFrame) -> None:
        """Note which columns of a side table are text as it was read."""
        self.side_text.append([str(name) for name in side if is_text_column(side[name])])


Joins: TypeAlias = JoinNotes | None


def find_rows(
    frame: pd.DataFrame,
    side: pd.DataFrame,
    left_on: Sequence[str],
    right_on: Sequence[str],
    table: str,
    must_match: bool = True,
) -> tuple[Positions, JoinReport]:
    """Find the one row of a side table that has the same keys.

    A missing key equals none. Keys are compared by value: 1 is 1.0, and text is the same as a
    category of that text. Returns the position in ``side`` for each row of ``frame``, -1 where
    there is none, and a report. Raise `DataError` if ``side`` has keys twice, a pair of keys
    holds different kinds of values, or no row of ``frame`` finds its row and one ``must_match``.

    >>> stores = pd.DataFrame({"Store": [2, 1], "State": ["TH", "HE"]})
    >>> sales = pd.DataFrame({"Store": [1, 1, 2, 3]})
    >>> found, report = find_rows(sales, stores, ["Store"], ["Store"], "stores.csv")
    >>> found.tolist(), report.num_unmatched
    ([1, 1, 0, -1], 1)
    """
    for keys in (frame[list(left_on)], side[list(right_on)]):
        refuse_lists(*(column for _, column in keys.items()))
    _refuse_duplicates(side[list(right_on)], table)
    mine = np.zeros(len(frame), np.int64)
    theirs = np.zeros(len(side), np.int64)
    num_keys = 1
    for left, right in zip(left_on, right_on, strict=True):
        _refuse_other_kind(frame[left], side[right], table)
        _refuse_rounded(frame[left], side[right])
        ours, others = _same_width(frame[left], side[right])
        values = pd.Index(_plain(others.dropna()).unique())
        if num_keys * len(values) > _MOST_KEYS:
            num_keys = _renumber(mine, theirs)
        num_keys *= max(len(values), 1)
        _add_key(mine, _codes(ours, values), len(values))
        _add_key(theirs, _codes(others, values), len(values))
    known = np.flatnonzero(theirs >= 0)
    found = pd.Index(theirs[known]).get_indexer(pd.Index(mine))
    positions = np.where(found < 0, -1, known[found] if len(known) else -1)
    is_unmatched = positions < 0
    report = JoinReport(
        table, len(frame), int(is_unmatched.sum()), _examples(frame[list(left_on)], is_unmatched)
    )
    if must_match and len(frame) and is_unmatched.all():
        raise DataError(
            f"The keys {_named(left_on)} of the table must be found in '{table}', but none of"
            f" {len(frame):,} is; the table has {', '.join(report.examples)}, and '{table}' has"
            f" {', '.join(_examples(side[list(right_on)], np.ones(len(side), bool)))}. Bring both"
            " to the same form first, with a `derive` or `map` step."
        )
    if report.num_unmatched:
        logger.warning("%s", report)
    return positions, report


def take_rows(values: Column, positions: Positions) -> Column:
    """Return values by position, missing for -1, in the narrowest type."""
    values = values.reset_index(drop=True)
    if (positions >= 0).all():
        return values.take(positions).reset_index(drop=True)
    if values.dtype.kind == "b":
        values = values.astype("boolean")
    return narrow_column(values.reindex(positions).reset_index(drop=True))


def _refuse_duplicates(keys: pd.DataFrame, table: str) -> None:
    keys = keys.dropna()
    is_repeated = keys.duplicated(keep=False).to_numpy()
    if is_repeated.any():
        examples = _examples(keys, is_repeated)
        raise DataError(
            f"'{table}' must have each {_named(list(keys))} once, but {int(is_repeated.sum()):,} of"
            f" its rows share theirs with another, such as those of {', '.join(examples)}. Drop the"
            " repeated rows, or join on more columns."
        )


def _refuse_other_kind(mine: Column, theirs: Column, table: str) -> None:
    kinds = _kind(mine), _kind(theirs)
    if "nothing" not in kinds and kinds[0] != kinds[1]:
        raise DataError(
            "The keys to join on must hold the same kind of values, but"
            f" `{mine.name}` of the table holds {kinds[0]}, and `{theirs.name}` of '{table}' holds"
            f" {kinds[1]}. Convert one first with a `derive` step, such as"
            " {Date: '@date(Date)'}."
        )


def _refuse_rounded(*keys: Column) -> None:
    for values in keys:
        if values.dtype.kind == "f" and float(values.abs().max()) >= _EXACT:
            raise DataError(
                f"The keys in `{values.name}` must be exact, but are whole numbers of more than 15"
                " digits beside gaps, which are rounded. Read them as text:"
                f" `reading={{'text': ['{values.name}']}}`, of the join as well."
            )


def _kind(values: Column) -> str:
    values = values.cat.categories.to_series() if _is_category(values) else values
    if values.isna().all():
        return "nothing"
    kinds = {"i": "numbers", "u": "numbers", "f": "numbers", "b": "true and false", "M": "dates"}
    return kinds.get(values.dtype.kind, "text")


def _is_category(values: Column) -> bool:
    return isinstance(values.dtype, pd.CategoricalDtype)


def _plain(values: Column) -> Column:
    return values.astype(values.cat.categories.dtype) if _is_category(values) else values


def _same_width(*keys: Column) -> list[Column]:
    """Round fractions to 32 bits where one column has no more: 0.1 is 0.1 in either."""
    kinds = {str(values.dtype).lower() for values in keys}
    is_rounded = kinds == {"float32", "float64"}
    return [values.astype("float32") if is_rounded else values for values in keys]


def _codes(values: Column, different: "pd.Index[Any]") -> Positions:
    """Return the position of every value among the different ones, -1 where it is absent."""
    if _is_category(values):
        # One more at the end, for the code -1 of a gap.
        by_category = np.append(different.get_indexer(values.cat.categories), -1)
        return by_category[values.cat.codes.to_numpy()]
    return different.get_indexer(pd.Index(values))


def _add_key(numbers: Positions, codes: Positions, num_different: int) -> None:
    """Make one number of the keys so far and one more; -1 if any of them is not there."""
    is_missing = (numbers < 0) | (codes < 0)
    numbers *= num_different
    numbers += codes
    numbers[is_missing] = -1


def _renumber(mine: Positions, theirs: Positions) -> int:
    """Number the keys of a side table anew, without gaps; return how many there are."""
    known = np.unique(theirs[theirs >= 0])
    for numbers in (mine, theirs):
        numbers[:] = pd.Index(known).get_indexer(pd.Index(numbers))
    return len(known)


def _examples(keys: pd.DataFrame, is_meant: npt.NDArray[np.bool_]) -> tuple[str, ...]:
    different = keys[is_meant].drop_duplicates().head(_MAX_EXAMPLES)
    return tuple(
        "(" + ", ".join(f"{name}={value}" for name, value in row.items()) + ")"
        for row in different.to_dict("records")
    )


def _named(names: Sequence[Any]) -> str:
    return ", ".join(f"'{name}'" for name in names)
