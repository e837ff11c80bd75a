"""Schedules against values worked out by hand, torch's own scheduler, and their properties."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_fastrecipes.functional.training.one_cycle import (
    flat_cosine_factor,
    one_cycle_factor,
    one_cycle_momentum,
)
from lightning_fastrecipes.functional.training.schedules import (
    cycle_ends,
    cycle_lengths,
    epochs_for_cycles,
    simulate,
    triangular_factor,
    warm_restart_factor,
)

SMALL = st.integers(1, 5)


def simulate_restarts(num_epochs: int, steps_per_epoch: int, *cycle: float) -> torch.Tensor:
    return simulate(lambda epoch: warm_restart_factor(epoch, *cycle), num_epochs, steps_per_epoch)


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        pytest.param(0, 1.0, id="start"),
        pytest.param(1 / 3, 0.75, id="a-third"),
        pytest.param(0.5, 0.5, id="halfway"),
        pytest.param(2 / 3, 0.25, id="two-thirds"),
        pytest.param(1, 1.0, id="first-restart"),
        pytest.param(1.5, 0.8535533905932737, id="a-quarter-of-the-doubled-cycle"),
        pytest.param(2, 0.5, id="halfway-through-the-doubled-cycle"),
        pytest.param(3, 1.0, id="second-restart"),
        pytest.param(5, 0.5, id="halfway-through-the-fourfold-cycle"),
        pytest.param(7, 1.0, id="third-restart"),
    ],
)
def test_factor_restarts_at_each_cycle(epoch: float, expected: float) -> None:
    assert warm_restart_factor(epoch, cycle_len=1, cycle_mult=2) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("cycle_len", "cycle_mult", "num_cycles", "expected"),
    [
        pytest.param(1, 1, 3, 3, id="1-1-3"),
        pytest.param(1, 2, 3, 7, id="1-2-3"),
        pytest.param(1, 2, 4, 15, id="1-2-4"),
        pytest.param(2, 2, 3, 14, id="2-2-3"),
        pytest.param(1, 3, 3, 13, id="1-3-3"),
        pytest.param(4, 1, 2, 8, id="4-1-2"),
    ],
)
def test_epochs_for_cycles_are_those_of_fastai(cycle_len, cycle_mult, num_cycles, expected):
    assert epochs_for_cycles(cycle_len, cycle_mult, num_cycles) == expected
    assert cycle_ends(cycle_len, cycle_mult, num_cycles)[-1] == expected
    assert sum(cycle_lengths(cycle_len, cycle_mult, num_cycles)) == expected


def test_cycle_lengths_and_ends_grow_by_the_multiplier() -> None:
    assert cycle_lengths(2, 3, 3) == [2, 6, 18]
    assert cycle_ends(2, 3, 3) == [2, 8, 26]
    assert cycle_ends(2, 3, 0) == []


@pytest.mark.parametrize("cycle_mult", [1, 2, 3, 4], ids="mult-{}".format)
@pytest.mark.parametrize("floor", [0.0, 0.1], ids="floor-{}".format)
def test_curve_equals_that_of_torch_stepped_by_its_counter(cycle_mult: int, floor: float) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    oracle = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
        optimizer, T_0=2 * 5, T_mult=cycle_mult, eta_min=floor
    )
    expected = []
    for _ in range(60 * 5):
        expected.append(oracle.get_last_lr()[0])
        optimizer.step()
        oracle.step()
    curve = simulate_restarts(60, 5, 2, cycle_mult, floor)
    torch.testing.assert_close(curve, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("steps_per_epoch", [1, 3, 7, 10, 391], ids="{}-steps".format)
def test_fifth_cycle_of_multiplier_three_restarts_where_a_logarithm_would_miss_it(
    steps_per_epoch: int,
) -> None:
    assert cycle_ends(1, 3, 5)[-1] == 121
    restart = 121 * steps_per_epoch
    at, before = (
        warm_restart_factor(Fraction(step, steps_per_epoch), 1, 3)
        for step in (restart, restart - 1)
    )
    assert at == 1.0
    assert before < 0.001


@given(cycle_len=SMALL, cycle_mult=SMALL, num_cycles=SMALL, steps_per_epoch=st.integers(2, 997))
def test_every_restart_falls_on_the_first_step_after_a_cycle(
    cycle_len: int, cycle_mult: int, num_cycles: int, steps_per_epoch: int
) -> None:
    step = epochs_for_cycles(cycle_len, cycle_mult, num_cycles) * steps_per_epoch
    lowest = 0.5 * (1 + math.cos(math.pi * (1 - 1 / (cycle_len * steps_per_epoch))))
    cycle = (cycle_len, cycle_mult)
    assert warm_restart_factor(Fraction(step, steps_per_epoch), *cycle) == 1.0
    assert warm_restart_factor(Fraction(step - 1, steps_per_epoch), *cycle) <= lowest + 1e-12


@given(
    epoch=st.floats(0, 1e4),
    cycle_len=st.floats(0.1, 50),
    cycle_mult=st.floats(1.01, 5) | st.just(1),
    floor=st.floats(0, 0.99),
)
def test_factor_stays_between_the_floor_and_one(epoch, cycle_len, cycle_mult, floor) -> None:
    factor = warm_restart_factor(epoch, cycle_len, cycle_mult, floor)
    assert floor - 1e-12 <= factor <= 1.0 + 1e-12


@pytest.mark.parametrize(
    ("cycle_len", "cycle_mult", "restarts"),
    [
        pytest.param(0.1, 1, [0.1, 0.2, 0.3, 0.7, 1.1], id="tenths-of-an-epoch"),
        pytest.param(1, 1.1, [1, 2.1, 3.31, 4.641], id="growth-by-a-tenth"),
        pytest.param(1, 1.5, [1, 2.5, 4.75], id="growth-by-half"),
    ],
)
def test_restarts_of_decimal_cycles_fall_where_the_decimals_add_up(cycle_len, cycle_mult, restarts):
    for epoch in restarts:
        assert warm_restart_factor(epoch, cycle_len, cycle_mult) == 1.0
        assert warm_restart_factor(epoch - 1e-6, cycle_len, cycle_mult) < 1e-6


def test_cycles_fall_to_the_floor_and_no_further() -> None:
    curve = simulate_restarts(1, 1000, 1, 1, 0.2)
    assert curve[0] == 1.0
    assert curve[-1] == pytest.approx(0.2, abs=1e-5)
    assert curve.min() >= 0.2


def test_simulation_gives_one_value_for_each_step() -> None:
    curve = simulate(float, num_epochs=2, steps_per_epoch=4)
    assert curve.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75]
    assert simulate(float, num_epochs=0, steps_per_epoch=4).shape == (0,)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(
            lambda: warm_restart_factor(-1, 1),
            "`epoch` must be a finite number of at least 0, got -1",
            id="negative-epoch",
        ),
        pytest.param(lambda: warm_restart_factor(math.nan, 1), "`epoch`.*got nan", id="nan-epoch"),
        pytest.param(lambda: warm_restart_factor(math.inf, 1), "`epoch`.*got inf", id="endless"),
        pytest.param(
            lambda: warm_restart_factor(1, 0), "`cycle_len` must be .* above 0, got 0", id="empty"
        ),
        pytest.param(
            lambda: warm_restart_factor(1, 1, 0.5),
            "`cycle_mult` must be at least 1, got 0.5. Cycles may grow",
            id="shrinking",
        ),
        pytest.param(
            lambda: warm_restart_factor(1, 1, 1, 1.0),
            r"`floor` must lie in \[0, 1\), got 1.0",
            id="floor",
        ),
        pytest.param(
            lambda: cycle_lengths(0, 1, 1),
            "`cycle_len` must be a whole number of at least 1, got 0. Cycles are counted",
            id="no-length",
        ),
        pytest.param(
            lambda: cycle_ends(1, 1.5, 2), "`cycle_mult` must be a whole number.* 1.5", id="uneven"
        ),
        pytest.param(
            lambda: epochs_for_cycles(1, 1, -1),
            "`num_cycles` must be at least 0, got -1",
            id="less",
        ),
        pytest.param(
            lambda: simulate(float, -1, 1), "`num_epochs` must be at least 0, got -1", id="epochs"
        ),
        pytest.param(
            lambda: simulate(float, 1, 0), "`steps_per_epoch` must be at least 1, got 0", id="steps"
        ),
    ],
)
def test_bad_arguments_are_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def at_steps(function, num_steps: int, steps: tuple[int, ...]) -> list[float]:
    return [function(step / num_steps) for step in steps]


def test_a_cycle_of_fastai_07_is_a_triangle():
    """``use_clr=(20, 8)`` over 40 batches, values of fast.ai 0.7."""
    found = at_steps(lambda t: triangular_factor(t, 1, 1 / 8, 1 / 20), 40, (0, 1, 5, 6, 20, 39))
    assert found == pytest.approx([0.05, 0.24, 1.0, 0.9729, 0.5929, 0.0771], abs=5e-5)


def test_triangles_are_those_of_torch():
    parameter = torch.nn.Parameter(torch.zeros(1))
    for mode, decay in (("triangular", 1.0), ("triangular2", 0.5)):
        optimizer = torch.optim.SGD([parameter], lr=1.0)
        torch_schedule = torch.optim.lr_scheduler.CyclicLR(
            optimizer, 0.2, 1.0, step_size_up=4, step_size_down=6, mode=mode
        )
        expected = []
        for _ in range(35):
            expected.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            torch_schedule.step()
        found = [triangular_factor(Fraction(i, 5), 2, 0.4, 0.2, decay) for i in range(35)]
        assert found == pytest.approx(expected)


def test_one_cycle_is_that_of_fastai_2():
    steps = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
    expected = [0.04, 0.37167, 1.0, 0.75, 0.25001, 0.04324, 0.00001]
    assert [one_cycle_factor(t) for t in steps] == pytest.approx(expected, abs=5e-6)


def test_one_cycle_with_a_tail_is_that_of_fastai_07():
    """``use_clr_beta=(10, 10, .95, .85)`` over 100 batches, values of fast.ai 0.7."""
    parts = {"rise": 0.45, "tail": 0.1, "shape": "linear"}
    steps = (0, 1, 45, 46, 90, 91, 99)
    lrs = at_steps(lambda t: one_cycle_factor(t, start=0.1, end=0.001, **parts), 100, steps)
    assert lrs == pytest.approx([0.1, 0.12, 1.0, 0.98, 0.1, 0.0901, 0.0109])
    momenta = at_steps(lambda t: one_cycle_momentum(t, **parts), 100, steps)
    assert momenta == pytest.approx([0.95, 0.9478, 0.85, 0.8522, 0.95, 0.95, 0.95], abs=3e-5)


@given(st.floats(0, 1), st.sampled_from(["cosine", "linear"]), st.floats(0, 0.5))
def test_momentum_is_low_where_the_rate_is_high(progress, shape, tail):
    factor = one_cycle_factor(progress, 0.3, 0.1, 0.05, tail, shape)
    momentum = one_cycle_momentum(progress, 0.3, 0.95, 0.85, tail, shape)
    assert 0.05 - 1e-9 <= factor <= 1 + 1e-9
    assert 0.85 - 1e-9 <= momentum <= 0.95 + 1e-9
    if factor == 1:
        assert momentum == pytest.approx(0.85)


def test_flat_cosine_holds_and_falls():
    found = [flat_cosine_factor(t, flat=0.5, end=0.1) for t in (0, 0.5, 0.75, 1)]
    assert found == pytest.approx([1.0, 1.0, 0.55, 0.1])


def test_warm_in_rises_from_a_hundredth_to_the_curve_without_it():
    plain = simulate_restarts(2, 10, 1)
    warm = simulate(lambda t: warm_restart_factor(t, 1, warm_in=0.5), 2, 10)
    assert warm[0] == pytest.approx(0.01)
    ramp = torch.tensor([0.01 + 0.99 * i / 5 for i in range(5)], dtype=torch.float64)
    torch.testing.assert_close(warm[:5], plain[:5] * ramp)
    torch.testing.assert_close(warm[5:], plain[5:], rtol=0, atol=0)


@given(SMALL, SMALL, st.floats(0.1, 1))
def test_peaks_decay_by_cycle(cycle_len, cycle_mult, decay):
    for index, end in enumerate(cycle_ends(cycle_len, cycle_mult, 3), start=1):
        found = warm_restart_factor(end, cycle_len, cycle_mult, peak_decay=decay)
        assert found == pytest.approx(decay**index)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(lambda: warm_restart_factor(0, 1, warm_in=2), "`warm_in` must", id="warm"),
        pytest.param(lambda: warm_restart_factor(0, 1, warm_in=-1), "`warm_in` must", id="cold"),
        pytest.param(lambda: warm_restart_factor(0, 1, peak_decay=0), "`peak_decay`", id="decay"),
        pytest.param(lambda: triangular_factor(0, 0), "`cycle_len` must", id="no-length"),
        pytest.param(lambda: triangular_factor(-1, 1), "`epoch` must", id="before-the-start"),
        pytest.param(lambda: triangular_factor(0, 1, rise=1), "`rise` must lie", id="no-fall"),
        pytest.param(lambda: triangular_factor(0, 1, floor=1), "`floor` must lie", id="floor"),
        pytest.param(lambda: triangular_factor(0, 1, peak_decay=2), "`peak_decay`", id="growth"),
        pytest.param(lambda: one_cycle_factor(1.1), "`progress` must lie", id="progress"),
        pytest.param(lambda: one_cycle_factor(0, rise=0), "`rise` must lie", id="no-rise"),
        pytest.param(
            lambda: one_cycle_factor(0, tail=0.8), r"`tail` must .* \[0, 0.75\)", id="tail"
        ),
        pytest.param(lambda: one_cycle_factor(0, start=2), "`start` must lie", id="start"),
        pytest.param(lambda: one_cycle_factor(0, shape="step"), "`shape` must be", id="shape"),
        pytest.param(lambda: one_cycle_momentum(0, high=0.8), "below the high one", id="momenta"),
        pytest.param(lambda: flat_cosine_factor(0, flat=1), "`flat` must lie", id="flat"),
        pytest.param(lambda: flat_cosine_factor(0, end=-1), "`end` must lie", id="end"),
        pytest.param(lambda: flat_cosine_factor(2), "`progress` must lie", id="flat-progress"),
    ],
)
def test_bad_shapes_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
