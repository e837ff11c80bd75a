"""Recipes for images: how their parts are built, set, described, evaluated and exported."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from typing_extensions import override

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes.callbacks.progressive_resizing import ProgressiveResizing
from lightning_fastrecipes.callbacks.test_time_augmentation import TestTimeAugmentation
from lightning_fastrecipes.data.common.files import write_atomically
from lightning_fastrecipes.data.images.features import FeatureDataModule
from lightning_fastrecipes.data.images.module import ImageDataModule
from lightning_fastrecipes.errors import ConfigurationError, DataError, RecipeError
from lightning_fastrecipes.functional.labels.merging import merge_predictions, named_agreement
from lightning_fastrecipes.functional.labels.numbers import describe_targets
from lightning_fastrecipes.messages import shown
from lightning_fastrecipes.nn.operations import Operations, count_operations
from lightning_fastrecipes.protocols import InputSpec
from lightning_fastrecipes.recipe.config.building import build, constructor_arguments
from lightning_fastrecipes.recipe.config.documents import Place
from lightning_fastrecipes.recipe.config.schema import Evaluation, Precompute, Recipe, Stage
from lightning_fastrecipes.recipe.images.description import describe_model
from lightning_fastrecipes.recipe.images.export import load_export, predict_files
from lightning_fastrecipes.recipe.images.items import as_files
from lightning_fastrecipes.recipe.images.number_reports import write_number_predictions
from lightning_fastrecipes.recipe.images.reports import write_image_predictions
from lightning_fastrecipes.recipe.images.stored_classes import stored_classes
from lightning_fastrecipes.recipe.images.views import build_tta, describe_views
from lightning_fastrecipes.recipe.shared.modality import Modality
from lightning_fastrecipes.recipe.shared.predictions import Predicted, Predictions
from lightning_fastrecipes.tasks.image import ImageClassifier
from lightning_fastrecipes.tasks.image_regressor import ImageRegressor
from lightning_fastrecipes.tasks.image_task import ImageTask
from lightning_fastrecipes.tasks.metric_checks import check_metrics
from lightning_fastrecipes.trust import Trust


class Images(Modality):
    """Images and a model that predicts their classes or numbers."""

    unit = "images"
    datamodule = ImageDataModule
    stage_names = ("image_size", "batch_size", "augmentation")
    size_names = ("image_size", "batch_size")

    @override
    def check(self, recipe: Recipe) -> None:
        if not issubclass(recipe.model.load(), ImageTask):
            raise RecipeError(
                f"{recipe.path}: model.class_path: images need a model of images, such as"
                f" `lightning_fastrecipes.ImageClassifier`, but got {recipe.model.class_path!r}."
            )

    @override
    def read_data(self, recipe: Recipe) -> ImageDataModule:
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
        if (trained := stored_classes(recipe.path.parent)) is not None:
            images.follow_classes(trained)
        if _counts_classes(recipe) and len(images.classes) == 1 and images.label_kind == "single":
            raise DataError(
                "The images must be of two classes or more, but all are of"
                f" {shown(images.classes[0])}. Put the images of each class into a folder of"
                " its own, or name the column that tells them apart."
            )
        return images

    @override
    def build_parts(self, recipe: Recipe) -> tuple[ImageDataModule, ImageTask]:
        images = self.read_data(recipe)
        extra: dict[str, Any] = {}
        if _counts_classes(recipe) and images.classes:
            extra["num_classes"] = len(images.classes)
        model = build(recipe.model, pl.LightningModule, Place(recipe.path, "model"), **extra)
        if not isinstance(model, ImageClassifier | ImageRegressor):
            raise RecipeError(
                f"{recipe.path}: model.class_path: must name a subclass of `ImageClassifier` or"
                f" `ImageRegressor`, but is {recipe.model.class_path!r}."
            )
        model.adopt_targets(images)
        model.check_channels(images)
        try:
            check_metrics(model)
        except ConfigurationError as error:
            raise RecipeError(f"{recipe.path}: model: {error}") from error
        images.input_spec = model.input_spec
        model.set_input_spec(images.normalised_spec(model.input_spec))
        if any(isinstance(module, nn.Conv2d) for module in model.backbone.modules()):
            model.to(memory_format=torch.channels_last)
        return images, model

    @override
    def build_unread(self, recipe: Recipe) -> tuple[Any, Any]:
        images = build(recipe.data, pl.LightningDataModule, Place(recipe.path, "data"))
        known = constructor_arguments(recipe.model.load()) or {}
        extra = dict.fromkeys({"num_classes"} & set(known) - set(recipe.model.init_args), 2)
        return images, build(recipe.model, pl.LightningModule, Place(recipe.path, "model"), **extra)

    @override
    def num_samples(self, data: Any, split: Any) -> int:
        return len(data.eval_dataset(split))

    @override
    def check_stage(self, stage: Stage, data: Any, model: Any) -> None:
        model.backbone.check_image_size(data.image_size)
        if stage.precompute:
            self.training_data(stage, data, model)

    @override
    def resizing(
        self, stage: Stage, callbacks: Sequence[pl.Callback], data: Any, model: Any
    ) -> Callable[[int], None]:
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

    @override
    def check_evaluation(self, recipe: Recipe, data: Any, model: Any) -> None:
        asked = recipe.evaluation
        try:
            data.geometry.cropped(asked.crop_fraction)
            if asked.image_size is not None:
                model.backbone.check_image_size(asked.image_size)
        except ValueError as error:
            raise RecipeError(f"{recipe.path}: evaluation: {error}") from error
        build_tta(recipe, data)

    @override
    def training_data(self, stage: Stage, data: Any, model: Any) -> pl.LightningDataModule:
        images: pl.LightningDataModule = data
        if not stage.precompute:
            return images
        chosen = asdict(stage.precompute) if isinstance(stage.precompute, Precompute) else {}
        return FeatureDataModule(data, model, **chosen)

    @override
    def describe_training_data(self, stage: Stage, data: Any, model: Any) -> str:
        served = self.training_data(stage, data, model)
        return served.describe() if isinstance(served, FeatureDataModule) else ""

    @override
    def operations(self, data: Any, model: Any) -> Operations:
        return count_operations(model.backbone, data.image_size)

    @override
    def num_precomputed_views(self, stage: Stage, data: Any, model: Any) -> int:
        served = self.training_data(stage, data, model)
        return served.num_views if isinstance(served, FeatureDataModule) else 1

    @override
    def num_views(self, recipe: Recipe, data: Any) -> int:
        callback = build_tta(recipe, data)
        return 0 if callback is None else callback.views.num_views

    @override
    def describe(self, data: Any, model: Any) -> list[str]:
        counts = {split: self.num_samples(data, split) for split in ("train", "val", "test")}
        spec = model.input_spec
        what = f"classes {', '.join(data.classes[:10])}{' ...' if len(data.classes) > 10 else ''}"
        if data.number_targets:
            what = f"numbers {describe_targets(data.number_targets)}"
        sizes = ", ".join(f"{count} {split}" for split, count in counts.items())
        lines = [f"Data: {sizes} images; {what}"]
        if data.number_targets:
            lines.append("Units: metrics as the data, the loss in deviations from the mean")
        if data.reading:
            lines.append(f"Read: {data.reading}")
        if data.label_reason:
            lines.append(f"Labels: {data.label_reason}")
        lines.append(
            f"Model: {model.backbone.name}; input {_normalisation(spec)},"
            f" {spec.interpolation}; batch norm `{model.norm_policy}`"
        )
        if data.skipped_files:
            lines.append(f"Skipped {len(data.skipped_files)} unreadable files")
        return lines

    @override
    def write_findings(self, data: Any, folder: Path) -> None:
        if data.skipped_files:
            table = pd.DataFrame(data.skipped_files, columns=["file", "reason"])
            write_atomically(folder / "skipped_files.csv", table.to_csv(index=False))

    @override
    def build_tta(self, recipe: Recipe, data: Any) -> TestTimeAugmentation | None:
        return build_tta(recipe, data)

    @override
    def apply_evaluation(self, evaluation: Evaluation, data: Any) -> None:
        data.geometry = data.geometry.cropped(evaluation.crop_fraction)
        if evaluation.image_size is not None:
            data.image_size = evaluation.image_size
        if evaluation.batch_size is not None:
            data.batch_size = evaluation.batch_size

    @override
    def merge(self, predictions: Iterable[Tensor]) -> Tensor:
        return merge_predictions(predictions)

    @override
    def agreement(
        self, model: Any, members: Tensor, merged: Tensor, thresholds: Tensor | None
    ) -> dict[str, Tensor]:
        return named_agreement(members, merged, thresholds, getattr(model, "number_names", ()))

    @override
    def write_predictions(self, folder: Path, data: Any, model: Any, predicted: Predicted) -> None:
        write = write_number_predictions if data.number_targets else write_image_predictions
        write(folder, data, predicted)

    @override
    def describe_export(
        self, recipe: Recipe | None, data: Any, model: Any, tta: TestTimeAugmentation | None
    ) -> dict[str, Any]:
        return {**describe_model(model, data), **describe_views(tta, recipe, data)}

    @override
    def load(
        self, folder: Path, *, trust: Trust, network: nn.Module | None = None
    ) -> tuple[Any, dict[str, Any]]:
        return load_export(folder, trust=trust, network=network)

    @override
    def task_of(self, saved: Mapping[str, Any]) -> type[Any]:
        if not {"numbers", "classes"} & saved.keys():
            raise ValueError("neither classes nor numbers")
        return ImageRegressor if "numbers" in saved else ImageClassifier

    @override
    def as_source(self, items: Any, folder: Path) -> tuple[Any, dict[str, str], bool]:
        return as_files(items, folder)

    @override
    def predict(
        self,
        folders: Sequence[Path],
        source: Any,
        *,
        tta: bool | None,
        keep: Sequence[str] = (),
        agreement: bool = False,
        calibrated: bool = False,
        trust: Trust = (),
        load: Callable[[Path], Any] | None = None,
    ) -> Predictions:
        if keep:
            raise RecipeError("`--keep` is for columns of tables, not for images. Leave it out.")
        table, bad = predict_files(
            folders,
            source,
            tta=tta,
            agreement=agreement,
            calibrated=calibrated,
            trust=trust,
            load=load,
        )
        return Predictions(table, table.to_csv(index=False), bad)


def _normalisation(spec: InputSpec) -> str:
    """Return what is subtracted and divided by, in words; measured numbers are shortened."""
    if not spec.is_measured:
        return f"mean {spec.mean}, std {spec.std}"
    mean, std = (tuple(round(number, 4) for number in values) for values in (spec.mean, spec.std))
    subtracted = "mean" if spec.mean_image is None else "mean image, of mean"
    return f"{subtracted} {mean}, std {std} of the training images"


def _counts_classes(recipe: Recipe) -> bool:
    """Return whether a model of a recipe must be told how many classes the data have."""
    given = recipe.model.init_args
    return issubclass(recipe.model.load(), ImageClassifier) and "num_classes" not in given
