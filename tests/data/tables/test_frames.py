"""A table is the same from whatever files it comes, however they are cut into chunks."""

import gzip

import numpy as np
import pandas as pd
import pytest

from lightning_fastrecipes.data.tables import reading
from lightning_fastrecipes.data.tables.frames import frame_files, read_frames
from lightning_fastrecipes.errors import DataError, DataNotFoundError


@pytest.fixture
def sales() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "Store": [1, 2, 300, 1],
            "Km": [0.5, np.nan, 1270.0, 2.0],
            "Kind": ["a", "b", None, "a"],
            "Open": [True, False, True, True],
        }
    )


def check(read: pd.DataFrame) -> None:
    assert read.dtypes.astype(str).tolist() == ["int16", "float32", "category", "bool"]
    assert read["Store"].tolist() == [1, 2, 300, 1]
    assert read["Km"].fillna(-1).tolist() == [0.5, -1, 1270, 2]
    assert read["Kind"].astype(object).fillna("").tolist() == ["a", "b", "", "a"]
    assert read.index.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("chunk_rows", [1, 2, 100])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("t.csv", {}),
        ("t.csv", {"sep": ";"}),
        ("t.csv", {"sep": "|", "encoding": "utf-8-sig", "lineterminator": "\r\n"}),
        ("t.tsv", {"sep": "\t"}),
        ("t.txt", {"sep": "\t"}),
        ("t.csv.gz", {"compression": "gzip"}),
        ("t.csv.zip", {"compression": "zip"}),
    ],
)
def test_text_in_any_dialect(tmp_path, sales, monkeypatch, name, options, chunk_rows) -> None:
    monkeypatch.setattr(reading, "_CHUNK_ROWS", chunk_rows)
    sales.to_csv(tmp_path / name, index=False, **options)
    check(read_frames(tmp_path / name))


@pytest.mark.parametrize("name", ["t.parquet", "t.feather", "t.pq", "t.arrow"])
def test_typed_files(tmp_path, sales, name) -> None:
    write = sales.to_parquet if name in ("t.parquet", "t.pq") else sales.to_feather
    write(tmp_path / name)
    check(read_frames(tmp_path / name))
    part = read_frames(str(tmp_path / name), columns=["Open", "Store"], reading={"text": ["Store"]})
    assert part.columns.tolist() == ["Open", "Store"]
    assert part["Store"].tolist() == ["1", "2", "300", "1"]


def test_a_named_index_of_a_typed_file_is_a_column(tmp_path, sales) -> None:
    sales.set_index("Store").to_parquet(tmp_path / "t.parquet")
    check(read_frames(tmp_path / "t.parquet"))


@pytest.mark.parametrize("chunk_rows", [1, 2, 100])
def test_several_files_are_read_one_after_the_other(
    tmp_path, sales, monkeypatch, chunk_rows
) -> None:
    monkeypatch.setattr(reading, "_CHUNK_ROWS", chunk_rows)
    sales[:1].to_csv(tmp_path / "Rossmann_b.csv", index=False)
    sales[1:].to_csv(tmp_path / "Rossmann_a.csv", index=False, columns=sales.columns[::-1])
    listed = read_frames([tmp_path / "Rossmann_b.csv", str(tmp_path / "Rossmann_a.csv")])
    check(listed)
    found = read_frames("*.csv", folder=tmp_path, file_column="file")
    assert found["file"].tolist() == ["Rossmann_a"] * 3 + ["Rossmann_b"]
    assert found["Store"].tolist() == [2, 300, 1, 1]


@pytest.mark.parametrize("chunk_rows", [1, 2, 100])
def test_numbers_beside_text_are_text_everywhere(tmp_path, monkeypatch, chunk_rows) -> None:
    monkeypatch.setattr(reading, "_CHUNK_ROWS", chunk_rows)
    (tmp_path / "t.csv").write_text("Holiday,n\n0,1\n00,2\n,3\na,4\n")
    table = read_frames(tmp_path / "t.csv")
    assert table["Holiday"].astype(object).fillna("gap").tolist() == ["0", "00", "gap", "a"]
    assert table["n"].tolist() == [1, 2, 3, 4]
    (tmp_path / "u.csv").write_text("Holiday,n\n0,1\n")
    both = read_frames(["u.csv", "t.csv"], folder=tmp_path)
    assert both["Holiday"].astype(object).fillna("gap").tolist() == ["0", "0", "00", "gap", "a"]


def test_text_after_many_numbers_makes_all_of_a_long_chunk_text(tmp_path) -> None:
    names = ",".join(["Holiday", *(f"n{i}" for i in range(31))])
    rest = ",0" * 31 + "\n"
    content = f"{names}\n" + f"0{rest}" * 40_000 + f"a{rest}"
    (tmp_path / "t.csv").write_text(content)
    assert set(read_frames(tmp_path / "t.csv")["Holiday"]) == {"0", "a"}


