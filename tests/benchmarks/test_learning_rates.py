"""What comes of the rates that finders pick: ``pytest -m benchmark -s``, about half an hour.

Every situation of ``lr_situations`` is trained at rates of a grid of half decades and swept, and
what came is kept in a file, so that rules can be judged again without training. A pick is as good
as the validation loss that it ends with beside that of the best rate of the grid; between two rates
of the grid the loss is interpolated. ``FASTRECIPES_DATA`` names the data, ``FASTRECIPES_LR_GRID``
the file (measured where it lacks something), ``FASTRECIPES_SEEDS`` how many seeds (3).
"""

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.lr_grid import GridFile, ratios
from helpers.lr_situations import SITUATIONS

from lightning_fastrecipes.functional.training.even_losses import even_losses
from lightning_fastrecipes.functional.training.lr_curves import smooth_losses, suggest_lr

WORKER = Path(__file__).with_name("lr_grid_worker.py")
NUM_STEPS = 200
PEER_STEPS = 100
GOOD = 1.1
DESTROYED = 2.0


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


def picks_of(lrs: list[float], losses: list[float], start_losses: list[float]) -> dict[str, float]:
    """Return each rule's pick; on a flat curve the default's is that before the rise."""
    found: dict[str, float] = dict(suggest_lr(lrs, even_losses(lrs, losses, start_losses)).picks)
    found.setdefault("midway", found.get("before_rise", math.nan))
    return found


def peers_of(lrs: list[float], losses: list[float], _: list[float]) -> dict[str, float]:
    """Return what other packages pick: they see the losses as they are."""
    finite = [loss for loss in losses if math.isfinite(loss)]
    return {name: pick(lrs[: len(finite)], finite) for name, pick in PEERS.items()}


def table(grid: GridFile) -> dict[str, dict[str, float]]:
    """Return for each situation that was measured the ratio of each rule, and print it.

    Ours read sweeps of 200 steps, as is their default, and the peers theirs of 100.
    """
    found = {}
    for situation in SITUATIONS:
        if not grid.seeds(situation.name, NUM_STEPS):
            continue
        found[situation.name] = ratios(grid, situation.name, picks_of, NUM_STEPS)
        found[situation.name] |= ratios(grid, situation.name, peers_of, PEER_STEPS)
        shown = {rule: f"{ratio:.2f}" for rule, ratio in found[situation.name].items()}
        print(f"{situation.name} (best {grid.curve(situation.name).best_lr:.0e})", shown)
    return found


@pytest.mark.benchmark
def test_the_default_pick_ends_near_the_best_rate(tmp_path: Path) -> None:
    if not os.environ.get("FASTRECIPES_DATA"):
        pytest.skip("FASTRECIPES_DATA names no folder of data")
    kept = Path(os.environ.get("FASTRECIPES_LR_GRID", tmp_path / "grid.jsonl"))
    seeds = range(int(os.environ.get("FASTRECIPES_SEEDS", "3")))
    subprocess.run([sys.executable, WORKER, kept, "--seeds", *map(str, seeds)], check=True)
    found = table(GridFile(kept))
    for name, ratio in found.items():
        assert ratio["midway"] < DESTROYED, f"{name} is destroyed"
    tuned = [situation.name for situation in SITUATIONS if not situation.held_out]
    near = [name for name in tuned if found[name]["midway"] <= GOOD]
    assert len(near) >= 10, f"{len(near)} of {len(tuned)} within a tenth of the best"


def test_a_grid_is_read_back_and_interpolated(tmp_path: Path) -> None:
    path = tmp_path / "grid.jsonl"
    grid = GridFile(path)
    for lr, loss in [(0.01, 4.0), (0.1, 1.0), (1.0, math.nan)]:
        grid.add(situation="a", seed=0, lr=lr, loss=loss)
    swept = {"losses": [1.0, 2.0, math.inf], "start_losses": [1.0, 1.5, math.nan]}
    grid.add(situation="a", seed=0, num_steps=3, lrs=[0.1, 0.2, 0.3], **swept)
    with path.open("a") as file:
        file.write('{"situation": "a", "seed": 1, "lr": 0.0')  # of a process that was stopped
    again = GridFile(path)
    assert again.lines == grid.lines
    assert again.loss("a", 0, 0.1) == 1.0
    assert again.loss("a", 0, 1.0) == math.inf
    assert again.loss("a", 1, 0.1) is None
    assert again.sweep("a", 0, 3) == ([0.1, 0.2, 0.3], [1.0, 2.0, math.inf], [1.0, 1.5, math.inf])
    curve = again.curve("a")
    assert (curve.best_lr, curve.best) == (0.1, 1.0)
    assert curve.ratio(0.1) == 1.0
    assert curve.ratio(10**-1.5) == pytest.approx(2.0)  # half way on both logarithms
    assert curve.ratio(1e-4) == pytest.approx(4.0)
    assert curve.ratio(0.5) == math.inf  # next to a rate that ends in no number
    found = ratios(again, "a", lambda lrs, *_: {"first": lrs[0], "none": math.nan}, 3)
    assert found == {"first": pytest.approx(1.0), "none": math.inf}


def test_a_seed_that_lacks_rates_does_not_count(tmp_path: Path) -> None:
    grid = GridFile(tmp_path / "grid.jsonl")
    rows = [(0, 0.1, 1.0), (0, 0.2, 2.0), (1, 0.1, 3.0), (1, 0.2, 4.0), (2, 0.1, 100.0)]
    for seed, lr, loss in rows:
        grid.add(situation="a", seed=seed, lr=lr, loss=loss)
    assert grid.curve("a").losses == {0.1: 2.0, 0.2: 3.0}
