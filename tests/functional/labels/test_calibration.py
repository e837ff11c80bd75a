import numpy as np
import pytest

from lightning_fastrecipes.functional.labels.calibration import (
    at_temperature,
    calibration_error,
    fit_temperature,
    reliability,
)


def test_the_calibration_error_is_worked_out_by_hand() -> None:
    confidence = np.array([0.95, 0.95, 0.65, 0.65, 0.65])
    bins = reliability(confidence, np.array([True, False, True, True, False]))
    assert [(one.count, one.low, one.high) for one in bins] == [(3, 0.6, 0.7), (2, 0.9, 1.0)]
    # 2/5 of |0.95 - 0.5| and 3/5 of |0.65 - 2/3|
    assert calibration_error(bins) == pytest.approx(0.4 * 0.45 + 0.6 * (2 / 3 - 0.65))


def test_a_confidence_of_one_is_in_the_last_bin() -> None:
    assert reliability(np.array([1.0]), np.array([True]))[0].low == 0.9


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_a_temperature_is_found_again(temperature) -> None:
    generator = np.random.default_rng(0)
    true = generator.dirichlet([1.0, 1.0, 1.0], 2000)
    drawn = np.array([generator.choice(3, p=row) for row in true])
    own = fit_temperature(true, drawn)
    assert own == pytest.approx(1.0, rel=0.1)
    distorted = at_temperature(true, 1 / temperature)
    assert fit_temperature(distorted, drawn) == pytest.approx(temperature * own, rel=0.02)


def test_no_other_temperature_has_a_lower_loss() -> None:
    generator = np.random.default_rng(1)
    p, targets = generator.dirichlet([0.3] * 4, 300), generator.integers(0, 4, 300)
    found = fit_temperature(p, targets)

    def loss(temperature) -> float:
        mended = at_temperature(p, temperature)
        return -np.log(mended[np.arange(300), targets] + 1e-300).mean()

    assert all(loss(found) <= loss(found * factor) for factor in (0.8, 0.95, 1.05, 1.25))
