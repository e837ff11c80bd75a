"""What happened in each epoch of a fit, as one row of numbers."""

import time
from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor
from typing_extensions import override

from lightning_fastrecipes import _lightning as pl


class EpochRows(pl.Callback, ABC):
    """Collect losses, metrics, the head's highest rate and the seconds of every epoch."""

    def __init__(self) -> None:
        self._epoch_started = 0.0
        self._highest_lr: float | None = None

    @abstractmethod
    def take_row(self, trainer: pl.Trainer, row: dict[str, float]) -> None:
        """Use the row of an epoch that has just ended; called in the first process alone."""

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._epoch_started = time.perf_counter()
        self._highest_lr = None

    @override
    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if trainer.optimizers:
            # The highest rate of the epoch, since a cycle ends near 0.
            lr = trainer.optimizers[0].param_groups[-1]["lr"]
            self._highest_lr = max(self._highest_lr or 0.0, float(lr))

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        logged = trainer.callback_metrics.items()
        metrics = {k: float(v) for k, v in logged if isinstance(v, Tensor)}
        if not trainer.is_global_zero:
            return
        losses = {name: metrics.pop(name, float("nan")) for name in ("train_loss", "val_loss")}
        rate = {} if self._highest_lr is None else {"lr": self._highest_lr}
        seconds = round(time.perf_counter() - self._epoch_started, 3)
        row = {"epoch": trainer.current_epoch, **losses, **metrics, **rate, "seconds": seconds}
        self.take_row(trainer, row)
