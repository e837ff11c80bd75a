"""Recipes for images: how their parts are built, set, described and evaluated."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes.callbacks.progressive_resizing import ProgressiveResizing
from lightning_fastrecipes.data.common.files import write_atomically
from lightning_fastrecipes.data.images.datamodules import ImageDataModule
from lightning_fastrecipes.data.images.features import FeatureDataModule
from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.recipe.config.building import build
from lightning_fastrecipes.recipe.config.documents import Place
from lightning_fastrecipes.recipe.config.schema import Recipe, Stage
from lightning_fastrecipes.recipe.images.evaluation import ImageEvaluator, evaluation_geometry
from lightning_fastrecipes.recipe.images.views import build_tta
from lightning_fastrecipes.recipe.shared.modality import MakeTrainer, Modality
from lightning_fastrecipes.tasks.image import ImageClassifier


class Images(Modality):
    """Images and a classifier of them."""

    size_names = ("image_size", "batch_size")
    stage_names = ("image_size", "batch_size", "augmentation")
    unit = "images"

    def check(self, recipe: Recipe) -> None:
        """Accept all keys."""

    def build_parts(self, recipe: Recipe) -> tuple[ImageDataModule, ImageClassifier]:
        """Build datamodule and model; the data says how many classes there are."""
        images = build(recipe.data, pl.LightningDataModule, Place(recipe.path, "data"))
        if not isinstance(images, ImageDataModule):
            raise RecipeError(
                f"{recipe.path}: data.class_path: must name a subclass of `ImageDataModule`, or of"
                f" `TabularDataModule`, but is {recipe.data.class_path!r}."
            )
        sizes = [stage.image_size for stage in recipe.stages] + [recipe.evaluation.image_size]
        images.largest_image_size = max(images.image_size, *(size or 0 for size in sizes))
        images.prepare_data()
        images.setup("fit")
        extra: dict[str, Any] = {}
        if "num_classes" not in recipe.model.init_args:
            extra["num_classes"] = len(images.classes)
        model = build(recipe.model, pl.LightningModule, Place(recipe.path, "model"), **extra)
        if not isinstance(model, ImageClassifier):
            raise RecipeError(
                f"{recipe.path}: model.class_path: must name a subclass of `ImageClassifier`, but"
                f" is {recipe.model.class_path!r}."
            )
        model.set_classes(images.classes, images.label_kind)
        images.input_spec = model.input_spec
        if any(isinstance(module, nn.Conv2d) for module in model.backbone.modules()):
            model.to(memory_format=torch.channels_last)
        return images, model

    def num_samples(self, data: Any, split: Any) -> int:
        """Count the images of a split."""
        return len(data.eval_dataset(split))

    def check_stage(self, stage: Stage, data: Any, model: Any) -> None:
        """Refuse a size that the model does not take, and features of what is not frozen."""
        model.backbone.check_image_size(data.image_size)
        if stage.precompute:
            FeatureDataModule(data, model)

    def resizing(
        self, stage: Stage, callbacks: Sequence[pl.Callback], data: Any, model: Any
    ) -> Callable[[int], None]:
        """Return what ``ProgressiveResizing`` will do; nothing in a stage of one size."""
        found = [callback for callback in callbacks if isinstance(callback, ProgressiveResizing)]
        if not found:
            return lambda _epoch: None
        if stage.precompute:
            raise ValueError("precomputed features have one size. Leave `precompute` out.")
        sizes = found[0].taken_sizes(model)

        def resize(epoch: int) -> None:
            found[0].leave_at(data, sizes, epoch)
            data.largest_image_size = max(data.largest_image_size, data.image_size)

        return resize

    def check_evaluation(self, recipe: Recipe, data: Any, model: Any) -> None:
        """Refuse sizes and views that the model does not take, or that cannot be made."""
        asked = recipe.evaluation
        try:
            evaluation_geometry(asked, data.geometry)
            if asked.image_size is not None:
                model.backbone.check_image_size(asked.image_size)
        except ValueError as error:
            raise RecipeError(f"{recipe.path}: evaluation: {error}") from error
        build_tta(recipe, data)

    def training_data(self, stage: Stage, data: Any, model: Any) -> pl.LightningDataModule:
        """Return the images, or their features."""
        images: pl.LightningDataModule = data
        return FeatureDataModule(data, model) if stage.precompute else images

    def describe(self, data: Any, model: Any) -> list[str]:
        """Return how many images there are, of which classes, and how the model wants them."""
        counts = {split: self.num_samples(data, split) for split in ("train", "val", "test")}
        spec = model.input_spec
        lines = [
            f"Data: {', '.join(f'{count} {split}' for split, count in counts.items())} images;"
            f" classes {', '.join(data.classes[:10])}{' ...' if len(data.classes) > 10 else ''}"
        ]
        if data.label_reason:
            lines.append(f"Labels: {data.label_reason}")
        lines.append(
            f"Model: {model.backbone.name}; input mean {spec.mean}, std {spec.std},"
            f" {spec.interpolation}; batch norm `{model.norm_policy}`"
        )
        if data.skipped_files:
            lines.append(f"Skipped {len(data.skipped_files)} unreadable files")
        return lines

    def write_findings(self, data: Any, folder: Path) -> None:
        """List unreadable files, if there are any."""
        if data.skipped_files:
            lines = ["file,reason", *(f'"{f}","{r}"' for f, r in data.skipped_files)]
            write_atomically(folder / "skipped_files.csv", "\n".join(lines) + "\n")

    def evaluator(
        self, recipe: Recipe, folder: Path, data: Any, model: Any, make_trainer: MakeTrainer
    ) -> ImageEvaluator:
        """Build what evaluates, test-time augmentation included."""
        return ImageEvaluator(recipe, folder, data, model, make_trainer)
