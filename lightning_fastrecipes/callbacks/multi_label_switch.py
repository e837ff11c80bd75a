"""Train a module of the user's own for one label or for several, as the data have them."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle
from torchmetrics import MetricCollection

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import SetupError, rank_zero_info
from lightning_fastrecipes.errors import check_choice
from lightning_fastrecipes.functional.labels.multi_label import Threshold, balanced_pos_weight
from lightning_fastrecipes.nn.label_rules import Labels, MultiLabel
from lightning_fastrecipes.nn.sample_fbeta import SampleFBeta
from lightning_fastrecipes.protocols import HasClasses, HasDecisionHead, HasTrainTargets

LabelChoice = Literal["auto", "single", "multi"]


class MultiLabelSwitch(pl.OwnCallback):
    """Switch a module to several labels per image where the data have them, all at once.

    The module is written for one label and has, from its constructor on, what its steps use:
    ``num_classes``, ``loss(logits, targets)``, ``probabilities(logits)`` and
    ``metrics.update(probabilities, targets)``. If the datamodule's ``label_kind`` is ``multi``, the
    callback replaces them before the fit: ``loss`` by BCE with logits, ``probabilities`` by a
    sigmoid and ``metrics`` by ``SampleFBeta``. It adds a buffer ``thresholds``, one per label,
    tuned on every validation and used by every test. Checkpoints of the module hold it; to load one
    without a trainer, call ``switch`` first. ``ImageClassifier`` does all this by itself.

    It never switches back: a checkpoint or module of one kind is refused if the data are of the
    other.

    Args:
        label_kind: ``auto``: the datamodule decides; ``single`` or ``multi`` override it.
        threshold: ``one`` for all labels, or one ``per_label``.
        beta: What F-beta the thresholds are tuned for, above 0.
        pos_weight: How much a positive weighs in the loss, for each label; ``balanced`` for
            ``negatives / positives`` of the datamodule's ``train_targets``.

    Raises:
        ValueError: If an argument is none of these.

    Example:
        >>> MultiLabelSwitch(label_kind="multi").label_kind
        'multi'

    References:
        fast.ai course (2018), lesson 3, where the data object decides on softmax or sigmoid.
    """

    def __init__(
        self,
        label_kind: LabelChoice = "auto",
        threshold: Threshold = "one",
        beta: float = 2.0,
        pos_weight: Literal["balanced"] | list[float] | None = None,
    ) -> None:
        check_choice("label_kind", label_kind, get_args(LabelChoice))
        self.label_kind = label_kind
        self.options = Labels("multi", pos_weight, threshold, beta)
        self._is_multi_label = False
        self._guard: RemovableHandle | None = None

    def switch(self, module: nn.Module) -> None:
        """Switch a module to several labels, unless it is switched already.

        Args:
            module: A module with the head protocol.

        Raises:
            ConfigurationError: If it lacks a part of the protocol, or weights do not fit.
        """
        if getattr(module, "label_kind", None) == "multi":
            return
        lacking = [n for n in HasDecisionHead.__annotations__ if not hasattr(module, n)]
        if lacking:
            raise SetupError(
                f"`MultiLabelSwitch` needs a module with `num_classes`, `loss`, `probabilities` and"
                f" `metrics`, but {type(module).__name__} lacks `{'`, `'.join(lacking)}`. Set them"
                " in its constructor, for one label per image, and use them in its steps."
            )
        num_classes: int = module.num_classes  # type: ignore[assignment]
        rules = MultiLabel(num_classes, self.options)
        _put(module, "loss", rules.loss)
        _put(module, "probabilities", rules.probabilities)
        prefix = getattr(module.metrics, "prefix", None)
        chosen: Any = rules.fbeta()
        module.metrics = MetricCollection(chosen, prefix=prefix)
        module.register_buffer("thresholds", torch.full((num_classes,), 0.5))
        object.__setattr__(module, "rules", rules)
        object.__setattr__(module, "label_kind", "multi")

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Decide, log why, and switch before anything is loaded or moved."""
        super().setup(trainer, pl_module, stage)
        if hasattr(pl_module, "set_classes"):
            return  # a task of this package, which switches by itself
        datamodule = pl.datamodule_of(trainer)
        kind, reason = self._decide(datamodule)
        was_multi = getattr(pl_module, "label_kind", None) == "multi"
        if was_multi and kind != "multi":
            raise SetupError(
                f"The module was switched to several labels per image, but now labels are"
                f" '{kind}' ({reason}), and it never switches back. Start from a new module."
            )
        self._is_multi_label = kind == "multi"
        rank_zero_info(f"MultiLabelSwitch: {kind}, since {reason}")
        # Weights are loaded before callbacks are, and would fail on a name that says nothing.
        register: Any = pl_module.register_load_state_dict_pre_hook
        self._guard = register(_refuse_other_kind)
        if not self._is_multi_label:
            return
        self.switch(pl_module)
        if stage == "fit" and self.options.pos_weight == "balanced":
            if not isinstance(datamodule, HasTrainTargets):
                raise SetupError(
                    "`pos_weight='balanced'` needs a datamodule with `train_targets`. Give one"
                    " number per label instead."
                )
            rules: Any = pl_module.rules
            rules.weigh(balanced_pos_weight(datamodule.train_targets))

    def state_dict(self) -> dict[str, Any]:
        """Store what was decided."""
        return {"label_kind": "multi" if self._is_multi_label else "single"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse to go on if the data have other labels than those of the checkpoint."""
        if state_dict != self.state_dict():
            raise _other_kind(state_dict["label_kind"], self.state_dict()["label_kind"])

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Remove the hook."""
        if self._guard is not None:
            self._guard.remove()
            self._guard = None

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look for the best thresholds."""
        self._fix(pl_module, to_best=True)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the best thresholds of all rows of all processes."""
        if trainer.sanity_checking or not self._is_multi_label:
            return
        for metric in _fbetas(pl_module):
            metric.compute()
            pl_module.thresholds.copy_(metric.best_thresholds)  # type: ignore[operator]

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure with the thresholds of the validation."""
        self._fix(pl_module, to_best=False)

    def _decide(self, datamodule: Any) -> tuple[str, str]:
        if self.label_kind != "auto":
            return self.label_kind, "`label_kind` says so"
        if not isinstance(datamodule, HasClasses):
            raise SetupError(
                "`MultiLabelSwitch` needs a datamodule with `classes` and `label_kind`, but the"
                f" trainer has {type(datamodule).__name__}. Say `label_kind='multi'` or 'single'."
            )
        if datamodule.label_kind == "numbers":
            raise SetupError(
                "`MultiLabelSwitch` is for classes, but the datamodule has numbers. Leave it out."
            )
        reason = getattr(datamodule, "label_reason", "").partition("since ")[2]
        return datamodule.label_kind, reason or "the datamodule says so"

    def _fix(self, pl_module: pl.LightningModule, *, to_best: bool) -> None:
        if self._is_multi_label:
            thresholds: Any = pl_module.thresholds
            for metric in _fbetas(pl_module):
                metric.fix(None if to_best else thresholds)


class _Calls(nn.Module):
    """A function where the module has a child module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *arguments: Any) -> Any:
        return self.function(*arguments)


def _refuse_other_kind(module: nn.Module, state_dict: dict[str, Any], *_: Any) -> None:
    """Refuse weights with thresholds for a module without them, and the other way round."""
    is_multi_label = getattr(module, "label_kind", None) == "multi"
    if ("thresholds" in state_dict) != ("thresholds" in module.state_dict()):
        raise _other_kind(*(("single", "multi") if is_multi_label else ("multi", "single")))


def _other_kind(stored: str, found: str) -> SetupError:
    return SetupError(
        f"The checkpoint was trained with labels of the kind '{stored}', but the data now have"
        f" '{found}'. Use the data it was trained on, or start a new fit."
    )


def _put(module: nn.Module, name: str, function: Callable[..., Any]) -> None:
    """Replace a child module, or hide a method or function of that name."""
    is_child = name in dict(module.named_children())
    setattr(module, name, _Calls(function) if is_child else function)


def _fbetas(module: nn.Module) -> list[SampleFBeta]:
    metrics: Any = module.metrics
    return [metric for metric in metrics.values() if isinstance(metric, SampleFBeta)]
