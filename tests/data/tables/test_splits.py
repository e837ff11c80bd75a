"""Which row is of which split, and what is said where none can be made."""

from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest

from lightning_fastrecipes.data.common.split_choice import (
    ColumnSplit,
    DateSplit,
    FoldSplit,
    FractionSplit,
    GroupSplit,
    as_folds,
    as_split,
)
from lightning_fastrecipes.data.tables import splits
from lightning_fastrecipes.data.tables.splits import TableSplit, split_rows
from lightning_fastrecipes.errors import DataError

DAYS = pd.DataFrame({"Date": pd.date_range("2014-07-28", periods=10).astype(str)})
"""From 28 July to 6 August; row 4 is the first of August."""


def rows(frame: pd.DataFrame = DAYS, **arguments) -> dict[str, list[int]]:
    return {name: found.tolist() for name, found in split_rows(as_split(arguments), frame).items()}


def test_fractions_are_drawn_by_the_split_seed_alone() -> None:
    first = rows(val=0.3, test=0.2)
    np.random.default_rng(7)
    shuffled = DAYS.iloc[::-1].set_index("Date").assign(other=1)

    assert {name: len(found) for name, found in first.items()} == {
        "train": 5,
        "val": 3,
        "test": 2,
    }
    assert rows(shuffled, val=0.3, test=0.2) == first
    assert rows(val=0.3, test=0.2, seed=1) != first


def test_a_fifth_is_validated_on_unless_something_else_is_said() -> None:
    assert {name: len(found) for name, found in rows().items()} == {
        "train": 8,
        "val": 2,
        "test": 0,
    }
    assert rows(val=0.0)["val"] == []


def test_a_column_names_the_splits() -> None:
    frame = pd.DataFrame({"part": ["val", "train", "test", "val", "train"]}, index=[9] * 5)

    assert rows(frame, column="part") == {"train": [1, 4], "val": [0, 3], "test": [2]}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train", "Tset", "val", "Tset"], r"says 'Tset' in rows 1, 3\."),
        (["train", None, "val"], r"says (nan|None) in row 1\."),
        (["train", 3, "val"], r"says 3 in row 1\."),
    ],
    ids=["another-name", "missing", "number"],
)
def test_a_name_that_is_no_split_is_refused_with_its_rows(names, message) -> None:
    with pytest.raises(DataError, match=message):
        rows(pd.DataFrame({"part": names}), column="part")


def test_a_categorical_column_may_name_the_splits() -> None:
    frame = pd.DataFrame({"part": pd.Categorical(["test", "train", "val"])})

    assert rows(frame, column="part") == {"train": [1], "val": [2], "test": [0]}


def test_the_last_fractions_by_date_are_held_out_in_order_of_time() -> None:
    found = rows(DAYS.iloc[::-1], column="Date", val_last=0.2, test_last=0.3)

    assert found == {"train": [5, 6, 7, 8, 9], "val": [3, 4], "test": [0, 1, 2]}


def test_from_a_date_on_everything_is_held_out() -> None:
    assert rows(column="Date", val_from="2014-08-05") == {
        "train": [0, 1, 2, 3, 4, 5, 6, 7], "val": [8, 9], "test": [],
    }  # fmt: skip


def test_a_range_holds_both_its_ends_and_later_rows_are_trained_on() -> None:
    arguments = {"column": "Date", "val_from": "2014-08-01", "val_until": "2014-08-03"}

    assert rows(**arguments)["val"] == [4, 5, 6]
    assert rows(**arguments)["train"] == [0, 1, 2, 3, 7, 8, 9]
    assert rows(**arguments, past_only=True)["train"] == [0, 1, 2, 3]
    assert rows(**arguments, past_only=True)["val"] == [4, 5, 6]


def test_nothing_after_the_first_held_out_date_is_trained_on_even_before_the_test() -> None:
    found = rows(
        column="Date", val_from="2014-07-30", val_until="2014-07-31", test_from="2014-08-04",
        test_until="2014-08-05", past_only=True,
    )  # fmt: skip

    assert found == {"train": [0, 1], "val": [2, 3], "test": [7, 8]}


def test_validation_without_an_end_goes_up_to_the_test() -> None:
    found = rows(column="Date", val_from="2014-08-02", test_from="2014-08-05")

    assert found == {"train": [0, 1, 2, 3, 4], "val": [5, 6, 7], "test": [8, 9]}


