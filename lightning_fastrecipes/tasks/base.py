"""What every task shares: layer groups, one step for all phases, one optimizer."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Self, TypedDict, cast

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric, MetricCollection
from typing_extensions import override

from lightning_fastrecipes import formats, plain
from lightning_fastrecipes._lightning import (
    TrainerFn,
    TrainerStatus,
    rank_zero_info,
    rank_zero_warn,
    refuse_shards,
)
from lightning_fastrecipes.batches import FEATURES, inputs_of
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.functional.labels.targets import num_repeated_rows
from lightning_fastrecipes.functional.training import group_rates
from lightning_fastrecipes.functional.training.layer_groups import (
    NormPolicy,
    audit_param_groups,
    check_norm_policy,
    check_parameter_names,
    frozen_count,
    optimizer_groups,
    set_frozen,
    set_frozen_modes,
)
from lightning_fastrecipes.old_names import translate_callback_states
from lightning_fastrecipes.protocols import LayerGroup
from lightning_fastrecipes.tasks.building import MetricSpec, build_metrics
from lightning_fastrecipes.tasks.checkpoint_loading import safe_loading
from lightning_fastrecipes.tasks.data_building import BuiltForData
from lightning_fastrecipes.tasks.norm_calibration import CalibratesNorms, refuse_single_sample
from lightning_fastrecipes.tasks.optim import Optim, as_optim, build_optimizer
from lightning_fastrecipes.trust import Trust

Phase = Literal["val", "test"]
CHECKPOINT_KEY = "fastrecipes"
_EVERY_EPOCH: Any = {"on_step": False, "on_epoch": True, "prog_bar": True}
_check_saved = plain.keys({"num_frozen": plain.whole(0)})


class StepOutput(TypedDict):
    """What validation and test steps return to callbacks, without repeated rows."""

    probabilities: Tensor
    targets: Tensor


class LayerGroupTask(CalibratesNorms, BuiltForData, ABC):
    """Train a model group by group: one place for freezing, rates, metrics and the optimizer.

    A subclass sets ``backbone`` and ``head``, and defines its layer groups, loss and probabilities.
    Freezing changes only between two calls of ``Trainer.fit``: Lightning's distributed strategies
    wrap the model once per fit, and parameters that are unfrozen later would be trained on each
    process by itself.

    ``lr`` and ``lr_ratio`` replace those of ``optim``. A metric is a torchmetrics metric, its class
    path, or a plain function of ``(probabilities, targets)`` that is called once per epoch on all
    rows; ``metric_defaults`` go to metric classes that take them, such as ``num_classes``. Howard
    and Ruder, *Universal Language Model Fine-tuning* (2018), section 3.2; fast.ai course, lesson 1.
    """

    backbone: nn.Module
    head: nn.Module

    def __init__(
        self,
        norm_policy: NormPolicy,
        *,
        optim: Optim | Mapping[str, Any] | None = None,
        lr: group_rates.Rates | None = None,
        lr_ratio: float | None = None,
        metrics: Mapping[str, MetricSpec],
        metric_defaults: Mapping[str, Any],
    ) -> None:
        super().__init__()
        check_norm_policy(norm_policy)
        self.norm_policy = norm_policy
        self.optim = as_optim(optim, lr, lr_ratio)
        self.num_frozen = 0
        self.set_metrics(metrics, metric_defaults)
        self.phase_losses = nn.ModuleDict({"val_": MeanMetric(), "test_": MeanMetric()})

    @classmethod
    def from_architecture(cls, architecture: Mapping[str, Any]) -> Self:
        """Build an untrained model from the attribute ``architecture`` of another."""
        return cls(**architecture)

    @classmethod
    @override
    def load_from_checkpoint(
        cls, checkpoint_path: Any, *args: Any, trust: Trust = (), **kwargs: Any
    ) -> Self:
        """Load a checkpoint as Lightning does; it may name classes of the modules in ``trust``."""
        with safe_loading(cls.__name__, checkpoint_path, args, kwargs, trust) as safe:
            return super().load_from_checkpoint(checkpoint_path, *args, **safe)

    @abstractmethod
    def layer_groups(self) -> list[LayerGroup]:
        """Return the layer groups from the input side to the head."""

    @abstractmethod
    def forward_features(self, inputs: Any) -> Tensor:
        """Compute the features that the head takes. Shape ``(batch, num_features)``."""

    @abstractmethod
    def forward_head(self, features: Tensor) -> Tensor:
        """Compute float32 logits from features. Shape ``(batch, num_outputs)`` or ``(batch,)``."""

    @abstractmethod
    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch. Shape ``()``."""

    def weighted_loss(self, logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Return the mean loss of a batch whose rows count ``weights``, ``(batch,)``, times."""
        return (weights * torch.vmap(self._row_loss)(logits, targets)).mean()

    def _row_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.loss(logits[None], target[None])

    def loss_weight(self, targets: Tensor) -> float | Tensor:
        """Return how much the mean loss of a batch counts beside that of others."""
        return len(targets)

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """Turn logits into what metrics and users see, in the shape of the logits."""

    @abstractmethod
    def logits(self, probabilities: Tensor) -> Tensor:
        """Invert :meth:`probabilities`, for predictions that were merged."""

    @abstractmethod
    def metric_targets(self, targets: Tensor) -> Tensor:
        """Turn targets into what metrics compare with."""

    def no_weight_decay(self) -> set[str]:
        """Name the parameters, besides norms and biases, that get no weight decay."""
        return set()

    @override
    def forward(self, inputs: Any) -> Tensor:
        return self.forward_head(self.forward_features(inputs))

    def set_metrics(self, metrics: Mapping[str, MetricSpec], defaults: Mapping[str, Any]) -> None:
        """Replace the metrics of validation and test; arguments as for the constructor."""
        self.keep_metrics(MetricCollection(build_metrics(metrics, defaults), compute_groups=False))

    def keep_metrics(self, collection: MetricCollection) -> None:
        """Use copies of a collection of metrics for validation and test."""
        self.phase_metrics = nn.ModuleDict(
            {f"{phase}_": collection.clone(prefix=f"{phase}_") for phase in ("val", "test")}
        )

    # Freezing and rates, changed between fits.

    def freeze_to(self, n: int) -> None:
        """Freeze the groups before ``n`` and train ``n`` and later ones.

        A negative ``n`` counts from the head, so that -1 trains the head alone; 0 trains
        everything. Raises ConfigurationError if a trainer is fitting, ValueError if there is no
        such group.
        """
        if self._is_fitting():
            raise ConfigurationError(
                "`freeze_to` must be called between two calls of `Trainer.fit`, but a fit is"
                " running. Parameters unfrozen now would train apart on every process: end this"
                " fit and start another."
            )
        self._set_num_frozen(frozen_count(n, len(self.layer_groups())))

    @override
    def freeze(self) -> None:  # type: ignore[override]
        """Train the head alone, as ``freeze_to(-1)``; Lightning's freezes the head as well."""
        self.freeze_to(-1)

    @override
    def unfreeze(self) -> None:  # type: ignore[override]
        """Train every group, as ``freeze_to(0)``; unlike Lightning's, only between two fits."""
        self.freeze_to(0)

    def set_learning_rates(self, lr: group_rates.Rates, lr_ratio: float = 1.0) -> None:
        """Set the rates that the next fit starts from; arguments as for ``Optim``."""
        if lr is None:
            raise ConfigurationError(
                "`lr` must be a number, an array or a range, got None. A curve without a suggestion"
                " says why in its `refusal`."
            )
        self.optim = replace(self.optim, lr=lr, lr_ratio=lr_ratio)

    def group_lrs(self) -> list[float]:
        """Return one learning rate per layer group, 0 for frozen ones."""
        return group_rates.resolve_group_lrs(
            self.optim.lr,
            self.optim.lr_ratio,
            num_groups=len(self.layer_groups()),
            num_frozen=self.num_frozen,
            train_frozen_norms=self.norm_policy == "train",
        )

    @override
    def train(self, mode: bool = True) -> Self:
        """Switch modes; frozen norms and dropout stay in eval mode."""
        super().train(mode)
        if mode:
            set_frozen_modes(self, self.backbone, self.norm_policy)
        return self

    @override
    def setup(self, stage: str) -> None:
        super().setup(stage)
        refuse_shards(type(self).__name__, self.trainer)
        # States left by an earlier evaluation were made in inference mode, and cannot be updated.
        for metric in (*self.phase_metrics.values(), *self.phase_losses.values()):
            cast(Metric, metric).reset()

    @override
    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Build every parameter group once, frozen or not, in fixed order and with names."""
        groups = optimizer_groups(
            dict(self.named_parameters()),
            self.layer_groups(),
            self.group_lrs(),
            self.optim.weight_decay,
            self.no_weight_decay(),
        )
        return build_optimizer(self.optim.optimizer, groups)

    @override
    def on_fit_start(self) -> None:
        groups = [group for opt in self.trainer.optimizers for group in opt.param_groups]
        audit_param_groups(dict(self.named_parameters()), groups)
        self.plan_calibration()
        rates = {g.name: lr for g, lr in zip(self.layer_groups(), self.group_lrs(), strict=True)}
        rank_zero_info(f"Learning rates: {group_rates.describe_group_lrs(rates)}")

    @override
    def on_train_epoch_start(self) -> None:
        """Set the modes of frozen parts again: callbacks may have changed them."""
        self.train()

    @override
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, targets, *weights = batch
        if len(targets) == 1:
            refuse_single_sample(self)
        self.calibrate_once(batch)
        logits = self._logits(batch, inputs)
        loss = (
            self.weighted_loss(logits, targets, *weights) if weights else self.loss(logits, targets)
        )
        self.log("train_loss", loss, batch_size=len(targets), **_EVERY_EPOCH)
        return loss

    @override
    def on_train_epoch_end(self) -> None:
        """Copy the buffers of the first process to the others, so that replicas stay equal."""
        if self.trainer.world_size > 1:
            for buffer in self.buffers():
                torch.distributed.broadcast(buffer, src=0)

    @override
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> StepOutput:
        return self._evaluation_step(batch, batch_idx, dataloader_idx, "val")

    @override
    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> StepOutput:
        return self._evaluation_step(batch, batch_idx, dataloader_idx, "test")

    @override
    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Return the probabilities of one batch, with or without targets beside the inputs."""
        return self.probabilities(self._logits(batch, inputs_of(batch)))

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store how much is frozen; refuse names that no uncompiled model could load."""
        check_parameter_names(self, self.layer_groups())
        saved = {"version": formats.CHECKPOINT, "num_frozen": self.num_frozen}
        saved["must_calibrate"] = self._must_calibrate
        checkpoint[CHECKPOINT_KEY] = saved

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Freeze what was frozen, before Lightning builds the optimizer and wraps the model."""
        if "callbacks" in checkpoint:
            # Read by Lightning after this hook.
            checkpoint["callbacks"] = translate_callback_states(checkpoint["callbacks"])
        saved = checkpoint.get(CHECKPOINT_KEY)
        if saved is None:
            return
        _check_saved(saved, CHECKPOINT_KEY)
        num_frozen = int(saved["num_frozen"])
        self._must_calibrate = bool(saved.get("must_calibrate", False))
        if self._is_fitting() and num_frozen != self.num_frozen:
            rank_zero_warn(
                f"The checkpoint was written with {num_frozen} frozen layer groups, but the model"
                f" has {self.num_frozen}. Training resumes with {num_frozen}; call `freeze_to`"
                " and start a fit without `ckpt_path` for another depth."
            )
        self._set_num_frozen(num_frozen)

    def _set_num_frozen(self, num_frozen: int) -> None:
        self.num_frozen = num_frozen
        set_frozen(self, self.layer_groups(), num_frozen, self.norm_policy)
        self.train(self.training)

    def _logits(self, batch: Any, inputs: Any) -> Tensor:
        """Run the whole model, or the head alone on precomputed features."""
        return self.forward_head(inputs) if isinstance(batch, FEATURES) else self(inputs)

    def _evaluation_step(
        self, batch: Any, batch_idx: int, dataloader_idx: int, phase: Phase
    ) -> StepOutput:
        inputs, targets = batch
        logits = self._logits(batch, inputs)
        num_rows = len(targets) - self._num_repeated_rows(batch_idx, dataloader_idx, phase)
        logits, targets = logits[:num_rows], targets[:num_rows]
        probabilities = self.probabilities(logits)
        mean_loss = cast(Metric, self.phase_losses[f"{phase}_"])
        metrics = cast(MetricCollection, self.phase_metrics[f"{phase}_"])
        if num_rows > 0:
            mean_loss.update(self.loss(logits, targets), weight=self.loss_weight(targets))
            metrics.update(probabilities, self.metric_targets(targets))
        self.log(f"{phase}_loss", mean_loss, **_EVERY_EPOCH)
        self.log_dict(dict(metrics.items()), **_EVERY_EPOCH)
        return {"probabilities": probabilities, "targets": targets}

    def _num_repeated_rows(self, batch_idx: int, dataloader_idx: int, phase: Phase) -> int:
        if self.trainer.world_size == 1:
            return 0
        loaders = self.trainer.val_dataloaders if phase == "val" else self.trainer.test_dataloaders
        loader = loaders[dataloader_idx] if isinstance(loaders, Sequence) else loaders
        return num_repeated_rows(loader, batch_idx)

    def _is_fitting(self) -> bool:
        """Return whether a trainer is inside ``fit``, from its setup to its last hook."""
        try:
            state = self.trainer.state
        except RuntimeError:  # not attached
            return False
        return state.fn == TrainerFn.FITTING and state.status == TrainerStatus.RUNNING
