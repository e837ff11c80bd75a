"""Days since and until an event agree with counting them row by row."""

import datetime as dt
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.tables.elapsed import add_elapsed

START = pd.Timestamp("2015-01-01")


def sales(rows: list[tuple[str, int, int]]) -> pd.DataFrame:
    """Make a table of store, day and promotion."""
    table = pd.DataFrame(rows, columns=["Store", "day", "Promo"])
    table["Date"] = START + pd.to_timedelta(table.pop("day"), unit="D")
    return table


def counted(table: pd.DataFrame, column: str, window: int, past_only: bool) -> pd.DataFrame:
    """Count days one row at a time."""
    rows = []
    for row in table.itertuples():
        same = table[(table["Store"] == row.Store) & table[column].fillna(0).astype(bool)]
        away = sorted({(other - row.Date).days for other in same["Date"]})
        before = [-days for days in away if days < 0 or (days == 0 and not past_only)]
        after = [days for days in away if days >= 0]
        oldest = window if past_only else window - 1
        found = {
            f"After{column}": min(before, default=math.nan),
            f"After{column}_never": not before,
            f"{column}_bw": sum(days <= oldest for days in before),
        }
        if not past_only:
            found |= {
                f"Before{column}": min(after, default=math.nan),
                f"Before{column}_never": not after,
                f"{column}_fw": sum(days < window for days in after),
            }
        rows.append(found)
    return pd.DataFrame(rows, table.index)


ROWS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(-5, 25), st.sampled_from([0, 0, 1])),
    min_size=1,
    max_size=40,
)


@settings(max_examples=120)
@given(ROWS, st.sampled_from([1, 2, 7, 40]), st.booleans())
def test_it_agrees_with_counting_row_by_row(rows, window, past_only) -> None:
    table = sales(rows)
    added = add_elapsed(table, ["Promo"], "Date", "Store", window_days=window, past_only=past_only)
    expected = counted(table, "Promo", window, past_only)
    pd.testing.assert_frame_equal(added[expected.columns], expected, check_dtype=False)
    pd.testing.assert_frame_equal(added[table.columns], table)
    assert len(added.columns) == len(table.columns) + len(expected.columns)


@settings(max_examples=60)
@given(st.data(), ROWS)
def test_the_order_of_the_rows_does_not_matter(data, rows) -> None:
    table = sales(rows)
    order = data.draw(st.permutations(range(len(rows))))
    added = add_elapsed(table, ["Promo"], "Date", "Store")
    shuffled = add_elapsed(table.iloc[order], ["Promo"], "Date", "Store")
    pd.testing.assert_frame_equal(shuffled, added.iloc[order])


@settings(max_examples=60)
@given(ROWS, st.integers(-5, 25))
def test_past_only_never_changes_with_what_comes_later(rows, today) -> None:
    table = sales(rows)
    early = table[table["Date"] < START + pd.Timedelta(days=today)]
    whole = add_elapsed(table, ["Promo"], "Date", "Store", past_only=True)
    alone = add_elapsed(early, ["Promo"], "Date", "Store", past_only=True)
    pd.testing.assert_frame_equal(whole.loc[early.index], alone)
    flipped = table.assign(Promo=table["Promo"].where(table["Date"] < table["Date"].max(), 1))
    others = add_elapsed(flipped, ["Promo"], "Date", "Store", past_only=True)
    pd.testing.assert_frame_equal(others.drop(columns="Promo"), whole.drop(columns="Promo"))


def test_the_columns_types_and_names_are_those_that_are_promised() -> None:
    table = sales([("a", 0, 0), ("a", 1, 1), ("b", 1, 0)])
    added = add_elapsed(table, ["Promo"], "Date", "Store").drop(columns=list(table))
    assert added.dtypes.astype(str).to_dict() == {
        "AfterPromo": "float32",
        "AfterPromo_never": "bool",
        "Promo_bw": "int8",
        "BeforePromo": "float32",
        "BeforePromo_never": "bool",
        "Promo_fw": "int8",
    }
    past = add_elapsed(table, ["Promo"], "Date", "Store", past_only=True).drop(columns=list(table))
    assert past.columns.tolist() == ["AfterPromo", "AfterPromo_never", "Promo_bw"]


