"""Every part of a date agrees with pandas and with the calendar, whatever the dates are kept as."""

import calendar
import datetime as dt
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.tables import dates as dates_module
from lightning_fastrecipes.functional.tables.dates import add_datepart, parse_dates

COURSE_COLUMNS = [
    "Year", "Month", "Week", "Day", "Dayofweek", "Dayofyear", "Is_month_end", "Is_month_start",
    "Is_quarter_end", "Is_quarter_start", "Is_year_end", "Is_year_start", "Elapsed",
]  # fmt: skip
FLAGS = [name for name in COURSE_COLUMNS if name.startswith("Is_")]
UNITS = ["s", "ms", "us", "ns"]
TIME = ["Hour", "Minute", "Second"]


def frame(values, unit: str = "us") -> pd.DataFrame:
    dates = pd.to_datetime(pd.Series(values, dtype=object)).astype(f"datetime64[{unit}]")
    return pd.DataFrame({"Date": dates, "Sales": range(len(values))})


def test_the_columns_are_those_of_the_course_in_its_order() -> None:
    plain = add_datepart(frame(["2017-12-01"]), "Date")
    assert plain.columns.tolist() == ["Sales", *COURSE_COLUMNS]
    timed = add_datepart(frame(["2017-12-01"]), "Date", time=True)
    assert timed.columns.tolist() == ["Sales", *COURSE_COLUMNS[:-1], *TIME, "Elapsed"]


@pytest.mark.parametrize("unit", UNITS)
def test_elapsed_is_in_seconds_whatever_unit_pandas_keeps(unit: str) -> None:
    assert add_datepart(frame(["2017-12-01"], unit), "Date")["Elapsed"].item() == 1512086400


GOLDEN = {
    "2016-02-29": (2016, 2, 9, 29, 0, 60, True, False, False, False, False, False, 1456704000),
    "2016-12-31": (2016, 12, 52, 31, 5, 366, True, False, True, False, True, False, 1483142400),
    "2017-01-01": (2017, 1, 52, 1, 6, 1, False, True, False, True, False, True, 1483228800),
    "2020-12-31": (2020, 12, 53, 31, 3, 366, True, False, True, False, True, False, 1609372800),
    "2021-01-03": (2021, 1, 53, 3, 6, 3, False, False, False, False, False, False, 1609632000),
    "2014-12-29": (2014, 12, 1, 29, 0, 363, False, False, False, False, False, False, 1419811200),
    "1900-02-28": (1900, 2, 9, 28, 2, 59, True, False, False, False, False, False, -2203977600),
    "2015-07-01": (2015, 7, 27, 1, 2, 182, False, True, False, True, False, False, 1435708800),
}


@pytest.mark.parametrize("date", GOLDEN)
def test_leap_years_iso_weeks_and_ends_of_periods(date: str) -> None:
    row = add_datepart(frame([date]), "Date")[COURSE_COLUMNS]
    assert tuple(row.iloc[0].tolist()) == GOLDEN[date]


MOMENTS = st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2260, 1, 1))
RECENT = st.datetimes(dt.datetime(1950, 1, 1), dt.datetime(2040, 1, 1))
NEAR = st.datetimes(dt.datetime(2013, 1, 1), dt.datetime(2013, 3, 1))
# Rows of a few days are looked up in another way than rows of many.
COLUMNS = st.lists(st.none() | MOMENTS, min_size=1, max_size=12) | st.lists(NEAR, min_size=70)


@settings(max_examples=80)
@given(COLUMNS, st.sampled_from(UNITS), st.sampled_from([3, 1 << 14]))
def test_every_part_agrees_with_pandas(values, unit, chunk) -> None:
    table = frame(values, unit)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dates_module, "_CHUNK", chunk)
        parts = add_datepart(table, "Date", time=True)
    oracle = table["Date"].dt
    is_missing = table["Date"].isna()
    for name in [*COURSE_COLUMNS[:-1], *TIME]:
        attribute = name.lower().replace("dayof", "day_of_")
        expected = oracle.isocalendar()["week"] if name == "Week" else getattr(oracle, attribute)
        expected = expected.astype("boolean" if name in FLAGS else "Int32").mask(is_missing)
        actual = parts[name].astype(expected.dtype)
        pd.testing.assert_series_equal(actual, expected, check_names=False, obj=name)
    epoch = pd.Timestamp("1970-01-01")
    for value, seconds in zip(table["Date"], parts["Elapsed"], strict=True):
        assert pd.isna(value) == pd.isna(seconds)
        assert pd.isna(value) or seconds == (value - epoch) // pd.Timedelta(seconds=1)


