"""Which labels each row of a table has, and whether that may be several: the data decide."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

LabelChoice = Literal["auto", "single", "multi"]
"""What a user says of labels: the data decide, one per image, or any number."""

LABEL_JOINER = "\x1f"
"""Stands between the labels of a row in a listing; no file has it in a name."""

_PUNCTUATION = (",", ";", "|")
_SPACE = " "


@dataclass(frozen=True)
class LabelSets:
    """The labels of each row as a sorted tuple, and for people why they were read so.

    The tuples have one label each if ``multi_label`` is false, else any number.
    """

    labels: list[tuple[str, ...]]
    multi_label: bool
    reason: str


def split_labels(
    values: Sequence[str], separator: str | None = None, choice: LabelChoice = "auto"
) -> LabelSets:
    """Read a column of labels, one text per row, finding out whether a value names several.

    Where the data decide, the whole column must show it, so that names of two words, such as
    'golden retriever', stay one label: at least half of the parts must turn up in two or more
    different values, as tags that combine freely do. For spaces, which names hold as well, there
    must also be at most half as many parts as different values.

    A separator of a space is any run of white space. ``None`` finds out which of comma, semicolon,
    bar and spaces it is; with the choice ``multi`` that is the first that is there.

    >>> split_labels(["sun sea", "sea", "sun", "sun sky sea", "sky", "sky sun"]).reason
    "multi, since 3 of 6 rows have several labels separated by ' '"
    >>> split_labels(["golden retriever", "cat"]).multi_label
    False
    """
    distinct = sorted({value for value in values if value})
    if choice == "single":
        return _one_each(values, "`labels` says so")
    if separator is None:
        signs = (*_PUNCTUATION, _SPACE)
        present = [s for s in signs if any(len(_cut(value, s)) > 1 for value in distinct)]
        found = [sign for sign in present if _combines(distinct, sign)]
        if not found and choice == "auto":
            return _one_each(values, _why_single(values, present))
        separator = (found or present or [_SPACE])[0]
    labels = [_cut(value, separator) for value in values]
    num_several = sum(len(row) > 1 for row in labels)
    said = "" if choice == "auto" else "`labels` says so: "
    counted = f"{num_several:,} of {len(labels):,} rows have several labels"
    return LabelSets(labels, True, f"multi, since {said}{counted} separated by {separator!r}")


def labels_of_columns(flags: pd.DataFrame, choice: LabelChoice = "auto") -> LabelSets:
    """Read one ``bool`` column per label; unless told otherwise, one in each row is a single label.

    >>> labels_of_columns(pd.DataFrame({"cat": [True, False], "dog": [True, False]})).labels
    [('cat', 'dog'), ()]
    """
    names = [str(name) for name in flags]
    labels = [
        tuple(sorted(name for name, holds in zip(names, row, strict=True) if holds))
        for row in flags.to_numpy()
    ]
    num_one = sum(len(row) == 1 for row in labels)
    columns = f"{len(names)} columns of 0 and 1"
    if choice != "auto":
        return LabelSets(labels, choice == "multi", f"{choice}, since `labels` says so")
    if num_one == len(labels):
        why = f"each of {len(labels):,} rows has exactly one 1 in {columns}"
        return LabelSets(labels, False, f"single, since {why}")
    why = f"{len(labels) - num_one:,} of {len(labels):,} rows have none or several 1 in {columns}"
    return LabelSets(labels, True, f"multi, since {why}")


def _one_each(values: Sequence[str], reason: str) -> LabelSets:
    return LabelSets([(value,) for value in values], False, f"single, since {reason}")


def _why_single(values: Sequence[str], present: Sequence[str]) -> str:
    if not present:
        return "no label holds a comma, semicolon, bar or space"
    separator = present[0]
    num_rows = sum(len(_cut(value, separator)) > 1 for value in values)
    return (
        f"the parts that {separator!r} cuts {num_rows:,} of {len(values):,} labels into do not"
        f" combine freely; if they are several labels, use `Tags(separator={separator!r})`"
    )


def _cut(value: str, separator: str) -> tuple[str, ...]:
    parts = value.split(separator) if separator.strip() else value.split()
    return tuple(sorted({part.strip() for part in parts} - {""}))


def _combines(distinct: Sequence[str], separator: str) -> bool:
    """Return whether the parts of the values are labels that combine freely."""
    sets = {_cut(value, separator) for value in distinct} - {()}
    counts = Counter(label for labels in sets for label in labels)
    is_reused = 2 * sum(count > 1 for count in counts.values()) >= len(counts)
    return is_reused and (separator != _SPACE or 2 * len(counts) <= len(sets))
