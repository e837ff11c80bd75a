"""A table becomes numbers as the training rows say, whatever other rows are beside it."""

import json
import math
import re
import tracemalloc
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.tables import encoding
from lightning_fastrecipes.functional.tables.spec import TableSpec

# Before version 3 pandas takes "" and "\0" for one value.
NUL = "\0" if pd.__version__ < "3" else ""
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=NUL), max_size=3)
WHOLE = st.integers(-(2**63), 2**63 - 1)
NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False)
SMALL = st.floats(-1e6, 1e6, width=32)
COLUMNS = st.sampled_from([TEXTS, WHOLE, NUMBERS, st.booleans()])


def maybe(values):
    return st.one_of(st.none(), values)


@st.composite
def tables(draw, min_rows=2):
    """A table with a target, two categorical columns and a continuous one, all with gaps."""
    num_rows = draw(st.integers(min_rows, 12))
    columns = {}
    for name in ("one", "two"):
        values = draw(COLUMNS)
        some = draw(values)
        rest = draw(st.lists(maybe(values), min_size=num_rows - 1, max_size=num_rows - 1))
        columns[name] = pd.Series([some, *rest], dtype=draw(st.sampled_from([object, "category"])))
    rest = draw(st.lists(maybe(SMALL), min_size=num_rows - 1, max_size=num_rows - 1))
    columns["x"] = pd.Series([draw(SMALL), *rest], dtype="float64")
    columns["y"] = pd.Series(draw(st.lists(SMALL, min_size=num_rows, max_size=num_rows)))
    return pd.DataFrame(columns)


def fitted(table, **options):
    roles = {"target": "y", "categorical": ["one", "two"], "continuous": ["x"]}
    return TableSpec.fit(table, **(roles | options))


def same(left, right) -> bool:
    """Compare two encoded tables, or rows of such."""
    return all(
        np.array_equal(getattr(left, part), getattr(right, part))
        for part in ("codes", "continuous", "target")
    )


def taken(encoded, rows):
    return encoded._replace(
        codes=encoded.codes[rows],
        continuous=encoded.continuous[rows],
        target=encoded.target[rows],
    )


@settings(max_examples=150)
@given(tables())
def test_what_is_encoded_is_decoded_to_the_same_values(table):
    spec = fitted(table)
    decoded = spec.decode(spec.encode(table).codes)

    for name in ("one", "two"):
        gaps = table[name].isna()
        assert decoded[name].isna().tolist() == gaps.tolist()
        assert decoded[name][~gaps].tolist() == table[name][~gaps].tolist()


@settings(max_examples=80)
@given(tables(), st.integers(1, 4))
def test_every_code_is_in_range_and_equal_values_have_equal_codes(table, min_count):
    spec = fitted(table, min_count=min_count)
    codes = spec.encode(table).codes

    for place, name in enumerate(spec.categorical):
        assert 0 <= codes[:, place].min() <= codes[:, place].max() < spec.cardinalities[place]
        counts = table[name].value_counts()
        for value, code in zip(table[name], codes[:, place].tolist(), strict=True):
            is_missing = value is None or value != value
            assert (code == 0) == is_missing
            if not is_missing:
                shares = spec.category_columns[place].rare and code == spec.cardinalities[place] - 1
                assert bool(shares) == (counts[value] < min_count)


@settings(max_examples=80)
@given(tables(), st.data())
def test_a_row_is_encoded_the_same_whatever_rows_are_beside_it(table, data):
    places = st.lists(st.integers(0, len(table) - 1), min_size=1)
    train, rows = data.draw(places), data.draw(places)
    train_table = table.iloc[train]
    assume(not train_table[["one", "two", "x"]].isna().all().any())
    spec = fitted(train_table)

    assert same(spec.encode(table.iloc[rows]), taken(spec.encode(table), rows))