def test_never_is_missing_and_flagged_and_no_number() -> None:
    added = add_elapsed(sales([("a", 0, 0), ("a", 1, 1), ("b", 1, 0)]), ["Promo"], "Date", "Store")
    assert added["AfterPromo"].tolist()[1] == 0
    assert added["AfterPromo"].isna().tolist() == [True, False, True]
    assert added["AfterPromo_never"].tolist() == [True, False, True]
    assert added["BeforePromo_never"].tolist() == [False, False, True]
    none = add_elapsed(sales([("a", 0, 0)]), ["Promo"], "Date", "Store")
    assert none["BeforePromo"].isna().all()
    assert none["Promo_fw"].tolist() == [0]


def test_rows_of_one_day_are_not_multiplied_and_share_their_events() -> None:
    table = sales([("a", 3, 0), ("a", 3, 1), ("a", 3, 1), ("a", 4, 0)])
    table.index = [9, 9, 2, 2]
    added = add_elapsed(table, ["Promo"], "Date", "Store")
    assert added.index.tolist() == [9, 9, 2, 2]
    assert added["AfterPromo"].tolist() == [0, 0, 0, 1]
    assert added["Promo_bw"].tolist() == [1, 1, 1, 1]  # days, not rows


def test_a_window_is_of_days_even_where_rows_are_missing() -> None:
    table = sales([("a", day, 1) for day in (0, 1, 7, 20)])
    added = add_elapsed(table, ["Promo"], "Date", "Store", window_days=7)
    assert added["Promo_bw"].tolist() == [1, 2, 2, 1]
    assert added["Promo_fw"].tolist() == [2, 2, 1, 1]


def test_groups_far_apart_in_time_and_long_windows_do_not_mix() -> None:
    table = sales([("a", 0, 1), ("b", 20_000, 0), ("c", 0, 0), ("c", 20_000, 1)])
    added = add_elapsed(table, ["Promo"], "Date", "Store", window_days=30_000)
    assert added["AfterPromo"].isna().tolist() == [False, True, True, False]
    assert added["Promo_fw"].tolist() == [1, 0, 1, 1]
    assert added["BeforePromo"].tolist()[2] == 20_000


def test_several_columns_and_several_groups() -> None:
    table = sales([("a", 0, 1), ("a", 2, 0), ("a", 2, 0)]).assign(
        Kind=["x", "x", "y"], Holiday=[None, True, None]
    )
    table["Holiday"] = table["Holiday"].astype("boolean")
    added = add_elapsed(table, ["Promo", "Holiday"], "Date", ["Store", "Kind"])
    assert added["AfterPromo"].fillna(-1).tolist() == [0, 2, -1]
    assert added["BeforeHoliday"].fillna(-1).tolist() == [2, 0, -1]


def test_without_a_group_all_rows_belong_together() -> None:
    table = sales([("a", 0, 1), ("b", 2, 0), ("a", 5, 0), ("b", 5, 1)])
    added = add_elapsed(table, ["Promo"], "Date")
    one = add_elapsed(table.assign(Store="a"), ["Promo"], "Date", "Store")
    assert added["AfterPromo"].tolist() == [0, 2, 0, 0]
    pd.testing.assert_frame_equal(added.drop(columns="Store"), one.drop(columns="Store"))


@pytest.mark.parametrize(
    ("dates", "date_format"),
    [
        (["31.12.2014", "01.01.2015", "04.01.2015"], "%d.%m.%Y"),
        ([16_435.5, 16_436.0, 16_439.9], None),
        ([42_004.5, 42_005.0, 42_008.9], "excel"),
        ([20_141_231, 20_150_101, 20_150_104], "%Y%m%d"),
    ],
)
def test_dates_are_read_in_the_format_that_is_said(dates, date_format) -> None:
    table = pd.DataFrame({"Store": 1, "Promo": [1, 0, 0], "Date": dates})
    if date_format is None:
        table["Date"] *= 86_400
        date_format = "unix"
    added = add_elapsed(table, ["Promo"], "Date", "Store", date_format=date_format)
    assert added["AfterPromo"].tolist() == [0, 1, 4]
    assert added["Date"].tolist() == table["Date"].tolist()  # as it came
    with pytest.raises(DataError, match="`Date` must hold dates"):
        add_elapsed(table, ["Promo"], "Date", "Store", date_format="%m/%d/%Y")


