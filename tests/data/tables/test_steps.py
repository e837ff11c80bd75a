"""What a recipe declares is what is done: the course's preparation of Rossmann, in small."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from lightning_fastrecipes.data.tables.column_steps import DateParts, Derive, Elapsed, Map
from lightning_fastrecipes.data.tables.frames import read_frames
from lightning_fastrecipes.data.tables.joins import JoinNotes
from lightning_fastrecipes.data.tables.steps import (
    Join,
    apply_steps,
    parse_steps,
    step_files,
    steps_to_list,
)
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.tables.narrowing import narrow_frame
from lightning_fastrecipes.functional.tables.spec import TableSpec

ROSSMANN = """
- derive:
    Date: "@date(Date)"
    StateHoliday: StateHoliday.astype('str') != '0'
    WeekOfTrend: Date - @days((Date.dt.day_of_week + 1) % 7)
- join: {table: store.csv, keys: Store}
- join: {table: store_states.csv, keys: [Store]}
- join:
    table: weather/*.csv
    file_column: State
    steps:
      - derive: {Date: "@date(Date)"}
      - map: {column: State, values: {Hessen: HE, Niedersachsen: "HB,NI"}}
    keys: [State, Date]
    columns: [Max_TemperatureC, Events]
- join:
    table: googletrend/Rossmann_DE_*.csv
    file_column: State
    steps:
      - derive:
          WeekOfTrend: "@date(Woche.str.slice(0, 10))"
          State: State.str.slice(12)
          trend: "`Dez. 2012 - Sep. 2015`"
      - map: {column: State, values: {NI: "HB,NI"}, other: keep}
    keys: [State, WeekOfTrend]
    columns: [trend]
- join:
    table: googletrend/Rossmann_DE.csv
    steps:
      - derive:
          WeekOfTrend: "@date(Woche.str.slice(0, 10))"
          trend: "`Dez. 2012 - Sep. 2015`"
    keys: [WeekOfTrend]
    columns: [trend]
    suffix: _DE
- date_parts: {column: Date}
- derive:
    CompetitionOpenSinceYear: CompetitionOpenSinceYear.fillna(1900)
    CompetitionOpenSinceMonth: CompetitionOpenSinceMonth.fillna(1)
    Promo2SinceYear: Promo2SinceYear.fillna(1900)
    Promo2SinceWeek: Promo2SinceWeek.fillna(1)
    CompetitionDays: (Date - @ymd(CompetitionOpenSinceYear, CompetitionOpenSinceMonth, 15)).dt.days
    CompetitionDaysOpen: "@where(CompetitionOpenSinceYear < 1990, 0, CompetitionDays.clip(lower=0))"
    CompetitionMonthsOpen: CompetitionDaysOpen.clip(upper=720) // 30
    Promo2Age: (Date - @iso_week(Promo2SinceYear, Promo2SinceWeek)).dt.days
    Promo2Days: "@where(Promo2SinceYear < 1990, 0, Promo2Age.clip(lower=0))"
    Promo2Weeks: Promo2Days.clip(upper=175) // 7
- elapsed: {columns: [Promo, SchoolHoliday], date: Date, group: Store}
- elapsed: {columns: [StateHoliday], date: Date, group: State}
"""

FILES = {
    "train.csv": (
        "Store,Date,Sales,Promo,StateHoliday,SchoolHoliday\n"
        "1,2015-07-31,5263,1,0,1\n"  # a Friday
        "2,2015-07-31,6064,0,0,0\n"
        "1,2015-07-26,0,0,a,0\n"  # the Sunday that the week of the trend begins with
        "1,2015-07-25,4800,1,0,0\n"  # a Saturday, the last day of the week before
        "2,2015-07-20,4000,1,0,0\n"
    ),
    "store.csv": (
        "Store,StoreType,CompetitionOpenSinceMonth,CompetitionOpenSinceYear,Promo2SinceWeek,"
        "Promo2SinceYear\n1,c,9,2008,,\n2,a,7,2015,30,2015\n"
    ),
    "store_states.csv": 'Store,State\n1,HE\n2,"HB,NI"\n',
    "weather/Hessen.csv": (
        '"Date";"Max_TemperatureC";"Events"\n2015-07-31;25;"Rain"\n2015-07-26;20;NA\n'
        "2015-07-25;21;NA\n"
    ),
    "weather/Niedersachsen.csv": '"Date";"Max_TemperatureC";"Events"\n2015-07-31;19;"Fog"\n',
    "googletrend/Rossmann_DE.csv": (
        "Woche,Dez. 2012 - Sep. 2015\n2015-07-26 - 2015-08-01,97\n2015-07-19 - 2015-07-25,80\n"
    ),
    "googletrend/Rossmann_DE_HE.csv": (
        "Woche,Dez. 2012 - Sep. 2015\n2015-07-26 - 2015-08-01,85\n2015-07-19 - 2015-07-25,60\n"
    ),
    "googletrend/Rossmann_DE_NI.csv": (
        "Woche,Dez. 2012 - Sep. 2015\n2015-07-26 - 2015-08-01,70\n2015-07-19 - 2015-07-25,71\n"
    ),
}


@pytest.fixture
def rossmann(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


@pytest.fixture
def sales(rossmann: Path) -> pd.DataFrame:
    return pd.read_csv(rossmann / "train.csv")


def test_the_preparation_of_the_course_is_expressed(rossmann: Path, sales: pd.DataFrame) -> None:
    before, joins = sales.copy(deep=True), JoinNotes()
    steps = parse_steps(yaml.safe_load(ROSSMANN))
    table = apply_steps(steps, sales, rossmann, joins)
    pd.testing.assert_frame_equal(sales, before)
    expected = {
        "StateHoliday": [False, False, True, False, False],
        "StoreType": ["c", "a", "c", "c", "a"],
        "State": ["HE", "HB,NI", "HE", "HE", "HB,NI"],
        "Max_TemperatureC": [25, 19, 20, 21, None],
        "Events": ["Rain", "Fog", None, None, None],
        "trend": [85, 70, 85, 60, 71],
        "trend_DE": [97, 97, 97, 80, 80],
        "Week": [31, 31, 30, 30, 30],
        "Dayofweek": [4, 4, 6, 5, 0],
        "CompetitionOpenSinceYear": [2008, 2015, 2008, 2008, 2015],
        "CompetitionDaysOpen": [2510, 16, 2505, 2504, 5],
        "CompetitionMonthsOpen": [24, 0, 24, 24, 0],
        "Promo2Days": [0, 11, 0, 0, 0],
        "Promo2Weeks": [0, 1, 0, 0, 0],
        "AfterPromo": [0, 11, 1, 0, 0],
        "Promo_bw": [2, 0, 1, 1, 1],
        "Promo_fw": [1, 0, 1, 2, 1],
        "BeforeSchoolHoliday": [0, None, 5, 6, None],
        "AfterStateHoliday": [5, None, 0, None, None],
        "AfterStateHoliday_never": [False, True, False, True, True],
    }
    for name, values in expected.items():
        found = [None if pd.isna(value) else value for value in table[name]]
        assert found == values, name
    assert [join.num_unmatched for join in joins] == [0, 0, 1, 0, 0]
    assert "(State=HB,NI, Date=2015-07-20 00:00:00)" in str(joins[2])
    assert table["Store"].tolist() == sales["Store"].tolist()


def test_a_row_is_prepared_the_same_in_a_table_of_few_and_of_many_values(rossmann, sales) -> None:
    steps = parse_steps(yaml.safe_load(ROSSMANN))
    columns = ["trend", "CompetitionMonthsOpen", "Promo2Weeks", "StateHoliday", "State", "Week"]
    whole = apply_steps(steps, sales, rossmann)
    alone = apply_steps(steps, sales.iloc[:1], rossmann)
    assert alone[columns].iloc[0].tolist() == whole[columns].iloc[0].tolist()


def test_the_files_behind_the_steps_are_listed_for_a_cache(rossmann) -> None:
    steps = parse_steps(yaml.safe_load(ROSSMANN))
    found = [path.relative_to(rossmann).as_posix() for path in step_files(steps, rossmann)]
    assert found == [
        "store.csv", "store_states.csv", "weather/Hessen.csv", "weather/Niedersachsen.csv",
        "googletrend/Rossmann_DE_HE.csv", "googletrend/Rossmann_DE_NI.csv",
        "googletrend/Rossmann_DE.csv",
    ]  # fmt: skip


def test_steps_are_written_as_they_are_read() -> None:
    steps = parse_steps(yaml.safe_load(ROSSMANN))
    plain = steps_to_list(steps)
    assert parse_steps(yaml.safe_load(yaml.safe_dump(plain))) == steps
    assert plain[1] == {"join": {"table": "store.csv", "keys": ["Store"]}}
    assert parse_steps(steps) == steps
    assert [type(step) for step in steps[:2]] == [Derive, Join]
    with pytest.raises(dataclasses.FrozenInstanceError):
        steps[1].suffix = "x"


@pytest.mark.parametrize(
    ("former", "keys"),
    [
        ("on: [x]", ("x",)),  # which YAML reads as true
        ("'on': x", ("x",)),
        ("left_on: [x, y], right_on: [x, z]", {"x": "x", "y": "z"}),
        ("left_on: x, right_on: z", {"x": "z"}),
    ],
)
def test_former_names_of_keys_are_read(former, keys) -> None:
    [join] = parse_steps(yaml.safe_load(f"[{{join: {{table: a.csv, {former}}}}}]"))
    assert join.keys == keys


def test_keys_with_other_names_and_several_files(rossmann, sales) -> None:
    join = Join(
        ["weather/Hessen.csv", "weather/Niedersachsen.csv"],
        keys={"Date": "Date", "Land": "file"},
        file_column="file",
        columns=["Max_TemperatureC"],
    )
    table = join.apply(sales[:2].assign(Land=["Hessen", "Niedersachsen"]), rossmann)
    assert table["Max_TemperatureC"].tolist() == [25, 19]
    assert "file" not in table


def test_all_columns_but_the_keys_are_taken_and_odd_indexes_kept(rossmann, sales) -> None:
    sales.index = [3, 3, 1, 0, 9]
    table = Join("store_states.csv", keys="Store").apply(sales, rossmann)
    assert table.columns.tolist() == [*sales.columns, "State"]
    assert table.index.tolist() == [3, 3, 1, 0, 9]
    assert table["State"].tolist() == ["HE", "HB,NI", "HE", "HE", "HB,NI"]


def test_columns_of_a_side_table_may_be_text_of_another_separator(tmp_path) -> None:
    (tmp_path / "codes.csv").write_text("id~code\n1~007\n2~NA\n")
    join = Join("codes.csv", keys=["id"], text=["code"], separator="~")
    assert join.apply(pd.DataFrame({"id": [2, 1]}), tmp_path)["code"].tolist() == ["NA", "007"]
    with pytest.raises(
        DataError, match="of which `text` names columns, must have one column 'kod'"
    ):
        Join("codes.csv", keys=["id"], text=["kod"]).apply(pd.DataFrame({"id": [2]}), tmp_path)


def test_what_cannot_be_joined_is_refused_with_the_place(rossmann, sales) -> None:
    def refused(**arguments) -> pytest.ExceptionInfo:
        with pytest.raises(DataError, match=r"^steps\[0\]\.join: ") as info:
            apply_steps(parse_steps([{"join": arguments}]), sales, rossmann)
        return info

    assert "'store.csv' must have one column 'Shop'" in str(
        refused(table="store.csv", keys={"Store": "Shop"}).value
    )
    assert "The table must have one column 'Shop'" in str(
        refused(table="store.csv", keys={"Shop": "Store"}).value
    )
    assert "must have one column 'Typ'" in str(
        refused(table="store.csv", keys=["Store"], columns=["Typ"]).value
    )
    assert "must be new, but the table has 'Sales'" in str(
        refused(table="train.csv", keys=["Store", "Date"], columns=["Sales"]).value
    )
    assert "must have each 'Store' once" in str(
        refused(table="train.csv", keys=["Store"], columns=["Sales"], suffix="_2").value
    )


def test_date_parts_keep_the_date_and_never_depend_on_gaps(sales) -> None:
    step = DateParts("Date")
    gaps = sales.assign(Date=sales["Date"].where(sales["Store"] == 1))
    full, missing = step.apply(sales, Path()), step.apply(gaps, Path())
    assert full.columns.tolist() == missing.columns.tolist()
    assert full["Date"].dtype.kind == "M"
    options = DateParts("Date", drop=True, time=True, prefix="D", cyclical=["Month"])
    assert {"DHour", "DMonth_cos"} <= set(options.apply(sales, Path()))
    german = sales.assign(Date="31.07.2015")
    assert (DateParts("Date", date_format="%d.%m.%Y").apply(german, Path())["Day"] == 31).all()
    assert "Is_missing" in DateParts("Date", flag_missing=True).apply(sales, Path())


def test_elapsed_takes_all_its_arguments(sales) -> None:
    step = Elapsed("Promo", "Date", "Store", window_days=30, past_only=True)
    table = step.apply(sales, Path())
    assert table["Promo_bw"].tolist() == [1, 1, 1, 0, 0]
    assert "Promo_fw" not in table


def test_derived_columns_are_narrow_and_follow_one_another() -> None:
    table = pd.DataFrame({"n": [1, 2, 3, 4]})
    step = Derive(
        {"m": "n * 200", "k": "m * 200 - 1", "n": "n + 1", "c": "@where(n > 3, 'a', 'b')"}
    )
    made = step.apply(table, Path())
    assert made["k"].tolist() == [39_999, 79_999, 119_999, 159_999]
    assert made.dtypes.astype(str).tolist() == ["int8", "int16", "int32", "category"]
    assert table.columns.tolist() == ["n"]
    with pytest.raises(DataError, match=r"steps\[0\]\.derive: `x` cannot be computed by 'nn'"):
        apply_steps([Derive({"x": "nn"})], table, Path())


@pytest.mark.parametrize(
    ("other", "expected"), [("keep", ["x", "b", None]), ("missing", ["x", None, None])]
)
def test_values_that_are_not_mapped(other, expected) -> None:
    table = pd.DataFrame({"c": pd.Series(["a", "b", None], dtype="category")})
    made = Map("c", {"a": "x"}, to="d", other=other).apply(table, Path())
    assert [None if pd.isna(value) else value for value in made["d"]] == expected
    assert made["c"].tolist()[:2] == ["a", "b"]


def test_numbers_are_mapped_to_numbers_and_unknown_values_refused() -> None:
    table = pd.DataFrame({"n": np.array([1, 2, 1], "int8")})
    assert Map("n", {1: 0.5, 2: 300}).apply(table, Path())["n"].tolist() == [0.5, 300, 0.5]
    with pytest.raises(DataError, match=r"must name every value of 'n', but 1 are not named: 2"):
        Map("n", {1: 10}).apply(table, Path())


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"joim": {}}, r"`steps\[0\]` is no step: there is no step `joim`\. Did you mean `join`"),
        ({"xyz": {}}, r"There are join, date_parts, elapsed, derive, map"),
        ({"join": {"tabel": "a"}}, r"`steps\[0\]\.join`: .* `tabel`\. Did you mean `table`"),
        ({"join": {"keys": ["a"]}}, r"`steps\[0\]\.join` needs the key `table`, which is missing"),
        ({"join": {"table": "a"}}, r"needs the key `keys`"),
        ({"join": {"table": "a", "keys": []}}, r"`keys` must name at least one column"),
        ({"join": {"table": "a", "left_on": ["x"]}}, r"needs the key `keys`"),
        ({"join": {"table": "a", "keys": [1]}}, r"join\.keys\[0\]` must be text, but is 1"),
        ({"join": {"table": "a", "keys": "x", "steps": [{"dervie": {}}]}}, r"join.steps\[0\]`"),
        ({"join": ["a"]}, r"`steps\[0\]\.join` must be a mapping of arguments, got \['a'\]"),
        ({"derive": {}}, r"`derive` must map names of columns to expressions"),
        ({"map": {"column": "a"}}, r"`values` must map old values to new ones"),
        (
            {"map": {"column": "a", "values": {1: 2}, "other": "x"}},
            r"other` must be 'error', 'keep' or",
        ),
        ({"elapsed": {"columns": 3, "date": "d", "group": "g"}}, r"columns` must be text or a li"),
        ({"elapsed": {"columns": "p", "date": "d", "window_days": [7]}}, r"be a whole number"),
        ({"elapsed": {"columns": "p", "date": "d", "window_days": 0}}, r"from 1 to 3,652,059 days"),
        (
            {"elapsed": {"columns": "p", "date": "d", "window_days": 10**20}},
            r"from 1 to 3,652,059 days",
        ),
        ({"date_parts": {"column": "d", "cyclical": ["Mont"]}}, r"`cyclical` must be True, False"),
        ({"date_parts": {"column": ["d"]}}, r"`steps\[0\]\.date_parts\.column` must be text"),
        ({"date_parts": {"column": "d", "drop": "maybe"}}, r"drop` must be true or false"),
        ({"derive": {"a": None}}, r"derive\.columns\.a` must be text, a number"),
        ({"derive": {2020: "a"}}, r"names that are text, got \{2020"),
        ({"join": {}, "map": {}}, r"must be a mapping of one key, one of join, date_parts"),
        ("join", r"`steps\[0\]` must be a mapping of one key"),
    ],
)
def test_what_is_no_step_is_refused_with_its_place(step, message) -> None:
    with pytest.raises(ValueError, match=message):
        parse_steps([step])


def test_what_is_no_list_of_steps_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`steps` must be a list of steps, got \{'join'"):
        parse_steps({"join": {}})


def test_derived_columns_are_computed_from_all_digits_of_a_file(tmp_path) -> None:
    started = 1.6e9 + np.arange(300) * 86_400.25
    lasted = np.arange(300) % 7 + 0.1
    frame = pd.DataFrame({"s": started, "e": started + lasted, "y": 1.6e9 + lasted / 10})
    frame.to_csv(tmp_path / "t.csv", index=False)
    for source in (read_frames(tmp_path / "t.csv"), narrow_frame(frame)):
        made = apply_steps(parse_steps([{"derive": {"dur": "e - s"}}]), source, tmp_path)
        np.testing.assert_allclose(made["dur"], lasted, atol=1e-6)
        spec = TableSpec.fit(made, target="dur", categorical=[], continuous=["y"])
        scaled = spec.encode(made).continuous[:, 0]
        expected = (lasted - lasted.mean()) / lasted.std()
        np.testing.assert_allclose(scaled, expected, atol=1e-5)