@settings(max_examples=60)
@given(MOMENTS)
def test_every_part_agrees_with_the_calendar(moment: dt.datetime) -> None:
    row = add_datepart(frame([moment]), "Date", time=True).iloc[0]
    last = calendar.monthrange(moment.year, moment.month)[1]
    assert row[TIME].tolist() == [moment.hour, moment.minute, moment.second]
    assert row["Week"] == moment.isocalendar().week
    assert row["Dayofweek"] == moment.weekday()
    assert row["Dayofyear"] == moment.timetuple().tm_yday
    assert row["Is_month_end"] == (moment.day == last)
    assert row["Is_quarter_end"] == (moment.day == last and moment.month % 3 == 0)
    assert row["Is_quarter_start"] == (moment.day == 1 and moment.month % 3 == 1)
    assert row["Is_year_end"] == ((moment.month, moment.day) == (12, 31))
    assert row["Is_year_start"] == ((moment.month, moment.day) == (1, 1))


@settings(max_examples=40)
@given(
    st.lists(st.none() | RECENT, min_size=1),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "UTC"]),
)
def test_time_zones_give_local_parts_and_seconds_of_utc(values, zone) -> None:
    utc = pd.to_datetime(pd.Series(values, dtype=object)).astype("datetime64[us]")
    local = utc.dt.tz_localize("UTC").dt.tz_convert(zone)
    parts = add_datepart(pd.DataFrame({"Date": local}), "Date", time=True)
    expected = add_datepart(pd.DataFrame({"Date": local.dt.tz_localize(None)}), "Date", time=True)
    expected["Elapsed"] = add_datepart(pd.DataFrame({"Date": utc}), "Date")["Elapsed"]
    pd.testing.assert_frame_equal(parts, expected)


def test_an_hour_that_comes_twice_counts_on() -> None:
    local = pd.Series(pd.to_datetime(["2020-10-25T00:30Z", "2020-10-25T01:30Z"]))
    table = pd.DataFrame({"Date": local.dt.tz_convert("Europe/Berlin")})
    parts = add_datepart(table, "Date", time=True)
    assert parts["Hour"].tolist() == [2, 2]
    assert parts["Elapsed"].diff().tolist()[1] == 3600


def test_types_are_narrow_and_gaps_are_missing_not_numbers() -> None:
    full = add_datepart(frame(["2016-02-29", "2017-01-01"]), "Date", time=True)
    kinds = {"Year": "int16", "Dayofyear": "int16", "Elapsed": "int64"}
    for name in full.columns.drop("Sales"):
        assert full[name].dtype == kinds.get(name, "bool" if name in FLAGS else "int8"), name
    assert "Is_missing" not in full
    gaps = add_datepart(frame(["2016-02-29", None]), "Date", time=True, cyclical=True)
    assert gaps["Is_missing"].tolist() == [False, True]
    assert gaps.drop(columns=["Sales", "Is_missing"]).iloc[1].isna().all()
    assert gaps["Year"].dtype == "Int16"
    assert gaps["Is_year_end"].dtype == "boolean"
    assert gaps["Elapsed"].iloc[0] == 1456704000
    assert gaps["Month_sin"].dtype == "float32"


def test_a_gap_written_into_one_column_does_not_reach_another() -> None:
    gaps = add_datepart(frame(["2016-02-29", None]), "Date")
    gaps.loc[1, "Year"] = 2000
    assert gaps["Month"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("flag_missing", "values", "expected"),
    [
        (None, ["2016-02-29"], False),
        (None, [None], True),
        (True, ["2016-02-29"], True),
        (False, [None], False),
    ],
)
def test_the_flag_is_there_as_asked_for(flag_missing, values, expected) -> None:
    parts = add_datepart(frame(values), "Date", flag_missing=flag_missing)
    assert ("Is_missing" in parts) == expected
    assert set(COURSE_COLUMNS) <= set(parts)


