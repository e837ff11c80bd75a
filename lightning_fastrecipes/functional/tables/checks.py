"""Checks of tables and their roles, and differences of two specs in words."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import pandas as pd

from lightning_fastrecipes import plain
from lightning_fastrecipes.errors import ConfigurationError, DataError
from lightning_fastrecipes.functional.tables.encoding import Kind, other_kind

_ROUNDING = 1e-6
MOST_TARGETS = 100

NAMES = {"category_columns": "categorical", "number_columns": "continuous"}


def check_roles(
    targets: Sequence[str], categorical: Sequence[str], continuous: Sequence[str]
) -> None:
    """Refuse columns that have two roles, or none, and targets that are none or too many."""
    if not 1 <= len(targets) <= MOST_TARGETS:
        raise ValueError(
            f"`target` must name one column, or a list of up to {MOST_TARGETS}, got"
            f" {len(targets)}. Name fewer, or train several models."
        )
    for argument, names in (("categorical", categorical), ("continuous", continuous)):
        if isinstance(names, str):
            raise TypeError(f"`{argument}` must be a list of column names, got {names!r}.")
    counts = Counter([*categorical, *continuous, *targets])
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise ValueError(
            f"A column must be one of categorical, continuous and target, once, but {twice} are"
            " named twice. Give each one place."
        )
    if not categorical and not continuous:
        raise ValueError(
            "`categorical` and `continuous` must name at least one column together, got none."
        )


def check_columns(frame: pd.DataFrame, names: Sequence[str]) -> None:
    """Refuse a table that has not each of these columns once.

    Raise `DataError` if some are missing, or there several times; the nearest names are given.

    >>> check_columns(pd.DataFrame({"store": [1]}), ["Store"])
    Traceback (most recent call last):
    lightning_fastrecipes.errors.DataError: The table must have the columns 'Store' (near: ...
    """
    there = [str(name) for name in frame.columns]
    missing = [name for name in names if name not in frame.columns]
    if missing:
        hints = [_with_nearest(name, there) for name in missing]
        raise DataError(
            f"The table must have the columns {', '.join(hints)}, but has only {there[:30]}."
            f" Check the spelling, or the steps that make them.{_header_hint(there)}"
        )
    counts = Counter(there)
    twice = [name for name in names if counts[name] > 1]
    if twice:
        raise DataError(
            f"Each column must be there once, but {twice} are there several times. Rename or drop"
            " the others."
        )


def _header_hint(names: Sequence[str]) -> str:
    """Return how to name columns where the first line of a file seems to hold values."""
    are_values = len(names) > 1 and any(re.fullmatch(r"-?\d+\.\d+", name) for name in names)
    cure = " If the first line holds no names, give them: `reading={'header': [...]}`."
    return cure if are_values else ""


def _with_nearest(name: str, there: Sequence[str]) -> str:
    by_lower = {other.lower(): other for other in there}
    near = get_close_matches(name.lower(), by_lower, n=1)
    return f"{name!r} (near: {by_lower[near[0]]!r})" if near else repr(name)


def check_kinds(frame: pd.DataFrame, wanted: Mapping[str, Kind]) -> None:
    """Raise a `DataError` that names every column with text for numbers or numbers for text."""
    found = {name: other_kind(kind, frame[name]) for name, kind in wanted.items()}
    lines = [
        f"  {name!r} held {'text' if wanted[name] == 'text' else 'numbers'} in training, but has"
        f" {what}"
        for name, what in found.items()
        if what is not None
    ]
    if lines:
        raise DataError(
            "The table must be like that of the training, but differs:\n"
            + "\n".join(lines)
            + "\nMend these columns, or train anew."
        )


def check_spec(spec: Mapping[str, Any]) -> None:
    """Raise `ConfigurationError` unless plain values are those of a spec."""
    _SPEC(spec, "spec")
    targets = _targets(spec)
    names = [[column["name"] for column in spec[key]] for key in NAMES]
    try:
        check_roles([target["name"] for target in targets], *names)
    except ValueError as error:
        raise ConfigurationError(f"`spec`: {error}") from error
    for target in targets:
        categories = target["categories"]
        has_classes = categories is not None and len(categories["values"]) > 1
        if (target["task"] == "classes") != has_classes:
            raise ConfigurationError(
                "`spec.target_column.categories` must be two or more classes, or none for a"
                " regression."
            )
        if has_classes and target["log"]:
            raise ConfigurationError("`spec.target_column.log` must be false for classes.")


def _targets(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [spec["target_column"], *spec.get("more_targets", ())]


def _check_category(value: Any, key: str) -> None:
    _CATEGORY(value, key)
    accepted = plain.items(_VALUES[value["kind"]], most=_MOST_CATEGORIES, unique=True)
    accepted([*value["values"], *value["rare"]], f"{key}.values")


_MOST_CATEGORIES = 100_000_000
_TEXT = plain.text(r"[^\ud800-\udfff]*")
_VALUES = {
    "text": _TEXT,
    "integer": plain.whole(-(1 << 63), (1 << 63) - 1),
    "number": plain.number(),
    "boolean": plain.flag,
}
_ANY_ITEMS = plain.items(plain.anything, most=_MOST_CATEGORIES)
_CATEGORY = plain.keys(
    {"name": _TEXT, "kind": plain.choice(*_VALUES), "values": _ANY_ITEMS, "rare": _ANY_ITEMS}
)
_NUMBER = plain.keys(
    {"name": _TEXT, "median": plain.number(), "mean": plain.number(), "std": plain.number(0),
     "has_flag": plain.flag}
)  # fmt: skip
_TARGET = plain.keys(
    {"name": _TEXT, "task": plain.choice("regression", "classes"), "log": plain.flag,
     "low": plain.number(), "high": plain.number(), "mean": plain.number(), "std": plain.number(0),
     "categories": plain.maybe(_check_category)},
    {"scaled": plain.flag},
)  # fmt: skip
_SPEC = plain.keys(
    {"category_columns": plain.items(_check_category), "number_columns": plain.items(_NUMBER),
     "target_column": _TARGET},
    {"source_text": plain.items(_TEXT), "side_text": plain.items(plain.items(_TEXT)),
     "more_targets": plain.items(_TARGET, most=MOST_TARGETS)},
)  # fmt: skip


def spec_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Return how two specs differ, each as plain values."""
    lines: list[str] = []
    for key, role in NAMES.items():
        ours = {column["name"]: column for column in one[key]}
        theirs = {column["name"]: column for column in other[key]}
        lines += [f"{role} {name!r}: only in the first" for name in ours if name not in theirs]
        lines += [f"{role} {name!r}: only in the second" for name in theirs if name not in ours]
        shared = [name for name in ours if name in theirs]
        if shared != [name for name in theirs if name in ours]:
            lines.append(f"{role} columns: in another order")
        lines += [
            f"{role} {name!r}: {words}"
            for name in shared
            for words in _fields(ours[name], theirs[name])
        ]
    targets, their_targets = _targets(one), _targets(other)
    if len(targets) != len(their_targets):
        counts = [[target["name"] for target in some] for some in (targets, their_targets)]
        lines.append(f"targets: {counts[0]} and {counts[1]}")
        return "\n".join(lines)
    for target, their_target in zip(targets, their_targets, strict=True):
        lines += [f"target {target['name']!r}: {words}" for words in _fields(target, their_target)]
    return "\n".join(lines)


def _fields(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Compare the fields of a column; what rounding to 32 bits changes is no difference."""
    words: list[str] = []
    for field, value in ours.items():
        their = theirs.get(field, value)
        if value == their or field == "scaled":
            continue
        if isinstance(value, float) and isinstance(their, (int, float)):
            size = max(abs(value), abs(their), abs(ours.get("std", 0.0)))
            if abs(value - their) <= _ROUNDING * size:
                continue
        if isinstance(value, Mapping) and isinstance(their, Mapping):
            words += _fields(value, their)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            words.append(f"{field} {_values(value, their)}")
        else:
            words.append(f"{field} {value!r} and {their!r}")
    return words


def _values(ours: Sequence[Any], theirs: Sequence[Any]) -> str:
    our_set, their_set = set(ours), set(theirs)
    parts = [
        f"{len(only):,} only in the {which} ({', '.join(repr(value) for value in only[:3])}"
        + (", ...)" if len(only) > 3 else ")")
        for which, only in (
            ("first", [value for value in ours if value not in their_set]),
            ("second", [value for value in theirs if value not in our_set]),
        )
        if only
    ]
    return "; ".join(parts) or "in another order"
