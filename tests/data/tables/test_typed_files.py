"""A file of typed columns gives what pandas makes of the whole, one narrow column after another."""

import struct

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import feather, parquet

from lightning_fastrecipes.data.tables import typed_files
from lightning_fastrecipes.data.tables.frames import read_frames
from lightning_fastrecipes.data.tables.typed_files import TypedFile
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.tables.narrowing import narrow_frame

ENDINGS = pytest.mark.parametrize("ending", [".parquet", ".feather"])
NUM_ROWS = 50


def table() -> pd.DataFrame:
    numbers = np.arange(NUM_ROWS)
    return pd.DataFrame(
        {
            "whole": numbers,
            "big": numbers + 2**40,
            "unsigned": numbers.astype(np.uint64) + np.uint64(2**63),
            "gaps": pd.Series(numbers, dtype="Int64").mask(numbers % 7 == 0),
            "float": numbers / 8,
            "yes": numbers % 3 == 0,
            "kind": pd.Categorical.from_codes(numbers % 3, ["a", "b", "c"]),
            "few": [None, "x", "y", "z", "x"] * 10,
            "different": [f"text {number}" for number in numbers],
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(numbers, "D"),
            "zone": pd.date_range("2024-01-01", periods=NUM_ROWS, freq="D", tz="Europe/Berlin"),
            "a.b": numbers,
        }
    )


def write(frame: pd.DataFrame, path) -> None:
    """Write in groups of few rows, so that a column comes in many parts."""
    if path.suffix == ".parquet":
        frame.to_parquet(path, row_group_size=7)
    else:
        feather.write_feather(pa.Table.from_pandas(frame), str(path), "lz4", chunksize=7)


@ENDINGS
@pytest.mark.parametrize("chunk_rows", [3, 100])
def test_every_type_comes_as_pandas_would_narrow_the_whole(
    tmp_path, monkeypatch, ending, chunk_rows
) -> None:
    monkeypatch.setattr(typed_files, "_CHUNK_ROWS", chunk_rows)
    write(table(), tmp_path / f"t{ending}")
    pd.testing.assert_frame_equal(
        read_frames(tmp_path / f"t{ending}"), narrow_frame(table()), check_categorical=False
    )


@ENDINGS
@pytest.mark.parametrize(
    ("index", "expected"),
    [
        pytest.param(pd.RangeIndex(5, 55), [], id="range-that-begins-at-5"),
        pytest.param(pd.RangeIndex(5, 55, name="n"), ["n"], id="range-with-a-name"),
        pytest.param(pd.Index([f"k{i}" for i in range(NUM_ROWS)]), [], id="without-a-name"),
        pytest.param(pd.Index(np.arange(NUM_ROWS)[::-1], name="n"), ["n"], id="with-a-name"),
        pytest.param(
            pd.MultiIndex.from_product([range(5), range(10)], names=["x", "y"]), ["x", "y"],
            id="of-two-levels",
        ),
    ],
)  # fmt: skip
def test_levels_of_the_index_with_names_are_the_first_columns(
    tmp_path, ending, index, expected
) -> None:
    frame = table()[["whole", "few"]].set_index(index)
    write(frame, tmp_path / f"t{ending}")
    plain = frame.reset_index(drop=not expected)
    read = read_frames(tmp_path / f"t{ending}")
    assert read.columns.tolist() == [*expected, "whole", "few"]
    pd.testing.assert_frame_equal(read, narrow_frame(plain), check_categorical=False)
    if expected:
        part = read_frames(tmp_path / f"t{ending}", columns=["few", expected[0]])
        assert part.columns.tolist() == ["few", expected[0]]
        assert part[expected[0]].tolist() == plain[expected[0]].tolist()


def test_an_index_named_as_a_column_is_refused(tmp_path) -> None:
    frame = table()[["whole"]]
    frame.set_index(frame["whole"]).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match="must have each column once, but has 'whole' more"):
        read_frames(tmp_path / "t.parquet")


@ENDINGS
def test_whole_numbers_taken_for_text_keep_their_digits_beside_gaps(
    tmp_path, monkeypatch, ending
) -> None:
    monkeypatch.setattr(typed_files, "_CHUNK_ROWS", 2)
    frame = pd.DataFrame({"code": pd.array([7, None, 2**60 + 1, 8, 9], "Int64"), "k": [0.5] * 5})
    write(frame, tmp_path / f"t{ending}")
    read = read_frames(tmp_path / f"t{ending}", reading={"text": ["code", "k"]})
    expected = ["7", "gap", str(2**60 + 1), "8", "9"]
    assert read["code"].astype(object).fillna("gap").tolist() == expected
    assert read["k"].tolist() == ["0.5"] * 5


def test_so_they_do_in_a_file_that_says_nothing_of_pandas(tmp_path) -> None:
    parquet.write_table(pa.table({"code": [7, None, 2**60 + 1]}), tmp_path / "t.parquet")
    read = read_frames(tmp_path / "t.parquet", reading={"text": ["code"]})
    assert read["code"].astype(object).fillna("gap").tolist() == ["7", "gap", str(2**60 + 1)]


