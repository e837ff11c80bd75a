"""Train a candidate in a folder of its own, within a time, and compare what it predicts."""

import gc
import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from typing_extensions import override

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes.automatic.candidates import Candidate
from lightning_fastrecipes.functional.choosing import Losses, standard_error
from lightning_fastrecipes.functional.labels.row_losses import row_losses
from lightning_fastrecipes.recipe.artifacts.history import History
from lightning_fastrecipes.recipe.artifacts.run_folder import RunFolder
from lightning_fastrecipes.recipe.config.schema import Recipe
from lightning_fastrecipes.recipe.config.several import first_fold
from lightning_fastrecipes.recipe.loading import load_recipe, modality_of
from lightning_fastrecipes.recipe.run.plan import build_parts
from lightning_fastrecipes.recipe.run.runner import Run
from lightning_fastrecipes.recipe.run.series import Series
from lightning_fastrecipes.recipe.run.trainers import build_trainer
from lightning_fastrecipes.recipe.shared.predictions import PredictionCollector, evaluate

logger = logging.getLogger(__name__)

_SMALLEST_BATCH = 4


class TimeIsUpError(Exception):
    """A trial would go on after the time that there is."""


class Deadline(pl.Callback):
    """End a fit by `TimeIsUpError` at a time of ``time.monotonic``."""

    def __init__(self, end: float) -> None:
        self.end = end

    @override
    def on_train_batch_start(self, *_: Any, **__: Any) -> None:
        if time.monotonic() > self.end:
            raise TimeIsUpError


@dataclass(frozen=True)
class Trial:
    """A candidate that was trained: where, what it lost on each validation row, and how long."""

    candidate: Candidate
    folder: Path
    losses: Losses
    seconds: float


class _TimedRun(Run):
    """A run that ends at a time, and writes nothing on the terminal."""

    def __init__(self, recipe: Recipe, folder: Path, end: float) -> None:
        super().__init__(recipe, folder, show_progress=False)
        self._end = end

    @override
    def _stage_callbacks(self, index: int, history: History) -> list[pl.Callback]:
        return [Deadline(self._end), *super()._stage_callbacks(index, history)]


def run_trial(
    candidate: Candidate, folder: Path, end: float, *, finish: Callable[[Losses], bool]
) -> Trial:
    """Train a candidate, and measure the loss of each validation row.

    ``end`` is a time of ``time.monotonic``. Where ``finish`` says so of the losses, the folder
    becomes a finished run, with results and export. Raise `TimeIsUpError` if the training lasts
    beyond the end.
    """
    shutil.rmtree(folder, ignore_errors=True)
    started = time.monotonic()
    run = _TimedRun(as_recipe(candidate, folder), folder, end)
    for index in range(len(run.prepare())):
        run.run_stage(index)
    collector = PredictionCollector(run.modality.num_samples(run.data, "val"))
    options: dict[str, Any] = {"precision": "32-true", "enable_checkpointing": False}
    quiet = {"enable_progress_bar": False, "default_root_dir": folder}
    trainer = build_trainer(run.recipe, run.model, callbacks=[collector], **options, **quiet)
    evaluate(trainer, run.model, run.data, "val")
    targets = getattr(run.model, "metric_targets", lambda same: same)(collector.targets)
    losses = np.asarray(row_losses(collector.predictions, targets).numpy(), dtype=np.float64)
    if finish(losses):
        run.finish()
    return Trial(candidate, folder, losses, time.monotonic() - started)


def run_together(candidate: Candidate, folder: Path, end: float) -> dict[str, Any]:
    """Train a candidate's models, and return the results of all together."""
    shutil.rmtree(folder, ignore_errors=True)

    def train(run: Run) -> dict[str, Any]:
        timed = _TimedRun(run.recipe, run.folder.path, end)
        for index in range(len(timed.prepare())):
            timed.run_stage(index)
        return timed.finish()

    recipe = as_recipe(candidate, folder)
    if not recipe.has_many_runs:
        return train(Run(recipe, folder, show_progress=False))
    series = Series(recipe, folder, show_progress=False)
    series.check()
    return series.run_all(train)


def check_folds(candidate: Candidate, folder: Path) -> None:
    """Draw the first fold of a candidate's data; raise `RecipeError` or `DataError` if none is."""
    recipe = as_recipe(candidate, folder)
    modality = modality_of(recipe)
    data, _ = build_parts(first_fold(recipe, modality.fold_strata(recipe)))
    modality.num_samples(data, "train")


def as_table(trials: Mapping[str, Sequence[Trial]]) -> str:
    """Return the trials of each candidate as CSV, a row for each."""
    rows = [
        {
            "name": name,
            "draw": draw,
            "rows": len(trial.losses),
            "loss": float(np.mean(trial.losses)),
            "standard_error": standard_error(trial.losses),
            "seconds": round(trial.seconds, 2),
        }
        for name, tried in trials.items()
        for draw, trial in enumerate(tried)
    ]
    return pd.DataFrame(rows).to_csv(index=False)


def as_recipe(candidate: Candidate, folder: Path) -> Recipe:
    """Return the recipe of a candidate, as it will lie in a folder."""
    return load_recipe(RunFolder(folder).recipe, document=candidate.document)


def within_memory(
    candidate: Candidate, attempt: Callable[[Candidate], Any], say: Callable[[str], None]
) -> Any:
    """Try a candidate, with batches of half the size wherever memory does not suffice."""
    while True:
        try:
            return attempt(candidate)
        except (RuntimeError, MemoryError) as error:
            batch_size = int(candidate.document["data"]["init_args"]["batch_size"])
            if not is_out_of_memory(error) or batch_size // 2 < _SMALLEST_BATCH:
                raise
            say(f"memory: batches of {batch_size} do not fit, those of {batch_size // 2} may.")
            candidate = candidate.with_batch_size(batch_size // 2)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error, or what it came of, says that memory did not suffice."""
    seen: BaseException | None = error
    while seen is not None:
        text = str(seen).lower()
        if isinstance(seen, (MemoryError, torch.OutOfMemoryError)) or "alloc" in text:
            return True
        seen = seen.__cause__ or seen.__context__
    return "out of memory" in str(error).lower()
