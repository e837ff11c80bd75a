"""Every row finds its row of a side table, and no row becomes two."""

import logging

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_fastrecipes.data.tables.joins import JoinReport, find_rows, take_rows
from lightning_fastrecipes.errors import DataError

KEYS = st.lists(st.tuples(st.none() | st.integers(0, 3), st.none() | st.sampled_from("ab")))
AS = st.sampled_from(["object", "category", None])


@settings(max_examples=120)
@given(KEYS, KEYS, AS, AS)
def test_it_agrees_with_looking_up_row_by_row(mine, theirs, my_kind, their_kind) -> None:
    theirs = list(dict.fromkeys(theirs))

    def table(keys, kind) -> pd.DataFrame:
        frame = pd.DataFrame(keys, columns=["n", "s"])
        frame["n"] = frame["n"].astype("float64")
        frame["s"] = frame["s"].astype(object)
        return frame if kind is None else frame.astype({"s": kind})

    expected = [theirs.index(key) if key in theirs and None not in key else -1 for key in mine]
    if mine and all(position < 0 for position in expected):
        return
    side = table(theirs, their_kind)
    found, report = find_rows(table(mine, my_kind), side, ["n", "s"], ["n", "s"], "t")
    assert found.tolist() == expected
    assert (report.num_rows, report.num_unmatched) == (len(mine), expected.count(-1))


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        pytest.param(np.array([1, 2], "int8"), [2.0, 1.0], id="narrow-and-wide-numbers"),
        pytest.param([True, False], [False, True], id="flags"),
        pytest.param(
            pd.to_datetime(["2015-01-01", "2015-01-02"]).astype("datetime64[s]"),
            pd.to_datetime(["2015-01-02", "2015-01-01"]).astype("datetime64[ns]"),
            id="dates-of-other-units",
        ),
        pytest.param(
            pd.Categorical(["x", "y"], ["z", "x", "y"]),
            pd.Categorical(["y", "x"], ["y", "x", "w"]),
            id="other-categories",
        ),
    ],
)
def test_keys_are_compared_by_value(mine, theirs) -> None:
    found, _ = find_rows(pd.DataFrame({"a": mine}), pd.DataFrame({"b": theirs}), ["a"], ["b"], "t")
    assert found.tolist() == [1, 0]


def test_unmatched_keys_are_counted_named_and_logged(caplog) -> None:
    sales = pd.DataFrame({"Store": [1, 7, 7, 8, None]})
    with caplog.at_level(logging.WARNING):
        _, report = find_rows(sales, pd.DataFrame({"Store": [1]}), ["Store"], ["Store"], "s.csv")
    assert report == JoinReport("s.csv", 5, 4, ("(Store=7.0)", "(Store=8.0)", "(Store=nan)"))
    assert "1 of 5 rows found their row; the columns are missing in 4, such as" in caplog.text
    assert str(JoinReport("s.csv", 5, 0)) == "join with 's.csv': 5 of 5 rows found their row."


def test_keys_that_are_there_twice_are_refused_with_examples() -> None:
    side = pd.DataFrame({"Store": [1, 2, 2, None, None]})
    with pytest.raises(DataError, match=r"'s.csv' must have each 'Store' once, but 2 of .*Store=2"):
        find_rows(pd.DataFrame({"Store": [1]}), side, ["Store"], ["Store"], "s.csv")


def test_keys_of_another_kind_or_that_never_match_are_refused() -> None:
    dates = pd.DataFrame({"Date": pd.to_datetime(["2015-01-01"])})
    text = pd.DataFrame({"Date": ["2015-01-01"]})
    with pytest.raises(DataError, match=r"of the table holds dates, and `Date` of 'w' holds text"):
        find_rows(dates, text, ["Date"], ["Date"], "w")
    other = pd.DataFrame({"Date": pd.to_datetime(["2016-01-01"])})
    with pytest.raises(DataError, match=r"must be found in 'w', but none of 1 is; .*2015.*2016"):
        find_rows(dates, other, ["Date"], ["Date"], "w")
    found, _ = find_rows(dates.iloc[:0], other, ["Date"], ["Date"], "w")
    assert len(found) == 0


@pytest.mark.parametrize(
    ("values", "full", "gaps"),
    [
        (np.array([5, 300], "int16"), "int16", "float32"),
        (np.array([True, False]), "bool", "boolean"),
        (np.array([0.5, 1.5]), "float64", "float32"),
        (pd.Categorical(["a", "b"]), "category", "category"),
        (pd.to_datetime(["2015-01-01", "2015-01-02"]), "datetime64", "datetime64"),
    ],
)
def test_values_are_taken_with_gaps_where_there_is_no_row(values, full, gaps) -> None:
    column = pd.Series(values, index=[8, 9])
    taken = take_rows(column, np.array([1, 0, 1]))
    assert taken.tolist() == [column[9], column[8], column[9]]
    assert str(taken.dtype).startswith(full)
    missing = take_rows(column, np.array([1, -1]))
    assert (missing[0], missing.isna().tolist()) == (column[9], [False, True])
    assert str(missing.dtype).startswith(gaps)


def test_fractions_are_found_in_a_table_that_keeps_them_in_32_bits() -> None:
    mine, theirs = pd.DataFrame({"k": [0.1, 0.3]}), pd.DataFrame({"k": [0.3, 0.1]})
    for one, other in ((mine, theirs.astype("float32")), (mine.astype("float32"), theirs)):
        assert find_rows(one, other, ["k"], ["k"], "t")[0].tolist() == [1, 0]


def test_ids_that_were_rounded_are_no_keys() -> None:
    side = pd.DataFrame({"id": [2**53, 2**53 + 1], "w": [1, 2]})
    mine = pd.DataFrame({"id": [2.0**53, None]})
    with pytest.raises(DataError, match=r"`id` must be exact, .*'text': \['id'\]"):
        find_rows(mine, side, ["id"], ["id"], "side.csv")
    exact = pd.DataFrame({"id": pd.array([2**53, None, 2**53 + 1], "Int64")})
    assert find_rows(exact, side, ["id"], ["id"], "side.csv")[0].tolist() == [0, -1, 1]


def test_more_keys_than_integers_tell_apart_find_their_rows() -> None:
    row = np.arange(2 * 4096)
    names = ["first", *(f"k{place}" for place in range(7))]
    side = pd.DataFrame(dict.fromkeys(names, row % 4096)).assign(first=row // 4096)
    order = np.random.default_rng(0).permutation(len(row))
    mine = side.iloc[order].reset_index(drop=True)
    mine.loc[5, "k3"] = 9999
    found, report = find_rows(mine, side, names, names, "side.csv")
    assert found[5] == -1
    assert np.delete(found, 5).tolist() == np.delete(order, 5).tolist()
    assert report.num_unmatched == 1
