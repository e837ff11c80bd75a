"""Names of classes whose labels are numbers, as a file beside the images gives them."""

import csv
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from lightning_fastrecipes.data.common.sources import check_file
from lightning_fastrecipes.data.images.label_sets import LABEL_JOINER, labels_of
from lightning_fastrecipes.data.images.listing import Listing
from lightning_fastrecipes.errors import ConfigurationError, DataError
from lightning_fastrecipes.functional.labels.classes import whole_number
from lightning_fastrecipes.messages import name_some, shown

ClassNames: TypeAlias = str | Path | list[str]
"""A file of names, or the names themselves, numbered from 0."""

NAME_FILES = (
    "classes.csv", "classes.txt", "class_names.csv", "class_names.txt", "labels.txt",
    "label_names.txt",
)  # fmt: skip
"""What files of names are called."""

_MAX_BYTES = 1 << 20
_HEADS = {"name", "names", "class", "classes", "class_name", "label", "labels"}
_SEPARATORS = (",", ";", "\t")
_NUMBERED = re.compile(r"(-?[0-9]{1,18})[.:)]?\s+(.*\S)")


def names_by_number(source: ClassNames, home: Path) -> tuple[dict[int, str], bool]:
    """Return the name of each number, from a file below ``home`` or a list, and if it says numbers.

    A file has a number and a name in each line, in either order and under a head or not, or a name
    alone, which are numbered from 0. Raise `DataError` if it has neither, or a number or name
    twice.
    """
    if isinstance(source, list):
        return _distinct(list(enumerate(source)), "`class_names`"), False
    path = home / Path(source).expanduser()
    if check_file(path).stat().st_size > _MAX_BYTES:
        raise DataError(f"'{path}' must name classes, but has over {_MAX_BYTES:,} bytes.")
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise DataError(f"'{path}' is not in UTF-8: {error}. Save it as UTF-8.") from error
    matches = [_NUMBERED.fullmatch(line.strip()) for line in lines]
    pairs = [(int(match[1]), match[2]) for match in matches if match is not None]
    if len(pairs) < len(lines):
        cut = (_pairs(lines, separator) for separator in _SEPARATORS)
        pairs = next((found for found in cut if found), [])
    return _distinct(pairs or _numbered(lines), f"'{path}'"), bool(pairs)


def _pairs(lines: Sequence[str], separator: str) -> list[tuple[int, str]]:
    """Return numbers and names of lines that have one of each; nothing if some have not."""
    rows = [
        [cell.strip() for cell in row]
        for row in csv.reader(lines, delimiter=separator, skipinitialspace=True)
    ]
    if any(len(row) != 2 for row in rows):
        return []
    for column in (0, 1):
        numbers = [whole_number(row[column]) for row in rows]
        has_head = numbers[:1] == [None] and len(rows) > 1
        found = [
            (number, row[1 - column])
            for number, row in zip(numbers[has_head:], rows[has_head:], strict=True)
            if number is not None
        ]
        if len(found) == len(rows) - has_head:
            return found
    return []


def _numbered(lines: Sequence[str]) -> list[tuple[int, str]]:
    names = [line.strip().strip('"') for line in lines]
    return list(enumerate(names[bool(names) and names[0].lower() in _HEADS :]))


def _distinct(pairs: Sequence[tuple[int, str]], source: str) -> dict[int, str]:
    names = dict(pairs)
    texts = {name for _, name in pairs}
    if not pairs or min(len(names), len(texts)) < len(pairs) or "" in texts:
        raise DataError(
            f"{source} must give each class one number and one name of its own, but gives"
            f" {len(pairs)} lines, {len(names)} numbers and {len(texts - {''})} names. Correct it."
        )
    return names


def with_class_names(listing: Listing, source: ClassNames, home: Path) -> Listing:
    """Return a listing with names for labels that are numbers, classes in the order of numbers.

    Labels that are such a name already stay. Names without numbers are counted from 1 where the
    last of them would else have no label, and 0 none. A DataError says which labels have no name.
    """
    if listing.label_kind not in ("single", "multi") or listing.classes is not None:
        raise ConfigurationError(
            "`class_names` gives names to labels that are numbers, one or several in a value, but"
            f" the labels are {listing.label_reason or listing.label_kind}. Leave it out."
        )
    used = {label for text in listing.rows["label"] for label in labels_of(text)}
    names = _fitting(*names_by_number(source, home), used)
    found = {label: _name(label, names) for label in used}
    without = sorted(label for label, name in found.items() if name is None)
    if without:
        ends = f"{min(names)} ({shown(names[min(names)])}) to {max(names)}"
        raise DataError(
            f"{len(without)} of {len(used)} labels have no name in `class_names`, which names"
            f" {ends}: {name_some(without)}. Add them, or leave it out."
        )
    labels = [
        LABEL_JOINER.join(sorted({str(found[label]) for label in labels_of(text)}))
        for text in listing.rows["label"]
    ]
    ordered = [names[number] for number in sorted(names)]
    first = f"{min(names)} is {shown(ordered[0])}, {max(names)} is {shown(ordered[-1])}"
    said = f"labels are numbers of classes: {first}"
    reading = "; ".join(filter(None, [listing.reading, said]))
    rows = listing.rows.assign(label=labels)
    return replace(listing, rows=rows, classes=ordered, reading=reading)


def find_names(labels: Collection[str], home: Path) -> str | None:
    """Return the file of ``NAME_FILES`` in a folder that names all of these whole numbers.

    ``None`` if there is none, or some label is no whole number.
    """
    if not labels or any(whole_number(label) is None for label in labels):
        return None
    for file in NAME_FILES:
        if (home / file).is_file():
            with suppress(DataError):  # of a file of something else
                names = _fitting(*names_by_number(file, home), labels)
                if all(_name(label, names) for label in labels):
                    return file
    return None


def _fitting(
    names: Mapping[int, str], says_numbers: bool, labels: Collection[str]
) -> Mapping[int, str]:
    """Return names by number, counted from 1 if nobody says numbers and the labels are so."""
    known = {whole_number(label) for label in labels}
    if says_numbers or 0 in known or len(names) not in known:
        return names
    return {number + 1: name for number, name in names.items()}


def _name(label: str, names: Mapping[int, str]) -> str | None:
    number = whole_number(label)
    if number is not None and number in names:
        return names[number]
    return label if label in names.values() else None