@pytest.mark.parametrize("values", [[], [None, None]], ids=["no-rows", "no-dates"])
def test_a_column_without_dates_still_gives_every_column(values) -> None:
    parts = add_datepart(frame(values), "Date", time=True, cyclical=True)
    assert set(COURSE_COLUMNS) <= set(parts)
    assert parts[COURSE_COLUMNS].isna().all(axis=None)


@pytest.mark.parametrize("drop", [True, False])
@pytest.mark.parametrize("kind", ["datetimes", "text"])
def test_the_input_is_never_changed(drop: bool, kind: str) -> None:
    table = frame(["2016-02-29", None, "2017-01-01"])
    if kind == "text":
        table["Date"] = table["Date"].astype(str).replace("NaT", "")
    table.index = [7, 7, 9]
    before = table.copy(deep=True)
    parts = add_datepart(table, "Date", drop=drop)
    parts.iloc[:, 0] = parts.iloc[::-1, 0].to_numpy()
    pd.testing.assert_frame_equal(table, before)
    assert parts.index.tolist() == [7, 7, 9]
    assert ("Date" in parts) == (not drop)
    if not drop:
        assert pd.api.types.is_datetime64_any_dtype(parts["Date"])


def test_dates_without_gaps_share_no_memory_with_the_result() -> None:
    table = frame(["2016-02-29"], "s")
    before = table["Date"].to_numpy()
    parts = add_datepart(table, "Date")
    assert not any(np.shares_memory(parts[name].to_numpy(), before) for name in COURSE_COLUMNS)


@pytest.mark.parametrize(
    ("column", "prefix", "expected"),
    [
        ("SaleDate", None, "SaleYear"),
        ("sale_date", None, "sale_Year"),
        ("Dated", None, "DatedYear"),
        ("SaleDate", "When_", "When_Year"),
        ("SaleDate", "", "Year"),
    ],
)
def test_names_begin_with_the_column_or_a_prefix(column, prefix, expected) -> None:
    table = frame(["2016-02-29"]).rename(columns={"Date": column})
    assert expected in add_datepart(table, column, prefix=prefix)


PYTHON_DATES = [dt.date(2016, 2, 29), None]


@pytest.mark.parametrize(
    ("values", "date_format"),
    [
        pytest.param(["2016-02-29", None], "ISO8601", id="iso"),
        pytest.param(["2016-02-29T00:00:00", ""], "ISO8601", id="iso-with-time-and-empty-text"),
        pytest.param(["29.02.2016", ""], "%d.%m.%Y", id="pattern"),
        pytest.param(pd.Series(["02/29/16", None], dtype="category"), "%m/%d/%y", id="category"),
        pytest.param([20160229, np.nan], "%Y%m%d", id="numbers-with-a-gap"),
        pytest.param(pd.Series(PYTHON_DATES, dtype=object), "ISO8601", id="python-dates"),
        pytest.param(
            pd.Series(pd.to_datetime(["2016-02-29", None])).astype("timestamp[us][pyarrow]"),
            "ISO8601",
            id="arrow",
        ),
    ],
)
def test_text_and_other_dates_are_read(values, date_format) -> None:
    parts = add_datepart(pd.DataFrame({"Date": values}), "Date", date_format=date_format)
    assert parts[COURSE_COLUMNS].iloc[0].tolist() == list(GOLDEN["2016-02-29"])
    assert parts["Is_missing"].tolist() == [False, True]


def test_text_with_a_time_zone_is_read_as_such() -> None:
    table = pd.DataFrame({"Date": ["2016-02-29T01:00:00+02:00"] * 2})
    parts = add_datepart(table, "Date")
    assert parts[["Day", "Elapsed"]].iloc[0].tolist() == [29, 1456704000 - 3600]