def test_numbers_in_one_file_and_text_in_another_are_text(tmp_path) -> None:
    pd.DataFrame({"code": [1, 2]}).to_parquet(tmp_path / "a.parquet")
    pd.DataFrame({"code": ["1", "x"]}).to_feather(tmp_path / "b.feather")
    read = read_frames([tmp_path / "a.parquet", tmp_path / "b.feather"], file_column="file")
    assert read["code"].tolist() == ["1", "2", "1", "x"]
    assert read["file"].tolist() == ["a", "a", "b", "b"]


@ENDINGS
def test_a_table_without_rows_keeps_its_columns(tmp_path, ending) -> None:
    write(table()[:0], tmp_path / f"t{ending}")
    read = read_frames(tmp_path / f"t{ending}")
    assert (read.columns.tolist(), len(read)) == (table().columns.tolist(), 0)


def test_labels_that_are_numbers_and_names_with_dots(tmp_path) -> None:
    pd.DataFrame({0: [1, 2], 1: ["x", "y"]}).to_parquet(tmp_path / "t.parquet")
    assert read_frames(tmp_path / "t.parquet").columns.tolist() == ["0", "1"]
    nested = pa.table({"a": [{"b": 1}, {"b": 2}], "a.b": [3, 4]})
    parquet.write_table(nested, tmp_path / "n.parquet")
    assert read_frames(tmp_path / "n.parquet", columns=["a.b"])["a.b"].tolist() == [3, 4]


@ENDINGS
def test_no_two_columns_are_wide_at_the_same_time(tmp_path, ending) -> None:
    frame = pd.DataFrame({f"n{i}": np.arange(100_000) / 8 for i in range(8)})
    write_all = frame.to_parquet if ending == ".parquet" else frame.to_feather
    write_all(tmp_path / f"t{ending}")
    before = pa.total_allocated_bytes()
    with TypedFile(tmp_path / f"t{ending}") as file:
        held = []
        for column in file.columns(file.names):
            held.append(pa.total_allocated_bytes() - before)
            del column
    assert max(held) < 4 * 100_000 * 8  # half of the table


@ENDINGS
def test_a_wide_table_of_few_rows_is_read_at_once(tmp_path, monkeypatch, ending) -> None:
    frame = pd.DataFrame(np.arange(600).reshape(3, 200)).rename(columns=str)
    write(frame, tmp_path / f"t{ending}")
    asked = []
    read = TypedFile._read
    monkeypatch.setattr(
        TypedFile, "_read", lambda self, names: asked.append(names) or read(self, names)
    )
    with TypedFile(tmp_path / f"t{ending}") as file:
        found = [column.tolist() for column in file.columns(file.names, text=["7"])]
    assert len(asked) < 6
    assert found[7] == ["7", "207", "407"]
    del found[7], frame["7"]
    assert found == frame.T.to_numpy().tolist()


@pytest.mark.parametrize("place", [1 << 40, -(1 << 40), 1 << 62])
def test_a_feather_file_whose_parts_lie_elsewhere_is_refused(tmp_path, place) -> None:
    path = tmp_path / "a.feather"
    pd.DataFrame({"a": np.arange(999), "b": ["x", "y", "z"] * 333}).to_feather(path)
    whole = path.read_bytes()
    messages = pa.ipc.MessageReader.open_stream(whole[8:])
    parts = [message for message in messages if message.type == "record batch"]
    buffers = typed_files._Batch.of(bytes(parts[0].metadata), is_dictionary=False).buffers
    for found in {pair for pair in buffers if pair[1] >= 8}:
        moved = struct.pack("<qq", place, found[1])
        path.write_bytes(whole.replace(struct.pack("<qq", *found), moved, 1))
        with pytest.raises(DataError, match="cannot be read"):
            read_frames(path)


@pytest.mark.parametrize("ending", ["feather", "parquet"])
@pytest.mark.parametrize("where", ["text", "names", "notes"])
def test_what_is_no_utf8_gets_a_cure_that_fits_the_format(tmp_path, ending, where) -> None:
    latin = pa.array([b"caf\xe9", b"b"])
    cells = pa.Array.from_buffers(pa.string(), 2, latin.buffers()) if where == "text" else ["a", ""]
    table = pa.table({"a": cells, "y": [1, 2]})
    if where == "notes":
        table = table.replace_schema_metadata({b"pandas": b'{"x":"\xe9"}'})
    if where == "names":
        table = table.rename_columns(["abcdef", "y"])
    path = tmp_path / f"t.{ending}"
    write = feather.write_feather if ending == "feather" else parquet.write_table
    write(table, str(path), compression="NONE" if ending == "parquet" else "uncompressed")
    if where == "names":
        path.write_bytes(path.read_bytes().replace(b"abcdef", b"abc\xe9ef"))
    with pytest.raises(DataError, match="must hold names and text in UTF-8") as caught:
        read_frames([path])
    assert "`DataFrame.to_parquet` or `to_feather`" in str(caught.value)
    assert "reading" not in str(caught.value)
