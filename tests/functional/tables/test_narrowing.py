"""Narrow types hold the same values."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.tables.narrowing import narrow_column, narrow_frame

INTEGERS = st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-130, 130), min_size=1)


@settings(max_examples=80)
@given(INTEGERS, st.booleans())
def test_whole_numbers_keep_their_values_in_the_narrowest_type(values, has_gap) -> None:
    column = pd.Series(
        [*values, None] if has_gap else values, dtype="Int64" if has_gap else "int64"
    )
    narrow = narrow_column(column)
    assert narrow.dropna().tolist() == values
    bits = 8
    while not all(-(2 ** (bits - 1)) <= value < 2 ** (bits - 1) for value in values):
        bits *= 2
    assert str(narrow.dtype).lower() == f"int{bits}"
    assert narrow.isna().sum() == has_gap


@settings(max_examples=80)
@given(st.lists(st.floats(width=32) | st.floats() | st.integers(-(2**53), 2**53), min_size=1))
def test_floats_lose_nothing(values) -> None:
    column = pd.Series(values, dtype="float64")
    narrow = narrow_column(column)
    np.testing.assert_array_equal(narrow.to_numpy(np.float64), column)
    in_32_bits = column.astype("float32").astype("float64")
    assert (str(narrow.dtype) == "float32") == in_32_bits.equals(column)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([1270.0, np.nan], "float32", id="whole-with-a-gap"),
        pytest.param([0.5, 0.25], "float32", id="fractions"),
        pytest.param([1512086401.0, 0.5], "float64", id="seconds-that-would-change"),
        pytest.param([0.5, 0.1], "float64", id="fractions-that-would-change"),
        pytest.param([1e300], "float64", id="out-of-range"),
        pytest.param([np.inf, 1.0], "float32", id="infinite-before"),
        pytest.param([True, None], "boolean", id="flags-with-a-gap"),
        pytest.param([True, False], "bool", id="flags"),
        pytest.param(["a", "b", "a", None], "category", id="text-of-few-values"),
        pytest.param([None, None], "object", id="nothing"),
    ],
)
def test_types_by_what_is_in_a_column(values, expected) -> None:
    dtype = object if expected in ("boolean", "bool", "object") else None
    column = pd.Series(values, dtype=dtype)
    narrow = narrow_column(column)
    assert str(narrow.dtype) == expected
    assert narrow.isna().tolist() == column.isna().tolist()


def test_text_of_many_values_dates_and_categories_stay() -> None:
    dates = pd.Series(pd.to_datetime(["2015-01-01", None]))
    for column in (pd.Series(["a", "b"]), dates, pd.Series(["a", "b"], dtype="category")):
        assert narrow_column(column).dtype == column.dtype
    assert narrow_column(pd.Series([0.5], dtype="Float64")).dtype == "Float32"
    assert narrow_column(pd.Series([2**63], dtype="uint64")).item() == 2**63


def test_a_table_keeps_its_index_and_is_not_changed() -> None:
    table = pd.DataFrame({"a": [1, 2], "b": [0.5, 1.0]}, index=["x", "x"])
    before = table.copy(deep=True)
    narrow = narrow_frame(table)
    narrow.iloc[0, 0] = 5
    pd.testing.assert_frame_equal(table, before)
    assert narrow.index.tolist() == ["x", "x"]
    assert narrow.dtypes.astype(str).tolist() == ["int8", "float32"]
    with pytest.raises(DataError, match=r"each column once, but has 'a' more .* drop one\.$"):
        narrow_frame(table.set_axis(["a", "a"], axis=1))
    with pytest.raises(DataError, match=r"' 0' more than once.* no header, name the columns"):
        narrow_frame(table.set_axis([" 0", " 0"], axis=1))