@settings(max_examples=60)
@given(tables(min_rows=3), st.integers(1, 11))
def test_every_split_has_the_same_columns(table, cut):
    cut = min(cut, len(table) - 1)
    train, val = table.iloc[:cut], table.iloc[cut:]
    spec = fitted(train)
    encoded = [spec.encode(part) for part in (train, val)]

    assert encoded[0].codes.shape[1] == encoded[1].codes.shape[1] == 2
    assert encoded[0].continuous.shape[1] == encoded[1].continuous.shape[1]
    assert encoded[0].continuous.shape[1] == len(spec.continuous_columns)
    assert encoded[0].codes.dtype == encoded[1].codes.dtype
    assert all(np.isfinite(part.continuous).all() for part in encoded)


@settings(max_examples=60)
@given(tables(), st.integers(1, 3))
def test_a_spec_is_itself_again_after_json(table, min_count):
    spec = fitted(table, min_count=min_count)
    again = TableSpec.from_dict(json.loads(json.dumps(spec.to_dict(), allow_nan=False)))

    assert again == spec
    assert spec.difference(again) == ""
    assert same(spec.encode(table), again.encode(table))


@settings(max_examples=60)
@given(tables(), st.integers(1, 5))
def test_rows_are_worked_on_in_pieces_without_a_difference(table, piece):
    whole_spec = fitted(table)
    whole = whole_spec.encode(table)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "CHUNK_ROWS", piece)
        pieces_spec = fitted(table)
        pieces = whole_spec.encode(table)

    assert same(whole, pieces)
    assert (whole.unknown, whole.filled) == (pieces.unknown, pieces.filled)
    for one, other in zip(whole_spec.number_columns, pieces_spec.number_columns, strict=True):
        assert one.mean == pytest.approx(other.mean)
        assert one.std == pytest.approx(other.std)


@settings(max_examples=60)
@given(st.lists(maybe(SMALL), min_size=2, max_size=30))
def test_filling_and_scaling_agree_with_pandas_and_scikit_learn(values):
    column = pd.Series(values, dtype="float64")
    assume(column.nunique() > 1)
    table = pd.DataFrame({"x": column, "y": 1.0})
    filled = column.fillna(column.median())
    expected = StandardScaler().fit_transform(filled.to_frame())[:, 0]
    spec = TableSpec.fit(table, target="y", categorical=[], continuous=["x"])
    found = spec.encode(table).continuous

    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-4, atol=1e-4)
    if column.isna().any():
        np.testing.assert_array_equal(found[:, 1], column.isna())
    assert found.shape[1] == 1 + column.isna().any()


def test_golden_values_of_a_small_table():
    train = pd.DataFrame(
        {
            "shop": ["b", "a", "b", None],
            "day": [7, 1, 7, 7],
            "km": [1.0, None, 3.0, 5.0],
            "rain": [2, 4, 2, 4],
            "sales": [math.e, 1.0, math.e**2, 1.0],
        }
    )
    spec = TableSpec.fit(
        train,
        target="sales",
        categorical=["shop", "day"],
        continuous=["km", "rain"],
        log_target=True,
    )
    new = pd.DataFrame(
        {"rain": [3, None], "km": [None, 1.0], "day": [1.0, 2.0], "shop": ["c", "b"], "sales": 1.0}
    )
    encoded = spec.encode(new)

    assert spec.cardinalities == [3, 3]
    assert spec.continuous_columns == ["km", "rain", "km_na"]
    assert encoded.codes.dtype == np.int8
    assert encoded.codes.tolist() == [[0, 1], [2, 0]]
    # Median 3, filled 1 3 3 5: mean 3 and deviation sqrt(2). Rain: 3 and 1.
    np.testing.assert_allclose(
        encoded.continuous, [[0, 0, 1], [-2 / math.sqrt(2), 0, 0]], rtol=1e-6
    )
    assert encoded.continuous.dtype == np.float32
    assert encoded.target.tolist() == [0.0, 0.0]
    assert encoded.unknown == {"shop": 1, "day": 1}
    assert encoded.filled == {"km": 1, "rain": 1}
    assert spec.target_range == pytest.approx((0.0, 2.4))
    assert spec.invert_target(torch.tensor([0.0, 1.0])).tolist() == pytest.approx([1, math.e])


