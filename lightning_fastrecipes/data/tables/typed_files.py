"""Read files that say what their columns hold, one column after the other."""

import struct
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from lightning_fastrecipes.data.common.packed_files import check_content, most_bytes

PARQUET_FILES = (".parquet", ".pq")
FEATHER_FILES = (".feather", ".arrow")

_CHUNK_ROWS = 1 << 17
_CELL, _MOST_COLUMNS = 8, 50_000
_TEXT_KINDS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)


class NotUtf8Error(ValueError):
    """A column of text that is no UTF-8."""


class TypedFile:
    """A Parquet or feather file whose columns are read one by one, so that few are wide at once.

    Levels of a stored index that have names are columns, before the others; an index without a name
    is not read. Raise `ValueError` if the file is not of the kind that its ending says.
    """

    def __init__(self, path: Path) -> None:
        self._parquet = parquet.ParquetFile(path) if path.suffix.lower() in PARQUET_FILES else None
        self._source = pa.OSFile(str(path)) if self._parquet is None else None
        self._path = path
        self._schema = (
            self._parquet.schema_arrow if self._parquet else pa.ipc.open_file(self._source).schema
        )
        self._check_schema()
        num_bytes = 0
        if self._parquet:
            self._num_rows = int(self._parquet.metadata.num_rows)
        else:
            self._num_rows, num_bytes = _feather_size(path)
        check_content(path, max(self._num_cells() * _CELL, num_bytes))
        described = (self._schema.pandas_metadata or {}).get("index_columns", [])
        stored = [level for level in described if isinstance(level, str)]
        self._columns = [name for name in self._schema.names if name not in stored]
        self._index = pd.DataFrame()
        if stored or any(level["name"] is not None for level in described):
            # A range is not stored: it comes with any column of its length.
            table = self._read([*stored, *self._columns[:1]])
            index = table.to_pandas().index
            if any(name is not None for name in index.names):
                self._index = pd.DataFrame(index=index).reset_index()
        self._index.columns = self._index.columns.map(str)
        self.names = [*self._index, *self._columns]

    def __enter__(self) -> "TypedFile":
        return self

    def __exit__(self, *error: object) -> None:
        for opened in (self._parquet, self._source):
            if opened is not None:
                opened.close()

    def columns(
        self, names: Sequence[str], text: Collection[str] = ()
    ) -> Iterator["pd.Series[Any]"]:
        """Yield columns one after the other, those of text in consecutive parts of many rows.

        ``names`` are different; those in ``text`` become text, whatever is stored. The columns are
        named as in the file, their rows numbered from 0.
        """
        for group in self._groups(names, text):
            if group[0] in self._index:
                column = self._index[group[0]]
                yield column.astype(str).where(column.notna()) if group[0] in text else column
                continue
            table = self._read(group)
            _check_utf8(table)
            kind = table.schema.types[0]
            if group[0] in text and pa.types.is_integer(kind):
                # Pandas would make 7 to '7.0' where there are gaps.
                table = pa.table([table[0].cast(pa.string())], group)
            kind = table.schema.types[0]
            is_text = any(is_kind(kind) for is_kind in _TEXT_KINDS)
            # The whole of a column of numbers decides on its type; text is wide, and may be cut.
            size = _CHUNK_ROWS if is_text else max(len(table), 1)
            for start in range(0, max(len(table), 1), size):
                part = table.slice(start, size).to_pandas().reset_index(drop=True)
                if group[0] in text and not is_text:
                    part = part.astype(str).where(part.notna())
                for place, name in enumerate(group):  # which pandas may call by a number
                    yield part.iloc[:, place].rename(name)
                del part
            del table
            # What reading took is kept by Arrow for next time, which would add up.
            pa.default_memory_pool().release_unused()

    def _groups(self, names: Sequence[str], text: Collection[str]) -> Iterator[list[str]]:
        """Return names of columns that are read together: several of a table of few rows."""
        most = max(1, _CHUNK_ROWS // max(self._num_rows, 1))
        group: list[str] = []
        for name in names:
            is_alone = name in text or name in self._index
            if group and (is_alone or len(group) == most):
                yield group
                group = []
            group.append(name)
            if is_alone:
                yield group
                group = []
        if group:
            yield group

    def _check_schema(self) -> None:
        if len(self._schema) > _MOST_COLUMNS:
            raise ValueError(
                f"it has {len(self._schema):,} columns, more than the {_MOST_COLUMNS:,} that are"
                " read. Name a part of them"
            )

    def _num_cells(self) -> int:
        """Count the values in the file, of Parquet also those of lists, as its headers say."""
        if self._parquet is None:
            return self._num_rows * len(self._schema)
        metadata = self._parquet.metadata
        if not any(pa.types.is_nested(field.type) for field in self._schema):
            return self._num_rows * int(metadata.num_columns)
        groups = [metadata.row_group(place) for place in range(metadata.num_row_groups)]
        return sum(
            group.column(place).num_values
            for group in groups
            for place in range(metadata.num_columns)
        )

    def _check_text(self, names: Sequence[str]) -> None:
        """Raise `DataError` if text that is stored once stands in too many rows."""
        assert self._parquet is not None
        metadata = self._parquet.metadata
        paths = (metadata.schema.column(place).path for place in range(metadata.num_columns))
        places = {path: place for place, path in enumerate(paths)}
        for name in names:
            field = self._schema.field(name)
            if name not in places or not any(is_kind(field.type) for is_kind in _TEXT_KINDS):
                continue
            chunks = [
                metadata.row_group(group).column(places[name])
                for group in range(metadata.num_row_groups)
            ]
            most = sum(
                chunk.num_values * chunk.total_uncompressed_size
                for chunk in chunks
                if chunk.has_dictionary_page
            )
            if most <= most_bytes(self._path):
                continue
            with parquet.ParquetFile(self._path, read_dictionary=[name]) as file:
                total = 0
                for batch in file.iter_batches(_CHUNK_ROWS, columns=[name]):
                    column = batch.column(0)
                    if not pa.types.is_dictionary(column.type):
                        total += column.nbytes
                        continue
                    lengths = pc.fill_null(pc.binary_length(column.dictionary), 0)
                    taken = column.indices.drop_null()
                    total += pc.sum(pc.cast(lengths.take(taken), pa.int64())).as_py() or 0
                    check_content(self._path, total)

    def _read(self, names: Sequence[str]) -> pa.Table:
        if self._parquet is not None:
            self._check_text(names)
            # By its name `a`, Parquet means `a.b`, too.
            return self._parquet.read(columns=list(names)).select(list(names))
        fields = [self._schema.get_field_index(name) for name in names]
        options = pa.ipc.IpcReadOptions(included_fields=fields)
        return pa.ipc.open_file(self._source, options=options).read_all().select(list(names))


class _Batch(NamedTuple):
    """What the header of a part of a feather file says, a flatbuffer ``Message``."""

    num_rows: int
    buffers: list[tuple[int, int]]
    is_packed: bool

    @classmethod
    def of(cls, header: bytes, is_dictionary: bool) -> "_Batch":
        """Read where the buffers of a part lie in its body, and whether they are packed."""

        def place(table: int, field: int) -> int:
            vtable = table - struct.unpack_from("<i", header, table)[0]
            size, offset = struct.unpack_from("<H", header, vtable)[0], 4 + 2 * field
            found = struct.unpack_from("<H", header, vtable + offset)[0] if offset < size else 0
            return int(table + found) if found else 0

        def follow(start: int) -> int:
            return int(start + struct.unpack_from("<I", header, start)[0])

        batch = follow(place(follow(0), 2))
        if is_dictionary:
            batch = follow(place(batch, 1))
        rows, listed = place(batch, 0), place(batch, 2)
        buffers = []
        if listed:
            start = follow(listed)
            count = struct.unpack_from("<I", header, start)[0]
            pairs = struct.unpack_from(f"<{2 * count}q", header, start + 4)
            buffers = list(zip(pairs[::2], pairs[1::2], strict=True))
        num_rows = int(struct.unpack_from("<q", header, rows)[0]) if rows else 0
        return cls(num_rows, buffers, bool(place(batch, 3)))

    def num_bytes(self, body: pa.Buffer) -> int:
        """Return how many bytes the buffers have once they are unpacked, as each begins to say."""
        total = 0
        for start, length in self.buffers:
            said = -1
            if self.is_packed and length >= 8:
                said = struct.unpack("<q", body[start : start + 8].to_pybytes())[0]
            total += length if said < 0 else said
        return total


def _feather_size(path: Path) -> tuple[int, int]:
    """Count the rows of a feather file and its bytes without packing; nothing is unpacked."""
    num_rows = num_bytes = 0
    with pa.memory_map(str(path)) as source:
        count = pa.ipc.open_file(source).num_record_batches
        source.seek(8)  # behind the mark of the file
        messages = pa.ipc.MessageReader.open_stream(source)
        while count:
            message = messages.read_next_message()
            is_rows = message.type == "record batch"
            if is_rows or message.type == "dictionary":
                try:
                    batch = _Batch.of(bytes(message.metadata), is_dictionary=not is_rows)
                    num_bytes += batch.num_bytes(message.body)
                except struct.error as error:
                    raise ValueError("a part of it is not where its header says") from error
                num_rows, count = num_rows + batch.num_rows * is_rows, count - is_rows
    return num_rows, num_bytes


def _check_utf8(table: pa.Table) -> None:
    """Raise `NotUtf8Error` if a column of text is something else; pandas would fail on it later."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if any(is_kind(kind) for is_kind in _TEXT_KINDS):
            try:
                column.validate(full=True)
            except pa.ArrowInvalid as error:
                raise NotUtf8Error(f"the column '{name[:100]}' is not") from error
