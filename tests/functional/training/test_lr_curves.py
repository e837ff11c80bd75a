"""Curves of an LR finder: golden values, and picks on noisy synthetic curves, 20 seeds each."""

import math
import re
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_fastrecipes.functional.training.lr_curves import (
    Rule,
    has_diverged,
    smooth_losses,
    suggest_lr,
    sweep_lrs,
)

LRS = sweep_lrs(1e-7, 10.0, num_steps=100)
DECADES = np.log10(LRS)


# Losses at rates from 1e-7 to 0.045, by equal factors.
SECOND_SEARCH = [
    0.124,
    0.0542,
    0.0933,
    0.0267,
    0.0497,
    0.0753,
    0.0766,
    0.0416,
    0.182,
    0.0959,
    0.222,
    0.111,
    0.0383,
    0.0135,
    0.214,
    0.143,
    0.0801,
    0.129,
    0.139,
    0.173,
    0.0129,
    0.116,
    0.0337,
    0.0549,
    0.0746,
    0.0538,
    0.041,
    0.0607,
    0.0888,
    0.0316,
    0.0291,
    0.0652,
    0.0209,
    0.108,
    0.0518,
    0.0413,
    0.0591,
    0.0682,
    0.0209,
    0.0123,
    0.0294,
    0.117,
    0.0708,
    0.0681,
    0.0108,
    0.0456,
    0.0755,
    0.0326,
    0.0616,
    0.19,
    0.123,
    0.126,
    0.188,
    0.0676,
    0.0628,
    0.2,
    0.208,
    0.0893,
    0.368,
    0.0933,
    0.786,
    0.19,
    0.382,
    0.242,
    0.194,
    0.307,
    1.57,
    1.13,
    1.03,
    1.23,
    2.36,
]


def fall(depth: float, centre: float, width: float) -> np.ndarray:
    return depth / (1 + np.exp(-(DECADES - centre) / width))


# Start, fall and blow-up of the loss, over the decades of the rate.
CURVES = {
    "from-scratch": 2.3 - fall(1.6, -2.5, 0.35) + np.exp(DECADES / 0.22),
    "shallow": 0.69 - fall(0.25, -3.2, 0.5) + 0.3 * np.exp((DECADES + 0.3) / 0.2),
    "narrow": 1.0 - fall(0.7, -2.0, 0.25) + np.exp((DECADES + 0.8) / 0.2),
    "wide": 4.6 - fall(3.5, -3.5, 0.6) + np.exp((DECADES - 0.3) / 0.3),
}
EXPLODED = {"from-scratch": 99, "shallow": 95, "narrow": 87, "wide": 100}


def stopped(losses) -> list[float]:
    """Cut a curve where a sweep would stop."""
    losses = [float(loss) for loss in losses]
    ends = (end for end in range(1, len(losses)) if has_diverged(losses[:end]))
    return losses[: next(ends, len(losses))]


def read(losses):
    losses = stopped(losses)
    return suggest_lr(LRS[: len(losses)], losses)


def noisy(name: str, share: float, seed: int) -> np.ndarray:
    curve = CURVES[name]
    return curve + np.random.default_rng(seed).normal(0, share * curve[0], len(curve))


def test_geometric_rates_rise_by_the_factor_of_fastai():
    lrs = sweep_lrs(1e-5, 10.0, num_steps=101)
    assert lrs[1] / lrs[0] == pytest.approx(1.14815, abs=1e-5)
    assert (lrs[0], lrs[50], lrs[100]) == pytest.approx((1e-5, 1e-2, 10.0))


def test_linear_rates_rise_by_equal_steps():
    assert sweep_lrs(0.1, 0.5, 5, "linear") == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param((1.0, 0.1, 100), "below `max_lr`, but they are 1.0 and 0.1", id="reversed"),
        pytest.param((0.0, 0.1, 100), "`min_lr` must be above 0", id="zero"),
        pytest.param((-1.0, 0.1, 100), "`min_lr` must be above 0", id="negative"),
        pytest.param((0.1, math.inf, 100), "but they are 0.1 and inf", id="endless"),
        pytest.param((0.1, 1.0, 1), "`num_steps` must be at least 2, got 1", id="one-step"),
        pytest.param((0.1, 1.0, 9, "log"), "`spacing` must be .* got 'log'", id="spacing"),
    ],
)
def test_bad_ranges_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        sweep_lrs(*arguments)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=40), st.floats(0, 0.99))
def test_smoothing_is_the_weighted_mean_of_the_past(losses, smoothing):
    weights = [[smoothing ** (n - i) for i in range(n + 1)] for n in range(len(losses))]
    expected = [np.average(losses[: n + 1], weights=weights[n]) for n in range(len(losses))]
    assert smooth_losses(losses, smoothing) == pytest.approx(expected, abs=1e-9)


