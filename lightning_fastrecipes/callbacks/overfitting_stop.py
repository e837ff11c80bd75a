"""Train cycle after cycle until the validation gets worse, and keep the best weights."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal

from torch import Tensor
from torch.utils.data import DataLoader

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import SetupError, rank_zero_info
from lightning_fastrecipes.callbacks.engine.best_weights import BestWeights
from lightning_fastrecipes.callbacks.engine.clean_samples import CleanSamples
from lightning_fastrecipes.callbacks.engine.cycles import CycleEnds, Monitor
from lightning_fastrecipes.callbacks.engine.keyed import KeyedCallback
from lightning_fastrecipes.callbacks.engine.stepping import (
    VAL_LOSS,
    logged_name,
    mean_over_processes,
)
from lightning_fastrecipes.callbacks.snapshots import CycleSnapshots
from lightning_fastrecipes.callbacks.train_metrics import TrainMetrics, train_name
from lightning_fastrecipes.errors import check_at_least

_AVERAGES = "the module ends with averages of many"
_OTHER_ENDS: dict[type[pl.Callback], str] = {
    pl.WeightAveraging: _AVERAGES,
    pl.StochasticWeightAveraging: _AVERAGES,
    pl.ModelPruning: "weights have other names until the end",
}
"""What makes the weights at the end others than those of an epoch, and how."""


class OverfittingStop(KeyedCallback):
    """Stop at the end of a cycle once the model over-fits, and go back to the best weights.

    Looks at the ends of cycles alone, where the rates are lowest: in mid-cycle a loss rises and
    falls with the rate. With ``SGDR(cycle_len=1, cycle_mult=2)`` and a large ``max_epochs`` this is
    the course's "train with ``cycle_mult=2`` until over-fitting". The module, and a checkpoint
    written at the end of the last epoch, then hold the weights of the best cycle; so do they when
    training ends at ``max_epochs``.

    Args:
        patience: Cycles in a row with a worse validation than the best, at least 1, that stop.
        monitor: Logged metric, of the validation or of ``TrainMetrics``, such as ``val/loss`` or
            ``val_loss/dataloader_idx_0``.
        mode: Whether the best value is the lowest, ``min``, or the highest, ``max``.
        gap_patience: Cycles in a row in which the gap between training and validation loss grows
            that stop, at least 1; ``None`` does not measure the gap. The training loss is that of
            ``validation_step`` on a fixed, clean part of the training samples: in eval mode and
            without augmentation, as the validation loss; with ``TrainMetrics`` before this
            callback it is theirs.
        num_train_samples: Size of that part, at least 1.
        train_loader: Loader of clean training samples; that of the datamodule's
            ``eval_dataloader("train")`` if ``None``.
        cycle_len: Length of the first cycle in epochs; that of the fit's schedule if ``None``.
        cycle_mult: Growth of each cycle, if ``cycle_len`` is given.
        loss_name: Under which name the validation loss is logged that the gap is measured with.

    Attributes:
        history: For each cycle end ``epoch``, ``value`` and, if measured, ``train_loss`` and
            ``gap``.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> OverfittingStop(patience=2).history
        []

    References:
        fast.ai course of 2018, lessons 1 and 2.
    """

    def __init__(
        self,
        patience: int = 1,
        monitor: str = "val_loss",
        mode: Literal["min", "max"] = "min",
        gap_patience: int | None = None,
        num_train_samples: int = 500,
        train_loader: DataLoader[Any] | None = None,
        cycle_len: int | None = None,
        cycle_mult: int = 1,
        loss_name: str = VAL_LOSS,
    ) -> None:
        check_at_least("patience", patience, 1)
        if gap_patience is not None:
            check_at_least("gap_patience", gap_patience, 1)
        check_at_least("num_train_samples", num_train_samples, 1)
        self.patience = patience
        self.gap_patience = gap_patience
        self.num_train_samples = num_train_samples
        self.loss_name = loss_name
        self._samples = CleanSamples("`gap_patience`", num_train_samples, train_loader)
        self._monitor = Monitor(monitor, mode)
        self._set_key(
            patience=patience, monitor=monitor, gap_patience=gap_patience, cycle_len=cycle_len
        )
        self._ends = CycleEnds("OverfittingStop", cycle_len, cycle_mult)
        self._kept = BestWeights()
        self._stopped = False
        self._has_train_metrics = False
        self._validated_epoch: int | None = None

    @property
    def history(self) -> list[dict[str, float]]:
        """For each cycle end ``epoch``, ``value`` and, if measured, ``train_loss`` and ``gap``."""
        return self._kept.history

    @property
    def best_epoch(self) -> int | None:
        """The epoch whose weights are the best so far; ``None`` before the first cycle end."""
        return self._kept.best_epoch(self._monitor)

    def state_dict(self) -> dict[str, Any]:
        """Return history and best weights, so that a resumed fit can still go back to them."""
        return {"history": self.history, "best": self._kept.weights, "stopped": self._stopped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore history and best weights of the fit that is resumed."""
        self._kept.history = list(state_dict["history"])
        self._kept.weights = state_dict["best"]
        self._stopped = state_dict["stopped"]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Forget an earlier fit; all but its stop if the same trainer continues it."""
        super().setup(trainer, pl_module, stage)
        if stage == "fit":
            self._stopped = False
            if trainer.current_epoch == 0:
                self._kept = BestWeights()

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse fits without cycles, validation at their ends, or the clean samples asked for."""
        ends = self._ends.epochs(trainer)
        if self._ends.unvalidated(trainer) or not trainer.enable_validation:
            raise SetupError(
                f"`OverfittingStop` needs a validation at every cycle end, after {ends} epochs, but"
                f" `check_val_every_n_epoch` is {trainer.check_val_every_n_epoch or 1} and"
                f" validation is {'on' if trainer.enable_validation else 'off'}. Give a validation"
                " loader, and validate every epoch."
            )
        callbacks = pl.callbacks_of(trainer)
        if sum(isinstance(one, OverfittingStop) for one in callbacks) > 1:
            raise SetupError(
                "One `OverfittingStop` must choose the weights that a fit ends with, but the"
                " trainer has several. Give one of them both `patience` and `gap_patience`."
            )
        for callback in callbacks:
            if isinstance(callback, tuple(_OTHER_ENDS)):
                reason = next(why for cls, why in _OTHER_ENDS.items() if isinstance(callback, cls))
                raise SetupError(
                    "`OverfittingStop` goes back to the weights of the best cycle, but with"
                    f" `{type(callback).__name__}` {reason}. Leave one of them out;"
                    " `CycleSnapshots(which='best')` keeps the best beside it."
                )
        later = callbacks[callbacks.index(self) :]
        if any(isinstance(callback, CycleSnapshots) for callback in later):
            raise SetupError(
                "`CycleSnapshots` must come before `OverfittingStop`, which goes back to the best"
                " weights before it could write those of the last cycle. Turn them round."
            )
        if any(isinstance(callback, TrainMetrics) for callback in later):
            raise SetupError(
                "`TrainMetrics` must come before `OverfittingStop`, which would see the values of"
                " the epoch before. Turn them round."
            )
        self._has_train_metrics = any(isinstance(one, TrainMetrics) for one in callbacks)
        if self.gap_patience is not None and not self._has_train_metrics:
            self._samples.loader(trainer)
        if self._stopped:
            # A fit that was interrupted between its stop and its end must not train on.
            rank_zero_info(
                "OverfittingStop: the fit that is resumed had stopped, so that no epoch is trained."
            )
            trainer.should_stop = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse validations that do not see the weights at the end of an epoch."""
        self._ends.refuse_early_validation(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note which epoch the logged values are of."""
        if not trainer.sanity_checking:
            self._validated_epoch = trainer.current_epoch

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at a cycle that ends here; at the end of training go back to the best weights.

        Runs before checkpoints are written, so that they hold the best weights as well.
        """
        epoch = trainer.current_epoch + 1
        if self._validated_epoch == trainer.current_epoch:
            # Said at the first validation, not at the end of a long cycle.
            self._monitor.check(trainer.callback_metrics)
            self._check_loss_name(trainer.callback_metrics)
        if not self._stopped and self._ends.ending_cycle(trainer) is not None:
            self._measure(trainer, pl_module)
            reason = self._reason() if epoch >= (trainer.min_epochs or 0) else None
            # Every process decides from the same numbers; a difference would hang them all.
            if trainer.strategy.reduce_boolean_decision(reason is not None, all=False):
                best = f"going back to the weights after epoch {(self.best_epoch or 0) + 1}"
                rank_zero_info(f"OverfittingStop: {reason}; {best}.")
                self._stopped = trainer.should_stop = True
        if self._stopped or epoch == trainer.max_epochs:
            self._kept.put_back(pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go back to the best weights also where something else has ended the training."""
        self._kept.put_back(pl_module)

    def _measure(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = trainer.callback_metrics
        value = self._monitor.value(trainer, metrics)
        entry = {"epoch": float(trainer.current_epoch), "value": value}
        if self.gap_patience is not None:
            self._check_loss_name(metrics)
            name = logged_name(self.loss_name)
            if self._has_train_metrics:
                train_loss = mean_over_processes(trainer, metrics[train_name(name)])
            else:
                train_loss = self._samples.measure(trainer, pl_module)[name]
            val_loss = mean_over_processes(trainer, metrics[self.loss_name])
            entry |= {"train_loss": train_loss, "gap": val_loss - train_loss}
        self._kept.take(entry, self._monitor, pl_module)

    def _check_loss_name(self, metrics: Mapping[str, Tensor]) -> None:
        if self.gap_patience is not None and self.loss_name not in metrics:
            raise SetupError(
                f"`gap_patience` compares losses, but `{self.loss_name}` is none of"
                f" {sorted(metrics)}, which the module logs. Log it in `validation_step`, name"
                " another by `loss_name`, or leave `gap_patience` out."
            )

    def _reason(self) -> str | None:
        """Return why training should stop now, or ``None``."""
        values = self._kept.badness(self._monitor)
        since_best = len(values) - 1 - (self._kept.best_index(self._monitor) or 0)
        if since_best >= self.patience:
            name = self._monitor.name
            return f"{name} has been worse than its best for {since_best} cycles"
        if self.gap_patience is not None and len(values) > self.gap_patience:
            gaps = [entry["gap"] for entry in self.history[-self.gap_patience - 1 :]]
            if all(later > earlier for earlier, later in pairwise(gaps)):
                return f"the gap to the training loss has grown for {self.gap_patience} cycles"
        return None
