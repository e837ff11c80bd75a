"""What comes of the rates that finders pick: ``pytest -m benchmark -s``, about half an hour.

Every situation of ``lr_situations`` is trained at rates of a grid of half decades and at the pick
of each rule. A pick is as good as the validation loss that it ends with beside that of the best
rate of the grid. ``FASTRECIPES_DATA`` names the data, ``FASTRECIPES_SEEDS`` how many seeds (3).
"""

import logging
import math
import os
import statistics
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from helpers.lr_situations import SITUATIONS, Situation

from lightning_fastrecipes.functional.training.lr_curves import smooth_losses, suggest_lr

pytestmark = pytest.mark.benchmark

SEEDS = range(int(os.environ.get("FASTRECIPES_SEEDS", "3")))
GOOD = 1.1
FIRST_OF_GRID = 4
"""Where the search of the best rate begins; it ends where the loss is far above the best."""


def fastai_part(lrs: list[float], losses: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return what fastai's rules see: the smoothed losses from the tenth part to the fifth last."""
    seen = slice(len(losses) // 10, -5)
    return np.asarray(lrs[seen]), np.asarray(smooth_losses(losses)[seen])


def fastai_valley(lrs: list[float], losses: list[float]) -> float:
    """Return the rate at two thirds, in whole points, of the longest falling run, gaps allowed."""
    rates, smooth = fastai_part(lrs, losses)
    lengths, end = [1] * len(smooth), 0
    for i in range(1, len(smooth)):
        for j in range(i):
            if smooth[i] < smooth[j] and lengths[i] < lengths[j] + 1:
                lengths[i] = lengths[j] + 1
        if lengths[end] < lengths[i]:
            end = i
    section = (lengths[end]) / 3
    return float(rates[end - lengths[end] + int(section) + int(section / 2)])


def fastai_slide(lrs: list[float], losses: list[float]) -> float:
    """Walk back a window of 15 points until the slopes at its ends differ by no more than 0.005."""
    rates, smooth = fastai_part(lrs, losses)
    slopes = np.gradient(smooth)
    right, left = -1, -16
    found = rates[left]
    while left >= -len(smooth) and abs(slopes[right] - slopes[left]) > 0.005:
        found, right, left = rates[left], right - 1, left - 1
    return float(found)


def lightning_suggestion(lrs: list[float], losses: list[float]) -> float:
    """Return the rate where the smoothed loss falls fastest over the rate itself."""
    rates, smooth = np.asarray(lrs[10:-1]), np.asarray(smooth_losses(losses)[10:-1])
    return float(rates[int(np.gradient(smooth, rates).argmin())])


PEERS: dict[str, Callable[[list[float], list[float]], float]] = {
    "fastai valley": fastai_valley,
    "fastai slide": fastai_slide,
    "Lightning": lightning_suggestion,
}


def picks_of(lrs: list[float], losses: list[float]) -> dict[str, float]:
    """Return each rule's pick; on a flat curve the default's is that before the rise."""
    finite = [loss for loss in losses if math.isfinite(loss)]
    found: dict[str, float] = dict(suggest_lr(lrs, losses).picks)
    found.setdefault("midway", found.get("before_rise", math.nan))
    for name, pick in PEERS.items():
        found[name] = pick(list(lrs[: len(finite)]), finite)
    return found


def best_of_grid(situation: Situation, train: Callable[[float], float]) -> float:
    """Walk from the middle of the grid to both sides until the loss is far above the best."""
    grid = situation.grid
    best = train(grid[FIRST_OF_GRID])
    for step in (-1, 1):
        index = FIRST_OF_GRID + step
        while 0 <= index < len(grid):
            loss = train(grid[index])
            best = min(best, loss)
            if loss > 1.4 * best:
                break
            index += step
    return best


def measure(situation: Situation) -> dict[str, float]:
    """Return the mean loss of each rule's pick over the mean loss of the best rate."""

    @cache
    def train(lr: float) -> float:
        return statistics.mean(situation.train_at(lr, seed) for seed in SEEDS)

    best = best_of_grid(situation, train)
    ends: dict[str, list[float]] = {}
    for seed in SEEDS:
        curve = situation.sweep(seed)
        for rule, lr in picks_of(list(curve.lrs), list(curve.losses)).items():
            loss = situation.train_at(lr, seed) if math.isfinite(lr) else math.inf
            ends.setdefault(rule, []).append(loss)
    return {rule: statistics.mean(losses) / best for rule, losses in ends.items()}


def test_the_default_pick_ends_near_the_best_rate() -> None:
    if not os.environ.get("FASTRECIPES_DATA"):
        pytest.skip("FASTRECIPES_DATA names no folder of data")
    for name in list(logging.root.manager.loggerDict):
        logging.getLogger(name).setLevel(logging.ERROR)
    near = 0
    tuned = [situation for situation in SITUATIONS if not situation.held_out]
    for situation in SITUATIONS:
        found = measure(situation)
        print(situation.name, {rule: f"{ratio:.2f}" for rule, ratio in found.items()})
        assert found["midway"] < 2, f"{situation.name} is destroyed"
        near += situation in tuned and found["midway"] <= GOOD
    assert near >= 10, f"{near} of {len(tuned)} within a tenth of the best"
