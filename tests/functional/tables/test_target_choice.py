import numpy as np
import pandas as pd
import pytest

from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.tables.target_choice import choose_task, guess_target

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (np.resize(["a", "b", "c"], 100), "classes"),
        (np.resize([True, False], 100), "classes"),
        (np.resize([0, 1], 100), "classes"),
        (np.resize([0, 1], 6), "classes"),
        (np.resize(np.arange(10), 100), "classes"),
        (np.resize(np.arange(11), 110), "regression"),
        (np.resize(np.arange(10), 99), "regression"),
        (np.resize([0.5, 1.5], 100), "regression"),
    ],
)
def test_classes_and_numbers(values, task) -> None:
    assert choose_task(pd.Series(values)).task == task


def test_the_rarest_class_is_counted_and_gaps_are_none() -> None:
    choice = choose_task(pd.Series(["a"] * 90 + ["b"] * 7 + [None] * 3))
    assert (choice.num_classes, choice.rarest) == (2, 7)


def test_logarithms_are_for_skewed_numbers_above_0() -> None:
    prices = np.exp(RNG.normal(size=2000))
    assert choose_task(pd.Series(prices)).log
    assert not choose_task(pd.Series(prices - 1)).log
    assert not choose_task(pd.Series(RNG.normal(100, 1, size=2000))).log
    assert "the least is -" in choose_task(pd.Series(prices - 1)).log_reason


def test_one_value_cannot_be_predicted() -> None:
    with pytest.raises(DataError, match="two different values"):
        choose_task(pd.Series([1.0, 1.0, None], name="y"))


@pytest.mark.parametrize(
    ("names", "target"),
    [(["y", "x"], "y"), (["a", "Target", "b"], "Target"), (["label", "class", "b"], "b")],
)
def test_a_target_is_guessed_by_its_name_or_place(names, target) -> None:
    assert guess_target(pd.DataFrame([[1] * len(names)], columns=names))[0] == target
