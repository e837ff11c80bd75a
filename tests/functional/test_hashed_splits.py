"""Splits of long tables: by a hash of the row number, and by time."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_fastrecipes.functional.splits import _mixed, hashed_split, time_split

GOLDEN = [1, 9, 15, 17]
FRACTIONS = st.sampled_from([[0.8, 0.2], [0.5, 0.25, 0.25], [1.0, 0.0], [0.1, 0.0, 0.9]])


@given(st.integers(0, 200), FRACTIONS, st.integers(-5, 5))
def test_every_row_is_of_one_part_and_parts_have_their_sizes(num_rows, fractions, seed):
    parts = hashed_split(num_rows, fractions, seed)

    assert sorted(np.concatenate(parts).tolist()) == list(range(num_rows))
    for part, fraction in zip(parts, fractions, strict=True):
        assert abs(len(part) - num_rows * fraction) < 1
        assert (np.diff(part) > 0).all()


def test_numbers_are_scrambled_as_splitmix64_publishes_it():
    assert hex(_mixed(np.zeros(1, np.uint64))[0]) == "0xe220a8397b1dcdaf"


def test_the_split_of_a_seed_is_the_same_everywhere():
    assert hashed_split(20, [0.8, 0.2], seed=0)[1].tolist() == GOLDEN
    assert hashed_split(20, [0.8, 0.2], seed=1)[1].tolist() != GOLDEN


def test_rows_added_at_the_end_hardly_move_the_others():
    before = hashed_split(10_000, [0.8, 0.2], seed=3)[1]
    after = hashed_split(10_100, [0.8, 0.2], seed=3)[1]

    assert len(np.setxor1d(before, after[after < 10_000])) < 60


def test_parts_are_not_runs_of_neighbours():
    val = hashed_split(100_000, [0.8, 0.2], seed=0)[1]

    gaps = np.bincount(np.diff(val), minlength=4)[1:4] / len(val)
    assert gaps == pytest.approx([0.2, 0.16, 0.128], abs=0.01)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), FRACTIONS)
def test_no_row_is_later_than_one_of_a_later_part_and_no_date_is_cut(days, fractions):
    dates = np.array(days, dtype="datetime64[D]")
    parts = time_split(dates, fractions)

    assert sorted(np.concatenate(parts).tolist()) == list(range(len(days)))
    filled = [dates[part] for part in parts if len(part)]
    for early, late in pairwise(filled):
        assert early.max() < late.min()


def test_a_later_part_takes_a_date_as_a_whole():
    dates = np.array([4, 1, 2, 2, 2, 3, 5, 6, 7, 8], dtype="datetime64[D]")

    train, val, test = time_split(dates, [0.3, 0.4, 0.3])

    assert train.tolist() == [1]
    assert val.tolist() == [0, 2, 3, 4, 5, 6]
    assert test.tolist() == [7, 8, 9]


@pytest.mark.parametrize("fractions", [[0.5, 0.6], [-0.5, 1.5], []], ids=str)
def test_fractions_that_do_not_share_out_everything_are_refused(fractions):
    with pytest.raises(ValueError, match="`fractions` must be at least 0 each and sum to 1"):
        hashed_split(4, fractions, 0)
    with pytest.raises(ValueError, match="`fractions` must be at least 0 each and sum to 1"):
        time_split(np.array([1], "datetime64[D]"), fractions)
