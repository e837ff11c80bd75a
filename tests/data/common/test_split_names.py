"""Columns of splits are read as people write them, and what flags mean is said."""

import numpy as np
import pandas as pd
import pytest

from lightning_fastrecipes.data.common.split_choice import ColumnSplit
from lightning_fastrecipes.data.common.split_names import may_be_split, read_splits
from lightning_fastrecipes.data.images.label_table import LabelTable
from lightning_fastrecipes.data.images.table_listing import list_table
from lightning_fastrecipes.data.tables.splits import split_rows
from lightning_fastrecipes.errors import DataError

COLUMNS = [
    pytest.param("is_valid", [True, False], ["val", "train"], id="booleans"),
    pytest.param("is_valid", np.array([1, 0]), ["val", "train"], id="integers"),
    pytest.param("isValid", [1.0, 0.0], ["val", "train"], id="floats"),
    pytest.param("is_valid", ["TRUE", " false"], ["val", "train"], id="text"),
    pytest.param("split", ["1", "0"], ["val", "train"], id="a-name-that-tells-nothing"),
    pytest.param("is_test", ["yes", "no"], ["test", "train"], id="test"),
    pytest.param("holdout", ["1", "0"], ["val", "train"], id="hold-out"),
    pytest.param("is_training_image", [1, 0], ["train", "val"], id="train"),
    pytest.param("partition", [2, 0, 1], ["test", "train", "val"], id="three-numbers"),
    pytest.param("s", ["Train", "Validation", "dev"], ["train", "val", "val"], id="names"),
    pytest.param("s", ["TRAINING ", "testing", "test_set"], ["train", "test", "test"], id="forms"),
]


@pytest.mark.parametrize(("name", "values", "expected"), COLUMNS)
def test_all_spellings_are_read_in_tables_of_labels_and_of_rows(name, values, expected) -> None:
    column = pd.Series(values, name=name)
    frame = pd.DataFrame({"file": [f"{row}.png" for row in range(len(column))], "label": "x"})
    frame[name] = column

    splits, said = read_splits(column)

    assert splits.tolist() == expected
    assert bool(said) is (splits.tolist() != expected or name != "s")
    assert list_table(frame, LabelTable(), ColumnSplit(name)).rows["split"].tolist() == expected
    rows = split_rows(ColumnSplit(name), pd.concat([frame, frame.assign(**{name: column})]))
    assert {split for split, found in rows.items() if len(found)} == {*expected}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("fold", [0, 1, 2]),
        ("train_or_test", [0, 1]),
        ("is_valid", ["1", "train"]),
        ("split", ["train", "holdout"]),
        ("split", [0, 1, 2, 3]),
        ("is_valid", [True, None]),
    ],
)
def test_what_cannot_be_told_is_left_open(name, values) -> None:
    assert read_splits(pd.Series(values, name=name))[0].isna().any()


@pytest.mark.parametrize(
    ("name", "values", "may_be"),
    [
        ("is_valid", [False, True], True),
        ("is_test", ["0", "1"], True),
        ("Partition", [0, 1, 2], True),
        ("part", ["train", "Validation"], True),
        ("part", ["train", "car"], False),
        ("has_stripes", [0, 1], False),
        ("is_valid", [0, 0], False),
        ("tags", [["train"], ["val"]], False),
    ],
)
def test_a_column_that_is_not_named_is_mentioned_if_it_may_be_the_split(
    name, values, may_be
) -> None:
    column = pd.Series(values, name=name)
    frame = pd.DataFrame({"file": [f"{n}.png" for n in range(len(values))], "label": "x"})

    reading = list_table(frame.assign(**{name: values}), LabelTable()).reading

    assert may_be_split(column) is may_be
    said = f"the column '{name}' may be the split, but is not used: `split='{name}'` reads it"
    assert reading == (said if may_be else "")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("split", ["train", None]),
        ("Split", ["train", "holdout"]),
        ("is_valid", [True, None]),
        ("is_train", ["a", "b"]),
    ],
)
def test_a_column_that_is_called_as_a_split_is_mentioned_whatever_it_holds(name, values) -> None:
    frame = pd.DataFrame({"file": ["a.png", "b.png"], "label": "x", name: values})
    assert f"the column '{name}' may be the split" in list_table(frame, LabelTable()).reading


def test_flags_of_a_split_are_no_labels() -> None:
    frame = pd.DataFrame({"file": ["a", "b"], "sun": [1, 1], "sea": [0, 1], "is_valid": [0, 1]})

    listing = list_table(frame, LabelTable())

    assert listing.classes == ["sun", "sea"]
    assert "the column 'is_valid' may be the split" in listing.reading
    split = list_table(frame, LabelTable(), ColumnSplit("is_valid"))
    assert split.reading == "column 'is_valid': 0 means train, 1 means val"


def test_unknown_flags_are_refused_with_what_is_known() -> None:
    frame = pd.DataFrame({"file": ["a", "b", "c"], "label": "x", "fold": [0, 1, 2]})
    with pytest.raises(
        DataError,
        match=r"unknown split in 'fold', such as '0', '1', '2': .*Use train, val, .* or 0 and 1\.",
    ):
        list_table(frame, LabelTable(), ColumnSplit("fold"))
