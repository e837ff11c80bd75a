"""What a recipe will do, worked out and checked before any training."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from lightning_fastrecipes.callbacks.progressive_resizing import ProgressiveResizing
from lightning_fastrecipes.data.features import FeatureDataModule
from lightning_fastrecipes.data.image import ImageDataModule
from lightning_fastrecipes.data.samplers import drops_last_batch
from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.recipe.augmented import build_tta
from lightning_fastrecipes.recipe.loading import build
from lightning_fastrecipes.recipe.schema import Recipe, Stage
from lightning_fastrecipes.tasks.image import ImageClassifier

LR_BEFORE_FINDING = 1e-3
"""What ``lr: find`` starts from, and what a rehearsal without a sweep trains with."""


@dataclass(frozen=True)
class GroupPlan:
    """One layer group in one stage.

    Args:
        name: Name of the group.
        num_parameters: Numbers in its parameters.
        trained: Whether this stage trains it.
        lr: Its peak learning rate, 0 where frozen; with ``lr: find`` only the ratios count.
    """

    name: str
    num_parameters: int
    trained: bool
    lr: float


@dataclass(frozen=True)
class StagePlan:
    """One stage, worked out.

    Args:
        stage: The stage of the recipe.
        groups: Its layer groups from the input side.
        image_size: Side in pixels, in the first epoch.
        batch_size: Pictures per process and step, in the first epoch.
        augmentation: Preset of the training pictures.
        steps_per_epoch: Optimizer steps of the first epoch.
        num_steps: Optimizer steps of the whole stage.
        num_images: Pictures of the training split.
    """

    stage: Stage
    groups: tuple[GroupPlan, ...]
    image_size: int
    batch_size: int
    augmentation: str
    steps_per_epoch: int
    num_steps: int
    num_images: int


def build_parts(recipe: Recipe) -> tuple[ImageDataModule, ImageClassifier]:
    """Build datamodule and model; the data says how many classes there are.

    Args:
        recipe: A loaded recipe.

    Returns:
        The datamodule, set up, and the model.

    Raises:
        RecipeError: If arguments do not fit, or a class is none that the runner can drive.
    """
    images = build(recipe.data, pl.LightningDataModule, recipe.path, "data")
    if not isinstance(images, ImageDataModule):
        raise RecipeError(
            f"{recipe.path}: data.class_path: must name a subclass of `ImageDataModule`, but is"
            f" {recipe.data.class_path!r}."
        )
    sizes = [stage.image_size for stage in recipe.stages] + [recipe.evaluation.image_size]
    images.largest_image_size = max(images.image_size, *(size or 0 for size in sizes))
    images.prepare_data()
    images.setup("fit")
    extra: dict[str, Any] = {}
    if "num_classes" not in recipe.model.init_args:
        extra["num_classes"] = len(images.classes)
    model = build(recipe.model, pl.LightningModule, recipe.path, "model", **extra)
    if not isinstance(model, ImageClassifier):
        raise RecipeError(
            f"{recipe.path}: model.class_path: must name a subclass of `ImageClassifier`, but is"
            f" {recipe.model.class_path!r}."
        )
    model.adopt_classes(images.classes, images.label_kind)
    images.input_spec = model.input_spec
    if any(isinstance(module, nn.Conv2d) for module in model.backbone.modules()):
        model.to(memory_format=torch.channels_last)
    return images, model


def apply_stage(
    recipe: Recipe, index: int, images: ImageDataModule, model: ImageClassifier
) -> None:
    """Set data and model as one stage wants them; everything is set, nothing left from before.

    Args:
        recipe: The recipe.
        index: Which stage, from 0.
        images: Its datamodule.
        model: Its model.

    Raises:
        RecipeError: If the stage does not fit the model, with file and key path.
    """
    stage = recipe.stages[index]
    # A stage that says nothing gets what the recipe says, not what the stage before it left.
    defaults = _signature_defaults(type(images)) | recipe.data.init_args
    try:
        for name in ("image_size", "batch_size", "augmentation"):
            value = getattr(stage, name)
            setattr(images, name, defaults[name] if value is None else value)
        images.seed = stage_seed(recipe.seed, index)
        model.backbone.check_image_size(images.image_size)
        lr = LR_BEFORE_FINDING if isinstance(stage.lr, str) else stage.lr
        model.set_learning_rates(lr, stage.lr_ratio)
        model.freeze_to(stage.freeze_to)
        model.group_lrs()
        if stage.precompute:
            FeatureDataModule(images, model)
    except ValueError as error:
        raise RecipeError(f"{recipe.path}: stages[{index}] ({stage.name}): {error}") from error
    if stage.until_overfitting and not len(images.eval_dataset("valid")):
        raise RecipeError(
            f"{recipe.path}: stages[{index}] ({stage.name}): `until_overfitting` needs a validation"
            " split, but the data has none. Set `valid_fraction`."
        )


def build_callbacks(recipe: Recipe, index: int) -> list[pl.Callback]:
    """Build the callbacks that a stage lists.

    Args:
        recipe: The recipe.
        index: Which stage, from 0.

    Returns:
        New callbacks, in the order of the recipe.

    Raises:
        RecipeError: If arguments do not fit, with file and key path.
    """
    return [
        build(spec, pl.Callback, recipe.path, f"stages[{index}].callbacks[{position}]")
        for position, spec in enumerate(recipe.stages[index].callbacks)
    ]


def plan_stages(recipe: Recipe, images: ImageDataModule, model: ImageClassifier) -> list[StagePlan]:
    """Work out every stage, so that a mistake in the last is found before the first.

    Args:
        recipe: The recipe.
        images: Its datamodule, set up.
        model: Its model.

    Returns:
        One plan per stage. The model is left frozen as in the last stage, and the datamodule at the
        size that it ends with.
    """
    plans = []
    devices = recipe.trainer.get("devices", 1)
    num_devices = devices if isinstance(devices, int) and devices > 0 else 1
    accumulate = int(recipe.trainer.get("accumulate_grad_batches", 1))
    for index, stage in enumerate(recipe.stages):
        apply_stage(recipe, index, images, model)
        resize = resizing(recipe, index, images, model)
        resize(0)
        image_size, batch_size = images.image_size, images.batch_size
        steps = []
        for epoch in range(stage.max_epochs):
            resize(epoch)
            images.largest_image_size = max(images.largest_image_size, images.image_size)
            steps.append(_steps_per_epoch(images, num_devices, accumulate))
        plans.append(
            StagePlan(
                stage=stage,
                groups=group_plans(model),
                image_size=image_size,
                batch_size=batch_size,
                augmentation="none" if stage.precompute else images.augmentation,
                steps_per_epoch=steps[0],
                num_steps=sum(steps),
                num_images=len(images.eval_dataset("train")),
            )
        )
    build_tta(recipe, images)
    return plans


def resizing(
    recipe: Recipe, index: int, images: ImageDataModule, model: ImageClassifier
) -> Callable[[int], None]:
    """Give what sets the datamodule to the sizes of an epoch, as the stage's callbacks will.

    Args:
        recipe: The recipe.
        index: Which stage, from 0.
        images: Its datamodule.
        model: Its model.

    Returns:
        A function of the epoch; it does nothing in a stage of one size.

    Raises:
        RecipeError: If the model does not take a size, or the stage cannot change it.
    """
    stage = recipe.stages[index]
    where = f"{recipe.path}: stages[{index}] ({stage.name}): `ProgressiveResizing`"
    found = [c for c in build_callbacks(recipe, index) if isinstance(c, ProgressiveResizing)]
    if not found:
        return lambda _epoch: None
    if stage.precompute:
        raise RecipeError(f"{where}: precomputed features have one size. Leave `precompute` out.")
    try:
        sizes = found[0].taken_sizes(model)
    except ValueError as error:
        raise RecipeError(f"{where}: {error}") from error
    return lambda epoch: found[0].leave_at(images, sizes, epoch)


def group_plans(model: ImageClassifier) -> tuple[GroupPlan, ...]:
    """List the layer groups as the model is frozen now."""
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    return tuple(
        GroupPlan(
            name=group.name,
            num_parameters=sum(sizes[name] for name in group.parameters),
            trained=index >= model.num_frozen,
            lr=lr,
        )
        for index, (group, lr) in enumerate(
            zip(model.layer_groups(), model.group_lrs(), strict=True)
        )
    )


def stage_seed(seed: int, index: int) -> int:
    """Give each stage its own seed, the same in every run.

    Args:
        seed: Seed of the recipe.
        index: Which stage, from 0.

    Returns:
        The stage's seed.

    Example:
        >>> stage_seed(0, 0), stage_seed(0, 1), stage_seed(1, 0)
        (0, 1, 1000)
    """
    return seed * 1000 + index


def _signature_defaults(cls: type) -> dict[str, Any]:
    return {name: item.default for name, item in inspect.signature(cls).parameters.items()}


def _steps_per_epoch(images: ImageDataModule, num_devices: int, accumulate: int) -> int:
    shard = math.ceil(len(images.eval_dataset("train")) / num_devices)
    if drops_last_batch(shard, images.batch_size):
        shard -= 1
    return math.ceil(math.ceil(shard / images.batch_size) / accumulate)
