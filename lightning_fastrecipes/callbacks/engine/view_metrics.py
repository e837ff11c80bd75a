"""Metrics of plain and merged predictions side by side, and the batches they are measured on."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric, MetricCollection

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import SetupError, rank_zero_warn
from lightning_fastrecipes.functional.images.batches import images_of
from lightning_fastrecipes.functional.labels.merging import row_losses
from lightning_fastrecipes.functional.labels.targets import known_labels
from lightning_fastrecipes.nn.label_rules import LabelRules
from lightning_fastrecipes.nn.sample_fbeta import SampleFBeta
from lightning_fastrecipes.protocols import HasDecisionHead, HasPhaseMetrics


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
        self._meters: dict[int, dict[str, Metric]] = {}

    def clear(self) -> None:
        """Forget the rows of an earlier run through the data."""
        self._meters.clear()

    def update(
        self,
        module: nn.Module,
        phase: str,
        dataloader_idx: int,
        rows: tuple[Tensor, Tensor, Tensor],
        *,
        multi_label: bool,
    ) -> None:
        """Add the plain probabilities, merged ones and targets of a batch, which may be empty."""
        plain, merged, targets = rows
        if dataloader_idx not in self._meters:
            self._meters[dataloader_idx] = self._new_meters(module, phase, plain.device)
        if not len(plain):
            return
        expected = targets
        if isinstance(module, HasPhaseMetrics):
            expected = module.metric_targets(targets)
        for name, meter in self._meters[dataloader_idx].items():
            if name == "loss_tta" and (total := number_loss(module, targets)) is not None:
                meter.update(total(merged) / len(merged), weight=len(merged))
            elif name == "loss_tta":
                rules = getattr(module, "rules", None)
                if isinstance(rules, LabelRules) and not rules.has_plain_loss:
                    loss = rules.loss(rules.logits(merged), targets)
                    meter.update(loss, weight=rules.loss_weight(targets))
                    continue
                weight = getattr(rules, "pos_weight", None)
                losses = row_losses(merged, targets, multi_label=multi_label, pos_weight=weight)
                known = known_labels(targets).to(losses).mean(1) if multi_label else 1.0
                meter.update(losses, weight=known)
            else:
                meter.update(merged if name.endswith("_tta") else plain, expected)

    def compute(self, phase: str) -> dict[str, Tensor]:
        """Return the values of all rows of all processes, and keep thresholds of a validation.

        With several loaders, names such as ``val_loss_tta`` end with the number of the loader.
        """
        found = {}
        for index, meters in self._meters.items():
            suffix = f"/dataloader_idx_{index}" if len(self._meters) > 1 else ""
            for name, meter in meters.items():
                found[f"{phase}_{name}{suffix}"] = cast(Tensor, meter.compute())
                if isinstance(meter, SampleFBeta) and meter.fixed_thresholds is None:
                    self.thresholds[name] = meter.best_thresholds.cpu()
        return found

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


def is_multi_label(module: pl.LightningModule, plain: Tensor, targets: Tensor) -> bool:
    """Return whether an image has several labels: as the module says, or if rows sum not to 1."""
    kind = getattr(module, "label_kind", None)
    if kind is not None or targets.ndim != 2:
        return bool(kind == "multi")
    return bool(((plain.sum(dim=1) - 1).abs() > 1e-2).any())


def batch_images(batch: Any) -> Tensor:
    """Return the images of a batch, or refuse one that has none."""
    try:
        return images_of(batch)
    except ValueError as error:
        raise SetupError(f"`TestTimeAugmentation`: {error}") from error


def images_and_targets(batch: Any) -> tuple[Tensor, Tensor]:
    """Return images and targets of a batch, or refuse one that has not both."""
    images = batch_images(batch)
    if not isinstance(batch, (list, tuple)) or len(batch) < 2 or not isinstance(batch[1], Tensor):
        raise SetupError(
            "`TestTimeAugmentation` measures batches of images and targets, in this order, but"
            f" got a {type(batch).__name__}. Serve `[images, targets]`."
        )
    return images, batch[1]
