"""Losses of situations at rates of a grid, and their sweeps, in a file of one JSON value a line.

What is measured once need not be measured again: rules are judged by interpolating between the
rates of the grid, without training.
"""

import json
import math
import statistics
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

Picks = Callable[[list[float], list[float], list[float]], dict[str, float]]


class GridFile:
    """What was measured, and lines to add.

    A line is ``{"situation", "seed", "lr", "loss"}`` of a training, or ``{"situation", "seed",
    "num_steps", "lrs", "losses", "start_losses"}`` of a sweep. A loss that is no finite number is
    null.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[dict[str, Any]] = []
        if path.is_file():
            # The last line of a process that was stopped may be half of one.
            complete = path.read_text().rpartition("\n")[0]
            path.write_text(f"{complete}\n" if complete else "")
            self.lines = [json.loads(line) for line in complete.splitlines()]

    def add(self, **line: Any) -> None:
        """Write a line at once, so that nothing is lost."""
        with self.path.open("a") as file:
            file.write(json.dumps(_finite(line), allow_nan=False) + "\n")
        self.lines.append(_finite(line))

    def loss(self, situation: str, seed: int, lr: float) -> float | None:
        """Return the validation loss of a training, infinite if it was none; or ``None``."""
        for line in self.lines:
            found = (line["situation"], line["seed"]) == (situation, seed) and "lr" in line
            if found and math.isclose(line["lr"], lr, rel_tol=1e-3):
                return _number(line["loss"])
        return None

    def sweep(
        self, situation: str, seed: int, num_steps: int
    ) -> tuple[list[float], list[float], list[float]] | None:
        """Return rates, losses and start losses of a sweep; or ``None``."""
        asked = (situation, seed, num_steps)
        for line in self.lines:
            if "lrs" in line and (line["situation"], line["seed"], line["num_steps"]) == asked:
                losses, start = ([*map(_number, line[k])] for k in ("losses", "start_losses"))
                return line["lrs"], losses, start
        return None

    def curve(self, situation: str) -> "LossByRate":
        """Return the mean validation loss at each rate, of the seeds that trained at all of them.

        The rates are those of the first seed.
        """
        by_seed: dict[int, dict[float, float]] = {}
        for line in self.lines:
            if line["situation"] == situation and "lr" in line:
                lr = float(f"{line['lr']:.3g}")
                by_seed.setdefault(line["seed"], {})[lr] = _number(line["loss"])
        first = by_seed[min(by_seed)]
        complete = [losses for losses in by_seed.values() if first.keys() <= losses.keys()]
        return LossByRate(
            {lr: statistics.mean(losses[lr] for losses in complete) for lr in sorted(first)}
        )

    def seeds(self, situation: str, num_steps: int) -> list[int]:
        """List the seeds whose sweep is known."""
        rows = [row for row in self.lines if row["situation"] == situation and "lrs" in row]
        return sorted(row["seed"] for row in rows if row["num_steps"] == num_steps)


class LossByRate:
    """Validation losses at rates of a grid; what lies between is a line on both logarithms."""

    def __init__(self, losses: dict[float, float]) -> None:
        self.losses = losses

    @cached_property
    def best(self) -> float:
        """The lowest loss of the grid."""
        return min(self.losses.values())

    @property
    def best_lr(self) -> float:
        """The rate of the lowest loss."""
        return min(self.losses, key=lambda lr: self.losses[lr])

    def ratio(self, lr: float) -> float:
        """Return the loss at a rate over the best; beyond the grid that of its end, or infinite."""
        rates = np.log([*self.losses])
        losses = np.asarray([*self.losses.values()])
        known = np.isfinite(losses)
        place = math.log(lr)
        above = rates[~known]
        if len(above) and place > rates[known].max():
            return math.inf
        found = np.interp(place, rates[known], np.log(losses[known]))
        return float(np.exp(found)) / self.best


def ratios(grid: GridFile, situation: str, picks: Picks, num_steps: int) -> dict[str, float]:
    """Return for each rule the mean, over seeds, of the loss at its pick over the best loss."""
    curve, found = grid.curve(situation), dict[str, list[float]]()
    for seed in grid.seeds(situation, num_steps):
        swept = grid.sweep(situation, seed, num_steps) or ([], [], [])
        for rule, lr in picks(*swept).items():
            ratio = curve.ratio(lr) if math.isfinite(lr) else math.inf
            found.setdefault(rule, []).append(ratio)
    return {rule: statistics.mean(values) for rule, values in found.items()}


def _number(loss: float | None) -> float:
    return math.inf if loss is None else loss


def _finite(line: dict[str, Any]) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, Iterable) and not isinstance(value, str):
            return [plain(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return {key: plain(value) for key, value in line.items()}