def test_dates_that_do_not_parse_are_named_by_row() -> None:
    table = pd.DataFrame({"Date": ["2016-02-29", "29.2.2016", "", "29.2.2016"]}, index=[5, 6, 7, 8])
    with pytest.raises(DataError, match=r"`Date` must .* in 2 rows \(6: '29.2.2016', 8: '29.2"):
        add_datepart(table, "Date")
    many = pd.DataFrame({"Date": ["2015-02-29"] * 1200})
    with pytest.raises(DataError, match=r"1,200 rows \(0: .*, 4: '2015-02-29', \.\.\.\)"):
        add_datepart(many, "Date")


def test_what_are_no_dates_is_refused() -> None:
    with pytest.raises(DataError, match=r"must have one column 'date', but has no column .* 'Da"):
        add_datepart(frame(["2016-02-29"]), "date")
    with pytest.raises(DataError, match=r"`Sales` must hold dates or text, .* int64.*'%Y%m%d'"):
        add_datepart(frame(["2016-02-29"]), "Sales")
    with pytest.raises(DataError, match=r"`D` must hold dates or text, but is of the type bool"):
        parse_dates(pd.Series([True], name="D"), "%Y")
    with pytest.raises(DataError, match=r"1 row \(1: 20160230.5\)"):
        parse_dates(pd.Series([20160229, 20160230.5], name="D"), "%Y%m%d")
    mixed = pd.Series(["2016-02-29T01:00+02:00", "2016-02-29T01:00+03:00"], name="D")
    with pytest.raises(
        DataError, match=r"(?i)`D` must hold dates .* but pandas says: .*time ?zones"
    ):
        parse_dates(mixed)
    with pytest.raises(DataError, match=r"format '%Q', but pandas says"):
        parse_dates(pd.Series(["2016"], name="D"), "%Q")


def test_columns_that_are_there_already_are_not_overwritten() -> None:
    table = frame(["2016-02-29"]).assign(Year=1)
    with pytest.raises(DataError, match=r"must not have the columns .* but has 'Year'"):
        add_datepart(table, "Date")
    assert "D_Year" in add_datepart(table, "Date", prefix="D_")
    twice = pd.concat([table, table[["Date"]]], axis=1)
    with pytest.raises(DataError, match="has twice of that name"):
        add_datepart(twice, "Date")


def test_the_circle_closes_at_the_end_of_each_period() -> None:
    ends = frame(["2015-12-31 23:59:59", "2016-01-01 00:00:00", "2016-07-02 12:30:30"])
    parts = add_datepart(ends, "Date", time=True, cyclical=True)
    for name, steps in {"Dayofyear": 365, "Month": 12, "Day": 31, "Hour": 24, "Second": 60}.items():
        points = parts[[f"{name}_sin", f"{name}_cos"]].to_numpy()
        np.testing.assert_allclose((points**2).sum(axis=1), 1, rtol=1e-6)
        np.testing.assert_allclose(points[1], [0, 1], atol=1e-7)
        step = np.linalg.norm(points[0] - points[1])
        assert step == pytest.approx(2 * np.sin(np.pi / steps), rel=1e-4), name
    leap = add_datepart(frame(["2016-12-31", "2017-01-01"]), "Date", cyclical=["Dayofyear"])
    step = np.linalg.norm(np.diff(leap[["Dayofyear_sin", "Dayofyear_cos"]], axis=0))
    assert step == pytest.approx(2 * np.sin(np.pi / 366), rel=1e-4)
    middle = parts.loc[2]
    assert middle["Dayofyear_cos"] == pytest.approx(-1, abs=1e-3)  # day 184 of 366
    assert middle["Hour_cos"] == pytest.approx(-1)
    assert middle["Month_sin"] == pytest.approx(0, abs=1e-6)


def test_chosen_circles_come_after_elapsed() -> None:
    parts = add_datepart(frame(["2016-02-29"]), "Date", cyclical=["Month", "Dayofweek"])
    pairs = ["Month_sin", "Month_cos", "Dayofweek_sin", "Dayofweek_cos"]
    assert parts.columns.tolist() == ["Sales", *COURSE_COLUMNS, *pairs]
    for wrong in (["Hour"], "Month", ["Year"]):
        with pytest.raises(ValueError, match="`cyclical` must be True, False, or a list of some"):
            add_datepart(frame(["2016-02-29"]), "Date", cyclical=wrong)


