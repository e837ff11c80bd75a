"""Rises of the training loss, on losses made for it."""

import math

import numpy as np
import pytest

from lightning_fastrecipes.functional.training.rising_loss import LossTrend


def rises(losses, lrs=None, factor=2.0):
    trend, lrs = LossTrend(), [1e-3] * len(losses) if lrs is None else lrs
    found = [trend.update(float(x), float(lr), factor) for x, lr in zip(losses, lrs, strict=True)]
    return [(step, rise) for step, rise in enumerate(found) if rise is not None]


def falling(num_steps, seed, noise=0.05):
    clean = 0.1 + 0.6 * np.exp(-np.arange(num_steps) / 60)
    return clean + np.random.default_rng(seed).normal(0, noise, num_steps)


@pytest.mark.parametrize("seed", range(5))
def test_a_rise_is_told_once_and_soon(seed):
    steps = np.arange(700)
    found = rises(falling(700, seed) + np.maximum(0, steps - 400) * 0.01)
    assert len(found) == 1
    step, rise = found[0]
    assert 400 < step < 470
    assert rise.loss > 2 * rise.lowest
    assert rise.lowest == pytest.approx(0.1, abs=0.03)


def test_rates_of_0_are_rates():
    losses, lrs = [0.2] * 100 + [1.0] * 60, [0.0, *[1e-3] * 98, 0.0, *[1e-3] * 59, 0.0]
    assert [step // 100 for step, _ in rises(losses, lrs)] == [1]


def test_a_second_rise_is_told_after_the_first_is_over():
    losses = [0.2] * 100 + [1.0] * 100 + [0.2] * 400 + [1.0] * 100
    assert [step // 100 for step, _ in rises(losses)] == [1, 6]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("law", ["normal", "gamma", "lognormal"])
def test_noise_alone_is_no_rise(law, seed):
    draw = np.random.default_rng(seed)
    losses = {
        "normal": lambda: draw.normal(0.1, 0.1, 1500),
        "gamma": lambda: draw.gamma(1.0, 0.05, 1500),
        "lognormal": lambda: 0.05 * np.exp(draw.normal(0, 1.2, 1500)),
    }[law]()
    assert rises(losses) == []


def cycles(num_steps, length, peak=1e-2):
    return [peak * 0.5 * (1 + math.cos(math.pi * (s % length) / length)) for s in range(num_steps)]


@pytest.mark.parametrize("seed", range(5))
def test_the_bump_after_a_restart_is_expected_and_a_blow_up_there_is_not(seed):
    lrs = np.array(cycles(600, 150))
    losses = falling(600, seed, 0.02) - 0.05 + 60 * lrs
    assert rises(losses, lrs) == []
    blown = losses + (np.arange(600) >= 300) * 5.0
    (step, _), *rest = rises(blown, lrs)
    assert 300 <= step < 340
    assert not rest
    assert len(rises(losses, [1e-3] * 600)) > 0  # without a look at the rates it were a rise


def test_a_rate_that_rises_is_compared_with_the_start():
    lrs = np.geomspace(1e-5, 1e-2, 200)
    assert rises(0.1 + 30 * lrs, lrs)
    assert rises(0.7 - 0.5 * np.linspace(0, 1, 200) + 40 * lrs * (lrs > 5e-3), lrs) == []


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_a_rise(value):
    found = rises([0.5] * 50 + [value] * 3)
    assert [step for step, _ in found] == [50]


def test_losses_below_zero_rise_too():
    assert rises([-2.0] * 100 + [1.0] * 100)
    assert rises([-2.0] * 100 + [-1.9] * 100) == []


@pytest.mark.parametrize("begin", [1, 2, 5])
def test_an_explosion_in_the_first_steps_is_told(begin):
    draw = np.random.default_rng(begin)
    losses = np.where(np.arange(60) < begin, 2.3, 40.0) * np.exp(draw.normal(0, 0.3, 60))
    (step, rise), *rest = rises(losses)
    assert step == 19
    assert rise.lowest == losses[0]
    assert not rest


def test_a_first_loss_that_is_low_by_chance_is_no_start():
    draw = np.random.default_rng(0)
    for law in (draw.normal(0.1, 0.1, (1000, 60)), 0.05 * np.exp(draw.normal(0, 1.2, (1000, 60)))):
        assert sum(bool(rises(losses)) for losses in law) <= 5


@pytest.mark.parametrize("seed", range(5))
def test_an_explosion_is_told_however_wild_its_losses_are(seed):
    """As at a rate of 50: from 1e4 to 1e23, so that their own deviation hides any mean."""
    wild = 10 ** np.random.default_rng(seed).uniform(2, 20, 400)
    for calm in (0, 1, 300):
        found = rises([1.1, *falling(calm, seed), *wild, *[1e30] * 2, *wild])
        assert len(found) == 1
        assert found[0][0] <= calm + 22
        assert found[0][1].lowest < 1.2


@pytest.mark.parametrize("seed", range(5))
def test_a_restart_of_steep_cycles_is_expected(seed):
    """The loss of a short cycle falls to a tenth, and is back at once where the next begins."""
    lrs = np.array(cycles(600, 60))
    losses = 0.02 + 60 * lrs + np.random.default_rng(seed).normal(0, 0.005, 600)
    assert rises(losses, lrs) == []
