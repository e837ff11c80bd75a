"""Each form of a table, of text and of splits that the page names is used once."""

import bz2
import gzip
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from helpers.pages import rows_of

import lightning_fastrecipes as fr
from lightning_fastrecipes.data.common.split_choice import as_split
from lightning_fastrecipes.data.tables.frames import read_frames
from lightning_fastrecipes.data.tables.splits import split_rows

TABLE = pd.DataFrame({"shop": ["a", "b"] * 4, "km": np.arange(8.0), "y": np.arange(8.0) * 2})
PACKERS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress,
           ".zst": lambda content: pa.compress(content, "zstd", asbytes=True)}  # fmt: skip
FORMS, READING, SPLITS = (
    rows_of("tables.md", heading)
    for heading in ("What a table may be", "How text is read", "Splits")
)


def targets(source: Any, split: Any = None) -> list[float]:
    """Return the targets of all splits that a datamodule of a source has, sorted."""
    columns = fr.TableColumns("y", ["shop"], ["km"])
    data = fr.TabularDataModule(source, columns, split=split, cache="off")
    data.setup("fit")
    return sorted(
        value
        for name in ("train", "val", "test")
        if data.num_rows(name)
        for value in data.encoded(name).target.tolist()
    )


def packed(place: Path, ending: str) -> Path:
    """Write the table as a file of an ending."""
    path = place / f"t{ending if ending not in (*PACKERS, '.zip') else '.csv' + ending}"
    text = TABLE.to_csv(index=False, sep="\t" if ending == ".tsv" else ",").encode()
    if ending in (".parquet", ".pq"):
        TABLE.to_parquet(path)
    elif ending in (".feather", ".arrow"):
        TABLE.to_feather(path)
    elif ending == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("t.csv", text)
    else:
        path.write_bytes(PACKERS.get(ending, lambda content: content)(text))
    return path


def of_text(place: Path) -> list[Any]:
    return [packed(place, e) for e in (".csv", ".tsv", ".txt", ".zip", *PACKERS)]


def of_types(place: Path) -> list[Any]:
    return [packed(place, e) for e in (".parquet", ".pq", ".feather", ".arrow")]


def patterns(place: Path) -> list[Any]:
    names = [place / "m1.csv", place / "m2.csv"]
    for path, part in zip(names, (TABLE[:3], TABLE[3:][["y", "km", "shop"]]), strict=True):
        part.to_csv(path, index=False)
    return [str(place / "m*.csv"), names, [str(name) for name in names]]


def frames_of_others(place: Path) -> list[Any]:
    class Interchanged:
        def __dataframe__(self, **options: Any) -> Any:
            return TABLE.__dataframe__(**options)

    return [pa.Table.from_pandas(TABLE), Interchanged()]


def arrays(place: Path) -> list[Any]:
    fields = TABLE.astype({"shop": "U1"}).to_records(index=False)
    plain = np.column_stack([TABLE["km"], TABLE["y"]])
    data = fr.TabularDataModule(plain, fr.TableColumns("1", [], ["0"]), split=0.0, cache="off")
    data.setup("fit")
    assert data.train_targets.tolist() == TABLE["y"].tolist()
    return [np.array(fields)]


SOURCES: list[Callable[[Path], list[Any]]] = [
    of_text,
    of_types,
    patterns,
    lambda place: [],  # see below
    lambda place: [TABLE, TABLE.set_index("shop")],
    lambda place: [TABLE.to_dict("list"), TABLE.to_dict("records")],
    lambda place: [[TABLE[:3], TABLE[3:]]],
    lambda place: [{"train": TABLE[:5], "val": TABLE[5:7], "test": TABLE[7:]}],
    arrays,
    frames_of_others,
]
"""In the order of the page."""


def test_every_row_of_the_page_is_used() -> None:
    assert len(FORMS) == len(SOURCES)
    for ending in (".csv", ".tsv", ".txt", ".zip", *PACKERS):
        assert f"`{ending}`" in next(iter(FORMS))
    assert [*READING] == [", ".join(f"`{key}`" for key in keys) for keys in TEXTS]
    assert len(SPLITS) == len(WAYS)


