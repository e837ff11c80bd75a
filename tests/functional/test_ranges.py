"""Ranges of numbers: read, drawn evenly, and inverted."""

import numpy as np
import pytest

from lightning_fastrecipes.functional.ranges import (
    Range,
    around,
    best_first,
    find_ranges,
    halving_epochs,
    is_range,
    quasi_random,
    read_range,
)
from lightning_fastrecipes.functional.training.trial_importance import trial_importance

RANGES = [
    Range("uniform", (0.0, 0.5)),
    Range("log_uniform", (1e-5, 1e-1)),
    Range("int_uniform", (1, 8)),
    Range("choice", (16, 32, "all", [200, 100])),
]


@pytest.mark.parametrize("one", RANGES, ids=lambda one: one.kind)
def test_a_value_lies_where_its_share_says(one: Range) -> None:
    shares = np.linspace(0, 0.999, 50)
    for share in shares:
        value = one.value(share)
        # Of whole numbers and choices, the middle of all shares that give it; else 4 digits.
        assert one.value(one.share(value)) == value
        wide = 0.5 / (8 if one.kind == "int_uniform" else 4)
        assert abs(one.share(value) - share) < (wide + 1e-9 if one.kind[0] in "ic" else 1e-3)


def test_whole_numbers_are_equally_likely_and_include_both_ends() -> None:
    one = RANGES[2]
    counts = np.bincount([one.value(share) for share in np.arange(0, 1, 1 / 800)])
    assert counts[1:].tolist() == [100] * 8


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"log_uniform": [0, 1]}, "ends above 0"),
        ({"uniform": [1, 0]}, "the lower end first"),
        ({"uniform": [0]}, "two numbers"),
        ({"uniform": 3}, "two numbers"),
        ({"uniform": [0, float("inf")]}, "two numbers"),
        ({"uniform": [False, True]}, "two numbers"),
        ({"int_uniform": [0.5, 2]}, "two whole numbers"),
        ({"choice": [3]}, "at least two values"),
        ({"choice": [3, 3]}, "all different"),
        ({"log_uniform": "a to b"}, "two numbers"),
    ],
)
def test_wrong_ranges_are_refused_with_an_example(value, said) -> None:
    assert is_range(value)
    with pytest.raises(ValueError, match=said) as caught:
        read_range(value)
    assert f"Write `{{{next(iter(value))}: [" in str(caught.value)


def test_what_is_no_range_stays_what_it_is() -> None:
    plain = {"lr": {"low": 1e-5, "high": 1e-3}, "find": {"find": "valley"}, "list": [1, {"a": 2}]}
    assert find_ranges(plain) == {}
    deep = {"callbacks": [{"init_args": {"cycle_len": {"choice": [1, 2]}}}]}
    assert [*find_ranges(deep)] == [("callbacks", 0, "init_args", "cycle_len")]


def test_points_follow_from_their_number_and_fill_the_cube() -> None:
    points = quasi_random(16, 3, seed=5)
    assert [quasi_random(1, 3, seed=5, first=number)[0] for number in range(16)] == points
    assert quasi_random(16, 3, seed=6) != points
    # Each quarter of each axis has a quarter of the points.
    for axis in np.array(points).T:
        assert np.histogram(axis, 4, (0, 1))[0].tolist() == [4] * 4


def test_points_around_a_centre_stay_in_the_cube() -> None:
    for centre in (0.0, 0.1, 0.5, 0.99):
        found = [around([centre], [share], 0.25)[0] for share in (0.0, 0.5, 0.999)]
        assert 0 <= min(found) <= max(found) < 1
        assert max(found) - min(found) < 0.25


def test_the_best_is_first_and_no_number_is_the_worst() -> None:
    nan = float("nan")
    assert best_first({0: (nan, 0.0), 1: (-0.9, 0.3), 2: (-0.9, 0.2), 3: (-0.9, 0.2)}) == [
        2,
        3,
        1,
        0,
    ]


@pytest.mark.parametrize(
    ("epochs", "ends", "found"),
    [
        (9, [9], [1, 3, 9]),
        (9, [], [1, 3, 9]),
        (10, [*range(1, 11)], [2, 4, 10]),
        (7, [1, 3, 7], [1, 3, 7]),
        (12, [4, 8, 12], [4, 12]),
        (2, [2], [1, 2]),
        (1, [1], [1]),
    ],
)
def test_trials_are_compared_at_ends_of_cycles(epochs, ends, found) -> None:
    assert halving_epochs(epochs, ends) == found


def test_the_importance_is_that_of_the_number_that_decides() -> None:
    shares = np.random.default_rng(1).random((40, 3))
    found = trial_importance(shares, np.where(shares[:, 1] > 0.5, 0.9, 0.1) + 1e-3 * shares[:, 0])
    assert found[1] > 0.6
    assert max(found[0], found[2]) < 0.2
    assert trial_importance(shares, np.ones(40)) == [0.0] * 3
    assert trial_importance(shares[:2], np.array([0.0, 1.0])) == [0.0] * 3
