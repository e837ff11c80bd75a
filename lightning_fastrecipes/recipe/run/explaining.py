"""What a recipe will do and how long it will take, in words and as plain values."""

import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes.recipe.config.schema import TTA, Recipe
from lightning_fastrecipes.recipe.loading import modality_of
from lightning_fastrecipes.recipe.run.plan import StagePlan, apply_stage, plan_stages, resizing
from lightning_fastrecipes.recipe.run.trainers import build_trainer

_NUM_MEASURED = 2


def describe_evaluation(recipe: Recipe, data: Any) -> str:
    """Say which splits are measured at the end, on what, and by which models.

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
    if recipe.seeds > 1:
        parts.append(f"the mean of {recipe.seeds} models")
    return ", ".join(parts)


def as_values(
    recipe: Recipe, data: Any, model: Any, plans: Sequence[StagePlan], seconds: Sequence[float]
) -> dict[str, Any]:
    """Return what ``explain`` shows as plain values; ``seconds`` of the stages, or none."""
    stages: list[dict[str, Any]] = [
        {
            "name": plan.stage.name,
            "epochs": plan.stage.max_epochs,
            "steps_per_epoch": plan.steps_per_epoch,
            "steps": plan.num_steps,
            "samples": plan.num_samples,
            "image_size": plan.image_size,
            "batch_size": plan.batch_size,
            "augmentation": plan.augmentation,
            "precompute": plan.stage.precompute,
            "callbacks": [spec.name for spec in plan.stage.callbacks],
            "layer_groups": [vars(group) for group in plan.groups],
        }
        for plan in plans
    ]
    for stage, one in zip(stages, seconds, strict=False):
        stage["seconds"] = round(one, 1)
    return {
        "name": recipe.name,
        "recipe": str(recipe.path),
        "description": recipe.description,
        "variants": list(recipe.variants),
        "data": modality_of(recipe).describe(data, model),
        "stages": stages,
        "evaluation": describe_evaluation(recipe, data),
    }


def stage_seconds(recipe: Recipe, data: Any, model: Any) -> list[float]:
    """Estimate how long each stage trains on this machine, from two steps after a first one.

    For a stage on features it is the time in which the backbone sees all images of training and
    validation. Validation and decoding are left out. Weights change: build others to train.
    """
    found = []
    for index, plan in enumerate(plan_stages(recipe, data, model)):
        apply_stage(recipe, index, data, model)
        resizing(recipe, index, data, model)(0)
        if plan.stage.precompute:
            found.append(_features_seconds(recipe, data, model))
        else:
            found.append(plan.num_steps * _step_seconds(recipe, data, model))
    return found


class _Clock(pl.Callback):
    """Note when each training batch has ended."""

    def __init__(self) -> None:
        self.started = 0.0
        self.ends: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        self.started = self.started or time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        self.ends.append(time.perf_counter())

    def seconds(self) -> float:
        """Return the mean time of a step with its batch, but for the first where there are more."""
        if len(self.ends) > 1:
            return (self.ends[-1] - self.ends[0]) / (len(self.ends) - 1)
        return self.ends[0] - self.started


def _step_seconds(recipe: Recipe, data: Any, model: Any) -> float:
    clock = _Clock()
    accumulate = int(recipe.trainer.get("accumulate_grad_batches", 1))
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(
            recipe,
            model,
            max_epochs=1,
            limit_train_batches=1 + _NUM_MEASURED,
            limit_val_batches=0,
            callbacks=[clock],
            logger=False,
            profiler=None,
            enable_checkpointing=False,
            enable_progress_bar=False,
            default_root_dir=folder,
        )
        trainer.fit(model, datamodule=data)
    return accumulate * clock.seconds()


def _features_seconds(recipe: Recipe, data: Any, model: Any) -> float:
    count = sum(modality_of(recipe).num_samples(data, split) for split in ("train", "val"))
    model.eval()
    ends, num_seen = [], 0
    with torch.inference_mode():
        for batch in islice(data.eval_dataloader("train"), 1 + _NUM_MEASURED):
            model.forward_features(batch[0].to(model.device))
            ends.append(time.perf_counter())
            num_seen += len(batch[0]) if len(ends) > 1 else 0
    return count * (ends[-1] - ends[0]) / num_seen if num_seen else 0.0
