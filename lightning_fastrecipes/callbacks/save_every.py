"""Checkpoints within an epoch, every few minutes or steps, from which a fit resumes exactly."""

import math
import time
from pathlib import Path
from typing import Any

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import CombinedLoader, SetupError
from lightning_fastrecipes.callbacks.engine.epoch_state import (
    EpochState,
    add_to_logged,
    put_back_before_training,
    state_of_process,
    take_epoch_state,
)
from lightning_fastrecipes.callbacks.engine.whole_files import save_as_a_whole, weights_are_finite
from lightning_fastrecipes.functional.training.save_interval import save_interval

_KEY = "fastrecipes_begun_epoch"


class SaveEvery(pl.OwnCallback):
    """Write a checkpoint every few minutes or optimizer steps, also in the midst of an epoch.

    A fit that is killed goes on from it by ``trainer.fit(..., ckpt_path=...)`` as if it had never
    stopped: with the batch that was to come, and with the rates, image sizes, random numbers and
    sums of the epoch (such as the mean ``train_loss``) of that moment. The one file is replaced as
    a whole, on its own disk, and never by weights that are no numbers. Nothing is written at the
    end of an epoch, where ``ModelCheckpoint`` does, nor while gradients are accumulated or a
    validation is due. Put it behind all callbacks that keep a state, which it stores.

    The training loader must be able to go on within an epoch, by ``state_dict`` and
    ``load_state_dict``: those of this package's datamodules can, with any number of workers, and in
    one process so can ``torchdata.stateful_dataloader.StatefulDataLoader``. On another number of
    processes a begun epoch goes on if a step has as many samples over all of them as before, and is
    refused otherwise. Layers that a ``BaseFinetuning`` has unfrozen train on, which they do not
    where a fit goes on from Lightning's own checkpoint; ``ModelPruning`` is refused.

    Args:
        every: Optimizer steps between two checkpoints, at least 1, or a time such as ``"5min"``,
            ``"30s"`` or ``"1.5h"``, measured in the first process.
        path: The file to write; ``begun_epoch.ckpt`` in the trainer's root folder if ``None``.

    Attributes:
        path: The file that is written, or ``None`` before the fit.

    Raises:
        ConfigurationError: If ``every`` is neither; while fitting, if the loader cannot go on
            within an epoch, or a callback with a state comes later.

    Example:
        >>> SaveEvery("5min", "last.ckpt").path
        PosixPath('last.ckpt')
    """

    def __init__(self, every: int | str = "5min", path: str | Path | None = None) -> None:
        self.interval = save_interval(every)
        self.every = every
        self.path = None if path is None else Path(path)
        self._saved_at = 0.0
        self._saved_step = 0
        self._being_saved: list[EpochState] | None = None
        self._restored: list[EpochState] = []
        self._to_add: EpochState = {}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Set the file."""
        super().setup(trainer, pl_module, stage)
        if stage == "fit" and self.path is None:
            self.path = Path(trainer.default_root_dir) / "begun_epoch.ckpt"

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take what the begun epoch had measured; other checkpoints hold nothing of it."""
        self._restored = checkpoint.get(_KEY, [])

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add what the epoch has measured so far; other checkpoints are left alone."""
        if self._being_saved is not None:
            checkpoint[_KEY] = self._being_saved

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse what a checkpoint does not hold, and callbacks that come later, with a state."""
        callbacks = pl.callbacks_of(trainer)
        if any(isinstance(one, pl.ModelPruning) for one in callbacks):
            raise SetupError(
                "`SaveEvery` and `ModelPruning`: Lightning's checkpoints do not hold what was"
                " pruned, so that a fit cannot go on from one. Prune in a fit of its own, without"
                " `SaveEvery`."
            )
        for later in callbacks[callbacks.index(self) + 1 :]:
            kind, base = type(later), pl.Callback
            keeps = kind.state_dict is not base.state_dict
            counts = kind.on_train_batch_end is not base.on_train_batch_end
            # A trainer puts these behind all others; the time that has passed is no count.
            is_last = isinstance(later, (pl.ModelCheckpoint, pl.Timer))
            if keeps and counts and not is_last:
                raise SetupError(
                    f"`SaveEvery` must come after `{kind.__name__}`, whose state it would store"
                    " before it has seen the last batch. Put it at the end of the callbacks."
                )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse loaders that cannot go on within an epoch, and go on with a begun one."""
        loaders = CombinedLoader(trainer.train_dataloader).flattened
        odd = [type(one).__name__ for one in loaders if not hasattr(one, "load_state_dict")]
        if odd:
            raise SetupError(
                "`SaveEvery` needs a training loader that can go on within an epoch, by"
                f" `state_dict` and `load_state_dict`, but got {odd[0]}. Use a datamodule of this"
                " package or `torchdata.stateful_dataloader.StatefulDataLoader`, or save at the"
                " ends of epochs by `ModelCheckpoint`."
            )
        rank, count = trainer.global_rank, trainer.world_size
        # Their states are those of the first process, which says nothing of the order over all.
        strange = [type(one).__name__ for one in loaders if not hasattr(one, "samples_per_step")]
        if strange and max(count, len(self._restored)) > 1:
            raise SetupError(
                "`SaveEvery` on several processes needs a training loader of this package's"
                f" datamodules, whose order is known over all of them, but got {strange[0]}. Save"
                " at the ends of epochs by `ModelCheckpoint`, or train in one process."
            )
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step
        self._to_add = state_of_process(self._restored, rank, count) if self._restored else {}
        self._restored = []
        put_back_before_training(self._to_add, trainer, pl_module)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Write the checkpoint if it is time, after all other callbacks have seen the batch."""
        add_to_logged(self._to_add, trainer)
        self._to_add = {}
        if not _can_stop_here(trainer, batch_idx) or not self._is_due(trainer):
            return
        self._saved_step = trainer.global_step
        # Rates that ruin a model are said by `FiniteLossCheck`; what was saved before stays.
        if weights_are_finite(trainer, pl_module):
            self._being_saved = take_epoch_state(trainer, pl_module)
            try:
                save_as_a_whole(trainer, self.path or Path("begun_epoch.ckpt"))
            finally:
                self._being_saved = None
        self._saved_at = time.monotonic()

    def _is_due(self, trainer: pl.Trainer) -> bool:
        if self.interval.steps is not None:
            return trainer.global_step - self._saved_step >= self.interval.steps
        is_due = time.monotonic() - self._saved_at >= float(self.interval.seconds or 0)
        return bool(trainer.strategy.broadcast(is_due)) if trainer.world_size > 1 else is_due


def _can_stop_here(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Return whether a fit could go on after this batch, in the midst of an epoch."""
    done = batch_idx + 1
    is_last = done == trainer.num_training_batches or trainer.should_stop
    is_last |= 0 < trainer.max_steps <= trainer.global_step
    if is_last or done % trainer.accumulate_grad_batches:
        return False
    # Lightning would take a validation that is due now for one that is done.
    every = trainer.val_check_batch if trainer.enable_validation else None
    if every is None or math.isinf(every):
        return True
    count = done if trainer.check_val_every_n_epoch else trainer.fit_loop.total_batch_idx + 1
    return count % int(every) != 0