@pytest.mark.parametrize("column", ["one", "x"])
def test_missing_values_that_training_had_not_add_no_column_and_are_counted(column):
    train = pd.DataFrame({"one": ["a", "b"], "x": [1.0, 2.0], "y": [0.0, 1.0]})
    spec = TableSpec.fit(train, target="y", categorical=["one"], continuous=["x"])
    new = pd.DataFrame({"one": ["a", "b"], "x": [1.0, 2.0]})
    new.loc[1, column] = None
    encoded = spec.encode(new, has_target=False)

    assert spec.continuous_columns == ["x"]
    assert encoded.continuous.shape == (2, 1)
    assert encoded.filled == {column: 1}
    assert encoded.unknown == {}


def test_flags_are_not_scaled():
    train = pd.DataFrame({"x": [1.0, None, 2.0, 3.0], "y": 0.0})
    spec = TableSpec.fit(train, target="y", categorical=[], continuous=["x"])

    assert spec.encode(train).continuous[:, 1].tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize(
    "column",
    [
        pytest.param(pd.Series([3.0, None, 1.0]), id="floats-because-of-gaps"),
        pytest.param(pd.Series([3, None, 1], dtype="Int64"), id="nullable"),
        pytest.param(pd.Series([3, None, 1], dtype=object), id="objects"),
        pytest.param(pd.Series([3, None, 1], dtype="category"), id="categories"),
        pytest.param(pd.Series([3, None, 1], dtype="float32"), id="narrow"),
        pytest.param(pd.Series([3, None, 1], dtype="int64[pyarrow]"), id="arrow"),
    ],
)
def test_integers_have_the_same_categories_however_a_file_gives_them(column):
    plain = pd.DataFrame({"id": [1, 3, 5], "y": 0.0})
    spec = TableSpec.fit(plain, target="y", categorical=["id"], continuous=[])
    with_gaps = pd.DataFrame({"id": column, "y": 0.0})
    other = TableSpec.fit(with_gaps, target="y", categorical=["id"], continuous=[])

    assert spec.encode(with_gaps).codes[:, 0].tolist() == [2, 0, 1]
    assert other.category_columns[0].kind == "integer"
    assert other.encode(plain).codes[:, 0].tolist() == [1, 2, 0]
    assert spec.encode(with_gaps.assign(id=[1.5, 3.0, 1e30])).codes[:, 0].tolist() == [0, 2, 0]


def test_categories_of_a_pandas_column_are_never_taken_by_their_position():
    train = pd.Categorical(["b", "a", "b"], categories=["unused", "b", "a"], ordered=True)
    val = pd.Categorical(["a", "unused", "b"], categories=["a", "b", "unused"])
    spec = TableSpec.fit(
        pd.DataFrame({"c": train, "y": 0.0}), target="y", categorical=["c"], continuous=[]
    )
    encoded = spec.encode(pd.DataFrame({"c": val}), has_target=False)

    assert spec.cardinalities == [3]
    assert encoded.codes[:, 0].tolist() == [1, 0, 2]
    assert encoded.unknown == {"c": 1}


def test_large_integers_keep_every_digit():
    ids = [2**62 + 1, 2**62 + 2, None]
    table = pd.DataFrame({"id": pd.Series(ids, dtype=object), "y": 0.0})
    spec = TableSpec.fit(table, target="y", categorical=["id"], continuous=[])

    assert spec.category_columns[0].values == (2**62 + 1, 2**62 + 2)
    assert spec.encode(table).codes[:, 0].tolist() == [1, 2, 0]


def test_true_and_false_survive_gaps_and_0_and_1():
    table = pd.DataFrame({"open": [True, False, True], "y": 0.0})
    spec = TableSpec.fit(table, target="y", categorical=["open"], continuous=["open2"][:0])
    new = pd.DataFrame({"open": pd.Series([False, None, True], dtype=object)})

    assert spec.encode(new, has_target=False).codes[:, 0].tolist() == [1, 0, 2]
    assert spec.encode(pd.DataFrame({"open": [0, 1]}), has_target=False).codes[:, 0].tolist() == [
        1,
        2,
    ]
    assert spec.decode([[2], [0]])["open"].tolist() == [True, pd.NA]


