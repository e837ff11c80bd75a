"""Stop a fit whose loss is no number any more."""

from collections.abc import Mapping
from typing import Any, NoReturn

import torch
from torch import Tensor
from typing_extensions import override

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import TrainerFn, rank_zero_warn
from lightning_fastrecipes.callbacks.engine.whole_files import weights_are_finite
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.functional.training.group_rates import rates_in_words
from lightning_fastrecipes.messages import name_some

_EVERY = 50
_SKIPPED_BY_A_SCALER = 20


class FiniteLossCheck(pl.OwnCallback):
    """Stop with an error when the training loss is NaN or infinite, before weights are saved.

    So it does at the end of an epoch whose last step has left weights that are no numbers. A loss
    of a validation that is none is warned of, since training may go on without it; a rehearsal of
    one batch (``fast_dev_run``), which ends with it, stops.

    Nothing that follows would be a number again, and checkpoints of later epochs would be lost with
    it; those of earlier ones stay as they are. The error names step, epoch and rates. Where loss
    scaling (``16-mixed``) skips steps, 20 such losses in a row stop the fit.

    One process on a CPU looks at every step. Elsewhere every 50th step and the end of each epoch is
    looked at, so that no step waits for the device or for other processes. All stop together.

    Raises:
        ConfigurationError: While fitting, when the loss is not finite.

    Example:
        >>> callbacks = [FiniteLossCheck()]
    """

    needs_whole_weights = False

    def __init__(self) -> None:
        self._in_a_row: Tensor | int = 0

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._in_a_row = 0

    @override
    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, Tensor):
            is_finite = torch.isfinite(loss.detach()).all()
            self._in_a_row = torch.where(is_finite, 0, self._in_a_row + 1)
        is_last = batch_idx + 1 == trainer.num_training_batches
        is_cheap = pl_module.device.type == "cpu" and trainer.world_size == 1
        if is_cheap or is_last or batch_idx % _EVERY == _EVERY - 1:
            self._stop_if_needed(trainer)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the weights that the last step has left, before they are saved."""
        if not weights_are_finite(trainer, pl_module):
            self._stop(trainer, "The weights must be finite numbers, but some are none")

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Warn of logged losses of a validation that are no numbers, or stop a rehearsal."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        logged = trainer.callback_metrics.items()
        lost = [name for name, value in logged if "loss" in name and not bool(value.isfinite())]
        if not lost:
            return
        what = f"Losses of the validation must be finite numbers, but {name_some(lost)} is none"
        if pl.is_fast_dev_run(trainer):
            self._stop(trainer, what)
        rank_zero_warn(
            f"{what} after epoch {trainer.current_epoch + 1}. Look for inputs and targets that are"
            " no numbers, and for a precision that does not hold them."
        )

    def _stop_if_needed(self, trainer: pl.Trainer) -> None:
        has_scaler = getattr(trainer.precision_plugin, "scaler", None) is not None
        is_over = int(self._in_a_row) > (_SKIPPED_BY_A_SCALER if has_scaler else 0)
        if trainer.strategy.reduce_boolean_decision(is_over, all=False):
            self._stop(trainer, "The training loss must be a finite number, but is none")

    def _stop(self, trainer: pl.Trainer, what: str) -> NoReturn:
        groups = [group for opt in trainer.optimizers for group in opt.param_groups]
        raise ConfigurationError(
            f"{what} at step {trainer.global_step}, in epoch {trainer.current_epoch + 1}, with the"
            f" rates {rates_in_words(groups)}. Train at a tenth of them, or look for inputs and"
            " targets that are no numbers. Checkpoints of earlier epochs are as they were."
        )
