"""What a task asks the rules of its labels: loss, probabilities, and weights of the loss."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from lightning_fastrecipes import plain
from lightning_fastrecipes._lightning import rank_zero_warn
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.functional.labels.losses import balanced_class_weight
from lightning_fastrecipes.functional.labels.multi_label import balanced_pos_weight
from lightning_fastrecipes.functional.labels.targets import known_labels
from lightning_fastrecipes.messages import shown
from lightning_fastrecipes.nn.label_rules import LabelRules, MultiLabel, SingleLabel
from lightning_fastrecipes.protocols import HasTrainTargets, LabelKind
from lightning_fastrecipes.tasks.base import CHECKPOINT_KEY
from lightning_fastrecipes.tasks.building import LossSpec, saved_loss
from lightning_fastrecipes.tasks.metric_checks import Example, label_example

_check_loss = plain.keys(
    {},
    {
        "class_weight": plain.maybe(plain.items(plain.number(0))),
        "own_loss": plain.maybe(plain.text(".{0,1000}")),
    },
)


class FollowsLabelRules:
    """What a task asks its ``rules``; a mixin, to stand before ``LayerGroupTask``."""

    rules: LabelRules

    label_kind: LabelKind

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss: cross entropy, with several labels of each by itself, or ``loss``.

        That of the rules, which the options ``loss`` change or replace.
        """
        return self.rules.loss(logits, targets)

    def weighted_loss(self, logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Return the mean loss of a batch whose rows count ``weights``, ``(batch,)``, times."""
        if type(self).loss is not FollowsLabelRules.loss:  # one that a subclass has overridden
            other: Any = super()
            found: Tensor = other.weighted_loss(logits, targets, weights)
            return found
        return self.rules.weighted_loss(logits, targets, weights)

    def loss_weight(self, targets: Tensor) -> float | Tensor:
        """Return how much the mean loss of a batch counts beside that of others."""
        return self.rules.loss_weight(targets)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the softmax, or the sigmoid of several labels. Shape ``(batch, num_classes)``."""
        return self.rules.probabilities(logits)

    def logits(self, probabilities: Tensor) -> Tensor:
        """Return logits that have these probabilities. Shape ``(batch, num_classes)``."""
        return self.rules.logits(probabilities)

    def metric_targets(self, targets: Tensor) -> Tensor:
        """Decide one class per row where targets are probabilities, or yes or no per label."""
        return self.rules.metric_targets(targets)

    def example(self) -> Example:
        """Return made-up probabilities and targets, as metrics get them."""
        return label_example(self.rules.num_classes, multi_label=self.rules.multi_label)

    def set_up_loss(self, stage: str, datamodule: Any) -> None:
        """Try a loss of the user's own, and weigh what is to be balanced by the training split."""
        rules = self.rules
        if rules.own_loss is not None:
            rules.own_loss.check(self.label_kind, rules.num_classes)
        if isinstance(rules, MultiLabel):
            if stage == "fit" and _has_gaps(datamodule):
                self.refuse_gaps()
            if stage == "fit" and rules.options.pos_weight == "balanced":
                targets = _train_targets(datamodule, "labels.pos_weight")
                rules.weigh(balanced_pos_weight(targets))
        elif isinstance(rules, SingleLabel):
            given = rules.loss_options.class_weight
            if stage == "fit" and given == "balanced":
                targets = _train_targets(datamodule, "loss.class_weight")
                rules.weigh(balanced_class_weight(targets, rules.num_classes))
            if isinstance(given, Mapping) and rules.class_weight is None:
                raise ConfigurationError(
                    "`loss.class_weight` names classes, but the model does not know the names of"
                    " its own. Call `set_classes`, or give a list in their order."
                )

    def refuse_gaps(self) -> None:
        """Raise `ConfigurationError` if the loss cannot leave out labels that are unknown."""
        own = self.rules.own_loss
        if own is not None and not own.has_cells:
            raise ConfigurationError(
                f"Some labels are unknown, but {own.name} gives the mean of all. Use a loss of"
                " `torch.nn`, or a module with `reduction`, whose parts can be left out."
            )

    def loss_state(self) -> dict[str, Any]:
        """Return what a checkpoint holds of the loss besides its options, as plain values."""
        rules = self.rules
        state: dict[str, Any] = {}
        if isinstance(rules, SingleLabel) and rules.class_weight is not None:
            state["class_weight"] = rules.class_weight.tolist()
        if rules.own_loss is not None:
            state["own_loss"] = rules.own_loss.name
        return state

    def exported_loss(self, spec: LossSpec) -> Any:
        """Return plain values of the loss that ``spec`` describes, with its weights as they are."""
        saved, rules = saved_loss(spec), self.rules
        if isinstance(rules, SingleLabel) and rules.class_weight is not None:
            saved = {**asdict(rules.loss_options), "class_weight": rules.class_weight.tolist()}
        return saved

    def restore_loss(self, saved: Mapping[str, Any]) -> None:
        """Take the balanced weights of a checkpoint, and say if it had a loss that is not given."""
        _check_loss(saved, CHECKPOINT_KEY)
        rules, weights = self.rules, saved.get("class_weight")
        is_balanced = rules.loss_options.class_weight == "balanced"
        if isinstance(rules, SingleLabel) and is_balanced and weights is not None:
            rules.weigh(torch.tensor(weights))
        if saved.get("own_loss") and rules.own_loss is None:
            rank_zero_warn(
                f"The checkpoint was trained with the loss `{shown(saved['own_loss'])}`, but the"
                f" model has the cross entropy, which `val_loss` is now. Give the same `loss`."
            )


def _has_gaps(datamodule: Any) -> bool:
    if not isinstance(datamodule, HasTrainTargets):
        return False
    return not bool(known_labels(datamodule.train_targets).all())


def _train_targets(datamodule: Any, option: str) -> Tensor:
    if not isinstance(datamodule, HasTrainTargets):
        raise ConfigurationError(
            f"`{option}='balanced'` needs a datamodule with `train_targets`, but the trainer has"
            f" {type(datamodule).__name__}. Give one number per label instead."
        )
    return datamodule.train_targets
