"""A table's splits as numbers, in memory or mapped from a cache, with the spec that made them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from lightning_fastrecipes import formats, plain
from lightning_fastrecipes.data.common.cache_entry import CacheEntry, EntryFiles, package_versions
from lightning_fastrecipes.data.common.split_choice import Split
from lightning_fastrecipes.data.common.split_names import SplitName
from lightning_fastrecipes.data.tables.cache import MappedTable
from lightning_fastrecipes.data.tables.report import TableReport
from lightning_fastrecipes.data.tables.splits import TABLE_SPLITS, Rows, draws_rows, split_rows
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.tables.copies import copies_in_words
from lightning_fastrecipes.functional.tables.rows import name_rows
from lightning_fastrecipes.functional.tables.spec import EncodedTable, TableSpec
from lightning_fastrecipes.functional.tables.suspects import spelled_otherwise, suspicions

CHUNK_ROWS = 1 << 18
_PACKAGES = ("lightning-fastrecipes", "numpy", "pandas")


@dataclass(frozen=True)
class EncodedSplit:
    """The rows of a split as numbers, in the order of the table.

    ``codes``, ``continuous`` and ``target`` are those of ``EncodedTable``; there is no target for
    rows to predict. ``rows`` are their numbers in the source, from 0, on from file to file.
    ``weights`` ``(rows,)`` say how much each row of the training split counts, 1 on average.
    """

    codes: npt.NDArray[Any]
    continuous: npt.NDArray[np.float32]
    target: npt.NDArray[Any] | None
    rows: Rows
    weights: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class EncodedSplits:
    """All splits of a table that have rows, with the spec learned from the training rows alone.

    ``file_rows`` says how many rows each file of the source has.
    """

    spec: TableSpec
    splits: Mapping[SplitName, EncodedSplit]
    report: TableReport
    file_rows: Sequence[int] = ()

    def facts(self) -> dict[str, str]:
        """Return how many rows each split has, and the columns by what they are for."""
        found = {name: f"{len(split.rows):,} rows" for name, split in self.splits.items()}
        columns = {"categorical": self.spec.categorical, "continuous": self.spec.continuous}
        named = {"target": self.spec.targets, **columns}
        return found | {what: ", ".join(names) or "none" for what, names in named.items()}


def encode_splits(
    table: MappedTable,
    split: Split,
    columns: list[str],
    fit: Callable[[pd.DataFrame], TableSpec],
    chunk_rows: int = CHUNK_ROWS,
    *,
    weight: str | None = None,
) -> EncodedSplits:
    """Split a table, learn from its training rows by ``fit``, and turn all rows into numbers.

    The rows are turned in chunks, so that beside the numbers only one chunk of the table is held.
    ``columns`` are those that the spec needs, the target among them; ``weight`` is the one that
    says how much training rows count. Raise `DataError` if the table cannot be split or encoded.
    """
    rows = split_rows(split, table.frame(split.columns))
    training = table.frame(columns, rows["train"])
    spec = fit(training)
    suspected = suspicions(training, spec)
    del training
    # Arrow keeps the room of the training rows, which may lie scattered and be copied.
    pa.default_memory_pool().release_unused()
    report = TableReport(
        steps=list(table.notes.get("steps", [])),
        num_rows={name: len(found) for name, found in rows.items() if len(found)},
        constant=list(spec.constant_columns),
        suspicions=suspected,
    )
    builders = {name: _Builder(rows[name]) for name in TABLE_SPLITS if len(rows[name])}
    for place, chunk in enumerate(table.chunks(columns, chunk_rows)):
        for name, builder in builders.items():
            part = builder.rows_within(chunk, place * chunk_rows)
            if len(part):
                encoded = spec.encode(part)
                report.add(name, encoded, spelled_otherwise(part, spec, encoded.unknown))
                builder.append(encoded)
    splits = {
        name: builder.split(table.source_rows(rows[name])) for name, builder in builders.items()
    }
    if draws_rows(split):
        arrays = {n: [s.codes, s.continuous, s.target] for n, s in splits.items()}
        report.suspicions += copies_in_words(arrays)
    if weight is not None:
        weights = _weights(table.frame([weight], rows["train"])[weight])
        splits["train"] = replace(splits["train"], weights=weights)
    return EncodedSplits(spec, splits, report, table.notes.get("file_rows", []))


def _weights(column: "pd.Series[Any]") -> npt.NDArray[np.float32]:
    """Return how much each row counts, 1 on average; a DataError names rows that say nothing."""
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    is_wrong = ~((numbers >= 0) & np.isfinite(numbers))
    if is_wrong.any():
        raise DataError(
            f"The column '{column.name}' must hold weights, numbers of at least 0, in all training"
            f" rows, but not in {name_rows(column.index, is_wrong)}. Correct it, or leave such"
            " rows out by `where`."
        )
    if not numbers.any():
        raise DataError(
            f"The weights of all training rows, in the column '{column.name}', are 0. Give some a"
            " larger one."
        )
    weights: npt.NDArray[np.float32] = (numbers / numbers.mean()).astype(np.float32)
    return weights


def encode_rows(
    frame: pd.DataFrame, spec: TableSpec, has_target: bool = False, chunk_rows: int = CHUNK_ROWS
) -> tuple[EncodedSplit, TableReport]:
    """Turn rows to predict, or to evaluate, into numbers; the report calls them ``predict``.

    Raise `DataError` if the table is not like that of the training, or has no rows.
    """
    if not len(frame):
        raise DataError("The table must have rows to predict, but has none. Check its file.")
    report = TableReport(num_rows={"predict": len(frame)})
    rows = np.arange(len(frame))
    builder = _Builder(rows)
    for start in range(0, len(frame), chunk_rows):
        part = frame.iloc[start : start + chunk_rows]
        encoded = spec.encode(part, has_target=has_target)
        report.add("predict", encoded, spelled_otherwise(part, spec, encoded.unknown))
        builder.append(encoded)
    return builder.split(rows), report


def cached_encoding(
    folder: Path,
    key: Mapping[str, Any],
    fingerprint: Mapping[str, Any],
    encode: Callable[[], EncodedSplits],
) -> EncodedSplits:
    """Map encoded splits, after encoding and writing them if need be.

    ``key`` says what they are for and ``fingerprint`` what they are made from, as ``CacheEntry``
    takes them. Nothing that is done to the arrays reaches the files. Raise `NoRoomError` if the
    disk has no room.
    """
    versions = {"format": formats.ENCODED_SPLITS, **package_versions(*_PACKAGES)}
    entry = CacheEntry(folder, "encoded", key, {**fingerprint, **versions})

    def build(_: EncodedSplits | None) -> EntryFiles:
        made = encode()
        arrays = {
            f"{name}-{part}.npy": array
            for name, one in made.splits.items()
            for part, array in vars(one).items()
            if array is not None
        }

        def write(place: Path) -> None:
            # Plain writes, not writable memory maps: on a full disk a map kills the process.
            for name, array in arrays.items():
                np.save(place / name, array, allow_pickle=False)
            (place / "spec.json").write_text(json.dumps(made.spec.to_dict()), encoding="utf-8")

        notes = {
            "splits": list(made.splits),
            "report": asdict(made.report),
            "file_rows": list(made.file_rows),
        }
        return EntryFiles(sum(array.nbytes for array in arrays.values()), write, notes)

    def load(place: Path, notes: Mapping[str, Any]) -> EncodedSplits:
        spec = TableSpec.from_dict(json.loads((place / "spec.json").read_text(encoding="utf-8")))
        splits = {}
        for name in notes["splits"]:
            files = [place / f"{name}-{part}.npy" for part in EncodedSplit.__dataclass_fields__]
            # Copy on write: torch wants memory that may be written to. Few splits have weights.
            arrays: Any = [
                np.load(file, mmap_mode="c", allow_pickle=False) if file.exists() else None
                for file in files
            ]
            splits[name] = EncodedSplit(*arrays)
            _check_stored(splits[name], spec)
        report = TableReport(**notes["report"])
        str(report)  # fails if a value is not of its type
        plain.items(plain.choice(*TABLE_SPLITS), 1)(notes["splits"], "splits")
        plain.items(plain.whole(0))(notes["file_rows"], "file_rows")
        return EncodedSplits(spec, splits, report, notes["file_rows"])

    return entry.get_or_build(build, load)


def _check_stored(split: EncodedSplit, spec: TableSpec) -> None:
    """Raise an error unless the arrays of a split from a cache are those that a spec makes."""
    num_rows, targets = len(split.rows), () if len(spec.targets) == 1 else (len(spec.targets),)
    integers = ("int8", "int16", "int32", "int64")
    of_target = ("int64",) if spec.classes else ("float32", "float64")
    wanted: list[tuple[Any, tuple[int, ...], tuple[str, ...]]] = [
        (split.codes, (num_rows, len(spec.category_columns)), integers),
        (split.continuous, (num_rows, len(spec.continuous_columns)), ("float32",)),
        (split.target, (num_rows, *targets), of_target),
        (split.rows, (num_rows,), ("int64",)),
    ]
    if split.weights is not None:
        wanted.append((split.weights, (num_rows,), ("float32",)))
    for array, shape, types in wanted:
        if array is None or array.shape != shape or array.dtype.name not in types or not num_rows:
            raise ValueError(f"an array must have shape {shape} and be of {types}")
        if not np.isfinite(array).all():
            raise ValueError("an array must hold finite numbers, but does not")
    codes: list[tuple[Any, list[int]]] = [(split.codes, spec.cardinalities)]
    codes += [(split.target, [len(spec.classes)])] if spec.classes else []
    for array, counts in codes:
        if array.size and ((array < 0).any() or (array.max(axis=0) >= counts).any()):
            raise ValueError("codes must be those of categories, but are not")


class _Builder:
    """Arrays of one split that are filled chunk by chunk."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._parts: EncodedTable | None = None
        self._num_filled = 0

    def rows_within(self, chunk: pd.DataFrame, start: int) -> pd.DataFrame:
        first, last = np.searchsorted(self._rows, [start, start + len(chunk)])
        places = self._rows[first:last] - start
        return chunk if len(places) == len(chunk) else chunk.iloc[places]

    def append(self, encoded: EncodedTable) -> None:
        if self._parts is None:
            num_rows = len(self._rows)
            self._parts = encoded._replace(
                codes=np.empty((num_rows, encoded.codes.shape[1]), encoded.codes.dtype),
                continuous=np.empty((num_rows, encoded.continuous.shape[1]), np.float32),
                target=None
                if encoded.target is None
                else np.empty((num_rows, *encoded.target.shape[1:]), encoded.target.dtype),
            )
        end = self._num_filled + len(encoded.codes)
        place = slice(self._num_filled, end)
        self._parts.codes[place] = encoded.codes
        self._parts.continuous[place] = encoded.continuous
        if self._parts.target is not None:
            self._parts.target[place] = encoded.target
        self._num_filled = end

    def split(self, source_rows: Rows) -> EncodedSplit:
        parts = cast(EncodedTable, self._parts)
        return EncodedSplit(parts.codes, parts.continuous, parts.target, source_rows)