def test_rare_categories_share_an_index_that_is_not_the_unknown_one():
    table = pd.DataFrame({"c": list("aaabbcd"), "y": 0.0})
    spec = TableSpec.fit(table, target="y", categorical=["c"], continuous=[], min_count=2)
    encoded = spec.encode(pd.DataFrame({"c": list("abcdz")}), has_target=False)

    assert encoded.codes[:, 0].tolist() == [1, 2, 3, 3, 0]
    assert encoded.unknown == {"c": 1}
    assert spec.cardinalities == [4]
    assert spec.category_columns[0].labels == ["(unknown)", "a", "b", "(rare)"]
    assert spec.decode([[1], [3], [0]])["c"].tolist() == ["a", pd.NA, pd.NA]


@pytest.mark.parametrize(
    ("count", "dtype"), [(127, np.int8), (128, np.int16), (32767, np.int16), (32768, np.int32)]
)
def test_codes_are_as_narrow_as_can_be(count, dtype):
    table = pd.DataFrame({"c": np.arange(count), "y": 0.0})
    spec = TableSpec.fit(table, target="y", categorical=["c"], continuous=[])
    codes = spec.encode(table).codes

    assert codes.dtype == dtype
    assert codes[:, 0].tolist() == list(range(1, count + 1))


def test_a_column_of_one_value_is_encoded_as_0_and_named():
    table = pd.DataFrame({"x": [4.0, 4.0], "z": [1.0, 2.0], "y": 0.0})
    spec = TableSpec.fit(table, target="y", categorical=[], continuous=["x", "z"])
    new = pd.DataFrame({"x": [4.0, 9.0], "z": 1.0})

    assert spec.constant_columns == ["x"]
    assert spec.encode(new, has_target=False).continuous[:, 0].tolist() == [0.0, 0.0]


def test_values_far_beyond_the_training_rows_stay_finite():
    train = pd.DataFrame({"x": [0.0, 7e-38], "y": 0.0})
    spec = TableSpec.fit(train, target="y", categorical=[], continuous=["x"])
    new = pd.DataFrame({"x": [13.0, -3e38, 7e-38]})

    found = spec.encode(new, has_target=False).continuous[:, 0]
    assert found.tolist() == [1e6, -1e6, pytest.approx(1.0)]


def test_fractions_and_huge_numbers_are_unknown_integers_and_not_0():
    spec = TableSpec.fit(
        pd.DataFrame({"id": [0, 1], "y": 0.0}), target="y", categorical=["id"], continuous=[]
    )
    new = pd.DataFrame({"id": [0.0, 0.5, 1e300, -math.inf, 1.0]})

    assert spec.encode(new, has_target=False).codes[:, 0].tolist() == [1, 0, 0, 0, 2]


def test_prediction_never_looks_at_the_target():
    table = pd.DataFrame({"x": [1.0, 2.0], "y": [1.0, 2.0]})
    spec = TableSpec.fit(table, target="y", categorical=[], continuous=["x"], log_target=True)

    for target in (None, [math.nan, -1.0], ["text", "text"], [math.inf, 0.0]):
        new = table[["x"]] if target is None else table.assign(y=target)
        assert spec.encode(new, has_target=False).target is None
    with pytest.raises(DataError, match="must have the columns 'y'"):
        spec.encode(table[["x"]])


def test_classes_are_sorted_and_unknown_ones_are_refused():
    table = pd.DataFrame({"x": [1.0, 2.0, 3.0], "y": ["no", "yes", "no"]})
    spec = TableSpec.fit(table, target="y", categorical=[], continuous=["x"], task="classes")
    encoded = spec.encode(table)

    assert spec.classes == ["no", "yes"]
    assert spec.target_range is None
    assert encoded.target.tolist() == [0, 1, 0]
    assert encoded.target.dtype == np.int64
    assert spec.invert_target(torch.tensor([1])).tolist() == [1]
    with pytest.raises(DataError, match=r"one of the training classes .* 'perhaps' in row 1"):
        spec.encode(table.assign(y=["no", "perhaps", "no"]))


