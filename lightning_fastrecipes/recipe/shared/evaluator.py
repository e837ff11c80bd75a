"""Measure a trained model, write what it predicts, and export it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_fastrecipes._lightning import Callback
from lightning_fastrecipes.functional.labels.calibration import usable_temperature
from lightning_fastrecipes.functional.labels.decisions import describe_thresholds
from lightning_fastrecipes.functional.labels.merging import stack_predictions
from lightning_fastrecipes.functional.labels.multi_label import commonest_labels
from lightning_fastrecipes.functional.labels.targets import hard_labels
from lightning_fastrecipes.life_signs import track
from lightning_fastrecipes.recipe.artifacts.environment import is_first_process
from lightning_fastrecipes.recipe.artifacts.export_files import (
    ENSEMBLE,
    write_ensemble,
    write_export,
)
from lightning_fastrecipes.recipe.artifacts.kept_predictions import KeptPredictions
from lightning_fastrecipes.recipe.artifacts.run_folder import RunFolder
from lightning_fastrecipes.recipe.config.schema import Recipe
from lightning_fastrecipes.recipe.shared.members import (
    MakeTrainer,
    each_member,
    load_average,
    load_member,
)
from lightning_fastrecipes.recipe.shared.modality import Modality
from lightning_fastrecipes.recipe.shared.predictions import (
    Predicted,
    PredictionCollector,
    Split,
    check_measured,
    evaluate,
)
from lightning_fastrecipes.tasks.classification import ClassificationTask
from lightning_fastrecipes.tasks.metric_checks import compute_alone


class Evaluator:
    """Evaluate the model of a run, or the mean of what several members predict.

    With several labels, thresholds are tuned on the validation split and used on the test split.
    Predictions merged with views have their own thresholds, and so does each member. With one
    label, the temperature of what is predicted in the end is fitted there.
    ``make_trainer`` takes callbacks and arguments of ``Trainer``. Raise `RecipeError` if the recipe
    asks for views that cannot be made.
    """

    def __init__(
        self,
        modality: Modality,
        recipe: Recipe,
        folder: Path,
        data: Any,
        model: Any,
        make_trainer: MakeTrainer,
    ) -> None:
        self.modality = modality
        self.recipe = recipe
        self.folder = folder
        self.data = data
        self.model = model
        self.tta = modality.build_tta(recipe, data)
        self._make_trainer = make_trainer
        self._members: dict[str, Path] = {}
        self._merged_thresholds: Tensor | None = None
        self._temperatures: dict[str, float] = {}
        self._member_thresholds: dict[str, dict[str, Tensor]] = {}

    def set_up(self, members: Mapping[str, Path], *, is_rehearsal: bool) -> None:
        """Set sizes and crop of the data, and find the models that predict together.

        ``members`` holds the checkpoint of each model by its name. Where the recipe asks for
        snapshots, these take their place, except in a rehearsal (one batch of everything), which
        leaves no snapshots.
        """
        asked = self.recipe.evaluation
        self.modality.apply_evaluation(asked, self.data)
        uses_snapshots = asked.ensemble is not None and not is_rehearsal
        self._members = dict(members)
        if uses_snapshots:
            stages = [stage.name for stage in self.recipe.stages]
            self._members = RunFolder(self.folder).find_snapshots(stages)
        if self._members and asked.ensemble == "average":
            load_average(self._members.values(), self.model, self.data, self._make_trainer)
            self._members = {}

    def measure(self, split: Split, results: dict[str, Any]) -> None:
        """Measure a split that has rows into the results, and write its predictions.

        Measure ``val`` first, since ``test`` uses what it tunes.
        """
        if self._members:
            results[split], alone, targets = self._measure_members(split)
            results.setdefault("members", {})[split] = alone
            self.measure_baseline(split, targets, results)
            return
        results[split], found = self._predict_split(split)
        if self.recipe.is_fold and is_first_process():
            kept = KeptPredictions(found.probabilities, found.predictions, found.targets)
            kept.write(self.folder, split)
        self.measure_baseline(split, found.targets, results)
        if split == "val":
            self._fit_temperatures(found.probabilities, found.predictions, found.targets)
        is_classifier = isinstance(self.model, ClassificationTask)
        if split == "val" and found.merged is not None and is_classifier:
            # The thresholds of plain predictions were tuned by the validation itself.
            self._merged_thresholds = self.model.best_thresholds(found.merged, found.targets)
        self._write_predictions(split, found.predictions, found.targets)

    def export(self, folder: Path) -> None:
        """Write the model and its members, once everything is measured; by the first process alone.

        The list of members of an earlier run is removed from the folder.
        """
        if self._members and self.modality.exports_last_member:
            load_member(list(self._members.values())[-1], self.model)
        self._export_model(folder)
        (folder / ENSEMBLE).unlink(missing_ok=True)
        if self._members:
            members = each_member(self._members, self.model)
            for name in track(members, "Exporting models", len(self._members)):
                self._export_model(folder / "members" / name)
            self.write_ensemble_of([f"members/{name}" for name in self._members], folder)
        self.modality.write_reports(self.recipe, self.folder, self.data, self.model)

    def write_ensemble_of(
        self, members: list[str], folder: Path, *, with_temperatures: bool = True
    ) -> None:
        """List the members of an export, with the thresholds and temperatures of all together."""
        together: dict[str, Any] = self._named_thresholds(self._merged_thresholds)
        if with_temperatures:
            together = {**together, **self._temperatures}
        write_ensemble(folder, members, together)

    def _measure_members(
        self, split: Split
    ) -> tuple[dict[str, float], dict[str, dict[str, float]], Tensor]:
        """Return the metrics of the members together, and of each alone, and the targets."""
        alone: dict[str, dict[str, float]] = {}
        plain, augmented = [], []
        for name in each_member(self._members, self.model):
            if self.tta is not None:
                self.tta.thresholds = self._member_thresholds.get(name, {})
            alone[name], found = self._predict_split(split)
            if self.tta is not None:
                self._member_thresholds[name] = self.tta.thresholds
                augmented.append(found.predictions)
            plain.append(found.probabilities)
        metrics = self.measure_together(split, plain, augmented or plain, found.targets)
        return metrics, alone, found.targets

    def measure_together(
        self, split: Split, plain: list[Tensor], augmented: list[Tensor], targets: Tensor
    ) -> dict[str, float]:
        """Measure the mean of what several models predict, and write it.

        ``plain`` are predictions of each model without views, ``augmented`` those with them, or the
        same.
        """
        mean = self.modality.merge(plain)
        merged = mean if self.tta is None else self.modality.merge(augmented)
        metrics = self.measure_merged(split, mean, merged, targets)
        stacked = stack_predictions(augmented)
        agree = self.modality.agreement(self.model, stacked, merged, self._thresholds())
        metrics |= {name: float(values.mean()) for name, values in agree.items()}
        self._write_predictions(split, merged, targets, agree)
        return metrics

    def measure_merged(
        self, split: Split, plain: Tensor, merged: Tensor, targets: Tensor
    ) -> dict[str, float]:
        """Measure predictions without views and with them; on ``val`` first tune what is tuned."""
        if split == "val":
            self._tune(plain, merged, targets)
            self._fit_temperatures(plain, merged, targets)
        metrics = self._measure_predictions(plain, targets)
        if self.tta is not None:
            if self.tta.is_learning:
                metrics["plain_weight"] = self.tta.weight
            with_views = self._measure_predictions(merged, targets, self._merged_thresholds)
            metrics |= {f"{name}_tta": value for name, value in with_views.items()}
        return metrics

    def measure_baseline(self, split: Split, targets: Tensor, results: dict[str, Any]) -> None:
        """Add how many samples there are, and what the same answer for all of them would reach."""
        found: dict[str, Any] = {"samples": len(targets)}
        values, kind = self.model.metric_targets(targets), getattr(self.model, "label_kind", None)
        spec = getattr(self.model, "spec", None)
        classes = getattr(self.model, "classes", None) or getattr(spec, "classes", None)
        if kind in ("single", "soft"):
            counts = torch.bincount(hard_labels(targets))
            found["commonest_class"] = str((classes or range(len(counts)))[int(counts.argmax())])
            found["equally_common"] = int((counts == counts.max()).sum())
            found["accuracy"] = float(counts.max()) / len(targets)
        elif kind == "multi":
            labels, found["f2"] = commonest_labels(targets)
            found["commonest_labels"] = [str(classes[n]) if classes else str(n) for n in labels]
        elif values.ndim == 1:
            found["rmse"] = float(values.double().std(correction=0))
        results.setdefault("baselines", {})[split] = found

    def _thresholds(self) -> Tensor | None:
        """Return the thresholds of what is predicted in the end; ``None`` with one label."""
        thresholds = self._merged_thresholds
        if thresholds is None:
            thresholds = getattr(self.model, "thresholds", None)
        return None if thresholds is None else thresholds.cpu()

    def _tune(self, mean: Tensor, merged: Tensor, targets: Tensor) -> None:
        """Tune thresholds, and the weight of the views, on what the members predict together."""
        if isinstance(self.model, ClassificationTask):
            self.model.tune_thresholds(mean, targets)
        if self.tta is None:
            return
        if isinstance(self.model, ClassificationTask):
            self._merged_thresholds = self.model.best_thresholds(merged, targets)
        if self.tta.is_learning:
            is_multi_label = self.model.label_kind == "multi"
            self.tta.learn(mean, merged, targets, multi_label=is_multi_label, module=self.model)

    def _fit_temperatures(self, plain: Tensor, merged: Tensor, targets: Tensor) -> None:
        """Fit the temperatures of predictions as they are evaluated, and without views."""
        if getattr(self.model, "label_kind", None) not in ("single", "soft"):
            return
        labels = hard_labels(targets).numpy()
        parts = {"temperature": merged} | ({} if self.tta is None else {"plain_temperature": plain})
        for name, probabilities in parts.items():
            found = usable_temperature(probabilities.double().numpy(), labels)
            if found is not None:
                self._temperatures[name] = found

    def _predict_split(self, split: Split) -> tuple[dict[str, float], PredictionCollector]:
        collector = PredictionCollector(self.modality.num_samples(self.data, split))
        callbacks: list[Callback] = [collector] if self.tta is None else [self.tta, collector]
        # In 32 bits the predictions of a sample do not depend on which others share its batch.
        trainer = self._make_trainer(callbacks, precision="32-true", enable_checkpointing=False)
        metrics = evaluate(trainer, self.model, self.data, split)
        check_measured(metrics, collector.predictions, split)
        return metrics, collector

    def _measure_predictions(
        self, predictions: Tensor, targets: Tensor, thresholds: Tensor | None = None
    ) -> dict[str, float]:
        """Measure merged predictions with the metrics and the loss of the task."""
        metrics = self.model.phase_metrics["test_"].clone().cpu()
        metrics.reset()
        for metric in metrics.values():
            compute_alone(metric)
            metric.set_dtype(predictions.dtype)
        if isinstance(self.model, ClassificationTask):
            self.model.fix_thresholds(metrics, thresholds)
        metrics.update(predictions, self.model.metric_targets(targets))
        values = metrics.compute().items()
        found = {name.removeprefix("test_"): float(value) for name, value in values}
        return {"loss": float(self.model.loss(self.model.logits(predictions), targets)), **found}

    def _write_predictions(
        self,
        split: Split,
        predictions: Tensor,
        targets: Tensor,
        agree: Mapping[str, Tensor] | None = None,
    ) -> None:
        if not is_first_process():
            return
        predicted = Predicted(
            split, predictions, targets, self._thresholds(), agree or {}, self.tta is not None
        )
        self.modality.write_predictions(self.folder, self.data, self.model, predicted)

    def _export_model(self, folder: Path) -> None:
        if self._members:
            # Kept by the name of the member, which is that of its folder.
            tuned = self._member_thresholds.get(folder.name, {})
            own = next(iter(tuned.values()), None)
        else:
            own = self._merged_thresholds
        description = self.modality.describe_export(self.recipe, self.data, self.model, self.tta)
        description |= self._named_thresholds(own)
        if not self._members:
            description |= self._temperatures
        write_export(folder, self.model, description, self.modality.side_files(self.data))

    def _named_thresholds(self, merged: Tensor | None) -> dict[str, dict[str, float]]:
        plain = getattr(self.model, "thresholds", None)
        return describe_thresholds(plain, merged, getattr(self.model, "classes", None) or [])
