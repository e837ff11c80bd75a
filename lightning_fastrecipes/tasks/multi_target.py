"""Several targets of a table at once: numbers, classes, or both."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from typing_extensions import override

from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.functional.labels.merging import logits_of
from lightning_fastrecipes.functional.labels.numbers import as_doubles
from lightning_fastrecipes.functional.tables.outputs import (
    first_bias,
    output_range,
    scaled_output,
)
from lightning_fastrecipes.functional.tables.predictions import plain_names, target_slices
from lightning_fastrecipes.functional.tables.spec import TableSpec
from lightning_fastrecipes.functional.tables.target import TargetColumn
from lightning_fastrecipes.functional.training.group_rates import Rates
from lightning_fastrecipes.functional.training.layer_groups import NormPolicy
from lightning_fastrecipes.messages import name_some
from lightning_fastrecipes.nn.label_rules import SingleLabel
from lightning_fastrecipes.tasks.building import build_metrics
from lightning_fastrecipes.tasks.metric_checks import check_fit, label_example, number_example
from lightning_fastrecipes.tasks.numbers import PredictsNumbers
from lightning_fastrecipes.tasks.optim import Optim
from lightning_fastrecipes.tasks.table_task import (
    TabularNetwork,
    TabularTask,
    number_metrics,
    small,
)


class TabularMultiTarget(PredictsNumbers, TabularTask):
    """Predict several targets of each row of a table with one network: numbers, classes, or both.

    For tables whose ``TableColumns`` have a list as ``target``. ``forward`` takes ``TableInputs``
    and returns the outputs of all targets beside one another, ``(batch, outputs)``: one for a
    number, as of ``TabularRegressor``, and one logit for each class. Every number is standardised
    by itself, in 64 bits.

    The loss is the mean of one loss for each target, in units that compare: of a number the mean
    squared error as a share of the variance of its training targets, or of their logarithms; of
    classes the cross entropy as a share of that of even probabilities. So each is about 1 before
    training. ``loss_weights`` make it a weighted mean.

    Metrics are computed for each target by itself, in its own units and in 64 bits, and are called
    by metric and target, such as ``val_mae_sales`` and ``val_accuracy_late``; characters of a
    target that are no letters or digits become ``_`` there. Of logarithms ``predict`` returns the
    median: the logarithm undone.

    Args:
        spec: How the table becomes numbers, or the same as plain values; ``None`` if the trainer's
            datamodule or a checkpoint will say.
        network: Layers and embeddings: a ``TabularNetwork``.
        y_range: Bounds of the numbers by a scaled sigmoid: ``span`` for ``TargetColumn.range`` of
            each; ``auto`` for that of logarithms alone; ``None`` for no bounds.
        loss_weights: How much the loss of each target counts, at least 0, by its name; 1 for those
            that are left out.
        lr: Learning rate of the output layer, or an array or a range for ``embeddings``, ``trunk``
            and ``output``, as for ``Optim``; replaces ``optim.lr``.
        lr_ratio: How many times smaller each earlier group's rate is; replaces ``optim.lr_ratio``.
        optim: Optimizer, rates and weight decay: an ``Optim``.
        metrics: Target to its metrics, as those of ``TabularRegressor`` or ``TabularClassifier``;
            other targets have the same as there by default.
        norm_policy: How batch norm behaves; see ``functional.training.layer_groups.NormPolicy``.

    Raises:
        ValueError: If a number is out of range.
        ConfigurationError: If the spec has one target alone, or a target that is named is none.

    Example:
        >>> rows = {"km": [1.0, 2.0], "late": ["no", "yes"], "cost": [3.0, 5.0]}
        >>> columns = {"late": "classes", "cost": "regression"}
        >>> import pandas as pd
        >>> spec = TableSpec.fit(
        ...     pd.DataFrame(rows), target=[*columns], task=columns, categorical=[],
        ...     continuous=["km"],
        ... )
        >>> TabularMultiTarget(spec).predict(rows).columns.tolist()
        ['prediction_late', 'late=no', 'late=yes', 'prediction_cost']

    References:
        Guo and Berkhahn, *Entity Embeddings of Categorical Variables* (2016); Caruana, *Multitask
        Learning* (1997).
    """

    task_kind = "several"
    default_network = TabularNetwork((1000, 500), (0.001, 0.01))

    def __init__(
        self,
        spec: TableSpec | Mapping[str, Any] | None = None,
        *,
        network: TabularNetwork | Mapping[str, Any] | None = None,
        y_range: Literal["auto", "span"] | None = "auto",
        loss_weights: Mapping[str, float] | None = None,
        lr: Rates | None = None,
        lr_ratio: float | None = None,
        optim: Optim | Mapping[str, Any] | None = None,
        metrics: Mapping[str, Mapping[str, Any]] | None = None,
        norm_policy: NormPolicy = "eval_if_frozen",
    ) -> None:
        super().__init__(
            network=network,
            metrics=metrics,
            norm_policy=norm_policy,
            optim=optim,
            lr=lr,
            lr_ratio=lr_ratio,
        )
        if y_range not in ("auto", "span", None):
            raise ValueError(f"`y_range` must be 'auto', 'span' or none, got {y_range!r}.")
        self.y_range = y_range
        self.loss_weights = _checked_weights(loss_weights or {})
        self.finish(spec, y_range=y_range, loss_weights=self.loss_weights)

    @property
    @override
    def number_names(self) -> list[str]:
        return list(self.require_spec().targets)

    @override
    def build_head(self, spec: TableSpec, num_features: int) -> nn.Linear:
        """Build the outputs of all targets; numbers are about the mean of training at first."""
        _refuse_unknown("loss_weights", self.loss_weights, spec)
        if all(self.loss_weights.get(name, 1.0) == 0 for name in spec.targets):
            raise ConfigurationError(
                "`loss_weights` must be above 0 for at least one target, but all are 0."
            )
        slices = list(target_slices(spec))
        head = small(nn.Linear(num_features, slices[-1][1].stop))
        for column, place in slices:
            if column.task == "regression":
                bias = first_bias(column, output_range(column, self.y_range))
                nn.init.constant_(head.bias[place], bias)
        return head

    @override
    def choose_metrics(self, spec: TableSpec, chosen: Mapping[str, Any] | None) -> None:
        chosen = chosen or {}
        _refuse_unknown("metrics", chosen, spec)
        found: dict[str, Metric | MetricCollection] = {}
        places: dict[str, _Place] = {}
        targets = zip(target_slices(spec), plain_names(spec), strict=True)
        for place, ((column, outputs), plain_name) in enumerate(targets):
            rules = SingleLabel(column.num_outputs) if column.classes else None
            metrics = chosen.get(column.name)
            if not isinstance(metrics, Mapping | None):
                raise ConfigurationError(
                    f"`metrics.{column.name}` must map names to metrics of this target, got"
                    f" {metrics!r}."
                )
            if rules is not None:
                built = build_metrics(rules.metrics(metrics), rules.metric_defaults)
                check_fit(built, label_example(column.num_outputs, multi_label=False))
            else:
                built = build_metrics(number_metrics(column) if metrics is None else metrics, {})
                check_fit(built, number_example())
            for name, metric in built.items():
                full_name = f"{name}_{plain_name}"
                if full_name in found:
                    raise ConfigurationError(
                        f"`metrics` must have names that differ with `_` and the target behind"
                        f" them, but two become {full_name!r}. Rename one."
                    )
                found[full_name] = metric
                places[full_name] = _Place(place, outputs, is_number=rules is None)
        self.keep_metrics(_TargetMetrics(found, places))

    @override
    def forward_head(self, features: Tensor) -> Tensor:
        raw = super().forward_head(features)
        outputs = [
            raw[:, place]
            if column.classes
            else scaled_output(column, output_range(column, self.y_range), raw[:, place])
            for column, place in target_slices(self.require_spec())
        ]
        return torch.cat(outputs, dim=1)

    def target_losses(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return the loss of each target, not weighted. Shape ``()`` each."""
        losses = {}
        for column, found, wanted in self._parts(logits, targets):
            if column.classes is not None:
                entropy = F.cross_entropy(found, wanted.to(found.device).long())
                losses[column.name] = entropy / math.log(len(column.classes))
            else:
                error = F.mse_loss(found[:, 0], column.to_model(wanted).to(found))
                spread = 1.0 if column.scaled else column.std or 1.0
                losses[column.name] = error / spread**2
        return losses

    @override
    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the weighted mean of the losses of the targets. Shape ``()``."""
        losses = self.target_losses(logits, targets)
        weights = [self.loss_weights.get(name, 1.0) for name in losses]
        weighted = [weight * loss for weight, loss in zip(weights, losses.values(), strict=True)]
        return torch.stack(weighted).sum() / sum(weights)

    @override
    def probabilities(self, logits: Tensor) -> Tensor:
        """Return numbers in the units of the table, and probabilities, ``(batch, outputs)``."""
        parts = [
            as_doubles(found.softmax(dim=1) if column.classes else column.invert(found))
            for column, found, _ in self._parts(logits, None)
        ]
        return torch.cat(parts, dim=1)

    @override
    def logits(self, probabilities: Tensor) -> Tensor:
        parts = [
            (logits_of(found) if column.classes else column.transform(found)).float()
            for column, found, _ in self._parts(probabilities, None)
        ]
        return torch.cat(parts, dim=1)

    @override
    def metric_targets(self, targets: Tensor) -> Tensor:
        """Return numbers in the units of the table, and class indices, ``(batch, targets)``."""
        columns = self.require_spec().target_columns
        parts = [c.in_users_units(targets[:, place]) for place, c in enumerate(columns)]
        return torch.stack(parts, dim=1)

    def _parts(
        self, values: Tensor, targets: Tensor | None
    ) -> Iterator[tuple[TargetColumn, Tensor, Tensor]]:
        """Yield each target with its columns of outputs or predictions, and its targets."""
        for number, (column, place) in enumerate(target_slices(self.require_spec())):
            wanted = values[:0, 0] if targets is None else targets[:, number]
            yield column, values[:, place], wanted


class _Place(NamedTuple):
    """Where a metric finds its target, and the predictions of it."""

    target: int
    outputs: slice
    is_number: bool


class _TargetMetrics(MetricCollection):
    """Metrics that each look at one of several targets."""

    def __init__(
        self, metrics: dict[str, Metric | MetricCollection], places: Mapping[str, _Place]
    ) -> None:
        super().__init__(cast(Any, metrics), compute_groups=False)
        self.places = dict(places)

    @override
    def update(self, predictions: Tensor, targets: Tensor) -> None:  # type: ignore[override]
        for name, metric in self.items(keep_base=True):
            place = self.places[str(name)]
            found, wanted = predictions[:, place.outputs], targets[:, place.target]
            if place.is_number:
                metric.update(found[:, 0], wanted)
            else:
                metric.update(found, wanted.long())


def _refuse_unknown(argument: str, named: Mapping[str, Any], spec: TableSpec) -> None:
    unknown = [name for name in named if name not in spec.targets]
    if unknown:
        raise ConfigurationError(
            f"`{argument}` must name targets of the table, {name_some(spec.targets)}, but names"
            f" {name_some(unknown)}. Correct or drop them."
        )


def _checked_weights(weights: Mapping[str, float]) -> dict[str, float]:
    for name, weight in weights.items():
        is_number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
        if not is_number or not 0 <= weight < math.inf:
            raise ValueError(
                f"`loss_weights` must be finite numbers of at least 0, got {weight!r} for {name!r}."
            )
    return {name: float(weight) for name, weight in weights.items()}