def test_smoothing_starts_without_the_bias_of_lightning():
    # Lightning's debiasing gives .505, .673 and .758 of a constant at first.
    assert smooth_losses([3.0] * 100) == pytest.approx([3.0] * 100, rel=1e-12)
    assert smooth_losses([]) == []


def test_smoothing_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"`smoothing` must lie in \[0, 1\), got 1.0"):
        smooth_losses([1.0], smoothing=1.0)


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        pytest.param([], False, id="nothing-yet"),
        pytest.param([1.0, math.nan], True, id="not-a-number"),
        pytest.param([1.0, math.inf], True, id="infinite"),
        pytest.param([1.0] * 9 + [1e3], False, id="a-spike-within-ten-steps"),
        pytest.param([1.0] * 11 + [1e3], True, id="a-jump-after-them"),
        pytest.param([1.0] * 30 + [0.1] * 30, False, id="falling"),
        pytest.param([1.0] * 30 + [0.01] * 300 + [0.5], False, id="below-the-start-again"),
        # A head that is right on 98 % already: batches of 32, rates still far too low to harm.
        pytest.param(
            [0.002, 0.035, 0.02, 0.008, 0.006, 0.004, 0.012, 0.043, 0.043, 0.008, 0.052, 0.065]
            + [0.001, 0.056, 0.18, 0.047, 0.08, 0.107, 0.003, 0.047, 0.0, 0.23, 0.004, 0.6],
            False,
            id="next-to-nothing-and-noise",
        ),
        pytest.param([-1.0] * 30 + [-0.5] * 5, False, id="negative-losses-that-rise-a-little"),
        pytest.param([-1.0] * 30 + [200.0], True, id="negative-losses-that-explode"),
    ],
)
def test_divergence(losses, expected):
    assert has_diverged(losses) is expected


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1], ids=lambda share: f"noise-{share}")
@pytest.mark.parametrize("name", CURVES)
def test_default_pick_on_noisy_curves_is_that_of_the_clean_one(name, share):
    truth = read(CURVES[name]).picks["midway"]
    found = [read(noisy(name, share, seed)).picks.get("midway", math.nan) for seed in range(20)]
    # The bottom of the wide curve is flat over a decade and a half: noise hides where it is lowest.
    factor = 10 if name == "wide" else 3
    assert sum(truth / factor <= lr <= truth * factor for lr in found) >= 19


@pytest.mark.parametrize("name", CURVES)
def test_the_pick_of_the_course_lies_where_the_loss_still_falls(name):
    curve = CURVES[name]
    lr = read(curve).picks["course"]
    assert lr <= LRS[int(curve.argmin())] / 9
    before, after = (np.interp(np.log10(lr) + shift, DECADES, curve) for shift in (-0.25, 0.25))
    assert before - after > 0.05 * (curve[0] - curve.min())


def test_the_pick_of_the_course_lies_one_to_two_orders_below_the_minimum():
    lrs = sweep_lrs(1e-6, 1.0, 100)
    losses = [0.7 - 0.5 / (1 + 1e-4 / lr) + lr**3 for lr in lrs]  # half of the fall is early
    pick, lowest = suggest_lr(lrs, losses).picks["course"], lrs[int(np.argmin(losses))]
    assert 1 <= np.log10(lowest / pick) <= 2
    assert pick > 5e-4


@pytest.mark.parametrize("name", CURVES)
def test_the_largest_falling_rate_is_above_the_steepest_and_below_the_minimum(name):
    picks = read(CURVES[name]).picks
    curve = CURVES[name]
    assert picks["steepest"] <= picks["largest_falling"] <= LRS[int(curve.argmin())]
    before, after = (
        np.interp(np.log10(picks["largest_falling"]) + shift, DECADES, curve)
        for shift in (-0.1, 0.1)
    )
    assert before - after > 0.02 * (curve[0] - curve.min())


@pytest.mark.parametrize("name", CURVES)
def test_the_default_pick_is_midway_from_half_of_the_fall_to_the_lowest_loss(name):
    picks, curve = read(CURVES[name]).picks, CURVES[name]
    lowest = int(curve.argmin())
    half = np.flatnonzero(curve[:lowest] >= (curve[0] + curve[lowest]) / 2)[-1]
    middle = math.sqrt(LRS[half] * LRS[lowest])
    assert picks["midway"] == pytest.approx(middle, rel=0.25)
    assert curve[np.searchsorted(LRS, 2 * picks["midway"])] < curve[half]


