"""Processed tables on disk: uncompressed feather, memory-mapped, column by column."""

import hashlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import feather

from lightning_fastrecipes import formats, plain
from lightning_fastrecipes.data.common.cache_entry import CacheEntry, EntryFiles, package_versions
from lightning_fastrecipes.data.tables.splits import Rows
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.tables.rows import (
    LISTS_CURE,
    check_unique,
    holds_lists,
    name_rows,
)

SOURCE_ROW = "row (of the source)"
"""Column of the rows' numbers in the source, in tables that have not all of its rows."""

_FILE = "table.feather"
_PACKAGES = ("lightning-fastrecipes", "pandas", "pyarrow")
_MAX_EXAMPLES = 3
_MIXED_CURE = "Turn it into one type, such as text, or drop it."
_TEXTS = plain.items(plain.text())
_NOTES = plain.keys(
    {},
    {
        "steps": _TEXTS,
        "text": _TEXTS,
        "side_text": plain.items(_TEXTS),
        "file_rows": plain.items(plain.whole(0)),
    },
)


class MappedTable:
    """An Arrow table, in memory or mapped from a file, that is read as frames in parts.

    ``notes`` say how the table was made.

    >>> table = MappedTable.of_frame(pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"]}))
    >>> table.frame(["a"], np.array([0, 2]))["a"].tolist()
    [1, 3]
    """

    def __init__(self, table: pa.Table, notes: Mapping[str, Any]) -> None:
        self.table = table
        self.notes = notes

    @classmethod
    def of_frame(cls, frame: pd.DataFrame, notes: Mapping[str, Any] | None = None) -> "MappedTable":
        """Wrap a frame; its numbers are not copied."""
        return cls(arrow_table(frame), notes or {})

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return [name for name in self.table.column_names if name != SOURCE_ROW]

    def source_rows(self, rows: Rows) -> Rows:
        """Return the numbers in the source of rows of this table, which may lack some of it."""
        if SOURCE_ROW not in self.table.column_names:
            return rows
        numbers: Rows = self.table[SOURCE_ROW].to_numpy()[rows]
        return numbers

    def frame(self, columns: Sequence[str], rows: Rows | None = None) -> pd.DataFrame:
        """Return columns of some rows, or of all, indexed by the row numbers in the source."""
        frame = _frame(self.table.select(list(columns)), rows)
        if rows is not None or SOURCE_ROW in self.table.column_names:
            frame.index = pd.Index(self.source_rows(np.arange(len(self)) if rows is None else rows))
        return frame

    def chunks(self, columns: Sequence[str], size: int) -> Iterator[pd.DataFrame]:
        """Yield the rows in order as frames of up to ``size`` rows, indexed as by :meth:`frame`."""
        for start in range(0, len(self), size):
            yield self.frame(columns, np.arange(start, min(start + size, len(self))))


def cached_table(
    folder: Path,
    key: Mapping[str, Any],
    fingerprint: Mapping[str, Any],
    prepare: Callable[[], tuple[pd.DataFrame, Mapping[str, Any]]],
) -> MappedTable:
    """Map a prepared table, after preparing and writing it if need be.

    ``key`` is what the table is for, such as paths, steps and columns; ``fingerprint`` is what it
    is made from, such as sizes and times of files. ``prepare`` returns the table, whose index is
    left out, and notes on it. Raise `DataError` if a column cannot be kept, `NoRoomError` if the
    disk has no room.
    """
    versions = {"format": formats.TABLE_CACHE, **package_versions(*_PACKAGES)}
    entry = CacheEntry(folder, "table", key, {**fingerprint, **versions})

    def build(_: MappedTable | None) -> EntryFiles:
        frame, notes = prepare()
        table = arrow_table(frame)

        def write(place: Path) -> None:
            # One chunk, so that numbers are read without a copy.
            feather.write_feather(
                table, str(place / _FILE), "uncompressed", chunksize=max(len(table), 1)
            )

        return EntryFiles(int(table.nbytes), write, notes)

    def load(place: Path, notes: Mapping[str, Any]) -> MappedTable:
        mapped = pa.memory_map(str(place / _FILE))
        table = pa.ipc.open_file(mapped).read_all()
        _check_stored(table, key, notes)
        return MappedTable(table, notes)

    table = entry.get_or_build(build, load)
    # Arrow keeps the memory of reading and writing for a next time that may never come.
    pa.default_memory_pool().release_unused()
    return table


