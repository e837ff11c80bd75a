import numpy as np
import pytest

from lightning_fastrecipes.functional.choosing import choose, standard_error

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=400) ** 2


def test_a_better_model_must_be_so_by_more_than_one_standard_error() -> None:
    noise = RNG.normal(size=400)
    noise -= noise.mean()
    error = standard_error(noise)
    just_not = {"simple": ROWS, "complex": ROWS + noise - 0.9 * error}
    assert choose(just_not).name == "simple"
    just = {"simple": ROWS, "complex": ROWS + noise - 1.1 * error}
    assert choose(just).name == "complex"
    assert "against simple" in choose(just).sentence


def test_the_difference_is_paired() -> None:
    # Each row is better by a hair: the spread between rows says nothing about that.
    assert choose({"simple": ROWS, "complex": ROWS - 1e-3}).name == "complex"


def test_the_simplest_of_those_that_are_close_is_taken() -> None:
    noise = RNG.normal(size=400)
    names = {"a": ROWS + 1, "b": ROWS + 0.001 * noise, "c": ROWS}
    assert choose(names).name in ("b", "c")
    assert choose({"a": ROWS + 1, "b": ROWS, "c": ROWS}).name == "b"


def test_rows_must_be_the_same() -> None:
    with pytest.raises(ValueError, match="same rows"):
        choose({"a": ROWS, "b": ROWS[1:]})
    with pytest.raises(ValueError, match="same rows"):
        choose({})
