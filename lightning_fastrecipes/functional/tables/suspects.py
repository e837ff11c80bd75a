"""Columns of a table that are probably not meant as they are, said before anything is trained."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from lightning_fastrecipes.functional.labels.spellings import look_alikes
from lightning_fastrecipes.functional.tables.missing_codes import (
    missing_codes,
    read_as_missing,
    stray_words,
)
from lightning_fastrecipes.functional.tables.roles import is_own_of_rows, leak_in_words
from lightning_fastrecipes.functional.tables.rows import LISTS_CURE, derive_step, in_expression
from lightning_fastrecipes.functional.tables.scaling import as_numbers, present_numbers
from lightning_fastrecipes.functional.tables.spec import TableSpec
from lightning_fastrecipes.messages import name_some

_SAMPLE = 10_000
"""Rows, or categories, that are looked at for what holds of all or of most."""

_LEAST_ROWS = 20
_SHOWN = 4
_LIKE_LIST = re.compile(r"\s*(\[.*\]|\{.*\})\s*$", re.DOTALL)
_FAR = 100
"""How many times the span of nearly all values one of the others may lie away from their middle."""


class _Outlier(NamedTuple):
    low: float
    high: float
    value: float
    row: Any


def suspicions(frame: pd.DataFrame, spec: TableSpec) -> list[str]:
    """Return one sentence for each column of the training rows that is probably not meant so.

    These are features that say a target by themselves, categories of which nearly every row has its
    own, that are lists, numbers beside a word, or differ by spelling alone, numbers that stand for
    missing values, and numbers of which a few are so far from all others that scaling squeezes
    these.

    >>> rows = pd.DataFrame({"id": [f"n{i}" for i in range(30)], "y": np.arange(30.0) % 7})
    >>> spec = TableSpec.fit(rows, target="y", categorical=["id"], continuous=[])
    >>> suspicions(rows, spec)
    ["'id' has 30 different values in 30 training rows, so that later rows have unknown ones. ...
    """
    of_categories = [*_owned(frame, spec), *_lists(spec), *_spellings(spec), *_words(spec)]
    of_numbers = [*_codes(frame, spec), *_squeezed(frame, spec)]
    return [*of_categories, *_leaks(frame, spec), *of_numbers]


def spelled_otherwise(
    frame: pd.DataFrame, spec: TableSpec, unknown: Mapping[str, int]
) -> dict[str, dict[str, str]]:
    """Return by column the categories that training knows by another spelling, each with that one.

    They differ by what hardly shows, as of ``look_alikes``. Columns that are not ``unknown`` have
    none, nor have those of too many categories to compare.

    >>> rows = pd.DataFrame({"shop": ["Ann", "Bob"], "y": [1.0, 2.0]})
    >>> spec = TableSpec.fit(rows, target="y", categorical=["shop"], continuous=[])
    >>> spelled_otherwise(pd.DataFrame({"shop": ["ann ", "Bob", "Eve"]}), spec, {"shop": 2})
    {'shop': {'ann ': 'Ann'}}
    """
    found = {}
    for column in spec.category_columns:
        known = {*map(str, (*column.values, *column.rare))}
        if column.kind != "text" or column.name not in unknown or len(known) > _SAMPLE:
            continue
        new = [text for text in frame[column.name].dropna().unique() if text not in known]
        pairs: dict[str, str] = {}
        for alike in look_alikes([*known, *new[:_SAMPLE]]):
            meant = [text for text in alike if text in known]
            pairs |= {text: meant[0] for text in alike if meant and text not in known}
        if pairs:
            found[column.name] = pairs
    return found


def _owned(frame: pd.DataFrame, spec: TableSpec) -> Iterator[str]:
    for column in spec.category_columns:
        different = len(column.values) + len(column.rare)
        if is_own_of_rows(different, len(frame)):
            yield (
                f"'{column.name}' has {different:,} different values in {len(frame):,} training"
                " rows, so that later rows have unknown ones. Take it out of `categorical`."
            )


def _text_columns(spec: TableSpec) -> Iterator[tuple[str, list[str]]]:
    """Yield the name and the texts of each column of categories or classes that are text."""
    for column in [*spec.category_columns, *(target.categories for target in spec.target_columns)]:
        if column is not None and column.kind == "text":
            yield column.name, [str(text) for text in (*column.values, *column.rare)]


def _spellings(spec: TableSpec) -> Iterator[str]:
    for name, texts in _text_columns(spec):
        if len(texts) > _SAMPLE:
            continue
        alike = look_alikes(texts)
        if alike:
            named = name_some(alike[0])
            if not named.isascii():
                named += f" ({', '.join(map(ascii, alike[0][:_SHOWN]))})"
            one, other = alike[0][:2]
            cure = "{}.str.strip().str.lower()"
            if one.strip().lower() != other.strip().lower():
                cure = f"{{}}.replace({one!a}, {other!a})"
            yield (
                f"'{name}' has {named} as different categories, which differ by blanks, case,"
                " invisible signs or form of their letters alone"
                f"{f', and {len(alike) - 1:,} others' if len(alike) > 1 else ''}. If they mean the"
                f" same, bring them together by a step: `{derive_step(name, cure)}`."
            )


def _lists(spec: TableSpec) -> Iterator[str]:
    for name, texts in _text_columns(spec):
        if all(map(_LIKE_LIST.match, texts)):
            yield (
                f"'{name}' is text of lists, such as {texts[0][:80]!r}, of which each"
                f" different one is a category of its own. {LISTS_CURE}"
            )


def _words(spec: TableSpec) -> Iterator[str]:
    for name, texts in _text_columns(spec):
        if words := stray_words(pd.Series(texts, dtype=object)):
            yield (
                f"'{name}' is text of numbers, but for {name_some(words)}, so that each number is"
                f" a category. If they are missing values, {read_as_missing(words)} makes gaps"
                " of them, and the column may be one of `continuous`."
            )


def _codes(frame: pd.DataFrame, spec: TableSpec) -> Iterator[str]:
    for name in [*_scaled_columns(spec), *_number_targets(spec)]:
        numbers = present_numbers(frame[name])
        codes = missing_codes(_some(numbers))
        if not codes:
            continue
        found = ", ".join(f"{value:g} in {np.sum(numbers == value):,}" for value in codes)
        is_target = name in spec.targets
        values = ", ".join(f"{value:.17g}" for value in codes)
        column = in_expression(name)
        cure = f"`{derive_step(name, f'{{}}.mask({{}}.isin([{values}]))')}` makes it a gap"
        if is_target:
            cure = f"`where: ~{column}.isin([{values}])` leaves these rows out"
        yield (
            f"{'The target ' if is_target else ''}'{name}' is {found} of {len(numbers):,} training"
            " rows, far from all others. If that stands for a missing value,"
            f" {cure}."
        )


def _leaks(frame: pd.DataFrame, spec: TableSpec) -> Iterator[str]:
    sample = frame.iloc[:: max(1, len(frame) // _SAMPLE)]
    for target in spec.targets:
        for role, names in (("continuous", spec.continuous), ("categorical", spec.categorical)):
            for name in names:
                words = leak_in_words(sample[name], sample[target])
                if words is not None:
                    yield (
                        f"'{name}' {words.replace('the target', f'the target {target!r}', 1)}. If"
                        f" it is known only when the target is, take it out of `{role}`."
                    )


def _scaled_columns(spec: TableSpec) -> list[str]:
    return [column.name for column in spec.number_columns if column.std]


def _number_targets(spec: TableSpec) -> list[str]:
    return [column.name for column in spec.target_columns if column.std and not column.log]


def _some(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return values[:: max(1, len(values) // _SAMPLE)]


def _squeezed(frame: pd.DataFrame, spec: TableSpec) -> Iterator[str]:
    targets = _number_targets(spec)
    for name in [*_scaled_columns(spec), *targets]:
        found = _outlier(frame[name])
        if found is not None:
            what = "The target " if name in targets else ""
            bounds = f"lower={found.low:g}, upper={found.high:g}"
            yield (
                f"{what}'{name}' lies between {found.low:g} and {found.high:g} in nearly all"
                f" training rows, but is {found.value:g} in row {found.row}, beside which all"
                " others are alike. Mend it, take its logarithm, or bound it by a step:"
                f" `{derive_step(name, f'{{}}.clip({bounds})')}`."
            )


def _outlier(column: "pd.Series[Any]") -> _Outlier | None:
    """Return the value that lies farthest away, if that is far beyond what nearly all rows span."""
    numbers = present_numbers(column)
    if len(numbers) < _LEAST_ROWS:
        return None
    some = np.sort(_some(numbers).astype(np.float64))
    left_out = max(1, len(some) // 100)
    low, median, high = some[left_out], some[len(some) // 2], some[-1 - left_out]
    limit = _FAR * (high - low)
    if limit == 0 or max(median - float(numbers.min()), float(numbers.max()) - median) <= limit:
        return None
    place = int(np.nanargmax(np.abs(as_numbers(column) - median)))
    return _Outlier(float(low), float(high), float(column.iloc[place]), column.index[place])