def test_holidays_are_marked_and_missing_dates_are_unknown() -> None:
    pytest.importorskip("holidays")
    table = frame(["2016-03-25", "2016-03-24", "2017-10-31", "2016-01-06", None])
    table = table.assign(Date=table["Date"] + pd.Timedelta(hours=9))
    germany = add_datepart(table, "Date", holidays="DE")["Is_holiday"]
    assert germany.tolist() == [True, False, True, False, pd.NA]  # Good Friday; Luther in 2017 only
    bavaria = add_datepart(table, "Date", holidays="DE-BY")["Is_holiday"]
    assert bavaria.iloc[3]
    with pytest.raises(ValueError, match=r"`holidays` must be the code .* got 'Atlantis'"):
        add_datepart(table, "Date", holidays="Atlantis")
    with pytest.raises(ValueError, match=r"`holidays` must be the code .* got 'DE-XX'"):
        add_datepart(table, "Date", holidays="DE-XX")


def test_without_the_package_of_holidays_the_message_says_so(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "holidays", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs the package `holidays`.*pip install"):
        add_datepart(frame(["2016-02-29"]), "Date", holidays="DE")
    assert len(add_datepart(frame(["2016-02-29"]), "Date")) == 1


@pytest.mark.parametrize(
    ("date_format", "per_day", "start"),
    [
        ("unix", 86_400, 0),
        ("unix_ms", 86_400_000, 0),
        ("unix_us", 86_400_000_000, 0),
        ("unix_ns", 86_400_000_000_000, 0),
        ("excel", 1, 25_569),
    ],
)
def test_numbers_that_count_from_a_day_are_dates_with_their_time(
    date_format, per_day, start
) -> None:
    days = pd.Series(["1965-03-01 00:00:01", "2013-02-28 12:34:56", "2024-02-29 23:59:59"])
    expected = pd.to_datetime(days)
    seconds = (expected - pd.Timestamp(0)).dt.total_seconds()
    numbers = seconds / 86_400 * per_day + start * per_day
    if date_format != "excel":
        numbers = numbers.round().astype("int64")
    for column in (numbers, numbers.astype(str), pd.Series([*numbers, None], dtype=object)):
        found = parse_dates(column.rename("t"), date_format)
        assert found.iloc[:3].tolist() == expected.tolist()
        assert found.iloc[3:].isna().all()
    parts = add_datepart(pd.DataFrame({"t": numbers}), "t", time=True, date_format=date_format)
    assert parts["tSecond"].tolist() == [1, 56, 59]
    with pytest.raises(DataError, match="cannot be read in 1 row"):
        parse_dates(pd.Series([1.0, 1e300], name="t"), date_format)


def test_dates_of_mixed_formats_are_refused() -> None:
    with pytest.raises(DataError, match="must be one format for all rows, got 'mixed'"):
        parse_dates(pd.Series(["01/02/2013", "13/02/2013"]), "mixed")
    with pytest.raises(DataError, match="'unix' for seconds since 1970"):
        parse_dates(pd.Series([1.5e9], name="t"))


def test_dates_far_away_and_zones_in_words_are_read() -> None:
    far = parse_dates(pd.Series(["0001-01-01", "1600-02-29", "9999-12-31T23:59:59"], name="D"))
    assert far.dt.year.tolist() == [1, 1600, 9999]
    with_time = parse_dates(pd.Series(["31.12.9999 23:59", "01.02.2020 00:00"]), "%d.%m.%Y %H:%M")
    assert with_time.tolist() == [pd.Timestamp(9999, 12, 31, 23, 59), pd.Timestamp(2020, 2, 1)]
    with pytest.raises(DataError, match="cannot be read in 1 row"):
        parse_dates(pd.Series(["9999-13-01", "9999-12-01"]))
    words = pd.Series(["2009-06-15 17:26:21 UTC"], name="D")
    assert parse_dates(words, "%Y-%m-%d %H:%M:%S %Z").dt.hour.tolist() == [17]
    with pytest.raises(DataError, match=r"cannot be read in 1 row \(0: .* another `date_format`"):
        parse_dates(words)