@pytest.mark.parametrize(
    ("log_target", "target", "expected"),
    [
        pytest.param(True, [1.0, math.exp(10)], (0, 12), id="the-course"),
        pytest.param(False, [10.0, 20.0], (9, 21), id="a-tenth-beyond-either-end"),
        pytest.param(True, [math.exp(-1), math.exp(4)], (-1.5, 4.5), id="logarithms-below-0"),
        pytest.param(True, [math.exp(-4), math.exp(-2)], (-4.2, -1.8), id="all-below-0"),
    ],
)
def test_the_range_of_the_target_holds_every_target(log_target, target, expected):
    table = pd.DataFrame({"x": [1.0, 2.0], "y": target})
    spec = TableSpec.fit(table, target="y", categorical=[], continuous=["x"], log_target=log_target)

    assert spec.target_range == pytest.approx(expected, rel=1e-6)
    low, high = spec.target_range
    assert low <= spec.encode(table).target.min() <= spec.encode(table).target.max() <= high


def test_embedding_sizes_follow_either_rule():
    table = pd.DataFrame({"store": np.arange(1115), "day": np.arange(1115) % 7, "y": 0.0})
    spec = TableSpec.fit(table, target="y", categorical=["store", "day"], continuous=[])

    assert spec.embedding_sizes() == [50, 4]
    assert spec.embedding_sizes("fastai") == [81, 5]


TABLE = pd.DataFrame(
    {
        "shop": ["a", "b", "a", "b"],
        "day": [1, 2, 1, 2],
        "km": [1.0, 2.0, 3.0, None],
        "y": [1.0, 2.0, 3.0, 4.0],
    }
)
ROLES = {"target": "y", "categorical": ["shop", "day"], "continuous": ["km"]}


@pytest.mark.parametrize(
    ("change", "roles", "error", "message"),
    [
        pytest.param(
            {}, {"target": "Y"}, DataError, r"must have the columns 'Y'", id="unknown-column"
        ),
        pytest.param(
            {},
            {"continuous": ["kms"]},
            DataError,
            r"must have the columns 'kms' \(near: 'km'\), but has only \['shop'",
            id="misspelt-column",
        ),
        pytest.param(
            {}, {"continuous": ["y"]}, ValueError, r"\['y'\] are named twice", id="target-as-input"
        ),
        pytest.param(
            {}, {"categorical": "shop"}, TypeError, "`categorical` must be a list", id="one-name"
        ),
        pytest.param(
            {},
            {"categorical": [], "continuous": []},
            ValueError,
            "must name at least one column",
            id="nothing-to-learn-from",
        ),
        pytest.param({}, {"min_count": 0}, ValueError, "`min_count` .* got 0", id="min-count"),
        pytest.param(
            {}, {"task": "classes", "log_target": True}, ValueError, "`log_target`", id="log-class"
        ),
        pytest.param({}, {"task": "classify"}, ValueError, "`task` must be", id="task"),
        pytest.param(
            {"km": None}, {}, DataError, "'km' must hold at least one number", id="all-missing"
        ),
        pytest.param(
            {"shop": None}, {}, DataError, "'shop' must hold at least one value", id="no-category"
        ),
        pytest.param(
            {"km": [1.0, math.inf, 2.0, -math.inf]},
            {},
            DataError,
            "'km' must hold finite numbers, .* in rows 1, 3",
            id="infinite",
        ),
        pytest.param(
            {"km": ["1", "2", "3", "4"]},
            {},
            DataError,
            "'km' must hold numbers .* has text, such as '1' in row 0. List it in `categorical`",
            id="text-as-continuous",
        ),
        pytest.param(
            {"km": ["1912-04-08", "1912-04-09 10:00", "1912-04-10", "1912-04-11"]},
            {},
            DataError,
            "'km' must hold numbers .*, or mend it: the step `date_parts` makes numbers of dates",
            id="dates-as-continuous",
        ),
        pytest.param(
            {"day": [0.5, math.inf, 1, 2]},
            {},
            DataError,
            "'day' must hold finite categories .* has inf",
            id="infinite-category",
        ),
        pytest.param(
            {"shop": [1, "b", "a", 2]},
            {},
            DataError,
            r"'shop' .* one kind alone.*\(row 0: 1; row 1: 'b'\)",
            id="text-and-numbers",
        ),
        pytest.param(
            {"day": pd.Timestamp("2020-01-01")}, {}, DataError, "Turn dates into parts", id="dates"
        ),
        pytest.param(
            {"y": [1.0, None, None, 2.0]},
            {},
            DataError,
            "'y' must be there, but is missing in rows 1, 2. Leave",
            id="missing-target",
        ),
        pytest.param(
            {"y": [1.0, 0.0, -1.0, 2.0]},
            {"log_target": True},
            DataError,
            "'y' must be above 0 for `log_target`, but is not in rows 1, 2",
            id="no-logarithm",
        ),
        pytest.param(
            {"y": [1.0, math.inf, 1.0, 2.0]},
            {},
            DataError,
            "'y' must be finite, but is infinite in row 1",
            id="infinite-target",
        ),
        pytest.param(
            {"y": ["a", "b", "a", "b"]}, {}, DataError, "'y' must hold numbers", id="text-target"
        ),
        pytest.param(
            {"y": "a"}, {"task": "classes"}, DataError, "at least 2 classes .* 'a'", id="one-class"
        ),
        pytest.param(
            {"km_na": 0.0},
            {"continuous": ["km", "km_na"]},
            DataError,
            r"\['km_na'\] must not be named, because they flag",
            id="clash-with-a-flag",
        ),
    ],
)
def test_what_cannot_be_learned_from_is_refused(change, roles, error, message):
    with pytest.raises(error, match=message):
        TableSpec.fit(TABLE.assign(**change), **(ROLES | roles))


