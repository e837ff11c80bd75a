"""Metrics of plain and merged predictions side by side, and the batches they are measured on."""

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric, MetricCollection

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import SetupError, rank_zero_info, rank_zero_warn
from lightning_fastrecipes.callbacks.engine.stepping import mean_over_processes
from lightning_fastrecipes.callbacks.engine.view_outputs import KINDS, OutputRule
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.functional.images.batches import images_of, targets_of
from lightning_fastrecipes.functional.labels.merging import row_losses
from lightning_fastrecipes.functional.labels.output_losses import (
    PredictionKind,
    candidate_losses,
    targets_like,
)
from lightning_fastrecipes.functional.labels.targets import known_labels
from lightning_fastrecipes.messages import name_some
from lightning_fastrecipes.nn.label_rules import LabelRules
from lightning_fastrecipes.nn.sample_fbeta import SampleFBeta
from lightning_fastrecipes.protocols import HasDecisionHead, HasPhaseMetrics

_LOSS_TOLERANCE = 0.02
"""How far, as a share of it, the loss of plain predictions may be from the one that is logged."""


class ViewMetrics:
    """Measure the loaders of a validation or test with metrics of the module, or given ones.

    ``given`` maps names to metrics, for modules without ``phase_metrics``, and is measured of plain
    predictions as well; if empty, the module's own ``metrics`` are, whose plain values it logs
    itself. Thresholds of a ``SampleFBeta`` are tuned in a validation, on the predictions that it
    measures, and used by the test. They are in ``thresholds``, by the name of the metric, such as
    ``f2_tta``, in shape ``(num_labels,)``.
    """

    def __init__(self, given: Mapping[str, Metric]) -> None:
        self.thresholds: dict[str, Tensor] = {}
        self._given = dict(given)
        if others := [name for name, one in self._given.items() if not isinstance(one, Metric)]:
            raise ConfigurationError(
                f"`metrics` must hold metrics of torchmetrics, but {name_some(others)} is none."
                " Take one such as `torchmetrics.classification.MulticlassAccuracy(10)`."
            )
        self._meters: dict[int, dict[str, Metric]] = {}
        self._losses: dict[int, dict[str, list[MeanMetric]]] = {}
        self._said = False

    def clear(self) -> None:
        """Forget the rows of an earlier run through the data."""
        self._meters.clear()
        self._losses.clear()

    def update(
        self,
        module: nn.Module,
        phase: str,
        dataloader_idx: int,
        rows: tuple[Tensor, Tensor, Tensor],
        kind: PredictionKind,
    ) -> None:
        """Add the plain predictions, merged ones and targets of a batch, which may be empty."""
        plain, merged, targets = rows
        if dataloader_idx not in self._meters:
            self._meters[dataloader_idx] = self._new_meters(module, phase, plain.device)
        if not len(plain):
            return
        rules = getattr(module, "rules", None)
        own = rules if isinstance(rules, LabelRules) else None
        total = number_loss(module, targets)
        if own is None and total is None:
            self._add_losses(dataloader_idx, rows, kind)
        expected = targets_like(merged, targets)
        if isinstance(module, HasPhaseMetrics):
            expected = module.metric_targets(targets)
        for name, meter in self._meters[dataloader_idx].items():
            if name == "loss_tta" and total is not None:
                meter.update(total(merged) / len(merged), weight=len(merged))
            elif name == "loss_tta" and own is not None:
                _add_own_loss(meter, own, merged, targets, multi_label=kind == "yes_no")
            elif name != "loss_tta":
                meter.update(merged if name.endswith("_tta") else plain, expected)

    def compute(self, trainer: pl.Trainer, phase: str) -> dict[str, Tensor]:
        """Return the values of all rows of all processes, and keep thresholds of a validation.

        With several loaders, names such as ``val_loss_tta`` end with the number of the loader. The
        loss is that one which gives the module's own loss for the plain predictions; if there is
        none, it is left out, and said once.
        """
        found = {}
        for index, meters in self._meters.items():
            suffix = f"/dataloader_idx_{index}" if len(self._meters) > 1 else ""
            for name, meter in meters.items():
                if name == "loss_tta" and index in self._losses:
                    loss = self._matching_loss(trainer, index, f"{phase}_loss{suffix}")
                    if loss is not None:
                        found[f"{phase}_{name}{suffix}"] = loss
                    continue
                found[f"{phase}_{name}{suffix}"] = cast(Tensor, meter.compute())
                if isinstance(meter, SampleFBeta) and meter.fixed_thresholds is None:
                    self.thresholds[name] = meter.best_thresholds.cpu()
        return found

    def _add_losses(
        self, index: int, rows: tuple[Tensor, Tensor, Tensor], kind: PredictionKind
    ) -> None:
        plain, merged, targets = rows
        meters = self._losses.setdefault(index, {})
        both = (candidate_losses(predicted, targets, kind) for predicted in (plain, merged))
        for (name, of_plain), of_merged in zip(
            next(both).items(), next(both).values(), strict=True
        ):
            if name not in meters:
                meters[name] = [
                    MeanMetric(nan_strategy="disable").to(plain.device) for _ in range(2)
                ]
            for meter, (losses, weights) in zip(meters[name], (of_plain, of_merged), strict=True):
                meter.update(losses, weight=weights)

    def _matching_loss(self, trainer: pl.Trainer, index: int, name: str) -> Tensor | None:
        """Return the merged value of the loss whose plain value the module has logged."""
        logged = trainer.callback_metrics.get(name)
        expected = None if logged is None else mean_over_processes(trainer, logged)
        values = {
            loss: (float(plain.compute()), merged.compute())
            for loss, (plain, merged) in self._losses[index].items()
        }
        for loss, (plain, merged) in values.items():
            if expected is None and loss == "log loss" and math.isfinite(plain):
                return merged
            if expected is not None and abs(plain - expected) <= _LOSS_TOLERANCE * max(
                abs(expected), 0.01
            ):
                return merged
        if not self._said:
            self._said = True
            tried = ", ".join(f"{loss} {plain:.4g}" for loss, (plain, _) in values.items())
            reason = (
                f"the module logs {name} {expected:.4g}, which is none of the usual losses of what"
                f" it predicts ({tried or 'targets have another shape'})"
                if expected is not None
                else f"the module logs no `{name}` to compare with"
            )
            rank_zero_info(f"TestTimeAugmentation: {name}_tta is not logged, since {reason}.")
        return None

    def _new_meters(self, module: nn.Module, phase: str, device: torch.device) -> dict[str, Metric]:
        meters: dict[str, Metric] = {"loss_tta": MeanMetric()}
        if isinstance(module, HasPhaseMetrics):
            collection = cast(MetricCollection, module.phase_metrics[f"{phase}_"])
            meters |= {f"{name}_tta": metric.clone() for name, metric in collection.items(True)}
        elif self._given:
            for name, metric in self._given.items():
                meters |= {f"{name}_{kind}": metric.clone() for kind in ("plain", "tta")}
        elif isinstance(module, HasDecisionHead) and isinstance(module.metrics, MetricCollection):
            own = module.metrics.items(True)  # under their names without a prefix
            meters |= {f"{name}_tta": metric.clone() for name, metric in own}
        for name, meter in meters.items():
            meter.to(device).reset()
            if isinstance(meter, SampleFBeta):
                self._set_thresholds(name, meter, phase)
        return meters

    def _set_thresholds(self, name: str, meter: SampleFBeta, phase: str) -> None:
        """Make a validation look for thresholds, and a test use them."""
        if phase == "val":
            meter.fix(None)
        elif name in self.thresholds:
            meter.fix(self.thresholds[name])
        elif meter.fixed_thresholds is None:
            rank_zero_warn(
                f"`{phase}_{name}` is measured at the thresholds that are best for these very rows,"
                " which flatters the model. Call `trainer.validate` with this callback first."
            )


