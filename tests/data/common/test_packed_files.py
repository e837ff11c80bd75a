"""Small files that hold far more than their size says are refused before they fill the memory."""

import bz2
import gzip
import lzma
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from lightning_fastrecipes import LabelTable
from lightning_fastrecipes.data.common import packed_files
from lightning_fastrecipes.data.common.text_files import encoding_name
from lightning_fastrecipes.data.images.arrays import read_npz
from lightning_fastrecipes.data.images.table_listing import list_table
from lightning_fastrecipes.data.tables import typed_files
from lightning_fastrecipes.data.tables.frames import read_frames
from lightning_fastrecipes.data.tables.reading import Reading
from lightning_fastrecipes.data.tables.typed_files import TypedFile
from lightning_fastrecipes.errors import DataError

TEXT = b"file,label\n" + b"a.jpg,1\n" * 400_000


@pytest.fixture
def small_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_files, "_FREE", 1 << 20)


def pack(path: Path, content: bytes) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("t.csv", content)
    elif path.suffix == ".zst":
        with pa.output_stream(path, compression="zstd") as stream:
            stream.write(content)
    else:
        write = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}[path.suffix]
        path.write_bytes(write(content))
    return path


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zip", ".zst"])
@pytest.mark.parametrize("is_labels", [False, True])
def test_a_packed_table_holds_no_more_than_its_size_allows(
    tmp_path, small_bound, ending, is_labels
) -> None:
    path = pack(tmp_path / f"t.csv{ending}", TEXT)
    with pytest.raises(DataError, match=r"must hold at most .* since it has [\d,]+ bytes"):
        list_table(path, LabelTable("file", labels="label")) if is_labels else read_frames(path)


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zip", ".zst"])
def test_a_packed_table_is_read_as_it_is_unpacked(tmp_path, ending) -> None:
    text = "".join(f"{i},é{i % 3}\n" for i in range(3000))
    (tmp_path / "t.csv").write_text(f"a,b\n{text}")
    packed = pack(tmp_path / f"t.csv{ending}", (tmp_path / "t.csv").read_bytes())
    pd.testing.assert_frame_equal(read_frames(packed), read_frames(tmp_path / "t.csv"))


@pytest.mark.parametrize("is_labels", [False, True])
def test_a_line_without_an_end_is_refused(tmp_path, monkeypatch, is_labels) -> None:
    monkeypatch.setattr(packed_files, "_LONGEST_LINE", 1 << 19)
    path = pack(tmp_path / "t.csv.gz", b"file,label\na.jpg,1\n" + b"x" * (1 << 21))
    with pytest.raises(DataError, match="must have lines of at most"):
        list_table(path, LabelTable("file", labels="label")) if is_labels else read_frames(path)


def test_headers_of_typed_files_are_bounded(tmp_path, small_bound) -> None:
    zeros = pa.table({"a": np.zeros(2_000_000, np.int64)})
    pyarrow.parquet.write_table(zeros, tmp_path / "rows.parquet")
    pyarrow.feather.write_feather(zeros, tmp_path / "rows.feather", compression="zstd")
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(5000, np.int32)), ["y" * 5000])
    pyarrow.parquet.write_table(
        pa.table({"a": text}), tmp_path / "text.parquet", store_schema=False
    )
    lists = pa.array([[0] * 500_000] * 3)
    pyarrow.parquet.write_table(pa.table({"a": lists}), tmp_path / "lists.parquet")
    texts = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int32()), ["z", "y" * 5_000_000])
    for name, column in {
        "lists": lists,
        "words": pa.array(["y" * 5_000_000]),
        "codes": texts,
    }.items():
        table = pa.table({"a": column})
        pyarrow.feather.write_feather(table, tmp_path / f"{name}.feather", compression="zstd")
    names = ["rows.parquet", "rows.feather", "text.parquet", "lists.parquet"]
    for name in (*names, "lists.feather", "words.feather", "codes.feather"):
        with pytest.raises(DataError, match="must hold at most"):
            read_frames(tmp_path / name)


