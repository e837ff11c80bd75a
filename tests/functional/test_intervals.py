import numpy as np
import pytest

from lightning_fastrecipes.functional.intervals import (
    bootstrap_interval,
    mean_interval,
    share_interval,
)


@pytest.mark.parametrize(
    ("count", "total", "expected"),
    [
        # Newcombe (1998), table I, method 3
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
        (0, 0, (0.0, 1.0)),
    ],
)
def test_shares_are_those_of_the_literature(count, total, expected) -> None:
    assert share_interval(count, total) == pytest.approx(expected, abs=5e-5)


def test_the_bootstrap_of_a_mean_is_that_of_the_formula() -> None:
    values = np.random.default_rng(0).normal(5.0, 2.0, 400)
    drawn = bootstrap_interval(lambda rows: float(values[rows].mean()), 400, num_draws=2000)
    assert drawn == pytest.approx(mean_interval(values), abs=0.04)


def test_too_few_rows_have_no_interval() -> None:
    assert np.isnan(mean_interval(np.array([1.0]))).all()
    assert np.isnan(bootstrap_interval(lambda rows: 0.0, 1)).all()
