"""Which labels each row of a table has, and whether that may be several: the data decide."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.messages import name_some, shown

LabelChoice = Literal["auto", "single", "multi"]
"""What a user says of labels: the data decide, one per image, or any number."""

LABEL_JOINER = "\x1f"
"""Stands between the labels of a row in a listing; no file has it in a name."""

_USES_OF_A_TAG = 4
_PUNCTUATION = (",", ";", "|")
_SPACE = " "
_LIKE_LIST = re.compile(r"""(array\()?[\[({][\[({\s]*u?["']""")
_QUOTED = r"""u?'((?:[^'\\]|\\.)*)'|u?"((?:[^"\\]|\\.)*)\""""
_BARE = r"""([^\s'",\[\](){}:][^'",\[\](){}:]*)"""
# A comma is missing where NumPy has printed text.
_ITEM = re.compile(rf"""\s*(?:{_QUOTED}|{_BARE})\s*(,|\Z|(?=['"]))""")


def labels_of(text: str) -> list[str]:
    """Return the labels that a listing has for an image: one, none, or several.

    >>> labels_of(LABEL_JOINER.join(["sea", "sun"])), labels_of("")
    (['sea', 'sun'], [])
    """
    return text.split(LABEL_JOINER) if text else []


def refuse_joiner(names: Iterable[str]) -> None:
    """Raise `DataError` if a label holds the sign that stands between those of a row."""
    wrong = [name for name in names if LABEL_JOINER in name]
    if wrong:
        raise DataError(
            f"A label must not hold the sign {LABEL_JOINER!r}, but {name_some(wrong)} do. Take it"
            " out of their names."
        )


def label_lists(rows: pd.DataFrame) -> list[list[str]]:
    """Return the labels of each row of a listing."""
    return [labels_of(label) for label in rows["label"]]


@dataclass(frozen=True)
class LabelSets:
    """The labels of each row as a sorted tuple, and for people why they were read so.

    The tuples have one label each if ``multi_label`` is false, else any number. ``note`` says what
    else they might have been.
    """

    labels: list[tuple[str, ...]]
    multi_label: bool
    reason: str
    note: str = ""

    def __post_init__(self) -> None:
        refuse_joiner({name for row in self.labels for name in row})


def split_labels(
    values: Sequence[str], separator: str | None = None, choice: LabelChoice = "auto"
) -> LabelSets:
    """Read a column of labels, one text per row, finding out whether a value names several.

    Where the data decide, the whole column must show it, so that names of two words, such as
    'golden retriever', stay one label: at least half of the parts must turn up in two or more
    different values, as tags that combine freely do. For spaces, which names hold as well, there
    must also be at most half as many parts as different values, or fewer that turn up in four
    different values each on average.

    A separator that stands in no value is noted, with another that does, if there is one.

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
    note = _why_whole(distinct, separator)
    labels = [_cut(value, separator) for value in values]
    num_several = sum(len(row) > 1 for row in labels)
    said = "" if choice == "auto" else "`labels` says so: "
    counted = f"{num_several:,} of {len(labels):,} rows have several labels"
    return LabelSets(
        labels, True, f"multi, since {said}{counted} separated by {shown(separator)}", note
    )


def labels_of_lists(values: Sequence[Any], choice: LabelChoice = "auto") -> LabelSets | None:
    """Read a column of lists, as such or as Python, JSON, NumPy or PostgreSQL write them.

    Return ``None`` if values are no lists; text is none where a label per row is asked for. Raise
    `DataError` if some values are lists and others are not, or cannot be read.

    >>> labels_of_lists(["['a', 'b']", '["b"]', "[]", None]).labels
    [('a', 'b'), ('b',), (), ()]
    """
    given = [value for value in values if not pd.api.types.is_scalar(value) or not pd.isna(value)]
    if choice == "single" and any(isinstance(value, str) for value in given):
        return None
    lists = [_items(value) for value in given]
    like = [
        value
        for value, items in zip(given, lists, strict=True)
        if (isinstance(value, str) and _LIKE_LIST.match(value.strip()))
        or (items is not None and (not isinstance(value, str) or len(items) > 1))
    ]
    are_all = bool(given) and None not in lists
    if not like and not (
        are_all and all(str(value).strip().startswith(("[", "{")) for value in given)
    ):
        return None
    wrong = [value for value, items in zip(given, lists, strict=True) if items is None]
    if wrong:
        raise DataError(
            f"The column of labels holds lists, such as {str(like[0])[:80]!r}, but"
            f" {len(wrong):,} of {len(given):,} values are none, such as {str(wrong[0])[:80]!r}."
            " Write all as lists, or as tags with a separator."
        )
    labels = [tuple(sorted({*(_items(value) or [])} - {""})) for value in values]
    num_several = sum(len(row) > 1 for row in labels)
    if choice == "single":
        if any(len(row) != 1 for row in labels):
            raise DataError(
                "The column of labels must have one label in each row for `SingleLabel`, but holds"
                f" lists, {num_several:,} of which have several. Use `Tags`."
            )
        return LabelSets(labels, False, "single, since `labels` says so")
    said = "" if choice == "auto" else "`labels` says so: "
    reason = f"multi, since {said}values are lists, {num_several:,} of {len(labels):,} with several"
    return LabelSets(labels, True, f"{reason} labels")


def _items(value: Any) -> list[str] | None:
    """Return what is in a list, or in text that is one; ``None`` if it is no list."""
    if isinstance(value, list | tuple | set | frozenset | np.ndarray):
        return [str(item).strip() for item in value]
    if not isinstance(value, str):
        return None
    text = value.strip()
    if text.startswith("array("):
        text = text[6 : text.rfind("]") + 1]
    if text[:1] + text[-1:] not in ("[]", "{}", "()"):
        return None
    try:
        if isinstance(read := json.loads(text), list):
            plain = all(isinstance(item, str | int | float) for item in read)
            return [str(item).strip() for item in read] if plain else None
    except (ValueError, RecursionError):
        pass  # such as Python's quotes
    body, place, items = text[1:-1].strip(), 0, []
    while place < len(body):
        match = _ITEM.match(body, place)
        if match is None:
            return None
        quoted = match[1] if match[2] is None else match[2]
        items.append(match[3] if quoted is None else re.sub(r"\\(.)", r"\1", quoted))
        place = match.end()
    if len(items) == 1 and re.fullmatch(r"[-+.\d\s]+", body):  # numbers, as NumPy prints them
        items = body.split()
    return [item.strip() for item in items]


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
    columns = f"{len(names)} columns of 0 and 1 ({name_some(names)})"
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


def _why_whole(distinct: Sequence[str], separator: str) -> str:
    """Return what to look at if a separator cuts no value and another one does; else nothing."""
    if any(len(_cut(value, separator)) > 1 for value in distinct):
        return ""
    for sign in (*_PUNCTUATION, _SPACE):
        whole = [value for value in distinct if len(_cut(value, sign)) > 1]
        if whole:
            return (
                f"{shown(separator)} stands between no two labels, so that {shown(whole[0])} is"
                f" one; if {sign!r} separates labels, give `Tags(separator={sign!r})`"
            )
    return ""


def _cut(value: str, separator: str) -> tuple[str, ...]:
    parts = value.split(separator) if separator.strip() else value.split()
    return tuple(sorted({part.strip() for part in parts} - {""}))


def _combines(distinct: Sequence[str], separator: str) -> bool:
    """Return whether the parts of the values are labels that combine freely."""
    sets = {_cut(value, separator) for value in distinct} - {()}
    counts = Counter(label for labels in sets for label in labels)
    is_reused = 2 * sum(count > 1 for count in counts.values()) >= len(counts)
    most = max(len(sets) / 2, min(len(sets) - 1, counts.total() / _USES_OF_A_TAG))
    return is_reused and (separator != _SPACE or len(counts) <= most)