def test_no_rows_and_columns_of_the_same_name_are_refused():
    with pytest.raises(DataError, match="must be at least one, but there are none"):
        TableSpec.fit(TABLE.iloc[:0], **ROLES)
    with pytest.raises(DataError, match=r"\['km'\] are there several times"):
        TableSpec.fit(pd.concat([TABLE, TABLE[["km"]]], axis=1), **ROLES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            {"shop": 1, "km": "x"},
            r"'shop' held text in training, but has numbers, such as 1 in row 0\n"
            r"  'km' held numbers in training, but has text, such as 'x' in row 0",
            id="both-kinds",
        ),
        pytest.param({"day": ["1", "2", "1", "2"]}, "'day' held numbers in", id="digits-as-text"),
        pytest.param(
            {"km": [1.0, math.inf, 2.0, 1.0]}, "'km' must hold finite .* row 1", id="infinite"
        ),
        pytest.param({"y": [1.0, None, 2.0, 1.0]}, "'y' must be there, .* row 1", id="no-target"),
    ],
)
def test_a_table_of_another_kind_is_refused(change, message):
    spec = TableSpec.fit(TABLE, **ROLES)
    with pytest.raises(DataError, match=message):
        spec.encode(TABLE.assign(**change))


def test_missing_columns_are_refused_and_others_are_not_looked_at():
    spec = TableSpec.fit(TABLE, **ROLES)

    assert same(spec.encode(TABLE.assign(other=pd.Timestamp("2020-01-01"))), spec.encode(TABLE))
    with pytest.raises(DataError, match=r"the columns 'day', 'km' \(near: 'Km'\), but has only"):
        spec.check(TABLE.drop(columns="day").rename(columns={"km": "Km"}))


@pytest.mark.parametrize("name", ["shop", "day", "km"])
def test_a_column_without_any_value_fits_every_kind(name):
    spec = TableSpec.fit(TABLE, **ROLES)
    for nothing in (None, math.nan):
        encoded = spec.encode(TABLE.assign(**{name: nothing}))
        assert encoded.filled[name] == 4


def test_rows_are_named_by_the_labels_of_the_table():
    spec = TableSpec.fit(TABLE, **ROLES)
    many = pd.concat([TABLE.assign(km=math.inf)] * 2).set_axis(list("abcdefgh"))
    with pytest.raises(DataError, match=r"in rows a, b, c, d, e, \.\.\. \(8 in all\)\. Mend"):
        spec.encode(many)