@pytest.mark.parametrize("packing", ["uncompressed", "lz4", "zstd"])
def test_feather_of_every_kind_is_measured_as_it_is(tmp_path, packing) -> None:
    columns = {
        "lists": pa.array([[1, 2], None, []] * 50),
        "pairs": pa.array([{"a": 1, "b": "x"}] * 150),
        "codes": pa.array(["x", "y", None] * 50).dictionary_encode(),
        "text": pa.array(["word", "", None] * 50),
        "flags": pa.array([True, None, False] * 50),
    }
    table = pa.table(columns)
    path = tmp_path / "t.feather"
    pyarrow.feather.write_feather(table, path, compression=packing, chunksize=40)
    num_rows, num_bytes = typed_files._feather_size(path)
    assert num_rows == 150
    assert table.nbytes <= num_bytes <= 1.2 * table.nbytes + 8 * 64 * 4 * 5
    with TypedFile(path) as file:
        assert len(next(iter(file.columns(["text"])))) == 150


def test_the_memory_to_unpack_xz_is_bounded(tmp_path, monkeypatch) -> None:
    path = tmp_path / "t.csv.xz"
    streams = [b"a,b\n" + b"1,2\n" * 3, b"3,4\n" * 30_000]
    path.write_bytes(b"\0\0\0\0".join(map(lzma.compress, streams)) + b"\0" * 8)
    assert len(read_frames(path)) == 30_003
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(DataError, match="ends too early"):
        read_frames(path)
    large = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 20}]
    path.write_bytes(lzma.compress(streams[0], filters=large))
    assert len(read_frames(path)) == 3
    monkeypatch.setattr(packed_files, "_MOST_MEMORY", 1 << 19)
    with pytest.raises(DataError, match="must need at most 524,288 bytes of memory"):
        read_frames(path)


def test_typed_files_have_no_endless_columns(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("lightning_fastrecipes.data.tables.typed_files._MOST_COLUMNS", 10)
    wide = pd.DataFrame({f"c{i}": [1] for i in range(11)})
    wide.to_parquet(tmp_path / "t.parquet")
    wide.to_feather(tmp_path / "t.feather")
    for name in ("t.parquet", "t.feather"):
        with pytest.raises(DataError, match="it has 11 columns, more than the 10"):
            read_frames(tmp_path / name)


def test_feather_of_many_parts_and_without_rows_is_read(tmp_path) -> None:
    frame = pd.DataFrame({"a": range(100), "b": [*"xy"] * 50})
    table = pa.Table.from_pandas(frame)
    pyarrow.feather.write_feather(table, tmp_path / "t.feather", chunksize=7)
    assert read_frames(tmp_path / "t.feather")["a"].tolist() == frame["a"].tolist()
    pyarrow.feather.write_feather(table[:0], tmp_path / "t.feather")
    assert not len(read_frames(tmp_path / "t.feather"))


def test_arrays_are_bounded(tmp_path, small_bound) -> None:
    arrays = {"x_train": np.zeros((3000, 32, 32), np.uint8), "y_train": np.zeros(3000, np.int64)}
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match="must hold at most"):
        read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize(
    "name",
    ["zlib", "zip", "bz2", "base64", "hex", "rot13", "uu", "quopri", "idna", "punycode",
     "unicode_escape", "raw_unicode_escape", "undefined", "nothing", "a\0b", "x" * 300, ""],
)  # fmt: skip
def test_codecs_that_are_no_encodings_of_files_are_refused_by_name(name) -> None:
    with pytest.raises(DataError, match="`encoding` must be one of text that Python knows"):
        Reading(encoding=name)


@pytest.mark.parametrize("name", ["utf-8", "UTF8", "cp1252", "latin-1", "utf-16", "gbk", "utf-7"])
def test_encodings_of_text_are_known(name) -> None:
    assert encoding_name(name)
