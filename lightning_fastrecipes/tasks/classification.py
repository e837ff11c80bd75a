"""What every classifier shares: class names, and what its logits mean for one label or several."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, cast, get_args

import torch
from torch import Tensor
from typing_extensions import override

from lightning_fastrecipes import plain
from lightning_fastrecipes._lightning import datamodule_of, rank_zero_info
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.functional.labels.classes import refuse_other_classes
from lightning_fastrecipes.nn.label_rules import (
    UNKNOWN,
    Labels,
    MultiLabel,
    SingleLabel,
    label_rules,
)
from lightning_fastrecipes.nn.sample_fbeta import SampleFBeta
from lightning_fastrecipes.protocols import ClassKind, FollowsClasses, HasClasses
from lightning_fastrecipes.tasks.base import CHECKPOINT_KEY, LayerGroupTask
from lightning_fastrecipes.tasks.building import MetricSpec, build_loss, check_metric_names
from lightning_fastrecipes.tasks.label_following import FollowsLabelRules
from lightning_fastrecipes.tasks.metric_checks import check_metrics, compute_alone
from lightning_fastrecipes.typed import from_mapping

_check_saved = plain.keys(
    {
        "label_kind": plain.choice(*get_args(ClassKind)),
        "classes": plain.maybe(plain.items(plain.text())),
    },
    {"pos_weight": plain.maybe(plain.items(plain.number(above=0)))},
)


class ClassificationTask(FollowsLabelRules, LayerGroupTask, ABC):
    """Classify into named classes; the data say whether a sample has one label or several.

    With several labels, loss, probabilities, metrics and decisions are switched together, and never
    back: a checkpoint of the other kind is refused. The thresholds of the decisions are tuned on
    every validation; they are a buffer, and so part of every copy of the weights. The head is built
    once the number of classes is known: given, from the trainer's datamodule or ``set_classes``.
    Metrics are those of the rules if ``None``; ``options`` are arguments of ``LayerGroupTask``.
    """

    thresholds: Tensor | None
    """Lowest probability at which each of several labels holds. Shape ``(num_classes,)``."""

    def __init__(
        self,
        *,
        metrics: Mapping[str, MetricSpec] | None,
        labels: Labels | Mapping[str, Any] | None,
        **options: Any,
    ) -> None:
        super().__init__(metrics={}, metric_defaults={}, **options)
        self.num_classes: int | None = None
        if isinstance(labels, Mapping):
            labels = from_mapping(Labels, labels, "labels")
        self.labels = labels or Labels()
        self._loss = build_loss(self.labels.loss)
        self.classes: list[str] | None = None
        self.label_kind: ClassKind = "single"
        self._chosen_metrics = check_metric_names(metrics)
        self.register_buffer("thresholds", None)

    @abstractmethod
    def build_head(self, num_classes: int) -> None:
        """Build the layers that end in ``num_classes`` outputs."""

    @override
    def setup(self, stage: str) -> None:
        super().setup(stage)
        datamodule = getattr(self.trainer, "datamodule", None)
        was_open = self.num_classes is None
        self.adopt_targets(datamodule)
        self.require_classes()
        if was_open:
            rank_zero_info(f"{type(self).__name__}: {self._taken(datamodule)}")
        if stage == "fit":
            check_metrics(self)
        self.set_up_loss(stage, datamodule)

    def adopt_targets(self, datamodule: Any) -> None:
        """Take classes and kind of labels of a datamodule, or compare them with the model's own.

        A datamodule with the same classes in another order takes that of the model. Raise
        `ConfigurationError` if they differ, or it has numbers.
        """
        if not isinstance(datamodule, HasClasses):
            return
        kind = datamodule.label_kind
        if kind == "numbers":
            raise ConfigurationError(
                f"`{type(self).__name__}` learns classes, but {type(datamodule).__name__} has"
                " numbers. Use `ImageRegressor`, or labels that are classes."
            )
        if self.classes is None:
            self.set_classes(datamodule.classes, kind)
        else:
            if isinstance(datamodule, FollowsClasses):
                datamodule.follow_classes(self.classes)
            refuse_other_classes(self.classes, datamodule.classes)
            self._refuse_other_kind(kind, "the data")

    def set_classes(self, classes: Sequence[str], label_kind: ClassKind = "single") -> None:
        """Name the outputs in order; names and kind of labels are saved in every checkpoint.

        Builds the head if ``num_classes`` was left out. Raises ConfigurationError if there are not
        ``num_classes`` names, or if the kind of labels is settled already and differs.
        """
        if self.num_classes is None:
            self.set_num_classes(len(classes))
        if len(classes) != self.num_classes:
            raise ConfigurationError(
                f"The data has {len(classes)} classes {list(classes)[:10]}, but the model was built"
                f" with `num_classes={self.num_classes}`. Build it with"
                f" `num_classes={len(classes)}`."
            )
        self._refuse_other_kind(label_kind, "the data")
        self.classes = list(classes)
        self._set_label_kind(label_kind)

    @override
    def refuse_gaps(self) -> None:
        """Refuse a loss or a metric that cannot leave out labels that are unknown."""
        super().refuse_gaps()
        metrics: Any = self.phase_metrics["val_"]
        for name, metric in metrics.items():
            # Others get -1 for these labels.
            if getattr(metric, "ignore_index", UNKNOWN) != UNKNOWN:
                raise ConfigurationError(
                    f"Some labels are unknown, but `metrics.{name.removeprefix('val_')}` does not"
                    f" leave them out. Build it with `ignore_index={UNKNOWN}`, or name its class."
                )

    def require_classes(self) -> int:
        """Return the number of classes, or raise a ConfigurationError if it is not known yet."""
        if self.num_classes is None:
            raise ConfigurationError(
                f"`{type(self).__name__}` must know its classes, but was built without"
                " `num_classes`. Give `num_classes`, call `set_classes`, or use a datamodule with"
                " `classes`, such as `ImageFolderDataModule`."
            )
        return self.num_classes

    def tune_thresholds(self, probabilities: Tensor, targets: Tensor) -> None:
        """Set the thresholds to the :meth:`best_thresholds` of predictions made elsewhere."""
        found = self.best_thresholds(probabilities, targets)
        if found is not None and self.thresholds is not None:
            self.thresholds.copy_(found)

    def best_thresholds(self, probabilities: Tensor, targets: Tensor) -> Tensor | None:
        """Return the thresholds that are best for predictions, without changing the model's own.

        Probabilities are of shape ``(rows, num_classes)``, targets as the datamodule gives them.
        Shape ``(num_classes,)``; ``None`` with one label per sample.
        """
        found = self._tuned_metric()
        if found is None:
            return None
        metric = cast(SampleFBeta, found.clone()).to(probabilities.device)
        compute_alone(metric)
        metric.reset()
        metric.update(probabilities, self.metric_targets(targets))
        metric.compute()
        return metric.best_thresholds

    @override
    def on_validation_epoch_end(self) -> None:
        """Tune the thresholds on all rows of the validation."""
        metric = self._tuned_metric()
        if metric is not None and self.thresholds is not None and not self.trainer.sanity_checking:
            metric.compute()
            self.thresholds.copy_(metric.best_thresholds)

    @override
    def on_test_epoch_start(self) -> None:
        """Measure the test with the thresholds of the validation."""
        self.fix_thresholds(self.phase_metrics["test_"])

    def fix_thresholds(self, metrics: Any, thresholds: Tensor | None = None) -> None:
        """Let a collection of metrics use given thresholds, or the model's own, not the best."""
        for metric in metrics.values():
            if isinstance(metric, SampleFBeta):
                metric.fix(self.thresholds if thresholds is None else thresholds)

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store class names and what labels are, as plain values."""
        super().on_save_checkpoint(checkpoint)
        pos_weight = self.rules.pos_weight if isinstance(self.rules, MultiLabel) else None
        checkpoint[CHECKPOINT_KEY] |= {
            "classes": self.classes,
            "label_kind": self.label_kind,
            "pos_weight": None if pos_weight is None else pos_weight.tolist(),
            **self.loss_state(),
        }

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore class names and kind of labels, and refuse a checkpoint of others."""
        super().on_load_checkpoint(checkpoint)
        saved = checkpoint.get(CHECKPOINT_KEY)
        if saved is None:
            return
        if "numbers" in saved:
            raise ConfigurationError(
                f"`{type(self).__name__}` learns classes, but the checkpoint is of a model of"
                " numbers. Load it with `ImageRegressor`, or start a new model."
            )
        _check_saved(saved, CHECKPOINT_KEY)
        classes = saved["classes"]
        if self.num_classes is None and classes is not None:
            self.set_num_classes(len(classes))
        if self.classes is not None and classes is not None:
            with suppress(RuntimeError):  # without a trainer
                datamodule = datamodule_of(self.trainer)
                if isinstance(datamodule, FollowsClasses) and isinstance(datamodule, HasClasses):
                    datamodule.follow_classes(classes)
                    self.classes = list(datamodule.classes)
            refuse_other_classes(classes, self.classes)
        self._refuse_other_kind(saved["label_kind"], "the checkpoint")
        self.classes = None if classes is None else list(classes)
        self._set_label_kind(saved["label_kind"])
        if saved.get("pos_weight") is not None and isinstance(self.rules, MultiLabel):
            self.rules.weigh(torch.tensor(saved["pos_weight"]))
        self.restore_loss(saved)

    def _set_label_kind(self, kind: ClassKind) -> None:
        """Switch everything that depends on the kind of labels, unless it is switched already."""
        self.label_kind = kind
        rules = label_rules(kind, self.require_classes(), self.labels, self._loss)
        if rules.multi_label == self.rules.multi_label:
            if isinstance(self.rules, SingleLabel):
                self.rules.name_classes(self.classes)
            return
        self.rules = rules
        self.set_metrics(rules.metrics(self._chosen_metrics), rules.metric_defaults)
        if rules.multi_label:
            self.thresholds = torch.full((rules.num_classes,), 0.5, device=self.device)

    def set_num_classes(self, num_classes: int) -> None:
        """Build what depends on the number of classes: head, rules and metrics."""
        if num_classes < 2:
            raise ConfigurationError(
                f"`num_classes` must be at least 2, got {num_classes}. For yes or no use 2."
            )
        self.num_classes = num_classes
        self.rules = SingleLabel(num_classes, self._loss)
        self.set_metrics(self.rules.metrics(self._chosen_metrics), self.rules.metric_defaults)
        self.phase_metrics.to(self.part_device())
        self.build_head(num_classes)
        if self.labels.kind is not None:
            self._set_label_kind(self.labels.kind)

    def _taken(self, datamodule: Any) -> str:
        """Describe which classes and kind of labels were taken from a datamodule."""
        classes = self.classes or []
        names = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
        kinds = {"single": "one label", "soft": "probabilities", "multi": "any number of labels"}
        return (
            f"{len(classes)} classes ({names}), {kinds[self.label_kind]} per sample, as"
            f" {type(datamodule).__name__} has them"
        )

    def _refuse_other_kind(self, kind: ClassKind, source: str) -> None:
        is_settled = self.classes is not None or self.labels.kind is not None
        if is_settled and (kind == "multi") != self.rules.multi_label:
            raise ConfigurationError(
                f"The model has labels of the kind '{self.label_kind}', but {source} has"
                f" '{kind}', and a model never changes from one to the other. Say what is right"
                " with `labels` of the `LabelTable`, or start a new model."
            )

    def _tuned_metric(self) -> SampleFBeta | None:
        """Return the metric that the thresholds are tuned with; ``None`` with one label."""
        if self.thresholds is None:
            return None
        metrics: Any = self.phase_metrics["val_"]
        return next(metric for metric in metrics.values() if isinstance(metric, SampleFBeta))
