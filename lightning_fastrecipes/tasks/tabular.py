"""Regression and classification of the rows of a table."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torchmetrics import MeanAbsoluteError, MeanSquaredError

from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.functional.tables.encoding import EmbeddingRule
from lightning_fastrecipes.functional.tables.spec import TableSpec
from lightning_fastrecipes.functional.tables.target import Point, log_shift
from lightning_fastrecipes.functional.training.layer_groups import NormPolicy
from lightning_fastrecipes.nn.label_rules import SingleLabel
from lightning_fastrecipes.nn.rmspe import RMSPE
from lightning_fastrecipes.protocols import LabelKind
from lightning_fastrecipes.tasks.building import MetricSpec
from lightning_fastrecipes.tasks.table_task import TabularTask

_SHARE_OF_A_STEP = 0.01
OutputRange = Literal["auto", "span"] | tuple[float, float] | None


class TabularRegressor(TabularTask):
    """Predict a number for each row of a table, by entity embeddings.

    Takes ``TableInputs``, gives the target in transformed units, and measures and predicts in the
    user's: with ``log_target``, ``forward`` gives logarithms and ``predict_step`` what they are of.
    The loss is the mean squared error in transformed units. The first prediction, before any
    training, is about the mean of the training targets, whatever their size.

    Args:
        spec: How the table becomes numbers, or the same as plain values; ``None`` if the trainer's
            datamodule or a checkpoint will say.
        layers: Widths of the hidden layers, at least 1 each.
        dropout: Probability after each hidden layer, in [0, 1); one for all, or one for each.
        embedding_dropout: Probability after the embeddings, in [0, 1).
        embedding_rule: Width of the categories' vectors: ``course`` or ``fastai``.
        y_range: Least and greatest prediction, in transformed units, by a scaled sigmoid;
            ``span``: the spec's ``target_range``; ``auto``: that, if the logarithm is predicted,
            else no range; ``None``: no range.
        point: What a predicted logarithm becomes: the ``median`` of what it says, the ``mean``, or
            what is best in shares of the target, ``percentage``; see ``table_target.log_shift``.
            The last two need ``log_target``.
        lr: Learning rate of the output layer, or one per trained group from the input side, above
            0; the groups are ``embeddings``, ``trunk`` and ``output``.
        lr_ratio: How many times smaller each earlier group's rate is, at least 1.
        weight_decay: Weight decay of matrices, embeddings included, at least 0.
        optimizer: Class path, or ``{"class_path": ..., "init_args": {...}}``.
        metrics: Name to metric, class path or plain function, in the user's units; if ``None``,
            ``mae`` and ``rmse``, and with logarithms ``rmspe``.
        norm_policy: How batch norm behaves; see ``functional.training.layer_groups.NormPolicy``.

    Raises:
        ValueError: If a number is out of range.
        ConfigurationError: If the spec is of classes, or ``point`` needs logarithms.

    Attributes:
        squared_error: Running mean of the loss of the last hundred training steps or so, kept in
            checkpoints, for ``point``.

    Example:
        >>> model = TabularRegressor(layers=[8], dropout=0.1, lr=1e-3, lr_ratio=3)
        >>> [group.name for group in model.layer_groups()]
        ['embeddings', 'trunk', 'output']

    References:
        Guo and Berkhahn, *Entity Embeddings of Categorical Variables* (2016); fast.ai course
        (2018), lesson 3.
    """

    task_kind = "regression"

    def __init__(
        self,
        spec: TableSpec | Mapping[str, Any] | None = None,
        *,
        layers: Sequence[int] = (1000, 500),
        dropout: float | Sequence[float] = (0.001, 0.01),
        embedding_dropout: float = 0.04,
        embedding_rule: EmbeddingRule = "course",
        y_range: OutputRange = "auto",
        point: Point = "median",
        lr: float | Sequence[float] = 1e-3,
        lr_ratio: float = 1.0,
        weight_decay: float = 1e-2,
        optimizer: str | Mapping[str, Any] = "torch.optim.AdamW",
        metrics: Mapping[str, MetricSpec] | None = None,
        norm_policy: NormPolicy = "eval_if_frozen",
    ) -> None:
        super().__init__(
            layers=layers,
            dropout=dropout,
            embedding_dropout=embedding_dropout,
            embedding_rule=embedding_rule,
            metrics=metrics,
            norm_policy=norm_policy,
            lr=lr,
            lr_ratio=lr_ratio,
            weight_decay=weight_decay,
            optimizer=optimizer,
        )
        _check_range(y_range)
        log_shift(point, torch.zeros(()))
        self.y_range = y_range
        self.point: Point = point
        self.squared_error: Tensor
        self.register_buffer("squared_error", torch.zeros(()))
        self.begin(spec, {"y_range": y_range, "point": point})

    @property
    def output_range(self) -> tuple[float, float] | None:
        """Least and greatest prediction in transformed units; ``None`` if there is no bound."""
        if not isinstance(self.y_range, str):
            return self.y_range
        spec, _ = self.built()
        found = spec.target_range if self.y_range == "span" or spec.log_target else None
        return found if found is not None and found[0] < found[1] else None

    def build_head(self, spec: TableSpec, num_features: int) -> nn.Linear:
        """Build an output of one number, about the mean of the training targets at first."""
        if self.point != "median" and not spec.log_target:
            raise ConfigurationError(
                f"`point='{self.point}'` needs a table whose columns have `log_target: true`, but"
                f" '{spec.target}' is predicted as it is. Set `log_target`, or leave `point` out."
            )
        head = _timid(nn.Linear(num_features, 1))
        share = 0.5
        if self.output_range is not None:
            low, high = self.output_range
            # Not where the sigmoid is flat.
            share = min(max((spec.target_column.mean - low) / (high - low), 0.05), 0.95)
        nn.init.constant_(head.bias, math.log(share / (1 - share)))
        return head

    def default_metrics(self, spec: TableSpec) -> dict[str, MetricSpec]:
        """Return absolute and squared errors, and shares of the target under logarithms."""
        metrics: dict[str, MetricSpec] = {
            "mae": MeanAbsoluteError(),
            "rmse": MeanSquaredError(squared=False),
        }
        return metrics | ({"rmspe": RMSPE()} if spec.log_target else {})

    def forward_head(self, features: Tensor) -> Tensor:
        """Turn features into targets in transformed units, float32. Shape ``(batch,)``."""
        spec, _ = self.built()
        raw = super().forward_head(features).squeeze(1)
        if self.output_range is None:
            return spec.target_column.mean + (spec.target_column.std or 1.0) * raw
        low, high = self.output_range
        return low + (high - low) * raw.sigmoid()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of one batch, and note how large the errors are."""
        loss = super().training_step(batch, batch_idx)
        self.squared_error.lerp_(loss.detach().float(), _SHARE_OF_A_STEP)
        return loss

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean squared error in transformed units."""
        return F.mse_loss(logits, targets.to(logits.dtype))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return predictions in the user's units. Shape ``(batch,)``."""
        spec, _ = self.built()
        return spec.invert_target(logits + log_shift(self.point, self.squared_error))

    def logits(self, probabilities: Tensor) -> Tensor:
        """Return predictions in transformed units. Shape ``(batch,)``."""
        spec, _ = self.built()
        shift = log_shift(self.point, self.squared_error).to(probabilities.device)
        return spec.target_column.transform(probabilities) - shift

    def metric_targets(self, targets: Tensor) -> Tensor:
        """Return targets in the user's units. Shape ``(batch,)``."""
        spec, _ = self.built()
        return spec.invert_target(targets)


