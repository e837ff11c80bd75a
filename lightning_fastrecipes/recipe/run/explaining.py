"""What a recipe will do and how long it will take, in words and as plain values."""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes.recipe.config.schema import TTA, Precompute, Recipe
from lightning_fastrecipes.recipe.loading import modality_of
from lightning_fastrecipes.recipe.run.lr_search import steps_of_searches
from lightning_fastrecipes.recipe.run.plan import (
    StagePlan,
    apply_stage,
    num_devices,
    resizing,
)
from lightning_fastrecipes.recipe.run.trainers import build_trainer
from lightning_fastrecipes.recipe.run.workload import num_members
from lightning_fastrecipes.recipe.shared.predictions import evaluate

_NUM_MEASURED = 2
_BATCH = 3
"""Which argument of the hooks at the end of a batch is the batch."""


def describe_evaluation(recipe: Recipe, data: Any) -> str:
    """Describe which splits are measured at the end, on what, and by which models.

    The datamodule is as the last stage leaves it.
    """
    asked, modality = recipe.evaluation, modality_of(recipe)
    counts = {split: modality.num_samples(data, split) for split in asked.splits}
    splits = [f"{split} ({count:,} {modality.unit})" for split, count in counts.items() if count]
    parts = [f"Evaluation: {' and '.join(splits) or 'no split has samples'}"]
    if modality.unit == "images":
        parts.append(f"{asked.image_size or data.image_size} px")
        tta = TTA(n=asked.tta) if isinstance(asked.tta, int) else asked.tta
        if tta is None:
            parts.append("without views")
        else:
            number = "" if tta.n is None else f"{tta.n} "
            parts.append(f"plain and with {number}views ({tta.preset})")
    if asked.ensemble is not None:
        what = "the mean of the snapshots' predictions"
        parts.append(what if asked.ensemble == "snapshots" else "the mean weights of the snapshots")
    if recipe.folds:
        parts.append(f"{recipe.folds} folds, and on the test split the mean of their models")
    elif recipe.seeds > 1:
        parts.append(f"the mean of {recipe.seeds} models")
    return ", ".join(parts)


def as_values(recipe: Recipe, data: Any, model: Any, plans: Sequence[StagePlan]) -> dict[str, Any]:
    """Return what ``explain`` shows as plain values."""
    stages = [
        {
            "name": plan.stage.name,
            "epochs": plan.stage.max_epochs,
            "steps_per_epoch": plan.steps_per_epoch,
            "steps": plan.num_steps,
            "samples": plan.num_samples,
            "image_size": plan.image_size,
            "batch_size": plan.batch_size,
            "augmentation": plan.augmentation,
            "precompute": asdict(plan.stage.precompute)
            if isinstance(plan.stage.precompute, Precompute)
            else plan.stage.precompute,
            "callbacks": [spec.name for spec in plan.stage.callbacks],
            "layer_groups": [vars(group) for group in plan.groups],
        }
        for plan in plans
    ]
    return {
        "name": recipe.name,
        "recipe": str(recipe.path),
        "description": recipe.description,
        "variants": list(recipe.variants),
        "data": modality_of(recipe).describe(data, model),
        "stages": stages,
        "evaluation": describe_evaluation(recipe, data),
    }


def stage_seconds(recipe: Recipe, data: Any, model: Any, index: int) -> float:
    """Estimate how long a stage takes on this machine, from two steps after a first one.

    What is computed ahead, all its views, searches for a rate, training and validation count;
    decoding, which is done once, does not. Weights change: build others to train.
    """
    apply_stage(recipe, index, data, model)
    resize = resizing(recipe, index, data, model)
    resize(0)
    stage, modality = recipe.stages[index], modality_of(recipe)
    counts = {split: modality.num_samples(data, split) for split in ("train", "val")}
    served = modality.training_data(stage, data, model)
    seconds = 0.0 if served is data else _seconds_ahead(recipe, model, served, counts)
    step, val_step = _step_seconds(recipe, served, model, is_ahead=served is not data)
    size = getattr(data, "image_size", 1)
    for epoch in range(stage.max_epochs):
        resize(epoch)
        area = (getattr(data, "image_size", size) / size) ** 2
        for split, one in (("train", step), ("val", val_step)):
            seconds += area * one * counts[split]
    # Each device takes every step of a search.
    search = float(steps_of_searches(recipe, index) * data.batch_size * step)
    return seconds / num_devices(recipe) + search


