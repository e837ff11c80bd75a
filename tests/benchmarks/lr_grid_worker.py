"""What each rate of a grid trains to: ``python lr_grid_worker.py GRID.jsonl [--minutes 25] ...``.

Trains the situations of ``helpers.lr_situations`` and sweeps each, seed after seed, and adds
a line for each to the file. Lines that the file has are not measured again, so that it can be
stopped at any time. ``FASTRECIPES_DATA`` names the data; ``tests`` must be on the path.
"""

import argparse
import logging
import math
import time
from pathlib import Path

from helpers.lr_grid import GridFile
from helpers.lr_situations import SITUATIONS, Situation

FIRST_OF_GRID = 4
"""Where the search of the best rate begins; it ends where the loss is far above the best."""
FAR = 1.4


class Spent(Exception):  # noqa: N818
    """The time is over."""


class Worker:
    """Measures what a file lacks, until a time."""

    def __init__(self, grid: GridFile, minutes: float) -> None:
        self.grid = grid
        self.end = time.monotonic() + 60 * minutes

    def train(self, situation: Situation, seed: int, lr: float) -> float:
        """Return the loss at a rate, trained if the file lacks it."""
        known = self.grid.loss(situation.name, seed, lr)
        if known is not None:
            return known
        self._check()
        started = time.perf_counter()
        loss = situation.train_at(lr, seed)
        self.grid.add(situation=situation.name, seed=seed, lr=lr, loss=loss)
        self._say(situation, seed, f"{lr:.1e}: {loss:.4g}", started)
        return loss

    def sweep(self, situation: Situation, seed: int, num_steps: int) -> None:
        """Sweep, if the file lacks it."""
        if self.grid.sweep(situation.name, seed, num_steps) is not None:
            return
        self._check()
        started = time.perf_counter()
        lrs, losses, start_losses = situation.raw_sweep(seed, num_steps)
        self.grid.add(
            situation=situation.name, seed=seed, num_steps=num_steps,
            lrs=lrs, losses=losses, start_losses=start_losses,
        )  # fmt: skip
        self._say(situation, seed, f"sweep of {num_steps}", started)

    def walk(self, situation: Situation, seed: int) -> None:
        """Walk from the middle of the grid to both sides until the loss is far above the best."""
        # Later seeds train at the rates of the first, so that means are of the same seeds.
        if any(
            line["situation"] == situation.name and line["seed"] < seed for line in self.grid.lines
        ):
            for lr in self.grid.curve(situation.name).losses:
                self.train(situation, seed, lr)
            return
        rates = situation.grid
        best = self.train(situation, seed, rates[FIRST_OF_GRID])
        for step in (1, -1):
            index = FIRST_OF_GRID + step
            while 0 <= index < len(rates):
                loss = self.train(situation, seed, rates[index])
                best = min(best, loss)
                if not loss <= FAR * best:
                    break
                index += step

    def _check(self) -> None:
        if time.monotonic() > self.end:
            raise Spent

    @staticmethod
    def _say(situation: Situation, seed: int, what: str, started: float) -> None:
        seconds = time.perf_counter() - started
        print(f"{situation.name}, seed {seed}, {what} ({seconds:.1f} s)", flush=True)


def main() -> None:
    """Measure, seed after seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--num-steps", nargs="+", type=int, default=[100, 200])
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--only", nargs="+", help="names of situations, else all")
    parser.add_argument("--skip", nargs="+", default=[], help="parts of names that are left out")
    options = parser.parse_args()
    for name in list(logging.root.manager.loggerDict):
        logging.getLogger(name).setLevel(logging.ERROR)
    worker = Worker(GridFile(options.out), options.minutes)
    asked = [
        situation
        for situation in SITUATIONS
        if (not options.only or situation.name in options.only)
        and not any(part in situation.name for part in options.skip)
    ]
    try:
        for seed in options.seeds:
            for situation in asked:
                for num_steps in options.num_steps:
                    worker.sweep(situation, seed, num_steps)
                worker.walk(situation, seed)
    except Spent:
        print("The time is over; call again to go on.")


if __name__ == "__main__":
    main()
