"""Evaluate images: test-time augmentation, members that predict together, tuned thresholds."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_fastrecipes._lightning import Callback
from lightning_fastrecipes.data.common.files import write_atomically
from lightning_fastrecipes.data.images.datamodules import ImageDataModule
from lightning_fastrecipes.data.images.geometry import Geometry
from lightning_fastrecipes.functional.labels.merging import merge_predictions
from lightning_fastrecipes.plots.runs import draw_confusion_matrix
from lightning_fastrecipes.recipe.artifacts.environment import is_first_process
from lightning_fastrecipes.recipe.config.schema import Evaluation, Recipe
from lightning_fastrecipes.recipe.images.export import export_model, named_thresholds
from lightning_fastrecipes.recipe.images.label_report import write_label_report
from lightning_fastrecipes.recipe.images.views import build_tta, describe_views
from lightning_fastrecipes.recipe.shared.ensembles import (
    choose_members,
    each_member,
    export_members,
    load_average,
    measure,
)
from lightning_fastrecipes.recipe.shared.modality import Evaluator, MakeTrainer
from lightning_fastrecipes.recipe.shared.predictions import (
    PredictionCollector,
    Split,
    confusion_counts,
    evaluate,
    prediction_table,
)
from lightning_fastrecipes.tasks.image import ImageClassifier


class ImageEvaluator(Evaluator):
    """Measure a classifier of images.

    Args:
        recipe: The recipe.
        folder: The run folder.
        images: The datamodule.
        model: The model.
        make_trainer: Takes callbacks and arguments of ``Trainer``.

    Raises:
        RecipeError: If the views of test-time augmentation cannot be made.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        images: ImageDataModule,
        model: ImageClassifier,
        make_trainer: MakeTrainer,
    ) -> None:
        self.recipe = recipe
        self.folder = folder
        self.images = images
        self.model = model
        self.tta = build_tta(recipe, images)
        self._trainer = make_trainer
        self._members: dict[str, Path] = {}
        # With several labels and views: what is best for all together, and for each member.
        self._merged_thresholds: Tensor | None = None
        self._learned: dict[str, dict[str, Tensor]] = {}

    def begin(self, members: Mapping[str, Path], is_rehearsal: bool) -> None:
        """Set size and crop, and find snapshots that the recipe wants to predict together."""
        evaluation = self.recipe.evaluation
        self.images.geometry = evaluation_geometry(evaluation, self.images.geometry)
        if evaluation.image_size is not None:
            self.images.image_size = evaluation.image_size
        if evaluation.batch_size is not None:
            self.images.batch_size = evaluation.batch_size
        self._members = choose_members(self.recipe, self.folder, members, is_rehearsal)
        if self._members and evaluation.ensemble == "average":
            load_average(self._members.values(), self.model, self.images, self._trainer)
            self._members = {}

    def measure(self, split: Split, results: dict[str, Any]) -> None:
        """Measure one split; what is tuned on the validation split, the test is measured with."""
        num_samples = len(self.images.eval_dataset(split))
        if self._members:
            results[split], alone = self._evaluate_members(split, num_samples, self._members)
            results.setdefault("members", {})[split] = alone
            return
        results[split], found = self._predict_split(split, num_samples)
        if split == "val" and found.merged is not None:
            # The plain ones were tuned by the validation itself.
            self._merged_thresholds = self.model.best_thresholds(found.merged, found.targets)
        self._write_predictions(split, found.predictions, found.targets)

    def export(self, folder: Path) -> None:
        """Write the model, and those that predict with it."""
        views = describe_views(self.tta, self.recipe, self.images)
        together = self._named_thresholds(self._merged_thresholds)

        def export(place: Path) -> None:
            learned = self._learned.get(place.name, {})
            own = next(iter(learned.values()), None) if self._members else self._merged_thresholds
            described = {**views, **self._named_thresholds(own)}
            export_model(place, self.model, self.images, described)

        export(folder)
        export_members(folder, self._members, self.model, export, together)

    def _evaluate_members(
        self, split: Split, num_samples: int, members: Mapping[str, Path]
    ) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
        """Evaluate what members predict together, and each of them alone."""
        alone: dict[str, dict[str, float]] = {}
        plain, predictions = [], []
        targets = torch.empty(0)
        for name in each_member(members, self.model):
            if self.tta is not None:
                self.tta.thresholds = self._learned.get(name, {})
            alone[name], found = self._predict_split(split, num_samples)
            if self.tta is not None:
                self._learned[name] = self.tta.thresholds
            plain.append(found.probabilities)
            predictions.append(found.predictions)
            targets = found.targets
        merged, unaugmented = merge_predictions(predictions), merge_predictions(plain)
        if split == "val":
            self.model.tune_thresholds(unaugmented, targets)
            if self.tta is not None:
                self._merged_thresholds = self.model.best_thresholds(merged, targets)
            if self.tta is not None and self.tta.is_learning:
                is_multi_label = self.model.label_kind == "multi"
                self.tta.learn(unaugmented, merged, targets, multi_label=is_multi_label)
        metrics = self._measure(unaugmented, targets)
        if self.tta is not None:
            if self.tta.is_learning:
                metrics["plain_weight"] = self.tta.weight
            augmented = self._measure(merged, targets, self._merged_thresholds)
            metrics |= {f"{name}_tta": value for name, value in augmented.items()}
        self._write_predictions(split, merged, targets)
        return metrics, alone

    def _predict_split(
        self, split: Split, num_samples: int
    ) -> tuple[dict[str, float], PredictionCollector]:
        collector = PredictionCollector(num_samples)
        callbacks: list[Callback] = [collector] if self.tta is None else [self.tta, collector]
        trainer = self._trainer(callbacks, precision="32-true", enable_checkpointing=False)
        return evaluate(trainer, self.model, self.images, split), collector

    def _write_predictions(self, split: Split, probabilities: Tensor, targets: Tensor) -> None:
        if not is_first_process():
            return
        files = [str(name) for name in self.images.eval_dataset(split).files[: len(probabilities)]]
        classes = self.images.classes
        thresholds = self.model.thresholds
        if self._merged_thresholds is not None:
            thresholds = self._merged_thresholds
        table = prediction_table(files, probabilities, classes, targets, thresholds)
        write_atomically(self.folder / f"predictions_{split}.csv", table.to_csv(index=False))
        if thresholds is not None:
            write_label_report(self.folder, split, (probabilities, targets), classes, thresholds)
            return
        counts = confusion_counts(probabilities, targets, len(classes))
        name = "confusion_matrix.png" if split == "test" else "confusion_matrix_val.png"
        draw_confusion_matrix(counts, classes, self.folder / name)

    def _measure(
        self, probabilities: Tensor, targets: Tensor, thresholds: Tensor | None = None
    ) -> dict[str, float]:
        logits = self.model.rules.logits(probabilities)

        def prepare(metrics: Any) -> None:
            self.model.fix_thresholds(metrics, thresholds)

        return measure(self.model, probabilities, targets, logits, prepare)

    def _named_thresholds(self, merged: Tensor | None) -> dict[str, dict[str, float] | None]:
        """Name the thresholds of predictions with and without views; nothing with one label."""
        plain = named_thresholds(self.model)
        if plain is None:
            return {}
        if merged is None:
            return {"thresholds": plain}
        views = named_thresholds(self.model, merged)
        return {"thresholds": views, "plain_thresholds": plain}


def evaluation_geometry(evaluation: Evaluation, trained: Geometry) -> Geometry:
    """Return how images are resized and cropped for the evaluation.

    Args:
        evaluation: What the recipe asks for.
        trained: The geometry of the stages.

    Returns:
        The same geometry, with the evaluation's own crop if it has one.

    Raises:
        ValueError: If the crop is out of its range, or images are squished, which are not
            cropped.
    """
    fraction = evaluation.crop_fraction
    if fraction is None:
        return trained
    if trained.resize == "squish":
        raise ValueError(
            f"`crop_fraction` must be left out where images are squished, got {fraction}: they"
            " are not cropped. Leave it out, or set `data.images.geometry.resize` to 'crop'."
        )
    return replace(trained, crop_fraction=fraction)