class TabularClassifier(TabularTask):
    """Predict one of two or more classes for each row of a table, by entity embeddings.

    Takes ``TableInputs``, gives one logit per class, also where there are two; the loss is the
    cross entropy. The classes are those of the spec.

    Args:
        spec: How the table becomes numbers, or the same as plain values; ``None`` if the trainer's
            datamodule or a checkpoint will say.
        layers: Widths of the hidden layers, at least 1 each.
        dropout: Probability after each hidden layer, in [0, 1); one for all, or one for each.
        embedding_dropout: Probability after the embeddings, in [0, 1).
        embedding_rule: Width of the categories' vectors: ``course`` or ``fastai``.
        lr: Learning rate of the output layer, or one per trained group from the input side, above
            0; the groups are ``embeddings``, ``trunk`` and ``output``.
        lr_ratio: How many times smaller each earlier group's rate is, at least 1.
        weight_decay: Weight decay of matrices, embeddings included, at least 0.
        optimizer: Class path, or ``{"class_path": ..., "init_args": {...}}``.
        metrics: Name to metric, class path or plain function of probabilities ``(batch, classes)``
            and class indices; accuracy if ``None``.
        norm_policy: How batch norm behaves; see ``functional.training.layer_groups.NormPolicy``.

    Raises:
        ValueError: If a number is out of range.
        ConfigurationError: If the spec is of a regression.

    Example:
        >>> TabularClassifier(layers=[8, 8], dropout=0.1).num_classes is None
        True

    References:
        Guo and Berkhahn, *Entity Embeddings of Categorical Variables* (2016).
    """

    task_kind = "classes"
    label_kind: LabelKind = "single"

    def __init__(
        self,
        spec: TableSpec | Mapping[str, Any] | None = None,
        *,
        layers: Sequence[int] = (200, 100),
        dropout: float | Sequence[float] = 0.01,
        embedding_dropout: float = 0.04,
        embedding_rule: EmbeddingRule = "course",
        lr: float | Sequence[float] = 1e-3,
        lr_ratio: float = 1.0,
        weight_decay: float = 1e-2,
        optimizer: str | Mapping[str, Any] = "torch.optim.AdamW",
        metrics: Mapping[str, MetricSpec] | None = None,
        norm_policy: NormPolicy = "eval_if_frozen",
    ) -> None:
        super().__init__(
            layers=layers,
            dropout=dropout,
            embedding_dropout=embedding_dropout,
            embedding_rule=embedding_rule,
            metrics=metrics,
            norm_policy=norm_policy,
            lr=lr,
            lr_ratio=lr_ratio,
            weight_decay=weight_decay,
            optimizer=optimizer,
        )
        self.begin(spec, {})

    @property
    def classes(self) -> list[str] | None:
        """Names of the classes in the order of the outputs; ``None`` until the spec is known."""
        return None if self.spec is None else self.spec.classes

    @property
    def num_classes(self) -> int | None:
        """Number of classes; ``None`` until the spec is known."""
        return None if self.classes is None else len(self.classes)

    @property
    def rules(self) -> SingleLabel:
        """What loss, probabilities and metrics are with one label for each row."""
        spec, _ = self.built()
        return SingleLabel(len(spec.classes or ()))

    def build_head(self, spec: TableSpec, num_features: int) -> nn.Linear:
        """Build one output for each class, all of about the same probability at first."""
        return _timid(nn.Linear(num_features, len(spec.classes or ())))

    def default_metrics(self, spec: TableSpec) -> dict[str, MetricSpec]:
        """Return the accuracy."""
        return self.rules.metrics(None)

    def metric_defaults(self, spec: TableSpec) -> dict[str, Any]:
        """Return the number of classes to metrics that take it."""
        return self.rules.metric_defaults

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross entropy."""
        return F.cross_entropy(logits, targets)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the softmax. Shape ``(batch, num_classes)``."""
        return logits.softmax(dim=1)

    def logits(self, probabilities: Tensor) -> Tensor:
        """Return logits that have these probabilities. Shape ``(batch, num_classes)``."""
        return self.rules.logits(probabilities)

    def metric_targets(self, targets: Tensor) -> Tensor:
        """Return class indices. Shape ``(batch,)``."""
        return targets


def _timid(head: nn.Linear) -> nn.Linear:
    """Let an output layer say almost the same of every row at first."""
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)
    return head


def _check_range(y_range: Any) -> None:
    if y_range is None or y_range in ("auto", "span"):
        return
    is_pair = isinstance(y_range, (tuple, list)) and len(y_range) == 2
    if not is_pair or not y_range[0] < y_range[1]:
        raise ValueError(
            "`y_range` must be 'auto', 'span', none, or two numbers, the smaller one first, got"
            f" {y_range!r}."
        )
