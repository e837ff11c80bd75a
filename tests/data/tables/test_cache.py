"""Processed tables come back as they were, mapped, and what cannot be kept is named."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_fastrecipes.data.tables.cache import (
    MappedTable,
    arrow_table,
    cached_table,
    file_facts,
    frame_digest,
    plain_index,
)
from lightning_fastrecipes.errors import DataError


def whole() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "small": np.array([1, -2, 3], np.int8),
            "float": np.array([0.5, np.nan, 1.5], np.float32),
            "maybe": pd.array([2**60 + 1, None, 3], dtype="Int64"),
            "flag": [True, False, True],
            "text": ["a", None, "c"],
            "kind": pd.Categorical(["x", None, "y"], categories=["y", "z", "x"], ordered=True),
            "day": pd.to_datetime(["2014-01-01", None, "2014-01-03"]),
            "zone": pd.to_datetime(["2014-01-01", None, "2014-01-03"]).tz_localize("Europe/Berlin"),
            "span": pd.to_timedelta([1, None, 3], unit="D"),
        }
    )


def never():
    raise AssertionError("the cache should have been used")


def test_every_type_comes_back_as_it_was(tmp_path: Path) -> None:
    frame = whole()
    made = cached_table(tmp_path, {}, {}, lambda: (frame.set_axis([7, 7, 9]), {"joins": 1}))
    found = cached_table(tmp_path, {}, {}, never)

    for table in (made, found):
        assert table.notes == {"joins": 1}
        pd.testing.assert_frame_equal(table.frame(table.columns), frame)
    assert frame["maybe"].equals(found.frame(["maybe"])["maybe"])


def test_numbers_are_mapped_and_not_copied(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": np.arange(200_000), "b": np.arange(200_000) / 3})
    table = cached_table(tmp_path, {}, {}, lambda: (frame, {}))
    before = pa.total_allocated_bytes()

    parts = [table.frame(["a", "b"]), table.frame(["b"], np.arange(5, 150_000))]

    assert pa.total_allocated_bytes() - before < 10_000
    assert not any(part["b"].to_numpy().flags.writeable for part in parts)
    pd.testing.assert_frame_equal(parts[0], frame)


@given(st.lists(st.integers(0, 11), unique=True, min_size=1), st.integers(1, 13))
def test_parts_are_those_of_the_whole_and_name_their_rows(rows, size) -> None:
    frame = pd.DataFrame({"a": range(12), "b": list("abcdefghijkl")})
    table = MappedTable.of_frame(frame)

    part = table.frame(["b"], np.sort(rows))
    assert part.index.tolist() == sorted(rows)
    assert part["b"].tolist() == frame["b"].iloc[sorted(rows)].tolist()
    assert pd.concat(table.chunks(["b", "a"], size)).equals(frame[["b", "a"]])


def test_the_entry_is_stale_when_a_source_or_version_changes(tmp_path: Path, monkeypatch) -> None:
    source = tmp_path / "train.csv"
    source.write_text("a\n1\n")
    cache = tmp_path / "cache"

    def table(make):
        return cached_table(cache, {"of": "a"}, {"files": file_facts([source])}, make)

    table(lambda: (pd.DataFrame({"a": [1]}), {}))
    table(never)
    os.utime(source, ns=(1, 1))
    with pytest.warns(UserWarning, match=r"stale: .*train\.csv' changed"):
        found = table(lambda: (pd.DataFrame({"a": [2]}), {}))
    assert found.frame(["a"])["a"].tolist() == [2]
    monkeypatch.setattr(
        "lightning_fastrecipes.data.common.cache_entry.version", lambda name: f"{name} 9"
    )
    with pytest.warns(UserWarning, match="stale: .*'lightning-fastrecipes', 'pandas', 'pyarrow'"):
        table(lambda: (pd.DataFrame({"a": [3]}), {}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, "a", 2, "b"], r"'odd' must hold .* one type .* int, and str in rows 1, 3 \("),
        ([None, "a", b"b"], r"'odd' must hold .* str, and bytes in row 2 \("),
        (pd.Categorical([1, "a", 1]), r"'odd' must hold .* int, and str in row 1 \("),
    ],
    ids=["numbers-and-text", "text-and-bytes", "categories"],
)
def test_a_column_of_mixed_types_is_named_with_its_rows(tmp_path, values, message) -> None:
    values = values if isinstance(values, pd.Categorical) else pd.Series(values, dtype=object)
    frame = pd.DataFrame({"fine": range(len(values)), "odd": values})

    with pytest.raises(DataError, match=message):
        cached_table(tmp_path, {}, {}, lambda: (frame, {}))


def test_columns_of_one_name_or_none_are_named() -> None:
    frame = pd.DataFrame([[1, 2, 3, 4, 5]], columns=["a", "b", "a", "c", "b"])
    with pytest.raises(
        DataError, match="must have each column once, but has 'a', 'b' more than once"
    ):
        arrow_table(frame)
    with pytest.raises(DataError, match=r"must have names, but there are \[0, 2\]"):
        arrow_table(pd.DataFrame([[1, 2, 3]], columns=[0, "a", 2]))


def test_named_levels_of_an_index_become_columns() -> None:
    frame = pd.DataFrame({"a": [1, 2, 3]}, index=[5, 5, 6])
    two = frame.set_index([pd.Index([7, 8, 9], name="b"), pd.Index([1, 1, 1])])
    clash = frame.rename_axis("a")

    assert plain_index(frame).to_dict("list") == {"a": [1, 2, 3]}
    assert plain_index(frame).index.equals(pd.RangeIndex(3))
    assert plain_index(two).to_dict("list") == {"b": [7, 8, 9], "a": [1, 2, 3]}
    assert plain_index(clash).to_dict("list") == {"a": [1, 2, 3]}
    assert frame.index.tolist() == [5, 5, 6]


def test_the_digest_follows_names_types_values_and_order() -> None:
    frame = whole()
    others = [
        frame.rename(columns={"small": "little"}),
        frame.astype({"small": "int16"}),
        frame.assign(flag=[True, True, True]),
        frame.iloc[::-1],
        frame[frame.columns[::-1]],
        frame.assign(text=["a", "b", "c"]),
        frame.iloc[:2],
    ]

    assert frame_digest(frame) == frame_digest(frame.copy())
    assert frame_digest(frame) == frame_digest(frame.set_axis([3, 4, 5]))
    assert len({frame_digest(other) for other in [frame, *others]}) == len(others) + 1
