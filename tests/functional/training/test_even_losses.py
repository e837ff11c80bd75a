"""Losses of a sweep as if all its batches were equally hard."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_fastrecipes.functional.training.even_losses import even_losses
from lightning_fastrecipes.functional.training.lr_curves import suggest_lr, sweep_lrs

LRS = sweep_lrs(1e-7, 1.0, 200)
DECADES = np.log10(LRS)
# Of a head that was trained: it improves a little from 1e-4 on, and breaks from 3e-3 on.
CLEAN = 0.155 - 0.01 / (1 + 10 ** (-2 * (DECADES + 4))) + 10 ** (2 * (DECADES + 1.8))


def swept(seed, noise=0.025):
    """Return losses and start losses: batches differ more than the loss falls."""
    draw = np.random.default_rng(seed)
    hardness = draw.normal(0, noise, len(LRS))
    own = draw.normal(0, noise, len(LRS)) * 0.3 / (1 + 10 ** (-2 * (DECADES + 3)))
    end = int(np.argmax(4 * CLEAN.min() < CLEAN))
    return (CLEAN + hardness + own)[:end].tolist(), (0.155 + hardness)[:end].tolist()


@pytest.mark.parametrize("seed", range(20))
def test_how_hard_a_batch_is_does_not_hide_a_small_fall(seed):
    losses, at_start = swept(seed)
    lrs = LRS[: len(losses)]
    even = even_losses(lrs, losses, at_start)
    assert np.ptp(even[:50]) < 0.001  # nothing has changed yet
    picks = suggest_lr(lrs, even).picks
    assert 5e-5 < picks["midway"] < 2e-3
    assert len(picks) == 8


def test_without_it_such_curves_are_not_read_or_read_wrongly():
    found = []
    for seed in range(20):
        losses, _ = swept(seed)
        picks = suggest_lr(LRS[: len(losses)], losses).picks
        found.append(5e-5 < picks.get("midway", 0.0) < 2e-3)
    assert sum(found) < 5


@pytest.mark.parametrize("seed", range(5))
def test_start_losses_that_say_nothing_change_nothing_much(seed):
    draw = np.random.default_rng(seed)
    losses = 2 - 1 / (1 + 10 ** (-2 * (DECADES + 2.5))) + draw.normal(0, 0.01, len(LRS))
    even = even_losses(LRS, losses, draw.normal(2.3, 0.2, len(LRS)))
    assert np.abs(even - losses).mean() < 0.01


def test_a_loss_that_fell_to_a_hundredth_is_not_drowned_by_its_start():
    draw = np.random.default_rng(0)
    hardness = draw.normal(1, 0.2, len(LRS)).clip(0.3)
    level = 0.01 + 0.99 / (1 + 10 ** (3 * (DECADES + 3)))
    even = np.array(even_losses(LRS, hardness * level, hardness))
    assert even[-20:] == pytest.approx(0.01, abs=0.01)


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), min_size=2, max_size=40))
def test_equal_losses_become_their_mean_and_nothing_else_is_invented(pairs):
    lrs = sweep_lrs(1e-5, 1.0, len(pairs))
    losses, at_start = map(list, zip(*pairs, strict=True))
    same = even_losses(
        lrs, [min(loss, 1.0) for loss in losses], [min(loss, 1.0) for loss in losses]
    )
    assert len(same) == len(losses)
    assert all(math.isfinite(loss) for loss in even_losses(lrs, losses, at_start))
    assert even_losses(lrs, losses, [3.0] * len(losses)) == losses


def test_what_is_not_finite_stays_as_it_is():
    losses = [1.0, 1.2, 1.1, math.inf, 5.0]
    assert even_losses(LRS[:5], losses, [1.0, 1.2, 1.1, 1.0, 1.3])[3:] == [math.inf, 5.0]
    assert even_losses(LRS[:5], losses, [math.nan] * 5) == losses
    assert even_losses([], [], []) == []
