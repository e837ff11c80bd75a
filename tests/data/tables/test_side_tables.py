"""Tables that are joined: read as those of the training, whatever rows happen to be there."""

import json
from pathlib import Path

import pytest

from lightning_fastrecipes.data.tables.columns import TableColumns
from lightning_fastrecipes.data.tables.datamodule import TabularDataModule
from lightning_fastrecipes.functional.tables.spec import TableSpec

# Five rows of each shop are the same, and drawn into both splits.
pytestmark = pytest.mark.filterwarnings("ignore:Some rows are in training as well")

JOIN = {"join": {"table": "shops.csv", "keys": ["Shop"], "suffix": "_s"}}
COLUMNS = TableColumns("Sales", ["Zip_s", "Kind_s", "Floor_s"], ["Km_s"])


def write(folder: Path, shops: str, rows: str | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "shops.csv").write_text(shops)
    (folder / "sales.csv").write_text(rows or "Shop,Sales\n" + "1,5\n2,6\n3,7\n4,8\n" * 5)
    return folder


SHOPS = """Shop,Zip,Kind,Floor,Km,Opened
1,007,NA,1,1.5,12a
2,7,x,2,2.5,13
3,AB1,y,3,3.5,14
4,1E3,,1,4.5,15
"""
# Nothing but digits where training had text, and text where it had numbers.
OTHERS = """Shop,Zip,Kind,Floor,Km,Opened
1,007,NA,B,1.5,7
2,7,12,2,2.5,8
"""


def trained(folder: Path, **options: object) -> tuple[TabularDataModule, TableSpec]:
    options = {"steps": [JOIN], "columns": COLUMNS, "cache": "off"} | options
    data = TabularDataModule(folder / "sales.csv", split=0.25, **options)
    data.setup("fit")
    return data, TableSpec.from_dict(json.loads(json.dumps(data.spec.to_dict())))


def categories(spec: TableSpec, source: Path, steps=(JOIN,), folder: Path | None = None) -> list:
    data = TabularDataModule.from_spec(spec, source, steps=steps, folder=folder)
    loader = data.predict_dataloader()
    codes = next(iter(loader))[0].codes.numpy()
    return (
        spec.decode(codes).astype(object).where(lambda found: found.notna(), None).values.tolist()
    )


@pytest.mark.parametrize("cache", ["off", "folder"])
def test_codes_of_a_side_table_stay_what_they_are(tmp_path: Path, cache: str) -> None:
    folder = write(tmp_path / "a", SHOPS)
    _, spec = trained(folder, cache=tmp_path / "cache" if cache == "folder" else cache)
    zip_codes, _, floors = spec.category_columns
    assert zip_codes.values == ("007", "1E3", "7", "AB1")
    assert floors.kind == "integer"
    assert spec.side_text == (("Zip", "Kind", "Opened"),)
    assert categories(spec, folder / "sales.csv")[:4] == [
        ["007", None, 1], ["7", "x", 2], ["AB1", "y", 3], ["1E3", None, 1],
    ]  # fmt: skip


def test_a_side_table_to_predict_with_is_read_as_that_of_the_training(tmp_path: Path) -> None:
    _, spec = trained(write(tmp_path / "a", SHOPS))
    rows = "Shop\n1\n2\n9\n"
    other = write(tmp_path / "b", OTHERS, rows)
    expected = [["007", None, None], ["7", None, 2], [None, None, None]]
    assert categories(spec, other / "sales.csv") == expected
    # One row alone is no other than among others.
    alone = write(tmp_path / "c", OTHERS, "Shop\n2\n")
    assert categories(spec, alone / "sales.csv") == expected[1:2]
    kept = categories(spec, other / "sales.csv", folder=tmp_path / "a")
    assert kept == [["007", None, 1], ["7", "x", 2], [None, None, None]]


def test_columns_that_steps_compute_with_are_read_alike(tmp_path: Path) -> None:
    steps = [JOIN, {"derive": {"Letter": "Opened_s.str.slice(0, 1)"}}]
    columns = TableColumns("Sales", ["Letter"])
    _, spec = trained(write(tmp_path / "a", SHOPS), steps=steps, columns=columns)
    other = write(tmp_path / "b", OTHERS, "Shop\n1\n2\n")
    assert categories(spec, other / "sales.csv", steps) == [[None], [None]]
    assert categories(spec, tmp_path / "a" / "sales.csv", steps)[:2] == [["1"], ["1"]]


def test_categories_that_are_words_for_gaps_stay_categories(tmp_path: Path) -> None:
    reading = {"text": ["Kind"]}
    steps = [{"join": JOIN["join"] | {"reading": reading}}]
    _, spec = trained(write(tmp_path / "a", SHOPS), steps=steps)
    assert "NA" in spec.category_columns[1].values
    # Without the option, too, in what is predicted.
    assert categories(spec, tmp_path / "a" / "sales.csv")[0] == ["007", "NA", 1]


def test_keys_are_read_as_those_of_the_table(tmp_path: Path) -> None:
    rows = "Shop,Sales\n" + "007,5\n7,6\nA1,7\n" * 6
    folder = write(tmp_path / "a", "Shop,Km\n007,1\n7,2\n", rows)
    join = {"join": {"table": "shops.csv", "keys": ["Shop"]}}
    columns = TableColumns("Sales", [], ["Km"])
    data, spec = trained(folder, steps=[join], columns=columns)
    assert "12 of 18 rows found their row" in data.report.steps[0]
    assert spec.number_columns[0].mean == pytest.approx(1.5, abs=0.3)
    # Keys that a step computes are compared as they come.
    steps = [{"join": join["join"] | {"steps": [{"derive": {"Shop": "(Shop + 1).astype('str')"}}]}}]
    write(folder, "Shop,Km\n6,1\n8,2\n9,3\n", rows + "10,9\n" * 6)
    data, _ = trained(folder, steps=steps, columns=columns)
    assert "12 of 24 rows" in data.report.steps[0]


def test_side_tables_of_side_tables_are_read_alike(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", "Shop,Owner\n1,a\n2,b\n3,c\n4,a\n")
    (folder / "owners.csv").write_text("Owner,Tax\na,01\nb,x\nc,2\n")
    inner = {"join": {"table": "owners.csv", "keys": ["Owner"]}}
    steps = [{"join": {"table": "shops.csv", "keys": ["Shop"], "steps": [inner]}}]
    _, spec = trained(folder, steps=steps, columns=TableColumns("Sales", ["Tax"]))
    assert spec.side_text == (("Owner",), ("Owner", "Tax"))
    (folder / "owners.csv").write_text("Owner,Tax\na,01\nb,2\n")
    assert categories(spec, folder / "sales.csv", steps)[:3] == [["01"], ["2"], [None]]