def evaluation_seconds(recipe: Recipe, data: Any, model: Any) -> float:
    """Estimate how long the evaluation takes, views included, from two steps after a first one.

    The datamodule is as the last stage leaves it, and afterwards as the evaluation has it.
    """
    modality, asked = modality_of(recipe), recipe.evaluation
    modality.apply_evaluation(asked, data)
    counts = {split: modality.num_samples(data, split) for split in asked.splits}
    split = next((name for name in asked.splits if counts[name]), None)
    if split is None:
        return 0.0
    tta = modality.build_tta(recipe, data)
    if tta is not None:
        # What is learned takes all of the split.
        tta.is_learning = False
    clock = _Clock()
    callbacks: list[pl.Callback] = [clock] if tta is None else [tta, clock]
    with _measuring(recipe, model, callbacks, precision="32-true") as trainer:
        evaluate(trainer, model, data, split)
    seconds = clock.seconds(split) * sum(counts.values()) * num_members(recipe)
    return seconds / num_devices(recipe)


class _Clock(pl.Callback):
    """Note when batches have ended, and how many samples they had."""

    def __init__(self) -> None:
        self._started: dict[str, float] = {}
        self._ends: dict[str, list[tuple[float, int]]] = {}

    def seconds(self, phase: str) -> float:
        """Return the time that a sample takes, but for the first batch where there are more."""
        ends = self._ends.get(phase, [])
        if not ends:
            return 0.0
        start, rest = (ends[0][0], ends[1:]) if len(ends) > 1 else (self._started[phase], ends)
        return (rest[-1][0] - start) / max(sum(count for _, count in rest), 1)

    def _start(self, phase: str) -> None:
        self._started.setdefault(phase, time.perf_counter())

    def _end(self, phase: str, batch: Any) -> None:
        self._ends.setdefault(phase, []).append((time.perf_counter(), len(batch[1])))

    def on_train_batch_start(self, *_: Any) -> None:
        self._start("train")

    def on_validation_batch_start(self, *_: Any) -> None:
        self._start("val")

    def on_test_batch_start(self, *_: Any) -> None:
        self._start("test")

    def on_train_batch_end(self, *given: Any) -> None:
        self._end("train", given[_BATCH])

    def on_validation_batch_end(self, *given: Any) -> None:
        self._end("val", given[_BATCH])

    def on_test_batch_end(self, *given: Any) -> None:
        self._end("test", given[_BATCH])


def _step_seconds(recipe: Recipe, data: Any, model: Any, *, is_ahead: bool) -> tuple[float, float]:
    """Return how long a sample takes in training and in validation.

    Of what is computed ahead a trial computes the first batch alone, which is trained on twice.
    """
    if not is_ahead:
        clock = _Clock()
        with _measuring(recipe, model, [clock]) as trainer:
            trainer.fit(model, datamodule=data)
        return clock.seconds("train"), clock.seconds("val")
    for _ in range(2):
        clock = _Clock()
        with _measuring(recipe, model, [clock], fast_dev_run=1) as trainer:
            trainer.fit(model, datamodule=data)
    return clock.seconds("train"), clock.seconds("val")


def _seconds_ahead(recipe: Recipe, model: Any, served: Any, counts: Mapping[str, int]) -> float:
    """Return how long it takes to compute all that a stage reads in place of images."""
    total = 0.0
    with _measuring(recipe, model, []) as trainer:
        # Which says on which device and in which precision.
        served.trainer = trainer
        for split, count in counts.items():
            ends, sizes = [time.perf_counter()], [0]
            for outputs in served.compute(split, 1 + _NUM_MEASURED) if count else ():
                ends.append(time.perf_counter())
                sizes.append(len(outputs))
            first = min(1, len(ends) - 2) if count else 0
            total += (ends[-1] - ends[first]) / max(sum(sizes[first + 1 :]), 1) * count
        served.trainer = None
    return total


@contextmanager
def _measuring(
    recipe: Recipe, model: Any, callbacks: list[pl.Callback], **arguments: Any
) -> Iterator[pl.Trainer]:
    """Build a trainer of a few batches, on one device, that leaves nothing behind."""
    limit = 1 + _NUM_MEASURED
    with tempfile.TemporaryDirectory() as folder:
        yield build_trainer(
            recipe,
            model,
            max_epochs=1,
            devices=1,
            num_nodes=1,
            strategy="auto",
            limit_train_batches=limit,
            limit_val_batches=limit,
            limit_test_batches=limit,
            callbacks=callbacks,
            logger=False,
            profiler=None,
            enable_checkpointing=False,
            enable_progress_bar=False,
            default_root_dir=folder,
            **arguments,
        )
