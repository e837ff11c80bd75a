"""What each stage of a recipe has to do, and its evaluation, so that time left can be told."""

import math
from collections.abc import Sequence
from typing import Any, get_args

from lightning_fastrecipes.callbacks.snapshots import CycleSnapshots
from lightning_fastrecipes.nn.operations import Operations
from lightning_fastrecipes.recipe.config.schema import Recipe
from lightning_fastrecipes.recipe.loading import modality_of
from lightning_fastrecipes.recipe.run.lr_search import steps_of_searches
from lightning_fastrecipes.recipe.run.plan import (
    StagePlan,
    apply_stage,
    build_callbacks,
    num_devices,
    resizing,
)
from lightning_fastrecipes.recipe.run.time_left import Part
from lightning_fastrecipes.recipe.shared.predictions import Split

EVALUATION = "evaluation"
PRECOMPUTED, TRAINED, VALIDATED = "precomputed", "trained", "validated"


def expected_work(
    recipe: Recipe, data: Any, model: Any, plans: Sequence[StagePlan]
) -> dict[str, list[Part]]:
    """Return the parts of every stage, by its name, and of the evaluation, in order.

    A stage begins with what is computed ahead and with its searches for a rate, after which come
    training and validation of each epoch. The evaluation has a part for each split and each model
    that predicts. Image sizes, frozen groups, views and what is computed ahead are counted; the
    model is left as in the last stage.
    """
    modality, work = modality_of(recipe), dict[str, list[Part]]()
    num_val = modality.num_samples(data, "val")
    size, forward = 1, 0.0
    for index, plan in enumerate(plans):
        apply_stage(recipe, index, data, model)
        resize = resizing(recipe, index, data, model)
        resize(0)
        found, size = modality.operations(data, model), getattr(data, "image_size", 1)
        forward = found.forward
        late = 1.5 * (found.training - found.forward)
        ahead = 0.0
        if plan.stage.precompute:
            # The backward pass of the late layers has twice the arithmetic of their forward pass.
            early = found.forward - late / 3
            views = modality.num_precomputed_views(plan.stage, data, model)
            ahead = early * (plan.num_samples * views + num_val)
            found = Operations(late / 3, late)
        # Each device takes every step of a search.
        steps = steps_of_searches(recipe, index) * num_devices(recipe)
        searched = steps * min(data.batch_size, plan.num_samples)
        parts = [_part(found.training, searched, data.batch_size)]
        if ahead:
            # Steps without arithmetic are short beside it.
            parts = [Part("arithmetic", ahead + found.training * searched)]
        for epoch in range(plan.stage.max_epochs):
            resize(epoch)
            scale = _area(data, size)
            parts += [
                _part(found.training * scale, plan.num_samples, data.batch_size),
                _part(found.forward * scale, num_val, data.batch_size),
            ]
        work[plan.stage.name] = parts
    asked = recipe.evaluation
    scale = (asked.image_size / size) ** 2 if asked.image_size else _area(data, size)
    num_passes = 1 + modality.num_views(recipe, data)
    num_models = num_members(recipe)
    work[EVALUATION] = [
        _part(forward * scale * num_passes, modality.num_samples(data, split), data.batch_size)
        for split in get_args(Split)
        if split in asked.splits and modality.num_samples(data, split)
        for _ in range(num_models)
    ]
    return work


def place_in_stage(epoch: int, what: str) -> int:
    """Return the number of a part: ``PRECOMPUTED``, or of an epoch ``TRAINED`` or ``VALIDATED``."""
    return 0 if what == PRECOMPUTED else 1 + 2 * epoch + (what == VALIDATED)


def _part(operations: float, num_samples: float, batch_size: int) -> Part:
    if operations > 0:
        return Part("arithmetic", operations * num_samples)
    return Part("steps", float(math.ceil(num_samples / batch_size)))


def _area(data: Any, size: int) -> float:
    return float((getattr(data, "image_size", size) / size) ** 2)


def num_members(recipe: Recipe) -> int:
    """Return how many models predict together at the end."""
    if recipe.evaluation.ensemble != "snapshots":
        return 1
    callbacks = build_callbacks(recipe, len(recipe.stages) - 1)
    kept = [one.keep or 1 for one in callbacks if isinstance(one, CycleSnapshots)]
    return max(kept, default=1)