def _check_stored(table: pa.Table, key: Mapping[str, Any], notes: Mapping[str, Any]) -> None:
    """Raise an error unless a table that was found in a cache is one that is looked for there."""
    _NOTES(notes, "notes")
    table.validate(full=True)
    columns = [name for name in table.column_names if name != SOURCE_ROW]
    if sorted(columns) != sorted(key.get("columns", columns)) or len({*columns}) < len(columns):
        raise ValueError(f"it must have the columns {key['columns']}, but has {columns}")
    if len(columns) < table.num_columns:
        rows = table[SOURCE_ROW].to_numpy()
        if rows.dtype != np.int64 or rows.min(initial=0) < 0:
            raise ValueError("its rows have no numbers")


def arrow_table(frame: pd.DataFrame) -> pa.Table:
    """Convert a frame to an Arrow table, without its index.

    Raise `DataError`, with their names, if two columns have one name or a column mixes types.
    """
    check_unique(frame.columns)
    odd = [name for name in frame.columns if not isinstance(name, str)]
    if odd:
        raise DataError(
            f"The columns of a table must have names, but there are {odd[:_MAX_EXAMPLES]}."
            " Rename them: `frame.columns = frame.columns.map(str)`."
        )
    for name in frame.columns:
        kind = pd.api.types.infer_dtype(frame[name]) if frame[name].dtype == object else ""
        if kind in ("mixed", "mixed-integer"):  # Arrow would turn text beside bytes into bytes
            _refuse_mixed(frame[name], kind)
    try:
        return pa.Table.from_pandas(_dense(frame), preserve_index=False)
    except pa.ArrowException as error:
        for name in frame.columns:
            try:
                pa.array(frame[name], from_pandas=True)
            except pa.ArrowException:
                _refuse_mixed(frame[name], error)
        raise


def plain_index(frame: pd.DataFrame) -> pd.DataFrame:
    """Number the rows of a frame from 0; levels of the index that have names become columns.

    >>> frame = pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", "y"], name="b"))
    >>> plain_index(frame).to_dict("list")
    {'b': ['x', 'y'], 'a': [1, 2]}
    """
    unnamed: list[Hashable] = [
        level for level, name in enumerate(frame.index.names) if name is None or name in frame
    ]
    if len(unnamed) < frame.index.nlevels:
        if unnamed:
            frame = frame.droplevel(unnamed)
        return frame.reset_index()
    return frame.reset_index(drop=True)


def file_facts(files: Iterable[str | Path]) -> dict[str, list[int]]:
    """Return for each absolute path the size in bytes and the times of change in nanoseconds."""
    facts = {}
    for file in files:
        status = Path(file).stat()
        facts[str(Path(file).absolute())] = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    return facts


def frame_digest(frame: pd.DataFrame) -> str:
    """Return a hash of names, types and values, column by column, in 32 hexadecimal digits.

    The index does not count.

    >>> one = pd.DataFrame({"a": [1, 2]})
    >>> frame_digest(one) == frame_digest(one.set_index([[5, 6]]))
    True
    """
    digest = hashlib.blake2b(digest_size=16)
    for position, name in enumerate(frame.columns):
        column = frame.iloc[:, position]
        digest.update(f"{name!r}:{column.dtype.name}:{len(column)}".encode())
        try:
            hashed = pd.util.hash_pandas_object(column, index=False)
        except TypeError:  # of lists and the like
            hashed = pd.util.hash_pandas_object(column.map(repr), index=False)
        digest.update(hashed.to_numpy().tobytes())
    return digest.hexdigest()


def _dense(frame: pd.DataFrame) -> pd.DataFrame:
    """Write out sparse columns, which Arrow has no type for."""
    kinds = {
        name: dtype.subtype
        for name, dtype in frame.dtypes.items()
        if isinstance(dtype, pd.SparseDtype)
    }
    return frame.astype(kinds) if kinds else frame


def _frame(table: pa.Table, rows: Rows | None) -> pd.DataFrame:
    if rows is None:
        return _to_pandas(table)
    if len(rows) and len(rows) == rows[-1] - rows[0] + 1 and bool((np.diff(rows) == 1).all()):
        return _to_pandas(table.slice(int(rows[0]), len(rows)))  # a run of rows is not copied
    return _to_pandas(table.take(pa.array(rows)))


def _to_pandas(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas(split_blocks=True, self_destruct=False)
    return frame


def _refuse_mixed(column: "pd.Series[Any]", reason: object) -> NoReturn:
    kinds = column.astype(object).map(lambda value: type(value).__name__).to_numpy()
    present = column.notna().to_numpy()
    first = kinds[present][0]
    others = present & (kinds != first)
    came = str(first)
    if others.any():
        came += f", and {kinds[others][0]} in {name_rows(column.index, others)}"
    raise DataError(
        f"The column {column.name!r} must hold values of one type to be kept, but holds {came}"
        f" ({reason}). {LISTS_CURE if holds_lists(column) else _MIXED_CURE}"
    )
