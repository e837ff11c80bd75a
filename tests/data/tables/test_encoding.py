"""Splits as numbers: learned from the training rows, in chunks, and the same from a cache."""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from lightning_fastrecipes.data.common.split_choice import as_split
from lightning_fastrecipes.data.tables.cache import MappedTable
from lightning_fastrecipes.data.tables.encoding import cached_encoding, encode_rows, encode_splits
from lightning_fastrecipes.data.tables.report import TableReport
from lightning_fastrecipes.data.tables.splits import split_rows
from lightning_fastrecipes.functional.tables.spec import TableSpec

COLUMNS = ["shop", "km", "sales"]
fit = partial(TableSpec.fit, target="sales", categorical=["shop"], continuous=["km"])


def table(num_rows: int = 30) -> pd.DataFrame:
    draw = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "shop": draw.choice(list("abcde"), num_rows),
            "km": np.where(draw.random(num_rows) < 0.3, np.nan, draw.random(num_rows)),
            "sales": draw.random(num_rows) + 1,
            "part": (["train"] * 3 + ["val", "test"]) * (num_rows // 5),
        }
    )


def encoded(frame: pd.DataFrame, chunk_rows: int = 7, split="part"):
    return encode_splits(MappedTable.of_frame(frame), as_split(split), COLUMNS, fit, chunk_rows)


def never():
    raise AssertionError("the cache should have been used")


@pytest.mark.parametrize("chunk_rows", [1, 7, 100])
@pytest.mark.parametrize("split", ["part", None, 0.0], ids=str)
def test_chunks_give_what_the_whole_table_gives(chunk_rows, split) -> None:
    frame = table()
    found = encoded(frame, chunk_rows, split)
    rows = split_rows(as_split(split), frame)

    assert list(found.splits) == [name for name in rows if len(rows[name])]
    for name, one in found.splits.items():
        expected = found.spec.encode(frame.iloc[rows[name]])
        assert np.array_equal(one.rows, rows[name])
        assert np.array_equal(one.codes, expected.codes)
        assert one.codes.dtype == expected.codes.dtype
        assert np.array_equal(one.continuous, expected.continuous)
        assert np.array_equal(one.target, expected.target)
        assert found.report.unknown[name] == expected.unknown
        assert found.report.filled[name] == expected.filled


def test_held_out_rows_change_no_number_of_the_training_rows() -> None:
    frame = table()
    held_out = frame["part"] != "train"
    other = frame.copy()
    other.loc[held_out, "shop"] = "zoo"
    other.loc[held_out, "km"] = 1e6
    other.loc[held_out, "sales"] = 1e6
    one, two = encoded(frame), encoded(other)

    assert one.spec == two.spec
    for part in ("codes", "continuous", "target"):
        first, second = (getattr(found.splits["train"], part) for found in (one, two))
        assert np.array_equal(first, second)
    assert (two.splits["val"].codes == 0).all()
    assert two.report.unknown["val"] == {"shop": 6}


def test_the_cache_gives_the_same_and_makes_nothing(tmp_path) -> None:
    made = encoded(table())
    for make in (lambda: made, never):
        found = cached_encoding(tmp_path, {}, {}, make)
        assert found.spec == made.spec
        assert found.report == made.report
        for name, one in made.splits.items():
            for part, array in vars(one).items():
                mapped = getattr(found.splits[name], part)
                if array is None:  # there are no weights
                    assert mapped is None
                    continue
                assert isinstance(mapped, np.memmap)
                assert mapped.dtype == array.dtype
                assert np.array_equal(mapped, array)


def test_what_is_done_to_mapped_rows_does_not_reach_the_file(tmp_path) -> None:
    cached_encoding(tmp_path, {}, {}, lambda: encoded(table())).splits["train"].codes[:] = 9

    assert (cached_encoding(tmp_path, {}, {}, never).splits["train"].codes != 9).all()


def test_a_column_that_is_constant_in_training_is_noted() -> None:
    frame = table().assign(km=lambda t: np.where(t["part"] == "train", 2.0, 3.0))

    found = encoded(frame)

    assert found.report.constant == ["km"]
    assert (found.splits["train"].continuous == 0).all()


def test_the_report_says_what_was_found() -> None:
    report = TableReport(
        steps=["join store.csv: 2 rows without a match"],
        num_rows={"train": 1000, "val": 5},
        unknown={"train": {}, "val": {"shop": 2}},
        filled={"train": {"km": 1200, "kg": 1}},
    )

    assert str(report).splitlines() == [
        "join store.csv: 2 rows without a match",
        "train: 1,000 rows; gaps filled: 'km' 1,200, 'kg' 1",
        "val: 5 rows; values unknown to training: 'shop' 2",
    ]


def test_an_unknown_value_that_training_knows_by_another_spelling_is_named(tmp_path) -> None:
    held_out = {3: "A ", 4: "\u0430", 8: "zoo", 13: "A "}  # the second is a Cyrillic letter
    frame = table().assign(shop=lambda t: pd.Series(held_out).reindex(t.index).fillna(t["shop"]))
    wanted = {"train": {}, "val": {"shop": {"A ": "a"}}, "test": {"shop": {"\u0430": "a"}}}
    for chunk_rows in (7, 100):
        found = encoded(frame, chunk_rows)
        assert found.report.spelled == wanted
        assert "of 'shop' 'A ' differs from 'a' by spelling alone" in str(found.report)
        assert "zoo" not in str(found.report)
    assert cached_encoding(tmp_path, {}, {}, lambda: found).report == found.report

    many = pd.DataFrame({"shop": [f"{'b'}{' ' * n}" for n in range(1, 8)], "km": 1.0})
    report = encode_rows(many, found.spec)[1]
    assert str(report).endswith(", and 3 others by spelling alone")
    report.include(encode_rows(many.assign(shop="b"), found.spec)[1])
    assert "spelling" not in str(report)


def test_a_column_of_codes_is_not_compared_by_spelling() -> None:
    numbers = table().assign(shop=lambda t: t["shop"].map(ord))
    spec = encoded(numbers).spec
    assert encode_rows(numbers.assign(shop=999), spec)[1].spelled == {"predict": {}}
