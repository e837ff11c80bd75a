"""What is said of a table before anything is trained, and of rows unlike those of the training."""

import logging

import numpy as np
import pandas as pd
import pytest

from lightning_fastrecipes.data.tables.columns import TableColumns
from lightning_fastrecipes.data.tables.datamodule import TabularDataModule
from lightning_fastrecipes.errors import ConfigurationError, DataError
from lightning_fastrecipes.tasks.tabular import TabularRegressor

RNG = np.random.default_rng(0)
ROWS = 200
TABLE = pd.DataFrame(
    {"x": RNG.normal(0, 1, ROWS), "shop": RNG.choice(list("ab"), ROWS), "part": "train"}
).assign(y=lambda table: 3 * table["x"] + RNG.normal(0, 0.1, ROWS))
TABLE.loc[ROWS - 40 :, "part"] = "val"
COLUMNS = TableColumns("y", ["shop"], ["x"])


def prepared(source, columns=COLUMNS, **options) -> TabularDataModule:
    data = TabularDataModule(source, columns, **{"split": "part", "cache": "off"} | options)
    data.prepare_data()
    data.setup("fit")
    return data


@pytest.mark.parametrize("cache", ["off", "on"])
def test_a_leak_is_warned_of_before_training_from_the_cache_too(tmp_path, cache) -> None:
    frame = TABLE.assign(cents=100 * TABLE["y"])
    columns = TableColumns("y", ["shop"], ["x", "cents"])
    for _ in range(2):
        with pytest.warns(UserWarning, match="'cents' says the target 'y' by itself"):
            data = prepared(frame, columns, cache="off" if cache == "off" else tmp_path / "kept")
        assert len(data.report.suspicions) == 1
    assert prepared(frame).report.suspicions == []


def test_only_training_rows_are_suspected_and_others_are_counted() -> None:
    frame = TABLE.copy()
    frame.loc[[ROWS - 1, ROWS - 3], "x"] = [1e9, -1e4]
    report = prepared(frame).report
    assert (report.suspicions, report.far) == ([], {"train": {}, "val": {"x": 2}})
    assert "numbers far from those of the training: 'x' 2" in str(report)
    frame.loc[3, "x"] = 1e9
    with pytest.warns(UserWarning, match=r"'x' lies between .* but is 1e\+09 in row 3"):
        prepared(frame)


@pytest.mark.parametrize("split", [0.2, {"folds": 5}, {"val": 0.2, "test": 0.2}])
def test_copies_across_a_drawn_split_are_counted(split) -> None:
    twice = pd.concat([TABLE, TABLE[:80]], ignore_index=True).assign(
        owner=[*range(ROWS), *range(80)]
    )
    with pytest.warns(UserWarning, match=r"the same target: \d+ of \d+ in val") as said:
        data = prepared(twice, split=split)
    [words] = [str(one.message) for one in said if "same target" in str(one.message)]
    where = {name: set(data.encoded(name).rows) for name in ("train", "val")}
    copies = [
        row for row in where["val"] if (row - ROWS if row >= ROWS else row + ROWS) in where["train"]
    ]
    assert f"{len(copies)} of {len(where['val'])} in val" in words
    assert ("in test" in words) == (isinstance(split, dict) and "test" in split)
    assert prepared(TABLE, split=split).report.suspicions == []
    # The cure helps.
    assert prepared(twice, split={"column": "owner", "val": 0.2}).report.suspicions == []


def test_rows_of_few_categories_are_the_same_by_chance_and_not_counted() -> None:
    frame = pd.DataFrame({name: RNG.choice(list("abc"), 2000) for name in ("a", "b", "c", "y")})
    columns = TableColumns("y", ["a", "b", "c"], [], task="classes")
    assert prepared(frame, columns, split=0.2).report.suspicions == []


def test_predictions_far_from_all_targets_are_named(caplog) -> None:
    data = prepared(TABLE)
    model = TabularRegressor(data.spec, network={"layers": [], "dropout": []})
    model.head.weight.data[:] = 1.0
    new = pd.DataFrame({"x": [0.1, 1e7], "shop": "a"}, index=[10, 11])
    with pytest.warns(
        UserWarning, match=r"^1 of 2 predictions of 'y' is far .*: row 11, the first"
    ):
        model.predict(new)
    model.predict(new[:1])
    with caplog.at_level(logging.INFO):
        TabularDataModule.from_spec(data.spec, new).predict_dataloader()
    assert "numbers far from those of the training: 'x' 1" in caplog.text


@pytest.mark.parametrize("change", ["cell", "column", "order", "drop"])
def test_a_frame_is_read_as_it_was_given(change) -> None:
    frame = TABLE.copy()
    data = TabularDataModule(frame, COLUMNS, split="part", cache="off")
    if change == "cell":
        frame.loc[0, "x"] = 77.0
    elif change == "column":
        frame["x"] = 0.0
    elif change == "order":
        frame[:] = frame.iloc[::-1].to_numpy()
    else:
        del frame["x"]
    data.setup("fit")
    wanted = prepared(TABLE)
    assert data.spec == wanted.spec
    for part in ("rows", "continuous", "target"):
        found, kept = (getattr(one.encoded("train"), part) for one in (data, wanted))
        np.testing.assert_array_equal(found, kept)


