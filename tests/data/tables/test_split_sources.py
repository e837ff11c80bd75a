"""A table of rows for each split, by a mapping: read, prepared and learned from as one table."""

from pathlib import Path

import pandas as pd
import pytest
from sklearn.model_selection import KFold

from lightning_fastrecipes import (
    DateSplit,
    FoldSplit,
    FractionSplit,
    RowSplit,
    TableColumns,
    TabularDataModule,
)
from lightning_fastrecipes.errors import ConfigurationError, DataError

COLUMNS = TableColumns("y", ["shop"], ["km"])


def frame(start: int, stop: int, shop: str = "a") -> pd.DataFrame:
    numbers = range(start, stop)
    shops = [shop if number % 2 else "b" for number in numbers]
    return pd.DataFrame({"shop": shops, "km": [float(n) for n in numbers], "y": numbers})


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    parts = {"train": frame(0, 20), "val": frame(20, 26), "test": frame(26, 30, "new")}
    for name, part in parts.items():
        part.to_csv(tmp_path / f"{name}.csv", index=False)
    return {name: tmp_path / f"{name}.csv" for name in parts}


def built(source, cache="off", **options) -> TabularDataModule:
    data = TabularDataModule(source, COLUMNS, cache=cache, **options)
    data.setup("fit")
    return data


def targets(data: TabularDataModule, split: str) -> list[float]:
    return data.encoded(split).target.tolist()


@pytest.mark.parametrize("cache", ["off", "folder"])
def test_each_table_is_its_split_and_only_the_training_one_is_learned_from(
    files, tmp_path: Path, cache: str
) -> None:
    cache = tmp_path / "cache" if cache == "folder" else cache
    data = built({"Training": files["train"], "valid": files["val"], "test": files["test"]}, cache)
    assert targets(data, "train") == list(range(20))
    assert targets(data, "val") == list(range(20, 26))
    assert targets(data, "test") == list(range(26, 30))
    assert data.spec.category_columns[0].values == ("a", "b")
    assert data.report.unknown["test"] == {"shop": 2}
    assert data.row_names("test").to_dict("list") == {"file": ["test.csv"] * 4, "row": [*range(4)]}
    # The same files the other way round are another table for the cache.
    swapped = built({"train": files["train"], "val": files["test"], "test": files["val"]}, cache)
    assert targets(swapped, "val") == list(range(26, 30))


def test_a_split_without_a_table_is_drawn_from_the_training_rows(files) -> None:
    pair = {"train": str(files["train"]), "test": files["test"]}
    data = built(pair)
    assert (data.num_rows("train"), data.num_rows("val"), data.num_rows("test")) == (16, 4, 4)
    assert targets(data, "test") == list(range(26, 30))
    none = built(pair, split={"val": 0.0})
    assert (none.num_rows("train"), none.num_rows("val")) == (20, 0)
    other = built(pair, split=FractionSplit(val=0.5, seed=1))
    assert other.num_rows("val") == 10


def test_frames_patterns_steps_and_conditions_work_as_for_one_table(files, tmp_path: Path) -> None:
    frames = {name: pd.read_csv(path) for name, path in files.items()}
    assert targets(built(frames), "test") == list(range(26, 30))
    source = {"train": [files["train"], files["val"]], "test": str(tmp_path / "te*.csv")}
    steps = [{"derive": {"km": "km * 2"}}]
    data = built(source, steps=steps, where="y != 27", split=0.0)
    assert targets(data, "train") == list(range(26))
    assert targets(data, "test") == [26, 28, 29]
    assert data.row_names("test")["row"].tolist() == [0, 2, 3]
    assert data.spec.number_columns[0].median == 25.0


def test_rows_that_two_tables_have_are_counted(files) -> None:
    both = pd.concat([pd.read_csv(files["test"]), frame(3, 5)])
    both.to_csv(files["test"], index=False)
    with pytest.warns(UserWarning, match="in training as well.*: 2 of 6 in test"):
        data = built(files)
    assert "also in" not in str(data.report)


def test_a_mapping_of_columns_stays_one() -> None:
    columns = {"train": [1.0, 2.0] * 10, "shop": ["a", "b"] * 10, "y": range(20)}
    data = TabularDataModule(pd.DataFrame(columns).to_dict("list"),
                             TableColumns("y", ["shop"], ["train"]), cache="off")  # fmt: skip
    data.setup("fit")
    assert data.num_rows("train") == 16


def test_what_cannot_be_is_refused(files) -> None:
    with pytest.raises(ConfigurationError, match=r"`source` must name a table .* drop 'other'"):
        built(files | {"other": files["val"]})
    with pytest.raises(ConfigurationError, match=r"`split` must be shares to draw the splits"):
        built(files, split=DateSplit("day", val_last=0.1))
    with pytest.raises(ConfigurationError, match=r"`split` must be shares to draw the splits"):
        built(files, split=FractionSplit(stratify="shop"))
    with pytest.raises(DataError, match="must name files for all splits, or hold tables for all"):
        built(files | {"test": pd.read_csv(files["test"])})
    pd.read_csv(files["test"]).drop(columns="km").to_csv(files["test"], index=False)
    with pytest.raises(DataError, match=r"must have the same columns, but .* differ in 'km'"):
        built(files)


# Lists of rows, and folds.


@pytest.mark.parametrize("cache", ["off", "folder"])
def test_lists_of_rows_count_on_from_file_to_file(files, tmp_path: Path, cache: str) -> None:
    cache = tmp_path / "cache" if cache == "folder" else cache
    both = [files["train"], files["val"]]
    data = built(both, cache, split={"val": [3, 21], "test": [25]}, where="km > 1")

    assert targets(data, "val") == [3, 21]
    assert targets(data, "test") == [25]
    assert data.num_rows("train") == 24 - 3
    assert data.row_names("val").to_dict("list") == {
        "file": ["train.csv", "val.csv"],
        "row": [3, 1],
    }
    other = built(both, cache, split={"val": [4, 21], "test": [25]}, where="km > 1")
    assert targets(other, "val") == [4, 21]
    with pytest.raises(DataError, match=r"does not have: '0'.* leave out of them what"):
        built(both, cache, split={"val": [0, 21]}, where="km > 1")


def test_lists_of_rows_are_refused_where_they_could_mean_others(files) -> None:
    rows = frame(0, 20).sample(frac=1, random_state=0)
    with pytest.raises(DataError, match="index of the frame has other labels"):
        built(rows, split={"val": [3]})
    assert sorted(targets(built(rows, split=RowSplit(val=[3], column="km")), "val")) == [3]
    with pytest.raises(ConfigurationError, match="`split` must be shares"):
        built(files, split=RowSplit(val=[3]))


def test_the_folds_of_scikit_learn_are_taken_as_they_are() -> None:
    rows = frame(0, 20)
    for train, val in KFold(4, shuffle=True, random_state=0).split(rows):
        data = built(rows, split={"train": train, "val": val})
        assert targets(data, "train") == train.tolist()
        assert targets(data, "val") == val.tolist()
    found = [targets(built(rows, split=FoldSplit(fold, 4)), "val") for fold in range(4)]
    assert sorted(target for fold in found for target in fold) == list(range(20))