def test_the_last_day_of_a_range_counts_to_its_end() -> None:
    hours = pd.DataFrame({"at": pd.date_range("2014-08-01", periods=5, freq="10h")})

    assert rows(hours, column="at", val_until="2014-08-01")["val"] == [0, 1, 2]
    assert rows(hours, column="at", val_until="2014-08-01 10:00")["val"] == [0, 1]


@pytest.mark.parametrize(
    "column",
    [
        pd.to_datetime(DAYS["Date"]),
        pd.to_datetime(DAYS["Date"]).astype("datetime64[ns]"),
        pd.to_datetime(DAYS["Date"]).dt.tz_localize("Europe/Berlin"),
        DAYS["Date"] + "T00:30:00+02:00",
        DAYS["Date"].astype(object),
        pd.Series([date.fromisoformat(day) for day in DAYS["Date"]]),
    ],
    ids=["datetime", "nanoseconds", "time-zone", "offset", "text", "date-objects"],
)
def test_dates_of_any_kind_mean_the_same(column) -> None:
    frame = pd.DataFrame({"Date": column})

    assert rows(frame, column="Date", val_from=date(2014, 8, 5))["val"] == [8, 9]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["2014-08-01", None, "2014-08-03"], r"holds (nan|None) in row 1\."),
        (["2014-08-01", "x", "x", "01/02/2014"], r"holds 'x' in rows 1, 2, 3\."),
        ([pd.Timestamp("2014-08-01"), pd.NaT], r"holds NaT in row 1\."),
        ([20140801, 20140802], "must hold dates, but holds int64"),
        (["2014-08-01T00+01:00", "2014-08-02T00+02:00"], "must hold dates of one time zone"),
    ],
    ids=["missing", "not-parsed", "not-a-time", "numbers", "time-zones"],
)
def test_rows_without_a_date_are_named(values, message) -> None:
    with pytest.raises(DataError, match=message):
        rows(pd.DataFrame({"Date": values}), column="Date", val_last=0.2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"column": "Date", "val_from": "2015-01-01"}, "'val' must have rows, but of 10 there"),
        ({"column": "Date", "val_from": "2014-01-01"}, "'train' must have rows"),
        ({"column": "Date", "test_until": "2014-01-01"}, "'test' must have rows"),
        ({"column": "Date", "val_last": 0.01}, "'val' must have rows"),
        ({"val": 0.01}, "'val' must have rows"),
        ({"column": "Date", "val_until": "2014-08-01", "past_only": True}, "'train' must have"),
    ],
    ids=["valid-range", "train", "test-range", "by-time", "by-fraction", "nothing-before"],
)
def test_an_empty_split_is_refused(arguments, message) -> None:
    with pytest.raises(DataError, match=message):
        rows(**arguments)


def test_one_date_alone_cannot_be_split_by_time() -> None:
    with pytest.raises(DataError, match=r"'train' must have rows, .* 0 of 'train', 3 of 'val'"):
        rows(pd.DataFrame({"Date": ["2014-01-01"] * 3}), column="Date", val_last=0.2)


def test_a_table_that_names_no_training_rows_is_refused() -> None:
    with pytest.raises(DataError, match="'train' must have rows"):
        rows(pd.DataFrame({"part": ["val", "test"]}), column="part")


def test_rows_in_two_ranges_are_refused() -> None:
    with pytest.raises(DataError, match=r"must not overlap, but both hold rows 5, 6\."):
        rows(
            column="Date", val_from="2014-08-01", val_until="2014-08-03",
            test_from="2014-08-02",
        )  # fmt: skip


def test_a_missing_column_and_an_empty_table_are_refused() -> None:
    with pytest.raises(DataError, match="needs the column 'day', but the table has only: 'Date'"):
        rows(column="day", val_last=0.2)
    with pytest.raises(DataError, match="must have rows, but has none"):
        rows(DAYS.iloc[:0])


def test_splits_that_a_column_does_not_name_are_drawn_if_asked_for() -> None:
    frame = pd.DataFrame({"part": ["train"] * 8 + ["test"] * 2})
    found = split_rows(ColumnSplit("part", FractionSplit(0.25, 0.5)), frame)
    assert {name: len(part) for name, part in found.items()} == {"train": 6, "val": 2, "test": 2}
    assert found["test"].tolist() == [8, 9]
    assert sorted([*found["train"], *found["val"]]) == [*range(8)]


