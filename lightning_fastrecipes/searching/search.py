"""Coarse trials, fine ones around the best of them, and most of both stopped early."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

from lightning_fastrecipes.data.common.files import write_atomically, write_json
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.formats import PART
from lightning_fastrecipes.functional.ranges import around, best_first, quasi_random, survivors
from lightning_fastrecipes.functional.training.trial_importance import trial_importance
from lightning_fastrecipes.messages import shown
from lightning_fastrecipes.plots.trials import draw_trials
from lightning_fastrecipes.recipe.artifacts.run_folder import RunFolder, take_over
from lightning_fastrecipes.recipe.run.terminal import headline
from lightning_fastrecipes.searching.definition import Definition, rungs
from lightning_fastrecipes.searching.stacked import timed_heads, why_not_stacked
from lightning_fastrecipes.searching.trials import CURE, FILE, OF_A_TRIAL, PausingRun, Trial

logger = logging.getLogger(__name__)

TABLE, CHOICE = "trials.csv", "choice.json"

_NUM_CENTRES = 3
"""How many of the best coarse trials the fine ones are drawn around."""

_WIDTH = 0.25
"""Share of each range in which a fine trial is drawn."""

_ROUNDING = 0.01
"""Share of a range by which a rounded value may lie outside of it."""

_PATIENCE = 0.5
"""Seconds until a trial of another process is looked at again."""


class Search:
    """Trials of a recipe with ranges, in a folder that several processes may work on.

    Half of the trials are drawn from the whole ranges. Each trains to the first rung; the better
    third goes on to the next, until the best are trained in full. The others are drawn in a quarter
    of each range around the best three, and begin with the second rung: what learns fast is not
    always what ends well, the less so the nearer trials lie to one another. What is drawn follows
    from the seed and the number of a trial, and what goes on from figures in the folder, so that a
    search which was killed at any moment ends as if it had not been.

    References:
        Bergstra and Bengio, *Random Search for Hyper-Parameter Optimization* (2012); Jamieson and
        Talwalkar, *Non-stochastic Best Arm Identification* (2016); CS231n, coarse to fine.
    """

    def __init__(
        self,
        folder: Path,
        definition: Definition,
        say: Callable[[str], None],
        trust: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.definition = definition
        self.trust = tuple(trust)
        self._say = say
        middle = definition.values([0.5] * len(definition.ranges))
        path = folder / "recipe.yaml"
        self.rungs = rungs(definition.recipe(middle, path, self.trust))
        self.is_stacked = not why_not_stacked(definition, path, self.trust)
        if self.is_stacked:
            self.rungs = self.rungs[-1:]
        self.num_coarse = -(-definition.num_trials // 2)
        self.trials: dict[int, Trial] = {}

    @property
    def is_finished(self) -> bool:
        """Whether the best trial was evaluated, and lies in the folder."""
        return (self.folder / CHOICE).is_file()

    def run(self) -> bool:
        """Train all trials, and evaluate the best; return whether this process evaluated it."""
        coarse = list(range(self.num_coarse))
        self._halve(coarse, [], self.rungs)
        fine = list(range(self.num_coarse, self.definition.num_trials))
        if fine:
            best = self._best(coarse)[:_NUM_CENTRES]
            self.say(f"fine: {len(fine)} trials around the best, {_listed(best)}")
            centres = [self._shares(number) for number in best]
            self._halve(fine, centres, self.rungs[1:] if len(self.rungs) > 2 else self.rungs)
        return self._finish(self._best([*coarse, *fine])[0])

    def say(self, sentence: str) -> None:
        """Print a sentence, and log it."""
        logger.info("%s", sentence)
        self._say(sentence)

    def progress(self) -> str:
        """Return how many trials have come how far."""
        for trial in self.trials.values():
            trial.read()
        begun = [one for one in self.trials.values() if one.folder.is_dir()]
        full = sum(self._is_full(trial) for trial in begun if trial.rungs or trial.failure)
        return (
            f"with {len(begun)} of {self.definition.num_trials} trials begun, {full} of them"
            " trained in full"
        )

    def _shares(self, number: int) -> list[float]:
        """Return where the values of a trial lie in their ranges."""
        ranges = self.definition.ranges.values()
        values = self.trials[number].values
        return [one.share(value) for one, value in zip(ranges, values, strict=True)]

    def _drawn(self, number: int, centres: Sequence[Sequence[float]]) -> None:
        """Add a trial by its number, with what its folder says of it."""
        (point,) = quasi_random(1, len(self.definition.ranges), self.definition.seed, first=number)
        if centres:
            point = around(centres[(number - self.num_coarse) % len(centres)], point, _WIDTH)
        folder = self.folder / "trials" / f"{number:03d}"
        trial = Trial(number, folder, self.definition.values(point))
        trial.read()
        self.trials[number] = trial
        try:
            lies_inside = all(-_ROUNDING <= one <= 1 + _ROUNDING for one in self._shares(number))
        except (ValueError, TypeError, ArithmeticError):
            lies_inside = False
        if not lies_inside:
            raise DataError(
                f"{folder / FILE}: its values must lie in the ranges of the search, but are"
                f" {shown(trial.values)}. {CURE}"
            )

    def _halve(
        self, numbers: list[int], centres: Sequence[Sequence[float]], rungs: Sequence[int]
    ) -> None:
        """Train trials, and at each rung the better ones further."""
        for number in numbers:
            self._drawn(number, centres)
        alive = numbers
        for epochs in rungs:
            self._train_all([self.trials[number] for number in alive], epochs)
            figures = self._figures(alive, epochs)
            if not figures and not self._best(list(self.trials)):
                reason = next(self.trials[n].failure for n in numbers)
                raise DataError(f"No trial could be trained. The first says: {reason}")
            alive = best_first(figures, count=survivors(len(alive)))

    def _train_all(self, trials: Sequence[Trial], epochs: int) -> None:
        """Train trials up to an epoch, together with other processes; return when all are there."""
        if self.is_stacked:
            self._train_heads(trials, epochs)
        while True:
            for trial in trials:
                trial.read()
            waiting = [trial for trial in trials if not trial.has_reached(epochs)]
            if not waiting:
                self._write_table()
                return
            done = False
            for trial in waiting:
                if trial.train(self.definition, epochs, self.trust):
                    done = True
                    self.say(self._describe(trial, epochs))
                    self._write_table()
            if not done:
                time.sleep(_PATIENCE)

    def _train_heads(self, trials: Sequence[Trial], epochs: int) -> None:
        """Train all trials in one pass, unless another process does; a part of it is not kept."""
        with FileLock(self.folder / ".heads.lock"):
            for trial in trials:
                trial.read()
            if all(trial.has_reached(epochs) for trial in trials):
                return
            values = [trial.values for trial in trials]
            path = self.folder / "recipe.yaml"
            found, seconds = timed_heads(self.definition, values, path, self.trust)
            self.say(f"heads: {len(trials)} trials as stacked weights in one pass, {seconds:.1f} s")
            for trial, head in zip(trials, found, strict=True):
                rung = {"epochs": epochs, "figure": head.figure, "loss": head.loss}
                trial.rungs = [{**rung, "seconds": round(seconds / len(trials), 2)}]
                if not math.isfinite(head.loss):
                    trial.rungs, trial.failure = [], "The loss is no finite number."
                trial.write()
                self.say(self._describe(trial, epochs))

    def _figures(self, numbers: Sequence[int], epochs: int) -> dict[int, tuple[float, float]]:
        found = {n: self.trials[n].badness(epochs, self.definition.mode) for n in numbers}
        return {number: figures for number, figures in found.items() if figures is not None}

    def _best(self, numbers: Sequence[int]) -> list[int]:
        """Return trials, the best first: those that came further, and of these by their figures."""
        order: list[int] = []
        for epochs in reversed(self.rungs):
            at_rung = [n for n in numbers if self.trials[n].epochs == epochs]
            order += best_first(self._figures(at_rung, epochs))
        return order

    def _describe(self, trial: Trial, epochs: int) -> str:
        values = ", ".join(map(_pair, self.definition.short_names, trial.values))
        if trial.failure is not None:
            return f"trial {trial.number}: {values}: failed. {trial.failure}"
        figure = trial.rungs[-1]["figure"]
        said = "no figure" if figure is None else f"{self.definition.monitor} {figure:.4g}"
        return (
            f"trial {trial.number}: {values}: {said} after {epochs} of {self.rungs[-1]} epochs"
            f" ({trial.rungs[-1]['seconds']:.1f} s)"
        )

    def _is_full(self, trial: Trial) -> bool:
        return trial.epochs == self.rungs[-1]

    def table(self) -> pd.DataFrame:
        """Return a row for each trial that was drawn: values, epochs, figure, seconds and state."""
        rows, names = [], self.definition.names
        for number, trial in sorted(self.trials.items()):
            last = trial.rungs[-1] if trial.rungs else {}
            is_full = self._is_full(trial)
            state = "failed" if trial.failure else "done" if is_full else "stopped early"
            rows.append(
                {
                    "trial": number,
                    "drawn": "coarse" if number < self.num_coarse else "fine",
                    "state": state if last or trial.failure else "waiting",
                    **dict(zip(names, map(_cell, trial.values), strict=True)),
                    "epochs": last.get("epochs", 0),
                    self.definition.monitor: last.get("figure"),
                    "val_loss": last.get("loss"),
                    "seconds": round(trial.seconds, 2),
                    "message": trial.failure or "",
                }
            )
        return pd.DataFrame(rows)

    def _lock(self) -> FileLock:
        return FileLock(self.folder / ".search.lock")

    def _write_table(self) -> None:
        for trial in self.trials.values():
            trial.read()
        with self._lock():
            if not self.is_finished:
                write_atomically(self.folder / TABLE, self.table().to_csv(index=False))

    def _draw(self, best: int) -> None:
        """Draw all trials by their last figures, and what decided among the coarse ones.

        These are drawn from the whole ranges, and were all compared after as many epochs.
        """
        mode, ranges = self.definition.mode, self.definition.ranges
        there = [n for n, one in sorted(self.trials.items()) if one.epochs]
        there = [n for n in there if self.trials[n].rungs[-1]["figure"] is not None]
        if not there:
            return
        figures = [float(self.trials[n].rungs[-1]["figure"]) for n in there]
        coarse = self._figures(range(self.num_coarse), self.rungs[0])
        shares = np.array([self._shares(n) for n in coarse]).reshape(-1, len(ranges))
        importance = trial_importance(shares, np.array([bad for bad, _ in coarse.values()]))
        draw_trials(
            dict(zip(self.definition.names, ranges.values(), strict=True)),
            [self.trials[n].values for n in there],
            figures,
            importance,
            self.folder / "trials.png",
            monitor=self.definition.monitor,
            highest_is_best=mode == "max",
            best=there.index(best) if best in there else None,
        )

    def _finish(self, number: int) -> bool:
        """Evaluate the best trial, also on rows that no trial has looked at, and take it over."""
        with self._lock():
            if self.is_finished:
                return False
            for left in self.folder.glob(f"{PART}*"):
                left.unlink()
            trial = self.trials[number]
            values = ", ".join(map(_pair, self.definition.short_names, trial.values))
            self.say(f"best: trial {number}: {values}")
            home = RunFolder(trial.folder)
            recipe = self.definition.recipe(trial.values, home.recipe, self.trust)
            run = PausingRun(recipe, trial.folder, self.rungs[-1])
            for index in range(len(run.prepare())):
                run.run_stage(index)
            results = run.finish()
            self._draw(number)
            take_over(trial.folder, self.folder, leave=OF_A_TRIAL)
            choice = self._choice(trial, results)
            self.say(headline(results))
            self.say(str(choice["checked"]))
            write_json(self.folder / CHOICE, choice)
            return True

    def _choice(self, trial: Trial, results: dict[str, Any]) -> dict[str, Any]:
        """Return what was chosen, and how far its figure is from that on rows nobody looked at."""
        name = self.definition.monitor.removeprefix("val_")
        chosen, unseen = results["val"].get(name), results["test"].get(name)
        checked = "not checked on unseen samples: there are none. Give `split` a share `test`."
        if chosen is not None and unseen is not None and self.definition.unseen:
            gain = chosen - unseen if self.definition.mode == "max" else unseen - chosen
            checked = (
                f"checked on {self.definition.unseen}: {name} {unseen:.4g}, against {chosen:.4g}"
                f" on those it was chosen by, which were {'kinder' if gain > 0 else 'harder'} by"
                f" {abs(gain):.3g}."
            )
        values = dict(zip(self.definition.names, trial.values, strict=True))
        return {
            "trial": trial.number,
            "values": values,
            "monitor": self.definition.monitor,
            "chosen_by": chosen,
            "unseen": unseen,
            "seconds": round(sum(one.seconds for one in self.trials.values()), 2),
            "checked": checked,
        }


def _pair(name: str, value: Any) -> str:
    return f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {shown(value)}"


def _cell(value: Any) -> Any:
    return value if isinstance(value, (int, float, str)) else shown(value)


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