def number_loss(module: nn.Module, targets: Tensor) -> Callable[[Tensor], Tensor] | None:
    """Return what sums the loss of predicted numbers over a batch; ``None`` of classes."""
    if getattr(module, "label_kind", None) != "numbers":
        return None
    task = cast(Any, module)
    return lambda merged: task.loss(task.logits(merged), targets).double() * len(targets)


def _add_own_loss(
    meter: Metric, rules: LabelRules, merged: Tensor, targets: Tensor, *, multi_label: bool
) -> None:
    """Add the loss that our own tasks log, with its weights and options."""
    if not rules.has_plain_loss:
        meter.update(rules.loss(rules.logits(merged), targets), weight=rules.loss_weight(targets))
        return
    weight = getattr(rules, "pos_weight", None)
    losses = row_losses(merged, targets, multi_label=multi_label, pos_weight=weight)
    known = known_labels(targets).to(losses).mean(1) if multi_label else 1.0
    meter.update(losses, weight=known)


def kind_with_targets(
    module: pl.LightningModule, rule: OutputRule, plain: Tensor, targets: Tensor
) -> PredictionKind:
    """Return the kind of predictions, of which a module that says its label kind has the last word.

    Probabilities of a protocol with class indices for targets are of classes.
    """
    label_kind = getattr(module, "label_kind", None)
    if label_kind is not None:
        return KINDS.get(label_kind, "classes")
    indexed = plain.ndim > 1 and plain.shape[1] > 1 and targets.numel() < plain.numel()
    return "classes" if rule.kind == "yes_no" and indexed else rule.kind


def batch_images(batch: Any) -> Tensor:
    """Return the images of a batch, or refuse one that has none."""
    try:
        return images_of(batch)
    except ValueError as error:
        raise SetupError(f"`TestTimeAugmentation`: {error}") from error


def images_and_targets(batch: Any) -> tuple[Tensor, Tensor]:
    """Return images and targets of a batch, or refuse one that has not both."""
    images, targets = batch_images(batch), targets_of(batch)
    if targets is None:
        raise SetupError(
            "`TestTimeAugmentation` measures batches of images and targets, in this order, but"
            f" got a {type(batch).__name__}. Serve `[images, targets]`, or a dictionary with"
            " `target` or `label`."
        )
    return images, targets
