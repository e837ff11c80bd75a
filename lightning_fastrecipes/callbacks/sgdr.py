"""Cosine annealing with warm restarts (SGDR), one factor for every layer group."""

import math
from collections.abc import Mapping
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from pytorch_lightning.utilities import rank_zero_warn
from pytorch_lightning.utilities.exceptions import (  # type: ignore[attr-defined]
    MisconfigurationException,
)
from torch import Tensor

from lightning_fastrecipes.functional.schedules import (
    check_cycle,
    cycle_ends,
    simulate,
    warm_restart_factor,
)


class SGDR(pl.Callback):
    """Anneal the learning rates of a fit in cosine cycles with warm restarts.

    Works on any ``LightningModule`` with one optimizer and no scheduler. The rates that
    ``configure_optimizers`` gives (or ``initial_lr``, where a group has one) are the peaks; all of
    them are scaled by the same factor, once for each optimizer step, so the ratios between layer
    groups stay as they are and a rate of 0 stays 0. Nothing is counted: the factor follows from
    the epoch and the batch index, so a resumed fit goes on as if it had never stopped, and
    restarts fall on the first step of an epoch whatever the number of devices or of accumulated
    batches. Choose ``max_epochs`` so that training ends with a cycle.

    Args:
        cycle_len: Length of the first cycle in epochs, at least 1.
        cycle_mult: Growth of each cycle over the one before it, at least 1.
        floor: Share of the peak rate that each cycle falls towards, in [0, 1).

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> schedule = SGDR(cycle_len=1, cycle_mult=2)
        >>> schedule.simulate(num_epochs=3, steps_per_epoch=2, lr=0.1)
        tensor([0.1000, 0.0500, 0.1000, 0.0854, 0.0500, 0.0146], dtype=torch.float64)

    Note:
        fast.ai 0.7 stays at a hundredth of the rate for the first 5 % of the first cycle, and 2.x
        cannot repeat cycles of one length; here the first cycle is like all others. Put a
        ``LearningRateMonitor`` after this callback, or it reads the rates of the step before.

    References:
        Loshchilov and Hutter, *SGDR: Stochastic Gradient Descent with Warm Restarts* (2017);
        ``cycle_len`` and ``cycle_mult`` as in lesson 1 of the fast.ai course of 2018.
    """

    def __init__(self, cycle_len: int = 1, cycle_mult: int = 1, floor: float = 0.0) -> None:
        check_cycle(cycle_len, cycle_mult)
        if not 0.0 <= floor < 1.0:
            raise ValueError(
                f"`floor` must lie in [0, 1), got {floor}. It is a share of each group's peak rate."
            )
        self.cycle_len = cycle_len
        self.cycle_mult = cycle_mult
        self.floor = floor

    def factor(self, epoch: float | Fraction) -> float:
        """Give the share of the peak rates at one moment of training.

        Args:
            epoch: Time since the start of training in epochs, at least 0.

        Returns:
            Factor for the rate of every layer group, in [``floor``, 1].
        """
        return warm_restart_factor(epoch, self.cycle_len, self.cycle_mult, self.floor)

    def simulate(self, num_epochs: int, steps_per_epoch: int, lr: float = 1.0) -> Tensor:
        """Give the learning rate of every optimizer step without training.

        Args:
            num_epochs: Length of the training in epochs, at least 0.
            steps_per_epoch: Optimizer steps in one epoch, at least 1.
            lr: Peak learning rate, at least 0.

        Returns:
            Learning rates. Shape ``(num_epochs * steps_per_epoch,)``, ``float64``.
        """
        return simulate(lambda epoch: lr * self.factor(epoch), num_epochs, steps_per_epoch)

    def plot(
        self,
        path: str | Path,
        num_epochs: int,
        steps_per_epoch: int,
        group_lrs: Mapping[str, float],
    ) -> Figure:
        """Draw the learning rate of each layer group over the epochs, before any training.

        Args:
            path: Picture to write, such as ``schedule.png``.
            num_epochs: Length of the training in epochs, at least 1.
            steps_per_epoch: Optimizer steps in one epoch, at least 1.
            group_lrs: Peak learning rate of each layer group by its name; 0 for a frozen group.

        Returns:
            The figure as written, for a notebook or a logger.

        Raises:
            ValueError: If no group has a learning rate above 0.
        """
        trained = {name: lr for name, lr in group_lrs.items() if lr > 0}
        if not trained:
            raise ValueError(
                f"`group_lrs` must hold a learning rate above 0, got {dict(group_lrs)}."
                " Name at least one group that is trained."
            )
        figure = Figure(figsize=(8.0, 4.0), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot(
            title=f"SGDR with cycle_len={self.cycle_len}, cycle_mult={self.cycle_mult}",
            xlabel="epoch",
            ylabel="learning rate",
            yscale="log",
        )
        epochs = [step / steps_per_epoch for step in range(num_epochs * steps_per_epoch)]
        for name, lr in trained.items():
            axes.plot(epochs, self.simulate(num_epochs, steps_per_epoch, lr).numpy(), label=name)
        for name in (name for name in group_lrs if name not in trained):
            axes.plot([], [], color="grey", linestyle=":", label=f"{name} (frozen)")
        # A cosine ends so close to 0 that a log axis would show little else.
        axes.set_ylim(bottom=max(axes.get_ylim()[0], min(trained.values()) / 100))
        axes.grid(alpha=0.3)
        figure.legend(title="layer group", loc="outside right upper")
        figure.savefig(path, dpi=100)
        return figure

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse optimizers that this schedule cannot drive, before anything runs."""
        num_optimizers, num_schedulers = len(trainer.optimizers), len(trainer.lr_scheduler_configs)
        if num_optimizers != 1 or num_schedulers:
            raise MisconfigurationException(
                f"`SGDR` needs one optimizer and no scheduler, but got {num_optimizers} and"
                f" {num_schedulers}. Return one optimizer and nothing else from"
                " `configure_optimizers`, or drop this callback."
            )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse loaders without length, and warn when training ends within a cycle."""
        if math.isinf(trainer.num_training_batches):
            raise MisconfigurationException(
                "`SGDR` needs to know how many batches an epoch has, but the training loader has"
                " no length. Set `limit_train_batches` of the trainer to a number of batches."
            )
        is_rehearsal = bool(trainer.fast_dev_run)  # type: ignore[attr-defined]
        if trainer.max_epochs is not None and trainer.max_epochs > 0 and not is_rehearsal:
            self._warn_when_cut_short(trainer.max_epochs)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the rate of every group for the optimizer step that this batch belongs to."""
        batches_per_step = trainer.accumulate_grad_batches
        # An epoch ends with a step even if the last window of accumulated batches is not full.
        steps_per_epoch = math.ceil(trainer.num_training_batches / batches_per_step)
        step_in_epoch = batch_idx // batches_per_step
        factor = self.factor(trainer.current_epoch + Fraction(step_in_epoch, steps_per_epoch))
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = factor * group.setdefault("initial_lr", group["lr"])

    def _warn_when_cut_short(self, max_epochs: int) -> None:
        before = 0
        for num_cycles in count(1):
            end = cycle_ends(self.cycle_len, self.cycle_mult, num_cycles)[-1]
            if end >= max_epochs:
                break
            before = end
        if end == max_epochs:
            return
        nearest = f"{before} or {end}" if before else str(end)
        rank_zero_warn(
            f"`max_epochs` should end a cycle of `SGDR`, but {max_epochs} epochs stop within one"
            f" (cycle_len={self.cycle_len}, cycle_mult={self.cycle_mult}), while the learning rate"
            f" is still high. Set `max_epochs` to {nearest}."
        )
