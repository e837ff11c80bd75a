"""Categories of a table column as indices, and how wide their vectors are."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.tables.missing_codes import read_as_missing, stray_words
from lightning_fastrecipes.functional.tables.rows import LISTS_CURE, holds_lists

Kind = Literal["text", "integer", "number", "boolean", "empty"]
"""What a column holds: ``number`` may have fractions, ``empty`` has no value at all."""

EmbeddingRule = Literal["course", "fastai"]
CategoryValue = str | int | float | bool
Codes = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_NUMBERS = {
    r"-?\d+,\d+|-?\d+": {"decimal": ","},
    r"-?\d{1,3}(\.\d{3})*(,\d+)?": {"decimal": ",", "thousands": "."},
    r"-?\d{1,3}(,\d{3})*(\.\d+)?": {"thousands": ","},
    r"-?\d{1,3}( \d{3})*([.]\d+)?": {"thousands": " "},
}
"""How numbers are written, and the options to read them."""
_DATE = r"\s*\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?!\d)"

UNKNOWN_LABEL = "(unknown)"
RARE_LABEL = "(rare)"

# Rows worked on at a time, so that the memory beside the result does not grow with the table.
CHUNK_ROWS = 1 << 18

_OBJECT_KINDS: Mapping[str, Kind] = {
    "string": "text",
    "integer": "integer",
    "floating": "number",
    "mixed-integer-float": "number",
    "decimal": "number",
    "boolean": "boolean",
    "empty": "empty",
}
_DECODED = {"text": "string", "integer": "Int64", "number": "Float64", "boolean": "boolean"}


def embedding_size(cardinality: int, rule: EmbeddingRule = "course") -> int:
    """Return the width of the vectors of a categorical column, at least 1.

    The cardinality counts the index for unknown and missing. By the rule of the ``course`` (lesson
    3) the width is half of it, rounded up, at most 50; by that of ``fastai`` (2, ``emb_sz_rule``)
    1.6 times its power of 0.56, at most 600. Raise `ValueError` if the cardinality is below 1 or
    there is no such rule.

    >>> embedding_size(1116), embedding_size(1116, rule="fastai")
    (50, 81)
    """
    if cardinality < 1:
        raise ValueError(f"`cardinality` must be at least 1, got {cardinality}.")
    if rule == "course":
        return min(50, (cardinality + 1) // 2)
    if rule == "fastai":
        return min(600, round(1.6 * math.pow(cardinality, 0.56)))
    raise ValueError(f"`rule` must be 'course' or 'fastai', got {rule!r}.")


def value_kind(column: "pd.Series[Any]") -> Kind:
    """Return what a column holds, its gaps aside.

    Raise `DataError` if the values are of several kinds, or dates, or nothing that can be
    encoded.

    >>> value_kind(pd.Series([1, 2])), value_kind(pd.Series(["a", None]))
    ('integer', 'text')
    """
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return value_kind(pd.Series(dtype.categories, name=column.name))
    if pd.api.types.is_object_dtype(dtype):
        inferred = pd.api.types.infer_dtype(column, skipna=True)
        return _OBJECT_KINDS.get(inferred) or _refuse_values(column, inferred)
    if pd.api.types.is_bool_dtype(dtype):
        return "boolean"
    if pd.api.types.is_integer_dtype(dtype):
        return "integer"
    if pd.api.types.is_float_dtype(dtype):
        return "number"
    return "text" if pd.api.types.is_string_dtype(dtype) else _refuse_values(column, str(dtype))


def chunks(num_rows: int) -> Iterator[slice]:
    """Cut rows into slices of a bounded number."""
    return (slice(start, start + CHUNK_ROWS) for start in range(0, num_rows, CHUNK_ROWS))


@dataclass(frozen=True)
class CategoryColumn:
    """The categories of one column; index 0 stands for everything unknown and missing.

    Common values have the indices from 1 on; all rare ones share the index after them. Values of
    the kind ``number`` are told apart by about seven digits, because a table may keep no more.
    """

    name: str
    kind: Kind
    values: tuple[CategoryValue, ...]
    rare: tuple[CategoryValue, ...] = ()

    @classmethod
    def fit(
        cls, column: "pd.Series[Any]", name: str, min_count: int = 1, *, keep_order: bool = False
    ) -> "CategoryColumn":
        """Learn the categories from the training rows, sorted.

        With ``keep_order``, an ordered categorical keeps its own order. Raise `DataError` if there
        is no value at all, or one that cannot be a category.

        >>> CategoryColumn.fit(pd.Series(["b", "a", "b"]), "letter", min_count=2)
        CategoryColumn(name='letter', kind='text', values=('b',), rare=('a',))
        """
        kind = value_kind(column)
        counts = column.value_counts(sort=False)
        counts = counts[counts > 0]  # a categorical column counts what it does not hold, too
        if not len(counts):
            raise DataError(
                f"Column {name!r} must hold at least one value in the training rows, but all"
                f" {len(column):,} are missing. Leave it out of `categorical`."
            )
        uniques = counts.index
        if isinstance(uniques, pd.CategoricalIndex):
            uniques = uniques.categories.take(uniques.codes)
        if kind == "number" and _whole_numbers(uniques)[1].all():
            kind = "integer"  # floats because of gaps
        plain, fits = _plain_values(uniques, kind)
        if not fits.all():
            raise DataError(
                f"Column {name!r} must hold finite categories of at most 64 bits, but has"
                f" {uniques[~fits].tolist()[0]!r}. Make it text: `reading={{'text': [{name!r}]}}`."
            )
        total = pd.Series(counts.to_numpy(np.int64)).groupby(plain).sum()
        if keep_order and isinstance(column.dtype, pd.CategoricalDtype) and column.dtype.ordered:
            order, _ = _plain_values(column.dtype.categories, kind)
            total = total.reindex([value for value in pd.unique(order) if value in total.index])
        cast_to = bool if kind == "boolean" else lambda value: value
        common = [cast_to(value) for value in total.index[total >= min_count].tolist()]
        rare = [cast_to(value) for value in total.index[total < min_count].tolist()]
        return cls(name, kind, tuple(common), tuple(rare))

    @property
    def cardinality(self) -> int:
        """Number of indices, 0 for unknown and missing included."""
        return 1 + len(self.values) + bool(self.rare)

    @property
    def labels(self) -> list[str]:
        """One text per index: ``(unknown)``, the values, and ``(rare)`` if there are such."""
        return [UNKNOWN_LABEL, *map(str, self.values), *([RARE_LABEL] if self.rare else [])]

    def encode(self, column: "pd.Series[Any]", out: npt.NDArray[Any]) -> tuple[int, int]:
        """Write the index of each row; return how many values were unknown, and how many missing.

        ``out`` may have any integer type that holds the cardinality.
        """
        table_of = self._indexer()
        dtype = column.dtype
        if isinstance(dtype, pd.CategoricalDtype):
            # Its codes say which of its own categories a row holds; ours come from their values.
            table = table_of(dtype.categories)
        num_unknown = num_missing = 0
        for rows in chunks(len(column)):
            part = column.iloc[rows]
            if isinstance(dtype, pd.CategoricalDtype):
                places = part.cat.codes.to_numpy()
            else:
                places, uniques = pd.factorize(part)
                table = table_of(pd.Index(uniques))
            found = table[places]  # place -1, a gap, takes the last entry: 0
            gaps = int((places < 0).sum())
            num_missing += gaps
            num_unknown += int((found == 0).sum()) - gaps
            out[rows] = found
        return num_unknown, num_missing

    def decode(self, codes: npt.NDArray[Any]) -> "pd.Series[Any]":
        """Return the value of each index; unknown, missing and rare ones are missing.

        Raise `ValueError` if an index is out of range.
        """
        if len(codes) and not 0 <= codes.min() <= codes.max() < self.cardinality:
            raise ValueError(
                f"Indices of column {self.name!r} must lie in [0, {self.cardinality}), got"
                f" {codes.min()} to {codes.max()}. Decode with the spec that encoded them."
            )
        entries = [None, *self.values, *([None] if self.rare else [])]
        known = pd.array(entries, dtype=cast(Any, _DECODED[self.kind]))
        return pd.Series(known.take(codes.astype(np.int64)), name=self.name)

    def _indexer(self) -> Callable[["pd.Index[Any]"], Codes]:
        """Return a function from different values to indices, with a 0 for gaps at its end."""
        dtypes: Mapping[Kind, Any] = {"text": object, "number": np.float32}
        dtype = dtypes.get(self.kind, np.int64)
        known = pd.Index(np.array([*self.values, *self.rare], dtype=dtype), dtype=dtype)
        last = len(self.values) + 1

        def indices(uniques: "pd.Index[Any]") -> Codes:
            plain, fits = _plain_values(uniques, self.kind)
            found = np.minimum(known.get_indexer(pd.Index(plain, dtype=plain.dtype)) + 1, last)
            return np.append(np.where(fits, found, 0), 0)

        return indices


def other_kind(kind: Kind, column: "pd.Series[Any]") -> str | None:
    """Return what a column holds if it should hold another kind of value, else ``None``.

    The kinds of numbers, true and false among them, are as one.

    >>> other_kind("integer", pd.Series(["x"])), other_kind("integer", pd.Series([0.5]))
    ("text, such as 'x' in row 0", None)
    """
    now = value_kind(column)
    if now == "empty" or (now == "text") == (kind == "text") or bool(column.isna().all()):
        return None
    present = column[column.notna()]
    if now == "text":
        is_word = pd.to_numeric(present.astype(str), errors="coerce").isna()
        present = present[is_word] if is_word.any() else present
    first = present.iloc[:1]
    words = "text" if now == "text" else "numbers"
    return f"{words}, such as {first.tolist()[0]!r} in row {first.index[0]}"


def number_hint(column: "pd.Series[Any]") -> str:
    """Return how to read text that is a number to people; empty if there is none.

    >>> number_hint(pd.Series(["1.234,5", None]))
    ": `reading={'decimal': ',', 'thousands': '.'}` reads files so"
    >>> number_hint(pd.Series(["1912-04-08", None]))
    ': the step `date_parts` makes numbers of dates'
    """
    if words := stray_words(column):
        return f": the others are numbers, {read_as_missing(words)} makes gaps of it in files"
    texts = [text for text in column.dropna().unique().tolist()[:1000] if isinstance(text, str)]
    if texts and pd.to_numeric(pd.Series(texts), errors="coerce").notna().all():
        return ": other rows hold text, so look for words among its numbers"
    for pattern, options in _NUMBERS.items():
        if texts and all(re.fullmatch(pattern, text.strip()) for text in texts):
            return f": `reading={options}` reads files so"
    if texts and all(re.match(_DATE, text) for text in texts):
        return ": the step `date_parts` makes numbers of dates"
    if texts and all(re.fullmatch(r"[$€£]?\s*-?[\d.,]+\s*[%$€£]?", text.strip()) for text in texts):
        return (
            f": `derive` may strip signs, as by `{column.name}.str.strip('$€£% ').astype('float')`"
        )
    return ""


def _plain_values(uniques: "pd.Index[Any]", kind: Kind) -> tuple[npt.NDArray[Any], Mask]:
    """Convert different values to the type that a kind is looked up in; say which fit it."""
    if kind == "text":
        return uniques.to_numpy(dtype=object), np.ones(len(uniques), dtype=np.bool_)
    if kind == "number":
        with np.errstate(over="ignore"):
            numbers = uniques.to_numpy(dtype=np.float64).astype(np.float32)
        return numbers, np.isfinite(numbers)
    return _whole_numbers(uniques)


def _whole_numbers(uniques: "pd.Index[Any]") -> tuple[Codes, Mask]:
    """Return integers, exactly, and tell which values were such."""
    if pd.api.types.infer_dtype(uniques) in ("integer", "boolean"):
        integers = uniques.to_numpy(dtype=object)
        fits = np.array((integers >= -(2**63)) & (integers < 2**63), dtype=np.bool_)
        return np.where(fits, integers, 0).astype(np.int64), fits
    numbers = uniques.to_numpy(dtype=np.float64)
    fits = np.isfinite(numbers) & (np.abs(numbers) < 2.0**63) & (np.floor(numbers) == numbers)
    return np.where(fits, numbers, 0).astype(np.int64), fits


def _refuse_values(column: "pd.Series[Any]", found: str) -> NoReturn:
    if found == "time" or "timedelta" in found:
        cure = "Turn it into numbers first: a duration by `column.dt.total_seconds()`, a time of"
        cure += " day by `[time.hour + time.minute / 60 for time in column]`."
    elif found.startswith("period"):
        cure = "Turn it into dates by `column.dt.to_timestamp()`, and these into parts by the step"
        cure += " `date_parts`."
    elif "date" in found:
        cure = "Turn dates into parts first (`add_datepart`, or the step `date_parts`)."
    elif holds_lists(column):
        cure = LISTS_CURE
    else:
        cure = "Make it all text, or all numbers, when the table is read."
    present = column[column.notna()]
    kinds = present.map(lambda value: type(value).__name__)
    examples = [
        f"row {label}: {value!r}" for label, value in present[~kinds.duplicated()][:3].items()
    ]
    raise DataError(
        f"Column {column.name!r} must hold text, numbers or true and false, one kind alone, but has"
        f" {found} values ({'; '.join(examples)}). {cure}"
    )