def test_every_rule_picks_what_its_definition_says():
    picks = read(CURVES["from-scratch"]).picks
    assert list(picks) == list(get_args(Rule))
    # The fall is a logistic curve about 10^-2.5, where it is steepest and half done.
    assert picks["course"] == pytest.approx(10**-2.5, rel=0.2)
    assert picks["steepest"] == pytest.approx(10**-2.5, rel=0.2)
    lowest = LRS[int(CURVES["from-scratch"].argmin())]
    assert lowest / 20 < picks["minimum/10"] < lowest / 5
    assert 1e-4 < picks["valley"] < lowest
    assert picks["slide"] > picks["steepest"]


def test_rules_that_agree_are_told_from_rules_that_do_not():
    picks = read(CURVES["narrow"])
    assert picks.agreement == min(picks.picks.values()) / max(picks.picks.values())
    assert 0 < picks.agreement < 1
    assert math.isnan(suggest_lr(LRS, [1.0] * 100).agreement)


def test_a_flat_curve_that_rises_has_a_pick_before_the_rise():
    """The curve of a second search, after the head was trained: cats and dogs, batches of 32."""
    lrs = list(np.geomspace(1e-7, 0.04535, len(SECOND_SEARCH)))
    found = suggest_lr(lrs, SECOND_SEARCH)
    assert found.refusal is None
    assert list(found.picks) == ["before_rise"]
    assert 3e-5 < found.picks["before_rise"] < 3e-4


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("level", "noise"), [(0.05, 0.03), (0.7, 0.05), (2.3, 0.3), (-1.0, 0.1)])
def test_the_pick_before_a_rise_is_about_an_order_below_it(level, noise, seed):
    clean = level + np.maximum(0, DECADES + 3) ** 2 * 5 * (abs(level) + noise)
    losses = stopped(clean + np.random.default_rng(seed).normal(0, noise, len(clean)))
    found = suggest_lr(LRS[: len(losses)], losses)
    assert 10**-4.6 < found.picks["before_rise"] < 10**-3.2


@pytest.mark.parametrize("seed", range(20))
def test_noise_alone_is_refused(seed):
    losses = 1 + np.random.default_rng(seed).normal(0, 0.1, 100)
    suggestion = suggest_lr(LRS, list(losses))
    assert suggestion.picks == {}
    assert "no more than its noise may do. Use more steps" in suggestion.refusal


@pytest.mark.parametrize(
    ("losses", "reason"),
    [
        pytest.param([1.0] * 100, "the loss falls by .* from 1, no more than", id="flat"),
        pytest.param(1 + np.exp((DECADES + 6) * 2), "rises from the start", id="rising"),
        pytest.param(2 - fall(1, 1.0, 0.5), "still falls .* Raise `max_lr`", id="still-falling"),
        pytest.param([1.0] * 19, "at least 20 points with a finite loss, got 19", id="too-few"),
        pytest.param([math.nan] * 30, "finite loss, got 0", id="not-a-number"),
        pytest.param([1.0] * 15 + [math.nan] * 30, "finite loss, got 15", id="soon-not-a-number"),
    ],
)
def test_curves_that_tell_nothing_are_refused_with_the_reason(losses, reason):
    suggestion = read(losses) if len(losses) == 100 else suggest_lr(LRS[: len(losses)], losses)
    assert suggestion.picks == {}
    assert suggestion.refusal is not None
    assert re.search(reason, suggestion.refusal)


def test_what_follows_a_number_that_is_not_finite_is_left_out():
    curve = CURVES["from-scratch"]
    end = EXPLODED["from-scratch"]
    broken = [*curve[:end], math.nan, 0.0][: len(LRS)]
    assert suggest_lr(LRS[: len(broken)], broken) == suggest_lr(LRS[:end], list(curve[:end]))


def test_linear_spacing_has_picks_too():
    lrs = sweep_lrs(1e-3, 1.0, 200, "linear")
    losses = [2 - 1 / (1 + (0.05 / lr) ** 2) + (lr / 0.7) ** 6 for lr in lrs]
    assert 0.02 < suggest_lr(lrs, losses).picks["steepest"] < 0.1


def test_a_loss_must_be_there_for_each_rate():
    with pytest.raises(ValueError, match="a loss for each rate, got 1 for 2"):
        suggest_lr([0.1, 0.2], [1.0])
