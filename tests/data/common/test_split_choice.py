"""Each way to split checks its own arguments, and shorthands mean what they look like."""

from datetime import date

import numpy as np
import pandas as pd
import pytest
from jsonargparse import ArgumentParser

from lightning_fastrecipes.data.common.split_choice import (
    ColumnSplit,
    DateSplit,
    FoldSplit,
    FractionSplit,
    GroupSplit,
    RowSplit,
    SplitChoice,
    as_split,
)
from lightning_fastrecipes.errors import ConfigurationError

SHORTHANDS = [
    (None, FractionSplit()),
    (0.1, FractionSplit(val=0.1)),
    (0, FractionSplit(val=0)),
    ("part", ColumnSplit("part")),
    ({}, FractionSplit()),
    ({"val": 0.1, "test": 0.2, "seed": 3}, FractionSplit(0.1, 0.2, 3)),
    ({"column": "part"}, ColumnSplit("part")),
    ({"column": "part", "missing": {"val": 0.1}}, ColumnSplit("part", FractionSplit(0.1))),
    ({"column": "patient", "val": 0.3}, GroupSplit("patient", 0.3)),
    ({"column": "patient", "seed": 1}, GroupSplit("patient", seed=1)),
    ({"column": "day", "val_from": "2014-08-01"}, DateSplit("day", "2014-08-01")),
    ({"column": "day", "val_last": 0.2}, DateSplit("day", val_last=0.2)),
    ({"folds": 3}, FoldSplit(folds=3)),
    ({"fold": 1, "column": "patient", "test": 0.1}, FoldSplit(1, test=0.1, column="patient")),
    ({"fold": 1, "within": {"test": 0.1}}, FoldSplit(1, within=FractionSplit(test=0.1))),
    ({"val": [0, 3]}, RowSplit(val=[0, 3])),
    ({"train": ["a"], "val": ["b"], "column": "id"}, RowSplit(["a"], ["b"], column="id")),
]


@pytest.mark.parametrize(("choice", "expected"), SHORTHANDS, ids=[str(s) for s, _ in SHORTHANDS])
def test_shorthands_and_plain_mappings_name_a_split(choice, expected) -> None:
    assert as_split(choice) == expected
    assert as_split(expected) is expected


@pytest.mark.parametrize(
    ("choice", "expected"), SHORTHANDS[1:], ids=[str(s) for s, _ in SHORTHANDS[1:]]
)
def test_yaml_says_the_same(choice, expected) -> None:
    parser = ArgumentParser()
    parser.add_argument("--split", type=SplitChoice)

    parsed = parser.instantiate(parser.parse_args([f"--split={choice}"])).split

    assert as_split(parsed) == expected


def test_yaml_may_write_dates_without_quotes() -> None:
    parser = ArgumentParser()
    parser.add_argument("--split", type=SplitChoice)
    parsed = parser.instantiate(parser.parse_args(["--split={column: d, val_from: 2014-08-05}"]))

    assert parsed.split.bounds == {"val_from": np.datetime64("2014-08-05", "us")}