# What pandas says of its own old protocol, which other libraries have.
@pytest.mark.filterwarnings("ignore:The DataFrame Interchange Protocol")
@pytest.mark.parametrize("place", range(len(SOURCES)), ids=list(FORMS))
def test_a_table_in_any_form_is_the_same_table(tmp_path, place) -> None:
    for source in SOURCES[place](tmp_path):
        assert targets(source) == TABLE["y"].tolist()


def test_a_file_of_a_package_and_a_series_are_tables(tmp_path, monkeypatch) -> None:
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / "__init__.py").write_text("raise RuntimeError('imported')")
    TABLE.to_csv(tmp_path / "shipped" / "t.csv", index=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert targets("package:shipped/t.csv") == TABLE["y"].tolist()
    spec = fr.TableSpec.fit(TABLE, target="y", categorical=["shop"], continuous=["km"])
    data = fr.TabularDataModule.from_spec(spec, TABLE.iloc[3])
    [batch] = data.predict_dataloader()
    assert batch[0].codes.tolist() == [[2]]


TEXTS: dict[tuple[str, ...], list[tuple[str | bytes, dict[str, Any], list[list[Any]]]]] = {
    ("separator",): [
        ("a:b\n1:2\n", {"separator": ":"}, [[1, 2]]),
        ("a   b\n1   2\n", {"separator": r"\s+"}, [[1, 2]]),
    ],
    ("encoding",): [("a,b\nä,2\n".encode("cp1252"), {"encoding": "cp1252"}, [["ä", 2]])],
    ("decimal", "thousands"): [
        ("a;b\n1.234,5;2\n", {"decimal": ",", "thousands": "."}, [[1234.5, 2]])
    ],
    ("na_values",): [("a,b\n?,2\n3,NA\n", {"na_values": ["?"]}, [[None, "2"], [3, "NA"]])],
    ("header",): [
        ("1,2\n3,4\n", {"header": False}, [[1, 2], [3, 4]]),
        ("1,2\n3,4\n", {"header": ["a", "b"]}, [[1, 2], [3, 4]]),
    ],
    ("text",): [("a,b\n007,NA\n,2\n", {"text": ["a", "b"]}, [["007", "NA"], [None, "2"]])],
}


@pytest.mark.parametrize("keys", TEXTS, ids=" ".join)
def test_a_key_of_reading_does_what_the_page_says(tmp_path, keys) -> None:
    for text, reading, expected in TEXTS[keys]:
        path = tmp_path / "t.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        found = read_frames(path, reading=reading)
        assert found.astype(object).where(found.notna(), None).to_numpy().tolist() == expected


ROWS = pd.DataFrame({
    "part": ["train"] * 6 + ["Validation"] * 2,
    "class": ["a", "b"] * 4,
    "patient": [1, 1, 2, 2, 3, 3, 4, 4],
    "day": [f"2014-08-0{day}" for day in range(1, 9)],
})  # fmt: skip
WAYS: list[list[tuple[Any, Any]]] = [
    [(0.25, 2), (fr.FractionSplit(val=0.25, test=0.25, stratify="class"), 2)],
    [("part", [6, 7])],
    [(fr.GroupSplit("patient", val=0.25), 2)],
    [
        (fr.DateSplit("day", val_from="2014-08-07", gap_days=2), [6, 7]),
        (fr.DateSplit("day", val_last=0.25), [6, 7]),
    ],
    [(fr.FoldSplit(fold=0, folds=4, column="patient"), 2), ({"fold": 1, "folds": 2}, 4)],
    [(fr.RowSplit(val=[0, 4], test=[7]), [0, 4]), ({"val": [0, 4]}, [0, 4])],
    [({"train": [1, 2], "val": [4], "column": "patient"}, [6, 7])],
    [],  # a table for each split, as above
]
"""In the order of the page: what may be given, and the rows to validate on, or how many."""


@pytest.mark.parametrize("place", range(len(WAYS)), ids=list(SPLITS))
def test_a_split_does_what_the_page_says(place) -> None:
    for given, expected in WAYS[place]:
        split = as_split(given)
        found = split_rows(split, ROWS)["val"].tolist()
        assert expected in (found, len(found))
        if "patient" in split.columns:
            rest = ROWS["patient"].drop(index=found)
            assert not {*rest} & {*ROWS["patient"][found]}
