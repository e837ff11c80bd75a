"""Regression and classification of the rows of a table."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from typing_extensions import override

from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.functional.tables.outputs import (
    OutputRange,
    first_bias,
    output_range,
    scaled_output,
)
from lightning_fastrecipes.functional.tables.spec import TableSpec
from lightning_fastrecipes.functional.tables.target import PointEstimate, log_shift
from lightning_fastrecipes.functional.training.group_rates import Rates
from lightning_fastrecipes.functional.training.layer_groups import NormPolicy
from lightning_fastrecipes.nn.label_rules import SingleLabel
from lightning_fastrecipes.protocols import LabelKind
from lightning_fastrecipes.tasks.base import CHECKPOINT_KEY
from lightning_fastrecipes.tasks.building import LossSpec, MetricSpec, build_loss
from lightning_fastrecipes.tasks.label_following import FollowsLabelRules
from lightning_fastrecipes.tasks.metric_checks import Example, number_example
from lightning_fastrecipes.tasks.numbers import PredictsNumbers
from lightning_fastrecipes.tasks.optim import Optim
from lightning_fastrecipes.tasks.table_task import (
    TabularNetwork,
    TabularTask,
    number_metrics,
    small,
)

_SHARE_OF_A_STEP = 0.01


class TabularRegressor(PredictsNumbers, TabularTask):
    """Predict a number for each row of a table, by entity embeddings.

    ``forward`` takes ``TableInputs`` and returns how many deviations the target lies above the mean
    of the training targets, or with ``log_target`` its logarithm. The loss is the mean squared
    error of that: ``val_loss`` is a share of the variance of the training targets, or the squared
    error of logarithms. Metrics and ``predict_step`` are in the units of the table, computed in 64
    bits unless there are logarithms, on the CPU where the device has no such numbers. Before any
    training, predictions are close to the mean of the training targets.

    Models of earlier versions keep the unit that they were trained in, which was that of the table:
    so does their loss, and a fit that is resumed with their optimizer.

    Args:
        spec: How the table becomes numbers, or the same as plain values; ``None`` if the trainer's
            datamodule or a checkpoint will say.
        network: Layers and embeddings: a ``TabularNetwork``.
        y_range: Least and greatest prediction, logarithms with ``log_target``, by a scaled sigmoid;
            ``span``: the spec's ``target_range``; ``auto``: that, if the logarithm is predicted,
            else no range; ``None``: no range.
        point_estimate: The number that is predicted where a logarithm was learned: the ``median``
            or the ``mean`` of the target, or ``min_rmspe``, which minimises ``RMSPE``; see
            ``functional.tables.target.log_shift``. The last two need ``log_target``.
        lr: Learning rate of the output layer, or an array or a range for ``embeddings``, ``trunk``
            and ``output``, as for ``Optim``; replaces ``optim.lr``.
        lr_ratio: How many times smaller each earlier group's rate is; replaces ``optim.lr_ratio``.
        optim: Optimizer, rates and weight decay: an ``Optim``.
        metrics: Name to metric, class path or plain function, in the user's units; if ``None``,
            ``mae`` and ``rmse``, and with logarithms ``rmspe``.
        norm_policy: How batch norm behaves; see ``functional.training.layer_groups.NormPolicy``.

    Raises:
        ValueError: If a number is out of range.
        ConfigurationError: If the spec is of classes, or ``point_estimate`` needs logarithms.

    Attributes:
        squared_error: Running mean of the loss of the last hundred training steps or so, kept in
            checkpoints, for ``point_estimate``.

    Example:
        >>> model = TabularRegressor(network=TabularNetwork([8], 0.1), lr=1e-3, lr_ratio=3)
        >>> [group.name for group in model.layer_groups()]
        ['embeddings', 'trunk', 'output']

    References:
        Guo and Berkhahn, *Entity Embeddings of Categorical Variables* (2016); fast.ai course
        (2018), lesson 3.
    """

    task_kind = "regression"
    default_network = TabularNetwork((1000, 500), (0.001, 0.01))

    def __init__(
        self,
        spec: TableSpec | Mapping[str, Any] | None = None,
        *,
        network: TabularNetwork | Mapping[str, Any] | None = None,
        y_range: OutputRange = "auto",
        point_estimate: PointEstimate = "median",
        lr: Rates | None = None,
        lr_ratio: float | None = None,
        optim: Optim | Mapping[str, Any] | None = None,
        metrics: Mapping[str, MetricSpec] | None = None,
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
        _check_range(y_range)
        log_shift(point_estimate, torch.zeros(()))
        self.y_range = y_range
        self.point_estimate: PointEstimate = point_estimate
        self.squared_error: Tensor
        self.register_buffer("squared_error", torch.zeros(()))
        self.finish(spec, y_range=y_range, point_estimate=point_estimate)

    @property
    def output_range(self) -> tuple[float, float] | None:
        """Least and greatest prediction, logarithms with ``log_target``; ``None`` if unbounded."""
        return output_range(self.require_spec().target_column, self.y_range)

    @override
    def build_head(self, spec: TableSpec, num_features: int) -> nn.Linear:
        """Build an output of one number, about the mean of the training targets at first."""
        if self.point_estimate != "median" and not spec.log_target:
            raise ConfigurationError(
                f"`point_estimate='{self.point_estimate}'` needs a table whose columns have"
                f" `log_target: true`, but '{spec.target}' is predicted as it is. Set `log_target`,"
                " or leave `point_estimate` out."
            )
        head = small(nn.Linear(num_features, 1))
        nn.init.constant_(head.bias, first_bias(spec.target_column, self.output_range))
        return head

    @override
    def default_metrics(self, spec: TableSpec) -> dict[str, MetricSpec]:
        return number_metrics(spec.target_column)

    @override
    def forward_head(self, features: Tensor) -> Tensor:
        raw = super().forward_head(features).squeeze(1)
        return scaled_output(self.require_spec().target_column, self.output_range, raw)

    @override
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        self.squared_error.lerp_(loss.detach().float(), _SHARE_OF_A_STEP)
        return loss

    @override
    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        wanted = self.require_spec().target_column.to_model(targets)
        return F.mse_loss(logits, wanted.to(logits))

    @override
    def probabilities(self, logits: Tensor) -> Tensor:
        """Return predictions in the units of the table, ``(batch,)``, in 64 bits if not of logs."""
        spec = self.require_spec()
        return spec.invert_target(logits + log_shift(self.point_estimate, self.squared_error))

    @override
    def logits(self, probabilities: Tensor) -> Tensor:
        spec = self.require_spec()
        shift = log_shift(self.point_estimate, self.squared_error).to(probabilities.device)
        return spec.target_column.transform(probabilities) - shift

    @override
    def metric_targets(self, targets: Tensor) -> Tensor:
        return self.require_spec().target_column.in_users_units(targets)

    @override
    def example(self) -> Example:
        return number_example()

    @property
    @override
    def number_names(self) -> list[str]:
        return [self.require_spec().target]

    @property
    @override
    def is_exact(self) -> bool:
        return self.require_spec().target_column.scaled


class TabularClassifier(FollowsLabelRules, TabularTask):
    """Predict one of two or more classes for each row of a table, by entity embeddings.

    ``forward`` takes ``TableInputs`` and returns one logit per class, also where there are two. The
    loss is the cross entropy; the classes are those of the spec.

    Args:
        spec: How the table becomes numbers, or the same as plain values; ``None`` if the trainer's
            datamodule or a checkpoint will say.
        network: Layers and embeddings: a ``TabularNetwork``.
        lr: Learning rate of the output layer, or an array or a range for ``embeddings``, ``trunk``
            and ``output``, as for ``Optim``; replaces ``optim.lr``.
        lr_ratio: How many times smaller each earlier group's rate is; replaces ``optim.lr_ratio``.
        optim: Optimizer, rates and weight decay: an ``Optim``.
        metrics: Name to metric, class path or plain function of probabilities ``(batch, classes)``
            and class indices; accuracy if ``None``.
        norm_policy: How batch norm behaves; see ``functional.training.layer_groups.NormPolicy``.
        loss: What is minimised, as for ``Labels``: a ``Loss`` or its arguments, such as
            ``{"class_weight": "balanced"}``, or a loss of your own.

    Raises:
        ValueError: If a number is out of range.
        ConfigurationError: If the spec is of a regression.

    Example:
        >>> TabularClassifier(network=TabularNetwork([8, 8], 0.1)).num_classes is None
        True

    References:
        Guo and Berkhahn, *Entity Embeddings of Categorical Variables* (2016).
    """

    task_kind = "classes"
    default_network = TabularNetwork((200, 100), 0.01)
    label_kind: LabelKind = "single"

    def __init__(
        self,
        spec: TableSpec | Mapping[str, Any] | None = None,
        *,
        network: TabularNetwork | Mapping[str, Any] | None = None,
        lr: Rates | None = None,
        lr_ratio: float | None = None,
        optim: Optim | Mapping[str, Any] | None = None,
        metrics: Mapping[str, MetricSpec] | None = None,
        norm_policy: NormPolicy = "eval_if_frozen",
        loss: LossSpec = None,
    ) -> None:
        super().__init__(
            network=network,
            metrics=metrics,
            norm_policy=norm_policy,
            optim=optim,
            lr=lr,
            lr_ratio=lr_ratio,
        )
        self._given_loss, self._loss = loss, build_loss(loss)
        self.rules = SingleLabel(1)  # until the spec is known
        self.finish(spec)

    @property
    def classes(self) -> list[str] | None:
        """Names of the classes in the order of the outputs; ``None`` until the spec is known."""
        return None if self.spec is None else self.spec.classes

    @property
    def num_classes(self) -> int | None:
        """Number of classes; ``None`` until the spec is known."""
        return None if self.classes is None else len(self.classes)

    @override
    def build_head(self, spec: TableSpec, num_features: int) -> nn.Linear:
        """Build one output for each class, all of about the same probability at first."""
        self.rules = SingleLabel(len(spec.classes or ()), self._loss)
        self.rules.name_classes(spec.classes)
        return small(nn.Linear(num_features, len(spec.classes or ())))

    @property
    @override
    def architecture(self) -> dict[str, Any]:
        loss = self.exported_loss(self._given_loss)
        return super().architecture | ({} if loss is None else {"loss": loss})

    @override
    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.set_up_loss(stage, getattr(self.trainer, "datamodule", None))

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint[CHECKPOINT_KEY] |= self.loss_state()

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.restore_loss(checkpoint.get(CHECKPOINT_KEY, {}))

    @override
    def default_metrics(self, spec: TableSpec) -> dict[str, MetricSpec]:
        return self.rules.metrics(None)

    @override
    def metric_defaults(self, spec: TableSpec) -> dict[str, Any]:
        return self.rules.metric_defaults


def _check_range(y_range: Any) -> None:
    if y_range is None or y_range in ("auto", "span"):
        return
    is_pair = isinstance(y_range, (tuple, list)) and len(y_range) == 2
    if not is_pair or not y_range[0] < y_range[1]:
        raise ValueError(
            "`y_range` must be 'auto', 'span', none, or two numbers, the smaller one first, got"
            f" {y_range!r}."
        )