def test_whole_numbers_in_one_chunk_and_fractions_in_the_next(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(reading, "_CHUNK_ROWS", 1)
    (tmp_path / "t.csv").write_text("n,m,gap\n16777217,1,\n0.5,300,\n,70000,\n")
    table = read_frames(tmp_path / "t.csv")
    assert table["n"].fillna(-1).tolist() == [16777217, 0.5, -1]
    assert str(table["m"].dtype) == "int32"
    assert table["gap"].isna().all()


def test_what_is_missing_and_what_is_text(tmp_path) -> None:
    (tmp_path / "t.csv").write_text("Country,Code,Rain\nNA,007,NA\n,1,2.5\n")
    table = read_frames(tmp_path / "t.csv", reading={"text": ["Country", "Code"]})
    assert table["Country"].astype(object).fillna("gap").tolist() == ["NA", "gap"]
    assert table["Code"].tolist() == ["007", "1"]
    assert table["Rain"].isna().tolist() == [True, False]


def test_a_table_of_one_column_or_without_rows(tmp_path) -> None:
    (tmp_path / "one.csv").write_text("n\n1\n2\n")
    assert read_frames(tmp_path / "one.csv")["n"].tolist() == [1, 2]
    (tmp_path / "none.csv").write_text("a,b\n")
    empty = read_frames(tmp_path / "none.csv")
    assert (empty.columns.tolist(), len(empty)) == (["a", "b"], 0)


def test_quoted_separators_and_long_text(tmp_path) -> None:
    rows = [f'"HB,NI",text {number}' for number in range(6)]
    (tmp_path / "t.csv").write_text("\n".join(["State,Note", *rows]) + "\n")
    table = read_frames(tmp_path / "t.csv")
    assert table["State"].tolist() == ["HB,NI"] * 6
    assert str(table["Note"].dtype) != "category"
    assert table["Note"].tolist()[5] == "text 5"


def test_files_that_are_not_there_or_cannot_be_read_are_refused(tmp_path, sales) -> None:
    with pytest.raises(DataNotFoundError, match=r"`source` must match .* 'no\*.csv'"):
        read_frames("no*.csv", folder=tmp_path)
    with pytest.raises(DataNotFoundError, match="`table` must name something that exists"):
        frame_files("no.csv", tmp_path, "table")
    with pytest.raises(DataError, match="must name one file or several, got the folder"):
        read_frames(tmp_path)
    with pytest.raises(DataError, match="got an empty list"):
        read_frames([])
    (tmp_path / "t.xlsx").touch()
    with pytest.raises(DataError, match=r"ends in one of \.csv, .*\.arrow, got .*t\.xlsx"):
        read_frames(tmp_path / "t.xlsx")
    (tmp_path / "empty.csv").touch()
    with pytest.raises(DataError, match=r"'.*empty.csv' cannot be read: No columns"):
        read_frames(tmp_path / "empty.csv")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(DataError, match=r"'.*bad.parquet' cannot be read"):
        read_frames(tmp_path / "bad.parquet")
    (tmp_path / "bad.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n" * 900)[:-20])
    with pytest.raises(DataError, match=r"'.*bad.csv.gz' cannot be read"):
        read_frames(tmp_path / "bad.csv.gz")
    (tmp_path / "latin.csv").write_bytes("a,b\nKöln,1\n".encode("latin-1"))
    with pytest.raises(
        DataError,
        match=r"latin.csv' must be UTF-8, but .* says .Köln,1.\. Give `reading: {encoding: cp12",
    ):
        read_frames(tmp_path / "latin.csv")


def test_columns_that_differ_or_repeat_are_named(tmp_path, sales) -> None:
    sales.to_csv(tmp_path / "a.csv", index=False)
    sales.drop(columns="Km").to_csv(tmp_path / "b.csv", index=False)
    with pytest.raises(DataError, match=r"b.csv' and '.*a.csv' differ in 'Km'"):
        read_frames("*.csv", folder=tmp_path)
    assert len(read_frames("*.csv", folder=tmp_path, columns=["Store"])) == 8
    with pytest.raises(DataError, match=r"a.csv' must have .* no 'Rain'; it has 'Store'"):
        read_frames(tmp_path / "a.csv", columns=["Rain"])
    (tmp_path / "c.csv").write_text("x,y,x\n1,2,3\n")
    with pytest.raises(DataError, match=r"c.csv' must have each column once, but has 'x' more"):
        read_frames(tmp_path / "c.csv")
    sales.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a.parquet' must have .* no 'Rain'"):
        read_frames(tmp_path / "a.parquet", columns=["Rain"])


def test_a_file_whose_name_looks_like_a_pattern(tmp_path, sales) -> None:
    sales.to_csv(tmp_path / "t[1].csv", index=False)
    check(read_frames("t[1].csv", folder=tmp_path))