def test_more_groups_than_fit_a_product_do_not_overflow() -> None:
    row = np.arange(2 * 4096)
    table = pd.DataFrame({f"g{i}": row % 4096 for i in range(7)}).assign(first=row // 4096)
    table = table.assign(Promo=row < 4096, Date=START)
    groups = ["first", *(f"g{i}" for i in range(7))]
    added = add_elapsed(table, ["Promo"], "Date", groups)
    assert added["AfterPromo_never"].tolist() == (row >= 4096).tolist()


@pytest.mark.parametrize("kind", ["float32", "boolean", "Int8"])
def test_a_missing_value_is_no_event(kind: str) -> None:
    table = sales([("a", 0, 1), ("a", 1, 0), ("a", 2, 0)])
    table["Promo"] = pd.Series([1, 0, None], dtype="Float64").astype(kind)
    assert add_elapsed(table, ["Promo"], "Date", "Store")["AfterPromo"].tolist() == [0, 1, 2]


def test_time_of_day_and_zone_are_local_days() -> None:
    moments = pd.Series(pd.to_datetime(["2015-01-01T22:30Z", "2015-01-02T00:30Z"]))
    table = pd.DataFrame({"Store": 1, "Promo": [1, 0], "Date": moments})
    assert add_elapsed(table, ["Promo"], "Date", "Store")["AfterPromo"].tolist() == [0, 1]
    table["Date"] = moments.dt.tz_convert("Europe/Berlin")
    assert add_elapsed(table, ["Promo"], "Date", "Store")["AfterPromo"].tolist() == [0, 1]
    table["Date"] = moments.dt.tz_convert("Asia/Tokyo")
    assert add_elapsed(table, ["Promo"], "Date", "Store")["AfterPromo"].tolist() == [0, 0]


def test_dates_may_be_text_and_groups_categories() -> None:
    table = sales([("a", 0, 1), ("b", 1, 0), ("a", 1, 0)])
    text = table.assign(
        Date=table["Date"].dt.strftime("%Y-%m-%d").astype("category"),
        Store=table["Store"].astype("category"),
        Promo=table["Promo"].astype("float32"),
    )
    new = ["AfterPromo", "BeforePromo", "Promo_bw", "Promo_fw"]
    pd.testing.assert_frame_equal(
        add_elapsed(text, ["Promo"], "Date", "Store")[new],
        add_elapsed(table, ["Promo"], "Date", "Store")[new],
    )


def test_an_empty_table_gets_its_columns_and_the_input_is_never_changed() -> None:
    table = sales([("a", 1, 1), ("a", 0, 0)])
    before = table.copy(deep=True)
    added = add_elapsed(table, ["Promo"], "Date", "Store")
    added.iloc[:, 0] = "z"
    pd.testing.assert_frame_equal(table, before)
    empty = add_elapsed(table.iloc[:0], ["Promo"], "Date", "Store")
    assert empty.columns.tolist() == added.columns.tolist()
    assert len(empty) == 0


def test_what_cannot_be_counted_is_refused() -> None:
    table = sales([("a", 0, 1), ("a", 1, 0)])
    with pytest.raises(DataError, match="must have one column 'Sale', but has no column"):
        add_elapsed(table, ["Sale"], "Date", "Store")
    with pytest.raises(DataError, match=r"`Store` must say with true and false.*\"Store != '0'\""):
        add_elapsed(table, ["Store"], "Date", "Promo")
    with pytest.raises(ValueError, match="`window_days` must be from 1 to 3,652,059 days, got 0"):
        add_elapsed(table, ["Promo"], "Date", "Store", window_days=0)
    with pytest.raises(ValueError, match="`columns` must be a list of at least one column"):
        add_elapsed(table, "Promo", "Date", "Store")
    with pytest.raises(ValueError, match="and `group` must name one or be left out"):
        add_elapsed(table, ["Promo"], "Date", [])
    with pytest.raises(DataError, match=r"`Date` must have a date .* in 1 row \(1: NaT\)"):
        add_elapsed(table.assign(Date=[START, pd.NaT]), ["Promo"], "Date", "Store")
    with pytest.raises(DataError, match=r"`Store` must say in every row .* in 1 row \(0: "):
        add_elapsed(table.assign(Store=[None, "a"]), ["Promo"], "Date", "Store")
    with pytest.raises(DataError, match=r"must not have the columns .* has 'Promo_bw'\. Rename"):
        add_elapsed(table.assign(Promo_bw=1), ["Promo"], "Date", "Store")


def test_ancient_dates_count_in_days_too() -> None:
    table = pd.DataFrame({"Store": 1, "Promo": [1, 0]})
    table["Date"] = pd.to_datetime([dt.datetime(1969, 12, 31, 23), dt.datetime(1970, 1, 1, 1)])
    assert add_elapsed(table, ["Promo"], "Date", "Store")["AfterPromo"].tolist() == [0, 1]
