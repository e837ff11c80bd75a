"""Expressions compute what they say, with room for every number."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.tables.expressions import evaluate


@pytest.fixture
def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "Date": pd.to_datetime(["2015-07-31", "2013-01-01", None]),
            "n": pd.Series([100, -100, 3], dtype="int8"),
            "km": pd.Series([0.5, np.nan, 3], dtype="float32"),
            "kind": pd.Series(["a_x", "b_y", None], dtype="category"),
            "gap": pd.Series([1, None, 0], dtype="Int8"),
            "a b": [1, 2, 3],
        }
    ).set_axis([4, 4, 6])


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("n * 100", [10_000, -10_000, 300]),  # more than eight bits hold
        ("n + gap", [101, None, 3]),
        ("gap * 1000", [1000, None, 0]),
        ("km.fillna(-1) // 1", [0, -1, 3]),
        ("n.clip(0, 50)", [50, 0, 3]),
        ("n > 0 and km < 1", [True, False, False]),
        ("not (n > 0)", [False, True, False]),
        ("n in [3, 100]", [True, False, True]),
        ("kind == 'a_x'", [True, False, False]),
        ("kind.str.split('_').str.get(1)", ["x", "y", None]),
        ("kind.str.upper()", ["A_X", "B_Y", None]),
        ("`a b` + 1", [2, 3, 4]),
        ("7", [7, 7, 7]),
        ("(Date - @ymd(2015, 7, 1)).dt.days", [30, -911, None]),
        ("Date.dt.year", [2015, 2013, None]),
        ("@where(n > 0, n, 0)", [100, 0, 3]),
        ("@where(gap == 1, 'yes', 'no')", ["yes", "no", "no"]),
        ("@date('2015-07-31') == Date", [True, False, False]),
        ("Date + @days(`a b`) > @date('2013-01-04')", [True, False, False]),
        ("Date - @days(gap) == @date('2015-07-30')", [True, False, False]),
    ],
)
def test_what_expressions_give(table, expression, expected) -> None:
    before = table.copy(deep=True)
    found = evaluate(table, "new", expression)
    assert [None if pd.isna(value) else value for value in found] == expected
    assert found.index.tolist() == [4, 4, 6]
    pd.testing.assert_frame_equal(table, before)


DATES = st.lists(st.dates(dt.date(1700, 1, 1), dt.date(2200, 12, 31)), min_size=1, max_size=8)


@settings(max_examples=80, deadline=None)
@given(DATES, st.sampled_from(["int64", "float32", "Int16"]))
def test_dates_are_made_of_numbers_as_the_calendar_does(dates, kind) -> None:
    table = pd.DataFrame(
        {
            "y": [date.year for date in dates],
            "m": [date.month for date in dates],
            "d": [date.day for date in dates],
            "iso_y": [date.isocalendar().year for date in dates],
            "w": [date.isocalendar().week for date in dates],
        }
    ).astype(kind)
    made = evaluate(table, "date", "@ymd(y, m, d)")
    assert [moment.date() for moment in made] == dates
    mondays = evaluate(table, "monday", "@iso_week(iso_y, w)")
    assert [moment.date() for moment in mondays] == [
        date - dt.timedelta(days=date.weekday()) for date in dates
    ]


def test_a_missing_part_makes_a_missing_date() -> None:
    table = pd.DataFrame({"y": [2015, None, 2015], "w": [None, 1, 53]})
    assert evaluate(table, "d", "@ymd(y, 2, 28)").isna().tolist() == [False, True, False]
    weeks = evaluate(table, "d", "@iso_week(y, w)")
    assert weeks.isna().tolist() == [True, True, False]
    assert weeks[2] == pd.Timestamp("2015-12-28")


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("@ymd(y, 2, 29)", r"no day of this year, month and day in 2 rows \(0: \(2014.0, 2.0, 29"),
        ("@ymd(y, 13, 1)", r"no day of this year, month and day in 2 rows"),
        ("@ymd(y, 0, 1)", r"no day of this year, month and day"),
        ("@ymd(y, 1, 0)", r"no day of this year, month and day"),
        ("@iso_week(y, 53)", r"no day of this year and week in 1 rows \(0: \(2014.0, 53.0\)\)"),
        ("@iso_week(y, 0)", r"no day of this year and week in 2 rows"),
        ("@date(text)", r"`text` must hold dates .* 1 row \(1: 'x'\)"),
        ("yy + 1", r"'yy' is not defined\. The columns are 'y', 'text', and the functions @date"),
        ("y +", r"`new` cannot be computed by 'y \+': invalid syntax"),
        ("@exec('1')", r"`new` cannot be computed by .*exec"),
        ("y.nothing()", r"has no attribute 'nothing'"),
        ("y.head(1)", r"it gives 1 values for 2 rows"),
        ("y.to_frame()", r"it gives a table, not a column"),
        ("text + y", r"`new` cannot be computed by 'text \+ y'"),
        ("lambda: 1", r"`new` cannot be computed by"),
    ],
)
def test_what_cannot_be_computed_is_refused(expression, message) -> None:
    table = pd.DataFrame({"y": [2014, 2015], "text": ["2015-01-01", "x"]})
    with pytest.raises(DataError, match=message):
        evaluate(table, "new", expression)
