"""Warn when the training loss has risen well above where it was, and name a rate to try."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import rank_zero_warn
from lightning_fastrecipes.callbacks.engine.keyed import KeyedCallback
from lightning_fastrecipes.functional.training.group_rates import rates_in_words
from lightning_fastrecipes.functional.training.rising_loss import LossTrend, Rise

_NUM_PENDING = 10
"""After how many batches losses are read, since each reading waits for an accelerator."""


class RisingLossCheck(KeyedCallback):
    """Warn while training when the smoothed loss has risen well above where it was.

    The warning names the factor, the step, the rates of the layer groups, and a rate to try. It is
    given once for each rise, and training goes on. The loss is compared with the lowest one at
    rates at least as high as now, and with that of the start, so that the bump after a warm restart
    and the rise of a one-cycle schedule are expected. A loss that is not finite is a rise as well.
    What is compared is in the checkpoint: a resumed fit warns as an uninterrupted one would.

    Args:
        factor: How many times the lowest smoothed loss is a rise, above 1; more where the loss is
            so noisy that it may rise as far by chance.

    Raises:
        ValueError: If the factor is not above 1.

    Attributes:
        rises: Optimizer step and factor of each rise, filled while fitting.

    Example:
        >>> RisingLossCheck(factor=3).rises
        []
    """

    needs_whole_weights = False

    def __init__(self, factor: float = 2.0) -> None:
        if not factor > 1:
            raise ValueError(f"`factor` must be above 1, got {factor}. 2 is usual.")
        self.factor = factor
        self._set_key(factor=factor)
        self.rises: list[tuple[int, float]] = []
        self._trend = LossTrend()
        self._pending: list[tuple[int, float, Tensor | float]] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the losses so far, as far as they count."""
        pending = [(step, lr, float(loss)) for step, lr, loss in self._pending]
        return {"rises": self.rises, "trend": vars(self._trend), "pending": pending}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the losses of the fit that is resumed."""
        self.rises = [(int(step), float(factor)) for step, factor in state_dict["rises"]]
        self._trend = LossTrend(**state_dict["trend"])
        self._trend.lowest = dict(self._trend.lowest)
        self._trend.recent = [(loss, lr) for loss, lr in self._trend.recent]
        self._pending = [(step, lr, loss) for step, lr, loss in state_dict["pending"]]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Forget an earlier fit, unless the same trainer continues it."""
        super().setup(trainer, pl_module, stage)
        if stage == "fit" and trainer.current_epoch == 0:
            self.rises, self._trend, self._pending = [], LossTrend(), []

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Keep the loss of a batch, and look at those that were kept from time to time."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if not isinstance(loss, Tensor) or len(trainer.optimizers) != 1:
            return
        lr = max(group["lr"] for group in trainer.optimizers[0].param_groups)
        # Lightning has divided it by the number of accumulated batches.
        whole = loss.detach().float() * trainer.accumulate_grad_batches
        self._pending.append((trainer.global_step, float(lr), whole))
        if len(self._pending) >= _NUM_PENDING:
            self._look(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the last losses."""
        if self._pending:
            self._look(trainer)

    def _look(self, trainer: pl.Trainer) -> None:
        losses = torch.stack([torch.as_tensor(loss) for *_, loss in self._pending]).tolist()
        for (step, lr, _), loss in zip(self._pending, losses, strict=True):
            rise = self._trend.update(loss, lr, self.factor)
            if rise is not None:
                self.rises.append((step, rise.factor))
                self._warn(trainer, step, rise)
        self._pending = []

    def _warn(self, trainer: pl.Trainer, step: int, rise: Rise) -> None:
        groups = trainer.optimizers[0].param_groups
        peaks = [group.get("initial_lr", group["lr"]) for group in groups]
        if math.isfinite(rise.loss):
            again = "If it does not fall again, train"
            times = f"{rise.factor:.1f} times" if math.isfinite(rise.factor) else "above"
            height = f"{times} its lowest of {rise.lowest:.3g} at rates as high"
        else:
            is_first = math.isinf(rise.lowest)
            height = "the first" if is_first else f"after a lowest of {rise.lowest:.3g}"
            again = "Look at inputs and targets, or train" if is_first else "Train"
        rank_zero_warn(
            f"The training loss has risen to {rise.loss:.3g} at step {step}, {height}."
            f" Rates now: {rates_in_words(groups)}. {again}"
            f" with a tenth of the rate: {peaks[-1] / 10:.1e} for the last group"
            " (in a recipe, `lr` of the stage)."
        )
