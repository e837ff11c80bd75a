"""What every schedule shares: rates that follow from the step number alone, for any module."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

from matplotlib.figure import Figure
from torch import Tensor

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import SetupError, rank_zero_info, rank_zero_warn
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.functional.training.schedules import simulate
from lightning_fastrecipes.plots.rates import draw_schedule


class Schedule(pl.Callback, ABC):
    """Scale all learning rates of a fit by one factor that follows from the step number.

    Works on any ``LightningModule`` with one optimizer and no scheduler. The rates that
    ``configure_optimizers`` gives (or ``initial_lr``, where a group has one) are the peaks. All of
    them are scaled by the same factor, once for each optimizer step, so the ratios between layer
    groups stay as they are and a rate of 0 stays 0. Nothing is counted: the factor follows from
    the epoch and the batch index. A resumed fit therefore goes on as if it had never stopped, and
    cycles begin with an epoch whatever the number of devices or of accumulated batches.

    A new ``Trainer`` starts the schedule anew. A finished fit is continued by its checkpoint and a
    larger ``max_epochs``, or by the same trainer after ``trainer.fit_loop.max_epochs`` was raised:
    cycles that repeat, and factors of given epochs, then go on where they stopped; a schedule as
    long as the training covers the added epochs by a cycle of its own.
    """

    needs_max_epochs: ClassVar[bool] = False
    """Whether the factor depends on the length of the training."""

    _starts: tuple[int, ...] = (0,)
    _end: int | None = None
    _num_groups = 0
    _last_batch = -1

    @abstractmethod
    def factor(self, epoch: float | Fraction, num_epochs: float) -> float:
        """Return the share of the peak rates at one moment of training, for every layer group.

        ``epoch`` is the time since the start of training, at least 0, and ``num_epochs`` the length
        of the training, both in epochs; schedules of cycles, which repeat for as long as training
        lasts, ignore the length.
        """

    def momentum(self, epoch: float | Fraction, num_epochs: float) -> float | None:
        """Return ``momentum`` of SGD or the first of Adam's ``betas``; ``None`` to leave it.

        The arguments are those of :meth:`factor`.
        """
        return None

    def cycle_ends(self, num_epochs: int) -> list[int]:
        """List after how many epochs cycles end; unless overridden, one is as long as the training.

        The ends rise; the last is the only one at ``num_epochs`` (``max_epochs`` of the fit) or
        after it.
        """
        return [num_epochs]

    def simulate(self, num_epochs: int, steps_per_epoch: int, lr: float = 1.0) -> Tensor:
        """Return the learning rate of every optimizer step without training.

        Args:
            num_epochs: Length of the training in epochs, at least 0.
            steps_per_epoch: Optimizer steps in one epoch, at least 1.
            lr: Peak learning rate, at least 0.

        Returns:
            Learning rates. Shape ``(num_epochs * steps_per_epoch,)``, ``float64``.
        """
        return simulate(
            lambda epoch: lr * self.factor(epoch, num_epochs), num_epochs, steps_per_epoch
        )

    def plot(
        self,
        path: str | Path,
        num_epochs: int,
        steps_per_epoch: int,
        group_lrs: Mapping[str, float],
    ) -> Figure:
        """Draw the learning rate of each layer group over the epochs, before any training.

        Args:
            path: File to write, such as ``schedule.png``.
            num_epochs: Length of the training in epochs, at least 1.
            steps_per_epoch: Optimizer steps in one epoch, at least 1.
            group_lrs: Peak learning rate of each layer group by its name; 0 for a frozen group.

        Returns:
            The figure as written, for a notebook or a logger.

        Raises:
            ConfigurationError: If no group has a learning rate above 0.
        """
        trained = {name: lr for name, lr in group_lrs.items() if lr > 0}
        if not trained:
            raise ConfigurationError(
                f"`group_lrs` must hold a learning rate above 0, got {dict(group_lrs)}."
                " Name at least one group that is trained."
            )
        epochs = [step / steps_per_epoch for step in range(num_epochs * steps_per_epoch)]
        rates = {
            name: self.simulate(num_epochs, steps_per_epoch, lr).numpy()
            for name, lr in trained.items()
        }
        frozen = [name for name in group_lrs if name not in trained]
        lowest = min(trained.values()) / 100
        return draw_schedule(type(self).__name__, epochs, rates, frozen, path, lowest=lowest)

    def fit_cycle_ends(self, num_epochs: int) -> list[int]:
        """Return :meth:`cycle_ends` of this fit, with those before it was continued."""
        return [*self._starts[1:], *self.cycle_ends(num_epochs)]

    def state_dict(self) -> dict[str, Any]:
        """Return where a schedule as long as the training began, and where it ends, in epochs."""
        if not self.needs_max_epochs:
            return {}
        return {"starts": list(self._starts), "end": self._end}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore where the schedule began, so that the fit can be resumed or continued."""
        self._starts, self._end = tuple(state_dict["starts"]), state_dict["end"]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Forget an earlier fit, unless the same trainer continues it."""
        if stage == "fit" and trainer.current_epoch == 0:
            self._starts, self._end = (0,), None
        self._num_groups, self._last_batch = 0, -1

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse optimizers that this schedule cannot drive, before anything runs."""
        name = type(self).__name__
        self._refuse_others(trainer)
        num_optimizers, num_schedulers = len(trainer.optimizers), len(trainer.lr_scheduler_configs)
        if num_optimizers != 1 or num_schedulers:
            raise SetupError(
                f"`{name}` needs one optimizer and no scheduler, but got {num_optimizers} and"
                f" {num_schedulers}. Return one optimizer and nothing else from"
                " `configure_optimizers`, or drop this callback."
            )
        groups = trainer.optimizers[0].param_groups
        self._num_groups = len(groups)
        has_momentum = all("momentum" in group or "betas" in group for group in groups)
        if self.momentum(0, 1) is not None and not has_momentum:
            raise SetupError(
                f"`{name}` moves the momentum, but {type(trainer.optimizers[0]).__name__} has"
                " none. Take an optimizer with `momentum` or `betas`, or switch it off."
            )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse loaders without length, and warn if training ends in the middle of a cycle."""
        name = type(self).__name__
        if math.isinf(trainer.num_training_batches):
            raise SetupError(
                f"`{name}` needs to know how many batches an epoch has, but the training loader has"
                " no length. Set `limit_train_batches` of the trainer to a number of batches."
            )
        if self.needs_max_epochs and (trainer.max_epochs is None or trainer.max_epochs < 1):
            raise SetupError(
                f"`{name}` needs to know when training ends, but `max_epochs` is"
                f" {trainer.max_epochs}. Set it to a number of epochs."
            )
        max_epochs = trainer.max_epochs or -1
        if self.needs_max_epochs:
            # At its end the schedule was through. A fit that goes on from there has another cycle.
            if self._end is not None and self._end <= trainer.current_epoch < max_epochs:
                self._starts = (*self._starts, trainer.current_epoch)
            self._end = max_epochs
        ends = [float(max_epochs)] if max_epochs > 0 else []
        if trainer.max_steps > 0:
            ends.append(trainer.max_steps / steps_per_epoch_of(trainer))
        if ends and not pl.is_fast_dev_run(trainer):
            self._warn_when_cut_short(min(ends))

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the rate of every group for the optimizer step that this batch belongs to."""
        step_in_epoch = batch_idx // trainer.accumulate_grad_batches
        start = self._starts[-1]
        epoch = trainer.current_epoch - start + Fraction(step_in_epoch, steps_per_epoch_of(trainer))
        num_epochs = float(trainer.max_epochs or 0) - start
        factor, momentum = self.factor(epoch, num_epochs), self.momentum(epoch, num_epochs)
        self._last_batch = batch_idx
        self._take_new_groups(trainer.optimizers[0].param_groups)
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = factor * group.setdefault("initial_lr", group["lr"])
            if momentum is not None and "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])
            elif momentum is not None:
                group["momentum"] = momentum

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Warn of an epoch with fewer batches than announced, after which rates are still high."""
        found, announced = self._last_batch + 1, trainer.num_training_batches
        if 0 < found < announced and not trainer.should_stop and trainer.max_steps < 0:
            rank_zero_warn(
                f"`{type(self).__name__}`: the epoch ended after {found} batches, but the training"
                f" loader has announced {announced}, so that the rates did not reach the end of"
                f" their curve. Set `limit_train_batches={found}` of the trainer."
            )

    def _refuse_others(self, trainer: pl.Trainer) -> None:
        """Refuse what would set the rates as well."""
        name = type(self).__name__
        for other in pl.callbacks_of(trainer):
            if isinstance(other, Schedule) and other is not self:
                raise SetupError(
                    f"One schedule must set the rates, but the trainer has `{name}` and"
                    f" `{type(other).__name__}`. Leave one of them out."
                )
            if isinstance(other, pl.StochasticWeightAveraging):
                raise SetupError(
                    f"`{name}` and `StochasticWeightAveraging` both set the rates. Leave one of"
                    " them out; `EMAWeightAveraging` averages weights beside a schedule, and"
                    " `CycleSnapshots` keeps one model of each cycle."
                )
            if isinstance(other, pl.BackboneFinetuning):
                raise SetupError(
                    f"`{name}` and `BackboneFinetuning` both set the backbone's rates. Unfreeze it"
                    " in a `BaseFinetuning` of your own by `unfreeze_and_add_param_group(...,"
                    " lr=PEAK)`, or by `freeze_to` between two fits."
                )

    def _take_new_groups(self, groups: Sequence[dict[str, Any]]) -> None:
        """Give groups that were unfrozen in mid-fit a peak, where they took a part of a low rate.

        Lightning's `BaseFinetuning` takes a tenth of the first group's rate of the moment, which at
        the end of a cycle is next to nothing, and would be their peak from then on.
        """
        first = groups[0]
        for group in groups[self._num_groups :] if self._num_groups else ():
            is_a_tenth = math.isclose(group["lr"] * 10, first["lr"], rel_tol=1e-9)
            if "initial_lr" not in group and is_a_tenth and first["lr"] < first["initial_lr"]:
                group["initial_lr"] = first["initial_lr"] / 10
                rank_zero_info(
                    f"{type(self).__name__}: the layers unfrozen now have a tenth of the first"
                    f" group's peak, {group['initial_lr']:.2e}. For another give `lr=` to"
                    " `unfreeze_and_add_param_group`."
                )
        self._num_groups = len(groups)

    def _warn_when_cut_short(self, max_epochs: float) -> None:
        *before, end = self.cycle_ends(math.ceil(max_epochs))
        if end == max_epochs:
            return
        nearest = " or ".join(str(epochs) for epochs in [*before[-1:], end])
        rank_zero_warn(
            f"`max_epochs` should end a cycle of `{type(self).__name__}`, but {max_epochs:g} epochs"
            " stop within one, while the learning rate is still high. Set `max_epochs` to"
            f" {nearest}."
        )


def steps_per_epoch_of(trainer: pl.Trainer) -> int:
    """Return the number of optimizer steps in an epoch."""
    # An epoch ends with a step even if the last window of accumulated batches is not full.
    return math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