def test_an_array_is_read_as_it_was_given() -> None:
    array = RNG.normal(0, 1, (30, 2))
    kept = array.copy()
    data = TabularDataModule(array, TableColumns("1", [], ["0"]), cache="off")
    array[:] = 5.0
    data.setup("fit")
    rows = data.encoded("train").rows
    np.testing.assert_array_equal(data.encoded("train").target, kept[rows, 1])


def test_a_target_of_lists_is_refused_with_a_cure() -> None:
    frame = TABLE.assign(tags=[["a"], ["a", "b"]] * (ROWS // 2))
    with pytest.raises(DataError, match=r"'tags' must hold.*column of true and false for each"):
        prepared(frame, TableColumns("tags", ["shop"], ["x"], task="classes"))
    with pytest.raises(DataError, match=r"'tags' must hold.*column of true and false"):
        prepared(frame, TableColumns("tags", ["shop"], ["x"]))


@pytest.mark.parametrize(
    "step",
    [
        {"map": {"column": "tags", "values": {"a": 1}}},
        {"elapsed": {"columns": ["x"], "date": "tags"}},
        {"elapsed": {"columns": ["x"], "date": "day", "group": "tags"}},
        {"date_parts": {"column": "tags"}},
        {"join": {"table": "side.csv", "keys": ["tags"]}},
    ],
)
def test_lists_are_refused_by_every_step(tmp_path, step) -> None:
    frame = TABLE.assign(tags=[["a"], ["a", "b"]] * (ROWS // 2), day="2020-01-01")
    pd.DataFrame({"tags": ["a"], "z": [1]}).to_csv(tmp_path / "side.csv", index=False)
    if "join" in step:
        step = {"join": {**step["join"], "table": str(tmp_path / "side.csv")}}
    with pytest.raises(DataError, match=r"`tags` must hold single values, but has lists"):
        prepared(frame, steps=[step])
    with pytest.raises(DataError, match="`tags` must hold single values"):
        TableColumns.guess(frame, "tags")


def test_a_frame_in_place_of_inputs_and_pairs_of_arrays_are_refused_with_a_cure() -> None:
    model = TabularRegressor(prepared(TABLE).spec)
    with pytest.raises(ConfigurationError, match=r"got DataFrame. Predict rows .* by `predict"):
        model(TABLE)
    with pytest.raises(DataError, match=r"^An array must have two axes"):
        TabularDataModule((np.ones((5, 1)), np.ones(5)), COLUMNS)


def test_a_file_without_names_of_columns_is_named_as_such(tmp_path) -> None:
    table = TABLE.round(6)  # digits that every version of pandas reads exactly
    table.to_csv(tmp_path / "a.csv", index=False, header=False)
    with pytest.raises(DataError, match=r"first line holds no names.*\{'header': \[") as refused:
        prepared(tmp_path / "a.csv")
    assert "`reading=" in str(refused.value)
    data = prepared(tmp_path / "a.csv", reading={"header": list(TABLE)})
    assert data.spec == prepared(table).spec


def test_missing_targets_are_refused_with_a_condition_that_works() -> None:
    frame = TABLE.assign(**{"y (net)": TABLE["y"].where(TABLE.index % 50 != 0)})
    columns = TableColumns("y (net)", ["shop"], ["x"])
    with pytest.raises(DataError, match="is missing in rows 0, 50, 100") as refused:
        prepared(frame, columns)
    condition = str(refused.value).split('"')[1]
    data = prepared(frame, columns, where=condition)
    assert data.num_rows("train") + data.num_rows("val") == ROWS - 4


def test_columns_are_guessed_by_what_is_in_them(tmp_path, caplog) -> None:
    rows = 300
    frame = pd.DataFrame(
        {
            "": range(rows),
            "price": RNG.normal(0, 1, rows),
            "zip": [f"{row * 997 % 60:05}" for row in range(rows)],  # as many as no number has
            "hour": RNG.integers(0, 3, rows),
            "km": RNG.random(rows),
            "sold": pd.date_range("2020-01-01", periods=rows).strftime("%d.%m.%Y"),
            "euro": 0.0,
            "part": ["train"] * 200 + ["val"] * 100,
        }
    )
    frame["euro"] = frame["price"] * 0.9
    frame.to_csv(tmp_path / "a.csv", index=False)
    with caplog.at_level(logging.INFO):
        columns = TableColumns.guess(tmp_path / "a.csv", "price")
    assert columns == TableColumns("price", ["zip", "hour"], ["km"])
    assert "Column 'sold' is no feature: dates" in caplog.text
    assert "Column 'euro' is no feature: says the target by itself" in caplog.text
    data = prepared(tmp_path / "a.csv", columns)
    assert {*data.spec.category_columns[0].values} <= {f"{zip_code:05}" for zip_code in range(60)}
    assert TableColumns.guess(frame, "hour").task == "classes"
    assert TableColumns.guess(dict(frame), "km").target == "km"


def test_a_guess_is_refused_where_nothing_can_be_guessed() -> None:
    with pytest.raises(DataError, match="has no column 'z' to predict"):
        TableColumns.guess(TABLE, "z")
    with pytest.raises(DataError, match=r"must have a column to predict 'y' from.* id: counts"):
        TableColumns.guess(pd.DataFrame({"id": range(90), "y": RNG.random(90)}), "y")
