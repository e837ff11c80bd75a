"""A trial of a search: a run that is paused at the end of an epoch and goes on as if it never was.

What a trial has reached is in its folder alone, so that any process can go on with it.
"""

import gc
import logging
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from typing_extensions import override

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes import plain
from lightning_fastrecipes.data.common.disk_room import NoRoomError
from lightning_fastrecipes.data.common.files import sweep_parts, write_json
from lightning_fastrecipes.errors import ConfigurationError, DataError, RecipeError
from lightning_fastrecipes.recipe.artifacts.history import History, read_history
from lightning_fastrecipes.recipe.artifacts.reading import read_json
from lightning_fastrecipes.recipe.artifacts.run_folder import RunFolder
from lightning_fastrecipes.recipe.config.schema import Recipe
from lightning_fastrecipes.recipe.run.runner import Run
from lightning_fastrecipes.searching.definition import Definition

logger = logging.getLogger(__name__)

FILE, LOCK = "trial.json", ".lock"
OF_A_TRIAL = (FILE, LOCK)
"""Files in the folder of a trial beside those of its run."""

CURE = "Remove the folder of this trial, and go on with `fastrecipes search --resume`."
_FAILURES = (ConfigurationError, DataError, RecipeError, RuntimeError, MemoryError, ValueError)
"""What values that do not work end a training by."""

_rung = plain.keys(
    {
        "epochs": plain.whole(1),
        "figure": plain.maybe(plain.number()),
        "loss": plain.maybe(plain.number()),
        "seconds": plain.number(),
    }
)
_check_saved = plain.keys(
    {"values": plain.items(plain.anything), "rungs": plain.items(_rung)},
    {"failure": plain.maybe(plain.text("(?s).{0,5000}", "a sentence"))},
)


class PausedError(Exception):
    """A trial has reached the epoch that it was to be trained to."""


class PauseBefore(pl.Callback):
    """End a fit before one of its epochs, whose checkpoint is then written."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch >= self.epoch:
            raise PausedError


class PausingRun(Run):
    """A run whose last stage pauses after so many epochs, and which says nothing on the terminal.

    Rates are those of the whole stage. The same run of another ``PausingRun`` goes on exactly.
    """

    def __init__(self, recipe: Recipe, folder: Path, epochs: int) -> None:
        super().__init__(recipe, folder, resume=True, show_progress=False)
        self._epochs = epochs

    @override
    def _stage_callbacks(self, index: int, history: History) -> list[pl.Callback]:
        callbacks = super()._stage_callbacks(index, history)
        is_last = index + 1 == len(self.recipe.stages)
        return [PauseBefore(self._epochs), *callbacks] if is_last else callbacks


@dataclass
class Trial:
    """What is known of a trial: its values, and its figures after so many epochs.

    A figure is that of the metric that decides; ``failure`` says why it cannot be trained.
    """

    number: int
    folder: Path
    values: list[Any]
    rungs: list[dict[str, Any]] = field(default_factory=list)
    failure: str | None = None

    @property
    def seconds(self) -> float:
        """How long it has been trained, without what was cut short."""
        return sum(float(rung["seconds"]) for rung in self.rungs)

    def has_reached(self, epochs: int) -> bool:
        """Whether there is nothing to do to bring it that far."""
        return self.failure is not None or any(rung["epochs"] >= epochs for rung in self.rungs)

    @property
    def epochs(self) -> int:
        """How many epochs of the last stage it has been trained; 0 if it failed."""
        return self.rungs[-1]["epochs"] if self.rungs and self.failure is None else 0

    def badness(self, epochs: int, mode: str) -> tuple[float, float] | None:
        """Return what is lower for a better trial after some epochs; ``None`` if not there."""
        found = [rung for rung in self.rungs if rung["epochs"] == epochs]
        if self.failure is not None or not found:
            return None
        figure, loss = (found[0][name] for name in ("figure", "loss"))
        signed = math.inf if figure is None else figure if mode == "min" else -figure
        return signed, math.inf if loss is None else loss

    def read(self) -> None:
        """Read what its folder says, of whatever process."""
        path = self.folder / FILE
        self.rungs, self.failure = [], None
        if path.is_file():
            saved = read_json(path, _check_saved, CURE)
            # As they were drawn, should another version draw otherwise.
            self.values = saved["values"]
            self.rungs, self.failure = saved["rungs"], saved.get("failure")

    def write(self) -> None:
        """Write what is known of it."""
        known = {"values": self.values, "rungs": self.rungs, "failure": self.failure}
        write_json(self.folder / FILE, known)

    def train(self, definition: Definition, epochs: int, trust: Sequence[str] = ()) -> bool:
        """Train it up to an epoch of its last stage, unless another process does.

        Return whether anything was done.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        try:
            self.read()
            if self.has_reached(epochs):
                return False
            sweep_parts(self.folder)
            self.write()
            self._train(definition, epochs, trust)
            self.write()
        finally:
            lock.release()
        return True

    def _train(self, definition: Definition, epochs: int, trust: Sequence[str]) -> None:
        started = time.monotonic()
        try:
            recipe = definition.recipe(self.values, RunFolder(self.folder).recipe, tuple(trust))
            run = PausingRun(recipe, self.folder, epochs)
            with suppress(PausedError):
                for index in range(len(run.prepare())):
                    run.run_stage(index)
        except NoRoomError:
            raise
        except _FAILURES as error:
            logger.exception("Trial %s cannot be trained", self.number)
            self.failure = " ".join(str(error).split())[:500] or type(error).__name__
            return
        finally:
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        figure, loss = figures_at(RunFolder(self.folder), recipe, epochs, definition)
        seconds = round(time.monotonic() - started, 2)
        self.rungs.append({"epochs": epochs, "figure": figure, "loss": loss, "seconds": seconds})


def figures_at(
    folder: RunFolder, recipe: Recipe, epochs: int, definition: Definition
) -> tuple[float | None, float | None]:
    """Return the figure that decides and the validation loss after some epochs of the last stage.

    Where the stage goes back to its best epoch, they are those of the best one so far.
    """
    stage = recipe.stages[-1]
    rows = read_history(folder.metrics)
    rows = rows[(rows["stage"] == stage.name) & (rows["epoch"] < epochs)]
    if definition.monitor not in rows:
        return None, None
    rows = rows.dropna(subset=[definition.monitor])
    if rows.empty:
        return None, None
    found = rows.iloc[-1]
    if stage.keep_best is not None or stage.until_overfitting:
        values = rows[definition.monitor].to_numpy()
        found = rows.iloc[int(values.argmin() if definition.mode == "min" else values.argmax())]
    return float(found[definition.monitor]), float(found["val_loss"])
