"""The learning rate of each layer group."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_fastrecipes.functional.training.group_rates import plain_rates, resolve_group_lrs


@pytest.mark.parametrize(
    ("lr", "lr_ratio", "num_frozen", "expected"),
    [
        pytest.param(1e-2, 1.0, 0, [1e-2, 1e-2, 1e-2], id="one-for-all"),
        pytest.param(1e-2, 10.0, 0, [1e-4, 1e-3, 1e-2], id="ten-times-smaller-each"),
        pytest.param(1e-2, 3.0, 1, [0.0, 1e-2 / 3, 1e-2], id="frozen-has-none"),
        pytest.param(1, 2, 2, [0.0, 0.0, 1.0], id="whole-numbers"),
        pytest.param([1e-4, 1e-3, 1e-2], 1.0, 0, [1e-4, 1e-3, 1e-2], id="named"),
        pytest.param((1e-3, 1e-2), 1.0, 1, [0.0, 1e-3, 1e-2], id="named-for-trained-ones"),
        pytest.param([1e-4, 1e-2], 1.0, 0, [1e-4, 1e-4, 1e-2], id="fewer"),
        pytest.param([1e-5, 1e-4, 1e-3, 1e-2], 1.0, 0, [1e-5, 1e-3, 1e-2], id="more"),
        pytest.param([1e-4, 1e-3, 1e-2], 1.0, 1, [0.0, 1e-4, 1e-2], id="more-than-trained"),
        pytest.param([1e-4, 1e-3, 1e-2], 1.0, 2, [0.0, 0.0, 1e-2], id="head-alone"),
        pytest.param([1e-2], 1.0, 0, [1e-2, 1e-2, 1e-2], id="one-in-an-array"),
        pytest.param(np.array([1e-2 / 9, 1e-2]), 1.0, 1, [0.0, 1e-2 / 9, 1e-2], id="numpy"),
        pytest.param((1e-4, 1e-2), 1.0, 0, [1e-4, 1e-3, 1e-2], id="range"),
        pytest.param(slice(1e-4, 1e-2), 1.0, 0, [1e-4, 1e-3, 1e-2], id="slice"),
        pytest.param({"low": 1e-4, "high": 1e-2}, 1.0, 0, [1e-4, 1e-3, 1e-2], id="range-in-yaml"),
        pytest.param((1e-4, 1e-2), 1.0, 2, [0.0, 0.0, 1e-2], id="range-of-one-group"),
    ],
)
def test_each_group_gets_its_rate(lr, lr_ratio, num_frozen, expected) -> None:
    assert resolve_group_lrs(lr, lr_ratio, 3, num_frozen) == pytest.approx(expected)


def test_frozen_groups_keep_their_rate_where_their_norms_train() -> None:
    rates = resolve_group_lrs(1e-2, 10, 3, 2, train_frozen_norms=True)
    assert rates == pytest.approx([1e-4, 1e-3, 1e-2])
    rates = resolve_group_lrs([1e-3, 1e-2], 1, 3, 1, train_frozen_norms=True)
    assert rates == pytest.approx([1e-3, 1e-3, 1e-2])


@given(
    lr=st.floats(1e-6, 10),
    ratio=st.floats(1, 30),
    num_groups=st.integers(1, 6),
    data=st.data(),
)
def test_trained_rates_differ_by_the_ratio(lr, ratio, num_groups, data) -> None:
    num_frozen = data.draw(st.integers(0, num_groups - 1))
    rates = resolve_group_lrs(lr, ratio, num_groups, num_frozen)
    assert rates[:num_frozen] == [0.0] * num_frozen
    trained = rates[num_frozen:]
    assert trained[-1] == lr
    for earlier, later in pairwise(trained):
        assert later / earlier == pytest.approx(ratio)


@pytest.mark.parametrize(
    ("lr", "lr_ratio", "error", "message"),
    [
        pytest.param(0.0, 1, ValueError, "`lr` must be above 0, got 0.0", id="zero"),
        pytest.param(-1.0, 1, ValueError, "`lr` must be above 0", id="negative"),
        pytest.param(float("nan"), 1, ValueError, "`lr` must be finite", id="nan"),
        pytest.param(float("inf"), 1, ValueError, "`lr` must be finite", id="infinite"),
        pytest.param([1e-3, 0.0], 1, ValueError, "`lr` must be above 0", id="zero-among-rates"),
        pytest.param("1e-3", 1, TypeError, "`lr` must be a number", id="text-from-yaml"),
        pytest.param(True, 1, TypeError, "`lr` must be a number", id="boolean"),
        pytest.param(1e-3, 0.5, ValueError, "`lr_ratio` must be at least 1", id="small-ratio"),
        pytest.param(1e-3, float("inf"), ValueError, "`lr_ratio` must be finite", id="inf-ratio"),
        pytest.param([1e-3, 1e-2], 3, ValueError, "`lr_ratio` must be 1", id="rates-and-ratio"),
        pytest.param([], 1, ValueError, "at least one rate, got none", id="no-rate"),
        pytest.param(
            {"low": 1e-3}, 1, ValueError, r"keys `low` and `high`, got \['low'\]", id="key"
        ),
        pytest.param((1e-2, 1e-3), 1, ValueError, "must rise .* 0.01 to 0.001", id="falling-range"),
        pytest.param((1e-3, 1e-2), 3, ValueError, "`lr_ratio` must be 1", id="range-and-ratio"),
        pytest.param(slice(1e-2), 1, TypeError, "the array \\[lr / 10, lr\\]", id="half-a-slice"),
    ],
)
def test_rates_that_cannot_be_are_refused(lr, lr_ratio, error, message) -> None:
    with pytest.raises(error, match=message):
        resolve_group_lrs(lr, lr_ratio, num_groups=3, num_frozen=1)


@given(st.lists(st.floats(1e-6, 10), min_size=1, max_size=9), st.integers(1, 9))
def test_an_array_is_spread_evenly_with_its_last_rate_for_the_head(given_rates, num_groups):
    *others, head = given_rates
    *found, last = resolve_group_lrs(given_rates, 1, num_groups, 0)
    assert last == head
    if len(given_rates) == num_groups:
        assert [*found, last] == given_rates
    elif not others:
        assert set(found) <= {head}
    elif len(others) > len(found):  # evenly spaced ones, the first and the last among them
        assert found[:1] == others[: len(found)][:1]
        assert len(found) < 2 or found[-1] == others[-1]
    else:  # each serves neighbours, as equally many as can be
        size, longer = divmod(len(found), len(others))
        sizes = {size, size + bool(longer)}
        runs = [index * len(others) // len(found) for index in range(len(found))]
        assert {runs.count(run) for run in range(len(others))} <= sizes
        assert found == [others[run] for run in runs]


@pytest.mark.parametrize(
    ("num_others", "num_groups", "expected"),
    [
        (2, 4, "aab"),
        (2, 5, "aabb"),
        (3, 6, "aabbc"),
        (3, 8, "aaabbcc"),
        (5, 4, "ace"),
        (4, 3, "ad"),
    ],
)
def test_how_the_others_are_spread_is_what_is_written(num_others, num_groups, expected):
    rates = {letter: 10.0 ** (index - 6) for index, letter in enumerate("abcdef")}
    array = [*list(rates.values())[:num_others], 1.0]
    expected_rates = [rates[letter] for letter in expected]
    assert resolve_group_lrs(array, 1, num_groups, 0) == [*expected_rates, 1.0]


@given(st.floats(1e-6, 1e-2), st.floats(1, 1000), st.integers(2, 8))
def test_a_range_rises_by_equal_factors_between_its_ends(low, factor, num_groups):
    rates = resolve_group_lrs((low, low * factor), 1, num_groups, 0)
    assert (rates[0], rates[-1]) == (low, low * factor)
    for earlier, later in pairwise(rates):
        assert later / earlier == pytest.approx(factor ** (1 / (num_groups - 1)))


def test_a_tuple_of_three_is_an_array():
    assert plain_rates((1, 2, 3)) == (1, 2, 3)