def test_the_difference_of_two_specs_names_columns_and_values():
    spec = TableSpec.fit(TABLE, **ROLES)
    other_table = TABLE.assign(shop=["a", "c", "a", "d"], km=1.0, age=1.0, y=[1.0, 2.0, 3.0, 9.0])
    other = TableSpec.fit(
        other_table, target="y", categorical=["shop"], continuous=["km", "age"], log_target=True
    )

    assert spec.difference(spec) == ""
    assert spec.difference(other).splitlines() == [
        "categorical 'day': only in the first",
        "categorical 'shop': values 1 only in the first ('b'); 2 only in the second ('c', 'd')",
        "continuous 'age': only in the second",
        "continuous 'km': median 2.0 and 1.0",
        "continuous 'km': mean 2.0 and 1.0",
        f"continuous 'km': std {math.sqrt(0.5)!r} and 0.0",
        "continuous 'km': has_flag True and False",
        "target 'y': log False and True",
        "target 'y': low 1.0 and 0.0",
        f"target 'y': high 4.0 and {float(np.float32(math.log(9)))!r}",
        f"target 'y': mean 2.5 and {other.target_column.mean!r}",
        f"target 'y': std {math.sqrt(1.25)!r} and {other.target_column.std!r}",
    ]
    swapped = replace(spec, category_columns=spec.category_columns[::-1])
    assert spec.difference(swapped) == "categorical columns: in another order"


def test_wrong_codes_and_other_versions_are_refused():
    spec = TableSpec.fit(TABLE, **ROLES)
    with pytest.raises(ValueError, match=r"shape \(rows, 2\), got \(3,\)"):
        spec.decode([0, 1, 2])
    with pytest.raises(ValueError, match=r"column 'day' must lie in \[0, 3\), got 0 to 3"):
        spec.decode([[0, 0], [0, 3]])
    with pytest.raises(ValueError, match="must have version 3 at most, got 4"):
        TableSpec.from_dict(spec.to_dict() | {"version": 4})


def test_the_memory_beside_the_result_does_not_grow_with_the_rows():
    num_rows = 6 * encoding.CHUNK_ROWS
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "c": random.integers(0, 1000, num_rows, dtype=np.int16),
            "d": pd.Categorical.from_codes(
                random.integers(0, 3, num_rows, dtype=np.int8), ["a", "b", "c"]
            ),
            "x": random.random(num_rows, dtype=np.float32),
            "y": random.random(num_rows, dtype=np.float32),
        }
    )
    narrow = table.memory_usage(index=False).sum()
    tracemalloc.start()
    try:
        spec = TableSpec.fit(table, target="y", categorical=["c", "d"], continuous=["x"])
        assert tracemalloc.get_traced_memory()[1] < 1.5 * narrow
        tracemalloc.reset_peak()
        encoded = spec.encode(table)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    result = encoded.codes.nbytes + encoded.continuous.nbytes + encoded.target.nbytes
    assert peak - result < 0.6 * narrow
    assert peak < 3 * narrow


def test_the_table_is_left_as_it_was():
    before = TABLE.copy(deep=True)
    TableSpec.fit(TABLE, **ROLES).encode(TABLE)

    pd.testing.assert_frame_equal(TABLE, before)


@pytest.mark.parametrize(
    ("texts", "hint"),
    [
        (["1,5", "2"], r"`reading={'decimal': ','}` reads files so"),
        (["1.234,5", "2"], "'thousands': '.'"),
        (["1,234.5", "1,000,000"], r"{'thousands': ','}"),
        (["$1.5", "2$"], "str.strip"),
        (["5 %", "7%"], "str.strip"),
        (["a", "1,5"], "or mend it."),
    ],
)
def test_text_that_people_read_as_numbers_is_refused_with_its_cure(texts, hint):
    frame = pd.DataFrame({"price": texts, "y": [1.0, 2.0]})
    with pytest.raises(DataError, match=re.escape(hint)):
        TableSpec.fit(frame, target="y", categorical=[], continuous=["price"])
