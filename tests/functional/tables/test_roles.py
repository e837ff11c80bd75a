"""Every rule of columns, on columns that just do and just do not fall under it."""

import numpy as np
import pandas as pd
import pytest

from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.tables.roles import (
    date_format_of,
    find_roles,
    joint_leak,
    role_of,
)

RNG = np.random.default_rng(0)
ROWS = 1000


def named(name: str, values: object) -> pd.Series:
    return pd.Series(values, name=name)


@pytest.mark.parametrize(
    ("column", "role", "reason"),
    [
        (named("size", RNG.normal(size=ROWS)), "number", "1,000 different"),
        (named("hour", np.tile(np.arange(20), 50)), "category", "20 whole numbers, 50 rows each"),
        (named("hour", np.resize(np.arange(21), ROWS)), "number", "21 whole"),
        (named("flag", np.resize([0, 1], ROWS)), "number", "2 different"),
        (named("shop", np.resize(["a", "b"], ROWS)), "category", "2 values"),
        (named("shop", np.resize([True, False], ROWS)), "number", "2 different"),
        (named("kind", ["a"] * ROWS), "left out", "'a' in all 1,000 rows"),
        (named("kind", [None] * ROWS), "left out", "empty in all rows"),
        (named("kind", ["a", None] * 500), "category", "1 value"),
        (named("Unnamed: 0", RNG.permutation(ROWS)), "left out", "counts or names the rows"),
        (named("km", np.arange(ROWS)), "left out", "counts or names the rows"),
        (named("km", RNG.permutation(ROWS)), "number", "1,000 whole"),
        (named("customer_id", RNG.permutation(ROWS)), "left out", "counts or names the rows"),
        (named("customer_id", np.repeat(np.arange(100), 10)), "group", "100 groups in 1,000 rows"),
        (named("patient", [f"p{n % 50}" for n in range(ROWS)]), "group", "50 groups"),
        (named("StoreID", np.resize(np.arange(5), ROWS)), "category", "5 whole numbers"),
        (named("humid", np.resize(np.arange(19), ROWS)), "category", "19 whole numbers"),
        (named("code", [f"c{n}" for n in range(ROWS)]), "left out", "1,000 texts in 1,000 rows"),
        (
            named("cabin", [f"c{n % 251}" for n in range(ROWS)]),
            "left out",
            "251 values in 1,000 rows",
        ),
        (named("cabin", [f"c{n % 250}" for n in range(ROWS)]), "category", "250 values"),
        (named("cabin", np.resize([*"abcdefghijklmnopqr"], 20)), "category", "18 values"),
        (named("box", [[1]] * ROWS), "left out", "holds lists"),
        (named("day", ["2020-01-01", "2020-01-02"] * 500), "date", "2 different ones"),
        (
            named("note", [f"this is what was said in case {n % 600}" for n in range(ROWS)]),
            "left out",
            "prose of 8 words",
        ),
    ],
)
def test_a_column_has_its_role_and_the_figure_behind_it(column, role, reason) -> None:
    found = role_of(column)
    assert (found.role, found.name) == (role, column.name)
    assert reason in found.reason


@pytest.mark.parametrize(
    ("texts", "date_format"),
    [
        (["2020-01-31", "2020-02-01"], "ISO8601"),
        (["2020-01-31 10:00:00", "2020-02-01 11:30:00"], "ISO8601"),
        (["2013-01-01T10:00:00Z", "2013-01-01T11:00:00Z"], "ISO8601"),
        (["31.12.2016", "01.01.2017"], "%d.%m.%Y"),
        (["12/31/2016", "01/01/2017"], "%m/%d/%Y"),
        (["31/12/2016", "01/01/2017"], "%d/%m/%Y"),
        # Either could be; in this order the months come first.
        (["01/02/2017", "01/09/2017", "02/03/2017", "03/01/2017"], "%m/%d/%Y"),
        (["01/02/2017", "02/02/2017", "03/03/2017", "01/04/2017"], "%d/%m/%Y"),
        (["1-2", "3-4"], None),
        (["2020-01-31", "soon"], None),
        (["10.5", "11.5"], None),
    ],
)
def test_dates_are_told_by_how_they_are_written(texts, date_format) -> None:
    assert date_format_of(pd.Series(texts)) == date_format


def test_what_repeats_a_column_or_says_the_target_is_left_out() -> None:
    numbers = RNG.normal(size=ROWS)
    table = pd.DataFrame(
        {
            "size": numbers,
            "again": numbers,
            "double": 2 * numbers + RNG.normal(size=ROWS),
            "leak": 5 - 3 * (numbers + (noise := RNG.normal(size=ROWS))),
            "y": numbers + noise,
        }
    )
    roles = {role.name: role for role in find_roles(table, "y")}
    assert {name: role.role for name, role in roles.items()} == {
        "size": "number", "again": "left out", "double": "number", "leak": "left out",
    }  # fmt: skip
    assert "the same as 'size'" in roles["again"].reason
    assert "correlation is 1.000000" in roles["leak"].reason


def test_a_category_that_is_the_class_is_left_out_and_one_that_is_nearly_is_not() -> None:
    classes = np.resize(["no", "yes"], ROWS)
    alive = np.where(classes == "yes", "alive", "dead")
    nearly = alive.copy()
    nearly[0] = "alive"
    table = pd.DataFrame({"alive": alive, "nearly": nearly, "y": classes})
    assert [role.role for role in find_roles(table, "y")] == ["left out", "category"]


def test_rows_without_a_target_say_nothing() -> None:
    table = pd.DataFrame({"kind": ["a"] * 30 + ["b"], "y": [1.0, 2.0, 3.0] * 10 + [None]})
    assert find_roles(table, "y")[0].role == "left out"


def test_a_sum_of_columns_that_is_the_target_is_named() -> None:
    table = pd.DataFrame(RNG.normal(size=(ROWS, 3)), columns=["a", "b", "c"])
    assert joint_leak(table.assign(y=table["a"] + table["b"]), "y", ["a", "b", "c"]) == ["a", "b"]
    noisy = table.assign(y=table["a"] + table["b"] + 0.01 * table["c"] ** 2)
    assert joint_leak(noisy, "y", ["a", "b", "c"]) == []


def test_a_target_that_is_not_there_is_refused() -> None:
    with pytest.raises(DataError, match="no column 'y'"):
        find_roles(pd.DataFrame({"x": [1]}), "y")
    with pytest.raises(DataError, match="Did you mean `Survived`"):
        find_roles(pd.DataFrame({"Survived": [1]}), "survived")


@pytest.mark.parametrize(("different", "role"), [(12, "category"), (100, "left out")])
def test_numbers_beside_a_word_are_said_to_be_such(different, role) -> None:
    texts = [str(row % different) for row in range(400)]
    found = role_of(pd.Series(["?", "?", *texts], name="age"))

    assert found.role == role
    assert "a number if `reading: {na_values: ['?']}` makes gaps of that" in found.reason
