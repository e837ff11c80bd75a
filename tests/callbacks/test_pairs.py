"""Each of our callbacks beside each of Lightning's: the numbers are right, or it is refused.

The page ``.github/docs/beside_lightning.md`` is made from what is checked here, by
``PYTHONPATH=tests python tests/callbacks/test_pairs.py``.
"""

import re
from functools import cache

import pytest
import pytorch_lightning as pl
import torch
from helpers.pairs import (
    AVERAGING,
    LOOKING,
    OURS,
    PAGE,
    PEAK,
    REFUSED,
    SCHEDULES,
    STEERING,
    STEPS,
    THEIRS,
    Fit,
    fit,
    page,
)
from pytorch_lightning.utilities.types import LRSchedulerConfig
from torch import Tensor

import lightning_fastrecipes as fr
from lightning_fastrecipes._lightning import SetupError

pytestmark = [
    pytest.mark.both,
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:`(ValidationGuard|InitialLossCheck|RisingLossCheck)`"),
]
QUICK = set(OURS) - (set(SCHEDULES) - {"SGDR", "OneCycle"})
"""Schedules share all but their curve; the others are among the slow tests."""


@cache
def alone(name: str) -> Fit:
    return fit(OURS[name]() if name in OURS else THEIRS[name]())


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def zeros(weights: dict[str, Tensor]) -> int:
    return sum(int((value == 0).sum()) for value in weights.values())


def check_theirs(name: str, both: Fit, ours: str) -> None:
    """Check that one of Lightning's does its work."""
    if name in AVERAGING:
        expected = alone(ours)
        for found, step in zip(both.steps, expected.steps, strict=True):
            assert_same(found, step)
        assert_same(both.weights, AVERAGING[name](expected.steps))
    elif "Finetuning" in name:
        # The backbone is frozen in the first epoch.
        first, last, end = both.steps[0], both.steps[STEPS - 1], both.steps[-1]
        key = "backbone.0.weight"
        assert torch.equal(first[key], last[key])
        assert not torch.equal(last[key], end[key])
    elif name == "ModelPruning":
        assert zeros(both.weights) == zeros(alone(name).weights) > 0
    elif name == "GradientAccumulationScheduler":
        assert len(both.rates) == STEPS + STEPS // 2 + STEPS // 2
    else:
        assert name == "StochasticWeightAveraging"
        assert both.rates == alone(name).rates
        assert both.rates[-1] != both.rates[0]


def check_ours(name: str, both: Fit, theirs: str) -> None:
    """Check that one of ours does its work beside one of Lightning's that trains otherwise."""
    if name in SCHEDULES:
        check_rates(name, both, theirs)
        return
    other = alone(theirs)
    assert both.rates == other.rates
    if name == "LRFinder":
        assert_same(both.weights, other.weights)
        assert len(both.callbacks["LRFinder"].curve.losses) > 9
    elif name in {"OverfittingStop", "KeepBest"}:
        history = both.callbacks[name].history
        assert len(history) == 3
        assert both.val_loss() == pytest.approx(min(entry["value"] for entry in history))
    elif name == "Averaging":
        assert_same(both.steps[-1], other.steps[-1])
        expected = dict(both.steps[0])
        for count, step in enumerate(both.steps[1:], start=1):
            share = max(0.5, 9 / (10 + count))
            expected = {n: expected[n].lerp(now, share) for n, now in step.items()}
        torch.testing.assert_close(both.weights, expected)
    elif name == "ImageMixing":
        assert not torch.equal(both.weights["head.weight"], other.weights["head.weight"])
    else:
        assert name == "ProgressiveResizing"
        assert both.trainer.datamodule.image_size == 6


def check_rates(name: str, both: Fit, theirs: str) -> None:
    schedule, heads = OURS[name](), [rates[0] for rates in both.rates]
    each = [STEPS, STEPS // 2, STEPS // 2] if theirs.startswith("Gradient") else [STEPS] * 3
    times = [epoch + step / count for epoch, count in enumerate(each) for step in range(count)]
    assert heads == pytest.approx([PEAK * schedule.factor(time, 3) for time in times])
    if theirs in {"BaseFinetuning", "FinetuningScheduler"}:
        share = 10 if theirs == "BaseFinetuning" else 2
        assert [len(rates) for rates in both.rates] == [1] * STEPS + [2] * 2 * STEPS
        for head, unfrozen in both.rates[STEPS:]:
            assert unfrozen == pytest.approx(head / share)


def check_pair(ours: str, theirs: str) -> None:
    orders = [(theirs, ours)]
    if (ours, theirs) in REFUSED or ours in {"OverfittingStop", "KeepBest", "CycleSnapshots"}:
        orders.append((ours, theirs))
    for order in orders:
        both = [OURS[name]() if name in OURS else THEIRS[name]() for name in order]
        if reason := REFUSED.get((ours, theirs)):
            with pytest.raises(SetupError, match=re.escape(reason.said)):
                fit(*both)
            continue
        done = fit(*both)
        if ours not in STEERING:
            assert done.rates == alone(theirs).rates
            assert_same(done.weights, alone(theirs).weights)
            if ours == "SaveEvery":
                again = [OURS[name]() if name in OURS else THEIRS[name]() for name in order]
                path = done.callbacks[ours].path
                assert_same(fit(*again, ckpt_path=path).weights, done.weights)
            if ours == "CycleSnapshots" and theirs in AVERAGING:
                snapshot = torch.load(done.callbacks[ours].paths[-1], weights_only=True)
                assert_same(snapshot["state_dict"], done.weights)
        elif theirs in LOOKING:
            assert done.rates == alone(ours).rates
            assert_same(done.weights, alone(ours).weights)
        else:
            check_theirs(theirs, done, ours)
            check_ours(ours, done, theirs)


@pytest.mark.parametrize("theirs", THEIRS)
@pytest.mark.parametrize("ours", sorted(QUICK))
def test_a_pair_works_or_is_refused(ours, theirs) -> None:
    check_pair(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("theirs", THEIRS)
@pytest.mark.parametrize("ours", sorted(set(OURS) - QUICK))
def test_a_pair_of_another_schedule_works_or_is_refused(ours, theirs) -> None:
    check_pair(ours, theirs)


def test_every_public_callback_has_a_row() -> None:
    classes = [getattr(fr, name) for name in fr.__all__ if isinstance(getattr(fr, name), type)]
    assert set(OURS) == {one.__name__ for one in classes if issubclass(one, pl.Callback)}


def test_a_scheduler_that_comes_within_a_fit_is_refused_when_it_comes() -> None:
    class Brings(pl.Callback):
        def on_train_epoch_start(self, trainer, pl_module) -> None:
            if trainer.current_epoch == 1:
                optimizer = trainer.optimizers[0]
                scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
                trainer.strategy.lr_scheduler_configs = [LRSchedulerConfig(scheduler)]

    with pytest.raises(SetupError, match="`SGDR` sets the rates, but `StepLR` has come in epoch 1"):
        fit(Brings(), fr.SGDR())


def test_the_page_is_what_is_checked_here() -> None:
    assert PAGE.read_text() == page(), f"Write it again: {__doc__.splitlines()[3]}"


if __name__ == "__main__":
    PAGE.write_text(page())