def test_rows_of_one_group_stay_together() -> None:
    frame = pd.DataFrame({"patient": [*"aabbccddee"]})
    found = split_rows(GroupSplit("patient", 0.2, 0.2), frame)
    groups = [set(frame["patient"][part]) for part in found.values()]
    assert [len(part) for part in found.values()] == [6, 2, 2]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 5
    with pytest.raises(DataError, match="must name the group of every row, but does not in row 1"):
        split_rows(GroupSplit("patient"), pd.DataFrame({"patient": ["a", None, "b"]}))


def test_a_blank_makes_no_other_group() -> None:
    names = [f"p{row // 4}{' ' * (row % 2)}" for row in range(200)]
    frame = pd.DataFrame({"patient": names})
    for split in (GroupSplit("patient", 0.3), FoldSplit(0, 3, column="patient")):
        found = split_rows(split, frame)
        train, val = ({names[row].strip() for row in found[part]} for part in ("train", "val"))
        assert val
        assert not train & val


@pytest.mark.parametrize(
    "split",
    [
        FractionSplit(0.2, 0.15, seed=3),
        FractionSplit(0.2, 0.15, stratify="owner"),
        GroupSplit("owner", 0.25, 0.2, seed=1),
        DateSplit("day", val_last=0.2, test_last=0.15),
    ],
    ids=str,
)
def test_folds_test_on_what_the_split_does_that_they_stand_for(split) -> None:
    days = pd.Timestamp("2014-01-01") + pd.to_timedelta(np.arange(200) // 2, "D")
    frame = pd.DataFrame({"owner": np.arange(200) % 11, "day": days})
    tested = split_rows(split, frame)["test"]
    folds = [split_rows(replace(as_folds(split, 4), fold=fold), frame) for fold in range(4)]

    assert all(fold["test"].tolist() == tested.tolist() for fold in folds)
    validated = np.concatenate([fold["val"] for fold in folds])
    assert len(set(validated)) == len(validated)
    assert not set(validated) & set(tested)
    if not isinstance(split, DateSplit):
        assert len(validated) + len(tested) == len(frame)
        assert all(sum(map(len, fold.values())) == len(frame) for fold in folds)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, FractionSplit()),
        ({"test_fraction": 0.1, "split_seed": 2}, FractionSplit(test=0.1, seed=2)),
        ({"column": "part"}, ColumnSplit("part")),
        ({"date": "day"}, DateSplit("day", val_last=0.2)),
        (
            {"date": "day", "val_from": "2014-08-01", "only_past": True},
            DateSplit("day", val_from="2014-08-01", past_only=True),
        ),
    ],
    ids=str,
)
def test_the_former_table_split_makes_splits_of_today(arguments, expected) -> None:
    assert TableSplit(**arguments) == expected


def test_a_stratified_split_shares_out_every_value_and_finds_rare_classes_in_training() -> None:
    frame = pd.DataFrame({"kind": ["a"] * 80 + ["b"] * 15 + ["c"] * 4 + [None]})
    for seed in range(20):
        found = split_rows(FractionSplit(val=0.25, stratify="kind", seed=seed), frame)
        counts = {name: frame["kind"].iloc[rows].value_counts() for name, rows in found.items()}
        assert counts["val"].to_dict() == {"a": 20, "b": 4, "c": 1}
        assert counts["train"]["c"] == 3
        assert sorted([*found["train"], *found["val"]]) == list(range(100))
    with pytest.raises(DataError, match="`split` needs the column 'sort'"):
        split_rows(FractionSplit(stratify="sort"), frame)


JANUARY = pd.DataFrame({"day": pd.date_range("2020-01-01", periods=20)})


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"val_from": "2020-01-11", "gap_days": 3}, [*range(7)]),
        ({"val_last": 0.25, "gap_days": 3}, [*range(12)]),
        ({"val_last": 0.25, "test_last": 0.25, "gap_days": 1}, [*range(9)]),
        (
            {"val_from": "2020-01-06", "val_until": "2020-01-07", "gap_days": 2},
            [0, 1, 2, *range(9, 20)],
        ),
        (
            {"val_from": "2020-01-06", "val_until": "2020-01-07", "gap_days": 2, "past_only": True},
            [0, 1, 2],
        ),
        ({"val_from": "2020-01-11", "gap_days": 0.5}, [*range(10)]),
        ({"val_from": "2020-01-11"}, [*range(10)]),
    ],
)
def test_nobody_trains_on_the_days_beside_those_that_are_held_out(arguments, expected) -> None:
    found = split_rows(as_split({"column": "day", **arguments}), JANUARY)
    assert found["train"].tolist() == expected
    plain = {name: value for name, value in arguments.items() if name != "gap_days"}
    without = split_rows(as_split({"column": "day", **plain}), JANUARY)
    for name in ("val", "test"):
        assert found[name].tolist() == without[name].tolist()