@pytest.mark.parametrize(
    ("choice", "error", "message"),
    [
        (True, TypeError, "`split` must be a share to validate on, .* got True"),
        ([0.1], TypeError, r"got \[0.1\]"),
        ({"folds": 1}, ValueError, "`folds` must lie between 2 and 1,000, got 1"),
        ({"folds": 3, "fold": 3}, ValueError, "`fold` must be one of 0 to 2"),
        ({"folds": "x"}, ConfigurationError, "`split.folds` must be a whole number"),
        ({"folds": 3, "test": 1.0}, ValueError, r"`test` must lie in \[0, 1\)"),
        ({"folds": 3, "test": 0.1, "within": {"test": 0.1}}, ValueError, "leave `test` out"),
        ({"folds": 3, "within": {"column": "a", "test": 0.1}}, ValueError, "the same `column`"),
        ({"folds": 3, "within": {"column": "a"}}, TypeError, "within"),
        ({"folds": 3, "val": 0.1}, ValueError, "key 'val', but FoldSplit takes"),
        ({"val": []}, ValueError, "but both are empty"),
        ({"val": [1, 1]}, ValueError, r"`val` of `split` lists rows more than once: \[1\]"),
        ({"val": [1], "test": [2, 1]}, ValueError, "'test' and 'val' both list '1'"),
        ({"val": [True, False]}, TypeError, "numbers of rows from 0, got True"),
        ({"val": [-1]}, TypeError, "numbers of rows from 0, got -1"),
        ({"val": ["a"]}, TypeError, "got 'a'. For ids give their `column`"),
        ({"val": [1.0]}, TypeError, "got 1.0"),
        ({"val": [1], "test": 0.2}, TypeError, "`test` of `split` must be a list of rows, got 0.2"),
        ({"val": [[1]], "column": "a"}, TypeError, "must list single values"),
        ({"val": [1], "colum": "a"}, ValueError, "Did you mean `column`"),
        (1.0, ValueError, r"`val` must lie in \[0, 1\), got 1.0"),
        ({"val": 0.8, "test": 0.2}, ValueError, "`val` and `test` must sum to less than 1"),
        ({"vall": 0.1}, ValueError, "key 'vall', .* Did you mean `val`"),
        ({"column": "a", "val_fro": 1}, ValueError, "Did you mean `val_from`"),
        ({"column": "a", "val": 0.1, "val_from": "2014"}, ValueError, "DateSplit takes"),
        ({"val_from": "2014-01-01"}, ValueError, "needs a column of dates. Add `column`"),
    ],
    ids=str,
)
def test_what_is_no_split_is_refused(choice, error, message) -> None:
    with pytest.raises(error, match=message):
        as_split(choice)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "`DateSplit` must hold out some rows"),
        ({"past_only": True, "val_last": 0.1}, "`past_only` needs a range of dates"),
        ({"val_from": "2014-01-01", "test_last": 0.1}, "`test_last` and `val_from` contradict"),
        ({"val_from": "soon"}, "`val_from` must be a date such as"),
        ({"val_from": "2014-01-01T00:00Z"}, "without a time zone"),
        ({"val_last": 0.6, "test_last": 0.4}, "`val_last` and `test_last` must sum to less"),
        ({"val_last": -0.1}, r"`val_last` must lie in \[0, 1\), got -0.1"),
    ],
    ids=str,
)
def test_dates_that_cannot_be_meant_are_refused(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        DateSplit("day", **arguments)


def test_the_last_day_of_a_range_counts_to_its_end() -> None:
    whole = DateSplit("day", val_until=date(2014, 8, 1)).bounds["val_until"]
    instant = DateSplit("day", val_until="2014-08-01 10:00").bounds["val_until"]

    assert whole == np.datetime64("2014-08-01T23:59:59.999999")
    assert instant == np.datetime64("2014-08-01T10:00")


def test_a_split_says_which_parts_must_not_be_empty_and_which_columns_it_needs() -> None:
    assert FractionSplit(0.1).asked == {"train", "val"}
    assert FractionSplit(0.0).asked == {"train"}
    assert ColumnSplit("part").asked == {"train"}
    assert DateSplit("day", test_until="2014-01-01").asked == {"train", "test"}
    assert GroupSplit("patient", 0.1, 0.1).asked == {"train", "val", "test"}
    assert FoldSplit(test=0.1).asked == {"train", "val", "test"}
    assert FoldSplit(within=FractionSplit(test=0.1)).asked == {"train", "val", "test"}
    assert RowSplit(test=[1]).asked == {"train", "test"}
    assert FractionSplit().columns == []
    assert FoldSplit(column="patient", stratify="class").columns == ["patient", "class"]
    assert GroupSplit("patient").columns == ["patient"]


@pytest.mark.parametrize(
    "rows",
    [np.array([2, 0]), pd.Series([2, 0]), pd.Index([2, 0]), range(2, -1, -2), (2, 0)],
    ids=repr,
)
def test_lists_of_rows_may_be_of_any_library(rows) -> None:
    assert as_split({"val": rows}) == RowSplit(val=[2, 0])
    assert len(str(as_split({"val": range(10_000)}))) < 60


def test_any_argument_that_moves_rows_is_part_of_the_key() -> None:
    splits = [
        FractionSplit(), FractionSplit(0.3), FractionSplit(test=0.1), FractionSplit(seed=1),
        ColumnSplit("a"), ColumnSplit("b"), GroupSplit("a"), GroupSplit("a", seed=1),
        DateSplit("a", val_last=0.2), DateSplit("a", "2014-01-01"),
        FoldSplit(), FoldSplit(1), FoldSplit(folds=4), FoldSplit(column="a"),
        FoldSplit(within=FractionSplit(test=0.1)), FoldSplit(within=FractionSplit(0.3, 0.1)),
        RowSplit(val=[1]), RowSplit(test=[1]), RowSplit(val=[1, 2]), RowSplit([1], [2]),
        RowSplit(val=[1], column="a"), RowSplit(val=["1"], column="a"),
        DateSplit("a", date(2014, 1, 2)), DateSplit("a", "2014-01-01", past_only=True),
    ]  # fmt: skip

    assert len({str(split.key()) for split in splits}) == len(splits)
    assert DateSplit("a", date(2014, 1, 2)).key() == DateSplit("a", "2014-01-02").key()


@pytest.mark.parametrize("written", ["01/02/2014", "1.2.2014", "1 Feb 2014", "today", "2014-13-01"])
def test_a_date_that_people_read_in_two_ways_is_refused(written) -> None:
    with pytest.raises(ValueError, match=r"`val_from` must be a date such as '2014-08-01', got "):
        DateSplit("day", val_from=written)


@pytest.mark.parametrize("written", ["2014-02-01", "2014/02/01", "20140201", " 2014-02-01 "])
def test_a_date_begins_with_its_year(written) -> None:
    found = DateSplit("day", val_from=written, val_until=written).bounds
    assert str(found["val_from"])[:10] == str(found["val_until"])[:10] == "2014-02-01"
    assert str(found["val_until"])[11:19] == "23:59:59"
