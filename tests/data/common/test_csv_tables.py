"""One table per split, beside the folders of images or inside them."""

import random
import re
import time

import pytest

from lightning_fastrecipes.data.common.split_choice import ColumnSplit
from lightning_fastrecipes.data.common.text_files import separator_expression
from lightning_fastrecipes.data.images.label_table import LabelTable
from lightning_fastrecipes.data.images.table_listing import list_table
from lightning_fastrecipes.data.tables.reading import Reading
from lightning_fastrecipes.errors import DataError


def write(path, rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["file,label", *rows]) + "\n")


@pytest.mark.parametrize("val", ["val", "valid", "Validation", "dev_set"])
def test_folders_that_hold_a_table_each(tmp_path, val) -> None:
    write(tmp_path / "train" / "labels.csv", ["b.png,x", "a.png,y"])
    write(tmp_path / val / "labels.csv", ["a.png,x"])

    listing = list_table(tmp_path, LabelTable())

    assert listing.folder == tmp_path
    assert listing.rows[["file", "split", "label"]].values.tolist() == sorted(
        [
            ["train/a.png", "train", "y"],
            ["train/b.png", "train", "x"],
            [f"{val}/a.png", "val", "x"],
        ]
    )


def test_tables_beside_one_another_name_files_of_one_folder(tmp_path) -> None:
    write(tmp_path / "Training.csv", ["images/a.png,x"])
    write(tmp_path / "test.csv", ["images/b.png,x"])
    rows = list_table(tmp_path, LabelTable()).rows
    assert rows["file"].tolist() == ["images/a.png", "images/b.png"]
    assert rows["split"].tolist() == ["train", "test"]


def test_all_tables_together_decide_whether_labels_are_several(tmp_path) -> None:
    draw = random.Random(0)
    tags = [" ".join(draw.sample(["a", "b", "c", "d"], draw.randint(1, 3))) for _ in range(30)]
    write(tmp_path / "train.csv", [f"{row}.png,{'abcd'[row % 4]}" for row in range(8)])
    write(tmp_path / "val.csv", [f"v{row}.png,{tag}" for row, tag in enumerate(tags)])
    assert list_table(tmp_path, LabelTable()).label_kind == "multi"


def test_lists_in_text_files_are_read_where_there_is_no_csv(tmp_path) -> None:
    names = LabelTable(column_names=["file", "label"])
    for name, row in (("train", "a.png, 1"), ("test", "b.png, 10"), ("notes", "of the authors")):
        (tmp_path / f"{name}.txt").write_text(f"{row}\n")
    found = list_table(tmp_path, names)
    assert found.rows["split"].tolist() == ["train", "test"]
    assert found.rows["label"].tolist() == ["1", "10"]  # without the blank after the comma
    # Beside tables a list of the same name is something else.
    write(tmp_path / "train.csv", ["c.png,x", "d.png,y"])
    assert list_table(tmp_path, LabelTable()).rows["file"].tolist() == ["c.png", "d.png"]


def test_what_cannot_be_a_folder_of_tables_is_refused(tmp_path) -> None:
    write(tmp_path / "one" / "labels.csv", ["a.png,x"])
    with pytest.raises(DataError, match=r"must have 'train.csv' or .* but has 'labels.csv'"):
        list_table(tmp_path / "one", LabelTable())
    write(tmp_path / "two" / "train.csv", ["a.png,x"])
    with pytest.raises(DataError, match=r"names the column 'part', but .* one table per split"):
        list_table(tmp_path / "two", LabelTable(), ColumnSplit("part"))
    write(tmp_path / "two" / "train" / "labels.csv", ["a.png,x"])
    with pytest.raises(DataError, match=r"are both of 'train'\. Remove one"):
        list_table(tmp_path / "two", LabelTable())


@pytest.mark.parametrize("separator", ["(a+)+$", "||", "", r"\s*", ".*", "(,)", "a|", "x" * 200])
def test_expressions_that_may_hang_or_match_nothing_are_no_separators(separator) -> None:
    with pytest.raises(ValueError, match="`separator` must be a character, or an expression"):
        Reading(separator=separator)


@pytest.mark.parametrize(
    "separator", [r"\s+", r"\|\|", "::", r",\s*", r"\s*,\s*", "[;,]", " {2,}", r",|;", r"\s*\|\s*"]
)
def test_separators_cut_as_they_say_in_linear_time(separator) -> None:
    expression = separator_expression(separator)
    text = "a , b,c  ;d|e || f::g ,,h ,  , i"
    assert re.split(expression, text) == re.split(separator, text)
    started = time.perf_counter()
    re.split(expression, " " * 100_000 + "x")
    assert time.perf_counter() - started < 3  # quadratic: more than a minute
