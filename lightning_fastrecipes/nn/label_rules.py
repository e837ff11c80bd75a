"""What labels of each kind imply: loss, probabilities, metrics and logits."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MultilabelAccuracy
from typing_extensions import override

from lightning_fastrecipes.errors import ConfigurationError, check_choice
from lightning_fastrecipes.functional.labels.losses import class_losses, label_losses
from lightning_fastrecipes.functional.labels.merging import logits_of
from lightning_fastrecipes.functional.labels.multi_label import Threshold
from lightning_fastrecipes.functional.labels.targets import class_targets, hard_labels, known_labels
from lightning_fastrecipes.nn.losses import Loss, LossFunction, OwnLoss
from lightning_fastrecipes.nn.sample_fbeta import SampleFBeta
from lightning_fastrecipes.protocols import ClassKind

UNKNOWN = -1
"""What metrics get for one of several labels that is unknown."""


@dataclass(frozen=True)
class Labels:
    """What targets mean where the data do not say, and how several labels are trained.

    Args:
        kind: ``single``, ``soft`` or ``multi`` for loaders of your own; the datamodule says so if
            ``None``.
        pos_weight: With several labels, how much a positive weighs in the loss, for each label;
            ``balanced`` for ``negatives / positives`` of the training split.
        threshold: With several labels, ``one`` for all of them, or one ``per_label``, which needs
            many validation images of each.
        beta: With several labels, the F-beta that thresholds are tuned for, above 0.
        loss: What is minimised: a ``Loss`` or its arguments, such as ``{"smoothing": 0.1}``; or a
            loss of your own in place of the cross entropy: the name of one of ``torch.nn``, a class
            path, ``{"class_path": ..., "init_args": {...}}``, a module, or a function of logits and
            targets. Validation and test measure the same loss.

    Raises:
        ValueError: If an argument is none of these.
    """

    kind: ClassKind | None = None
    pos_weight: Literal["balanced"] | list[float] | None = None
    threshold: Threshold = "one"
    beta: float = 2.0
    loss: Loss | str | Mapping[str, Any] | LossFunction | None = None

    def __post_init__(self) -> None:
        if self.kind is not None:
            check_choice("labels.kind", self.kind, get_args(ClassKind))
        if isinstance(self.pos_weight, str) and self.pos_weight != "balanced":
            raise ValueError(
                "`labels.pos_weight` must be 'balanced' or one number per label, got"
                f" {self.pos_weight!r}."
            )
        SampleFBeta(1, self.beta, self.threshold)


class LabelRules(ABC):
    """All that depends on whether a sample has one label or several.

    ``loss`` says how the cross entropy is changed, or what is minimised in its place.
    """

    multi_label: bool
    metric_defaults: dict[str, Any]

    def __init__(self, num_classes: int, task: str, loss: Loss | OwnLoss | None) -> None:
        self.num_classes = num_classes
        self.metric_defaults = {"task": task, "num_classes": num_classes, "num_labels": num_classes}
        self.own_loss = loss if isinstance(loss, OwnLoss) else None
        self.loss_options = loss if isinstance(loss, Loss) else Loss()

    @abstractmethod
    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch. Shape ``()``."""

    @abstractmethod
    def loss_weight(self, targets: Tensor) -> float | Tensor:
        """Return how much the mean loss of a batch counts beside that of others."""

    @abstractmethod
    def weighted_loss(self, logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Return the mean loss of a batch whose rows count ``weights``, ``(batch,)``, times."""

    @property
    @abstractmethod
    def has_plain_loss(self) -> bool:
        """Whether the loss is the cross entropy as it is, perhaps with a ``pos_weight``."""

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """Turn logits into probabilities. Shape ``(batch, num_classes)``."""

    @abstractmethod
    def metric_targets(self, targets: Tensor) -> Tensor:
        """Turn targets into what metrics compare with."""

    @abstractmethod
    def metrics(self, chosen: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the chosen metrics, or the default ones, and those that the task needs."""

    def logits(self, probabilities: Tensor) -> Tensor:
        """Return logits that have these probabilities, such as those of merged predictions."""
        return logits_of(probabilities, multi_label=self.multi_label)


class SingleLabel(LabelRules):
    """One class per sample, as an index or as probabilities: softmax and cross entropy."""

    multi_label = False

    def __init__(self, num_classes: int, loss: Loss | OwnLoss | None = None) -> None:
        super().__init__(num_classes, "multiclass", loss)
        self.class_weight: Tensor | None = None
        self.name_classes(None)

    def name_classes(self, classes: Sequence[str] | None) -> None:
        """Weigh the classes as the options say, by name once the names are known."""
        weights = self.loss_options.weights_of(classes, self.num_classes)
        if weights is not None:
            self.weigh(weights)

    def weigh(self, class_weight: Tensor) -> None:
        """Set one weight of at least 0 for each class, one of them above 0."""
        if class_weight.shape != (self.num_classes,) or not bool((class_weight > 0).any()):
            raise ConfigurationError(
                f"`loss.class_weight` must be one number of at least 0 for each of the"
                f" {self.num_classes} classes, not all of them 0, got {class_weight.tolist()}."
            )
        self.class_weight = class_weight

    @property
    @override
    def has_plain_loss(self) -> bool:
        options = self.loss_options
        is_changed = options.smoothing or options.focal_gamma or self.class_weight is not None
        return self.own_loss is None and not is_changed

    @override
    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        if self.own_loss is not None:
            return self.own_loss.mean(logits, targets)
        if self.has_plain_loss:
            return F.cross_entropy(logits, class_targets(targets))
        losses, counts = self._rows(logits, targets)
        return _ratio(losses, counts)

    @override
    def weighted_loss(self, logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        if self.own_loss is not None:
            return (weights * self.own_loss.cells(logits, targets)).mean()
        losses, counts = self._rows(logits, targets)
        return _ratio(weights * losses, counts)

    @override
    def loss_weight(self, targets: Tensor) -> float | Tensor:
        if self.class_weight is None or self.own_loss is not None:
            return len(targets)
        weights, targets = self.class_weight.to(targets.device), class_targets(targets)
        return (weights[targets] if targets.ndim == 1 else targets.to(weights) @ weights).sum()

    def _rows(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return class_losses(
            logits,
            class_targets(targets),
            class_weight=self.class_weight,
            smoothing=self.loss_options.smoothing,
            focal_gamma=self.loss_options.focal_gamma,
        )

    @override
    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.softmax(dim=1)

    @override
    def metric_targets(self, targets: Tensor) -> Tensor:
        return hard_labels(targets)

    @override
    def metrics(self, chosen: Mapping[str, Any] | None) -> dict[str, Any]:
        if chosen is not None:
            return dict(chosen)
        return {"accuracy": MulticlassAccuracy(self.num_classes, average="micro")}


class MultiLabel(LabelRules):
    """Any number of labels per sample, each a yes or no of its own: sigmoid and BCE with logits.

    Raises ConfigurationError if ``options.pos_weight`` is not one weight above 0 for each label.
    The attribute ``pos_weight`` holds how much positives weigh, ``(num_classes,)``, or ``None``.
    """

    multi_label = True

    def __init__(
        self, num_classes: int, options: Labels, loss: Loss | OwnLoss | None = None
    ) -> None:
        super().__init__(num_classes, "multilabel", loss)
        self.metric_defaults["ignore_index"] = UNKNOWN
        self.options = options
        self.pos_weight: Tensor | None = None
        if self.loss_options.class_weight is not None:
            raise ConfigurationError(
                "`loss.class_weight` weighs rows of one label each, but these have several. Leave"
                " it out; `labels.pos_weight` weighs the positives of each label."
            )
        if self.own_loss is not None and options.pos_weight is not None:
            raise ConfigurationError(
                "`labels.pos_weight` weighs the cross entropy, but `labels.loss` is one of your"
                " own. Give one of them."
            )
        if isinstance(options.pos_weight, Sequence) and not isinstance(options.pos_weight, str):
            self.weigh(torch.tensor(list(options.pos_weight), dtype=torch.float32))

    def weigh(self, pos_weight: Tensor) -> None:
        """Set one weight above 0 for each label."""
        if pos_weight.shape != (self.num_classes,) or not bool((pos_weight > 0).all()):
            raise ConfigurationError(
                f"`labels.pos_weight` must be one number above 0 for each of the {self.num_classes}"
                f" labels, got {pos_weight.tolist()}."
            )
        self.pos_weight = pos_weight

    @override
    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        if targets.shape != logits.shape:
            raise ConfigurationError(
                f"Several labels per image need targets of 0 and 1 for each label, of shape"
                f" {tuple(logits.shape)}, got {tuple(targets.shape)}. Encode them so, or give"
                " `labels={'kind': 'single'}` for class indices."
            )
        known = known_labels(targets)
        if self.own_loss is not None and bool(known.all()):
            return self.own_loss.mean(logits, targets)
        if self.own_loss is None and self.has_plain_loss:
            weight = None if self.pos_weight is None else self.pos_weight.to(logits)
            wanted = torch.where(known, targets, 0).to(logits)
            mean = F.binary_cross_entropy_with_logits(
                logits, wanted, known.to(logits), pos_weight=weight
            )
            # Exactly the mean where all are known, and nothing waits for the GPU.
            return mean * (known.numel() / known.sum().clamp_min(1))
        return _ratio(self._cells(logits, targets, known), known.to(logits))

    @override
    def weighted_loss(self, logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        known = known_labels(targets)
        cells = self._cells(logits, targets, known)
        return _ratio(weights[:, None] * cells, known.to(logits))

    @override
    def loss_weight(self, targets: Tensor) -> float | Tensor:
        return known_labels(targets).sum() / self.num_classes

    @property
    @override
    def has_plain_loss(self) -> bool:
        options = self.loss_options
        return self.own_loss is None and not (options.smoothing or options.focal_gamma)

    def _cells(self, logits: Tensor, targets: Tensor, known: Tensor) -> Tensor:
        """Return the loss of each label of each row, 0 where it is unknown."""
        wanted = torch.where(known, targets, 0).to(logits)
        if self.own_loss is not None:
            cells = self.own_loss.cells(logits, wanted)
            return cells.view(len(cells), -1) * known
        options = self.loss_options
        cells = label_losses(
            logits,
            wanted,
            pos_weight=self.pos_weight,
            smoothing=options.smoothing,
            focal_gamma=options.focal_gamma,
        )
        return cells * known

    @override
    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()

    @override
    def metric_targets(self, targets: Tensor) -> Tensor:
        """Return 0 and 1, and -1 where a label is unknown, which metrics are told to ignore."""
        return torch.where(known_labels(targets), (targets >= 0.5).long(), UNKNOWN)

    @override
    def metrics(self, chosen: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the chosen metrics, or accuracy, and the F-beta that thresholds are tuned with."""
        if chosen is None:
            accuracy: Metric = MultilabelAccuracy(
                self.num_classes, average="micro", ignore_index=UNKNOWN
            )
            return {**self.fbeta(), "accuracy": accuracy}
        if any(_is_fbeta(metric) for metric in chosen.values()):
            return dict(chosen)
        name, metric = next(iter(self.fbeta().items()))
        return {f"sample_{name}" if name in chosen else name: metric, **chosen}

    def fbeta(self) -> dict[str, SampleFBeta]:
        """Return the metric that the thresholds are tuned with, by its name, such as ``f2``."""
        beta = self.options.beta
        metric = SampleFBeta(self.num_classes, beta, self.options.threshold)
        return {f"f{beta:g}".replace(".", "_"): metric}


def label_rules(
    kind: ClassKind, num_classes: int, options: Labels, loss: Loss | OwnLoss | None = None
) -> LabelRules:
    """Build the rules for a kind of labels; ``loss`` is what ``options.loss`` describes.

    Raises ConfigurationError if options for several labels are set where there is only one.
    """
    if kind == "multi":
        return MultiLabel(num_classes, options, loss)
    if options.pos_weight is not None:
        raise ConfigurationError(
            "`labels.pos_weight` weighs several labels per image, but the images have one each."
            " Leave it out; `labels.loss.class_weight` weighs classes, and `class_balanced=True` of"
            " the datamodule draws them equally often."
        )
    return SingleLabel(num_classes, loss)


def _ratio(losses: Tensor, counts: Tensor) -> Tensor:
    """Return the mean of losses that count differently, 0 where none counts."""
    return losses.sum() / counts.sum().clamp_min(torch.finfo(counts.dtype).tiny)


def _is_fbeta(metric: Any) -> bool:
    path = metric.get("class_path") if isinstance(metric, Mapping) else metric
    by_name = isinstance(path, str) and path.rpartition(".")[2] == SampleFBeta.__name__
    return by_name or isinstance(metric, SampleFBeta)