def test_gaps_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="`gap_days` must lie between 0 and 100,000, got -1"):
        DateSplit("day", val_last=0.2, gap_days=-1)
    with pytest.raises(DataError, match="The split 'train' must have rows"):
        split_rows(DateSplit("day", val_last=0.2, gap_days=30), JANUARY)


# Folds, and lists of rows.


def folds(frame: pd.DataFrame, count: int, **arguments) -> list[dict[str, list[int]]]:
    return [rows(frame, fold=fold, folds=count, **arguments) for fold in range(count)]


def test_every_row_is_validated_on_in_one_fold_and_trained_on_in_the_others() -> None:
    frame = pd.DataFrame({"class": [*"aaaaaaabbbb"]})
    found = folds(frame, 3)

    assert sorted(row for parts in found for row in parts["val"]) == list(range(11))
    assert [len(parts["val"]) for parts in found] == [4, 4, 3]
    assert all(sorted(parts["train"] + parts["val"]) == list(range(11)) for parts in found)
    assert folds(frame, 3, seed=1) != found
    for parts in folds(frame, 3, stratify="class"):
        assert len(parts["val"]) in (3, 4)
        assert frame["class"][parts["val"]].eq("a").sum() in (2, 3)


def test_folds_keep_groups_together_and_one_test_split() -> None:
    frame = pd.DataFrame({"patient": np.repeat(np.arange(20), 3), "sick": [0, 1, 0] * 20})
    found = folds(frame, 4, column="patient", stratify="sick", test=0.2)

    held_out = [frame["patient"][parts["val"]].unique().tolist() for parts in found]
    assert [len(patients) for patients in held_out] == [4, 4, 4, 4]
    assert len({patient for patients in held_out for patient in patients}) == 16
    assert all(parts["test"] == found[0]["test"] for parts in found)
    for parts in found:
        assert len({*frame["patient"][parts["train"]]} & {*frame["patient"][parts["val"]]}) == 0
        assert len(parts["train"]) + len(parts["val"]) + len(parts["test"]) == 60


def test_lists_name_rows_by_their_numbers_in_the_source(monkeypatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(splits, "rank_zero_info", told.append)
    frame = DAYS.iloc[2:8]  # what a condition has left, with its numbers

    assert rows(frame, val=[4, 2]) == {"train": [1, 3, 4, 5], "val": [0, 2], "test": []}
    found = rows(frame, train=[7], val=[2], test=[3])
    assert found == {"train": [5], "val": [0], "test": [1]}
    assert any("3 of 6 rows are in no list and left out" in line for line in told)
    with pytest.raises(DataError, match=r"numbered from 0, does not have: '1', '9'\. Correct"):
        rows(frame, val=[1, 2, 9])
    with pytest.raises(DataError, match="must have rows"):
        rows(frame, train=[], val=[3])


def test_lists_may_name_the_values_of_a_column() -> None:
    frame = pd.DataFrame({"patient": ["ann", "bob", "ann", "eve"]})

    found = rows(frame, val=["ann"], column="patient")

    assert found == {"train": [1, 3], "val": [0, 2], "test": []}
    with pytest.raises(DataError, match=r"by the column 'patient', does not have: 'Ann'"):
        rows(frame, val=["Ann"], column="patient")


@pytest.mark.parametrize("split", [GroupSplit("owner", 0.3), FoldSplit(0, 3, column="owner")])
def test_groups_that_look_the_same_are_named(split, recwarn) -> None:
    owners = ["Ann", "ann", "bob", "\u0435ve", "eve", "zoe"]  # one with a Cyrillic letter
    split_rows(split, pd.DataFrame({"owner": owners * 2}))
    [warning] = [str(one.message) for one in recwarn]
    assert "'owner' has 'Ann', 'ann' as different groups" in warning
    assert "and 1 others: they may be in different splits" in warning


def test_groups_that_differ_are_not_warned_of(recwarn) -> None:
    split_rows(GroupSplit("owner", 0.3), pd.DataFrame({"owner": ["Ann", "bob", "eve ", "eve"]}))
    split_rows(GroupSplit("owner", 0.3), pd.DataFrame({"owner": [1, 2, 3, 4]}))
    assert not recwarn
