"""What every schedule shares: rates that follow from the step number alone, for any module."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from fractions import Fraction
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar, Literal

from matplotlib.figure import Figure
from torch import Tensor

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import SetupError, rank_zero_info, rank_zero_warn
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.functional.training.schedules import simulate
from lightning_fastrecipes.messages import shown
from lightning_fastrecipes.plots.rates import draw_schedule


class Schedule(pl.OwnCallback, ABC):
    """Scale all learning rates of a fit by one factor that follows from the step number.

    Works on any ``LightningModule`` with one optimizer and no scheduler; one that the module has
    is taken out with ``replace_scheduler``. The rates that ``configure_optimizers`` gives (or
    ``initial_lr``, where a group has one) are the peaks. All of them are scaled by the same factor,
    once for each optimizer step, so the ratios between layer groups stay as they are and a rate of
    0 stays 0. Nothing is counted: the factor follows from the epoch and the batch index. A resumed
    fit therefore goes on as if it had never stopped, and cycles begin with an epoch whatever the
    number of devices or of accumulated batches.

    Where epochs mean nothing, as for streams without a length, time is counted in optimizer steps:
    by schedules of cycles with ``by="step"``, and by those as long as the training where
    ``max_steps`` of the trainer ends it and ``max_epochs`` does not.

    A new ``Trainer`` starts the schedule anew. A finished fit is continued by its checkpoint and a
    larger ``max_epochs``, or by the same trainer after ``trainer.fit_loop.max_epochs`` was raised:
    cycles that repeat, and factors of given epochs, then go on where they stopped; a schedule as
    long as the training covers the added epochs by a cycle of its own.
    """

    needs_whole_weights = False
    needs_max_epochs: ClassVar[bool] = False
    """Whether the factor depends on the length of the training."""

    by: Literal["epoch", "step"] = "epoch"
    """What the schedule counts time in; ``step`` is that of the optimizer."""

    replace_scheduler = False
    """Whether a scheduler that the module has configured is taken out."""

    _starts: tuple[int, ...] = (0,)
    _end: int | None = None
    _num_groups = 0
    _last_batch = -1
    _counts_steps = False

    @abstractmethod
    def factor(self, epoch: float | Fraction, num_epochs: float) -> float:
        """Return the share of the peak rates at one moment of training, for every layer group.

        ``epoch`` is the time since the start of training, at least 0, and ``num_epochs`` the length
        of the training, both in epochs, or in steps where these are counted; schedules of cycles,
        which repeat for as long as training lasts, ignore the length.
        """

    def momentum(self, epoch: float | Fraction, num_epochs: float) -> float | None:
        """Return ``momentum`` of SGD or the first of Adam's ``betas``; ``None`` to leave it.

        The arguments are those of :meth:`factor`.
        """
        return None

    def cycle_ends(self, num_epochs: int) -> list[int]:
        """List after how many epochs cycles end; unless overridden, one is as long as the training.

        The ends rise; the last is the only one at ``num_epochs`` (``max_epochs`` of the fit) or
        after it. Both are steps where these are counted.
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
        unit = steps_per_epoch if self.by == "step" else 1
        return simulate(
            lambda epoch: lr * self.factor(epoch * unit, num_epochs * unit),
            num_epochs,
            steps_per_epoch,
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
            ConfigurationError: If groups have no names, or none has a learning rate above 0.
        """
        if not isinstance(group_lrs, Mapping):
            raise ConfigurationError(
                f"`group_lrs` must name groups, such as `{{'head': 1e-3}}`, got {shown(group_lrs)}."
            )
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

    def counts_steps(self, trainer: pl.Trainer) -> bool:
        """Return whether this fit is counted in optimizer steps."""
        has_epochs = trainer.max_epochs is not None and trainer.max_epochs > 0
        is_by_steps = self.needs_max_epochs and trainer.max_steps > 0 and not has_epochs
        return self.by == "step" or is_by_steps

    def fit_cycle_ends(self, num_epochs: int) -> list[int]:
        """Return :meth:`cycle_ends` of this fit, with those before it was continued."""
        return [*self._starts[1:], *self.cycle_ends(num_epochs)]

    def state_dict(self) -> dict[str, Any]:
        """Return where a schedule as long as the training began, and where it ends."""
        if not self.needs_max_epochs:
            return {}
        return {"starts": list(self._starts), "end": self._end}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore where the schedule began, so that the fit can be resumed or continued."""
        self._starts, self._end = tuple(state_dict["starts"]), state_dict["end"]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Forget an earlier fit, unless the same trainer continues it."""
        if stage == "fit":
            self._refuse_others(trainer)
        super().setup(trainer, pl_module, stage)
        if stage == "fit" and trainer.global_step == 0:
            self._starts, self._end = (0,), None
        self._num_groups, self._last_batch = 0, -1

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse optimizers that this schedule cannot drive, before anything runs."""
        name = type(self).__name__
        if self.replace_scheduler and len(trainer.optimizers) == 1:
            self._take_out_schedulers(trainer)
        # Where a module configures none, Lightning puts one that has no parameters.
        num_optimizers = sum(bool(one.param_groups) for one in trainer.optimizers)
        num_schedulers = len(trainer.lr_scheduler_configs)
        if num_optimizers != 1 or num_schedulers:
            raise SetupError(
                f"`{name}` needs one optimizer and no scheduler, but got {num_optimizers} and"
                f" {num_schedulers}. Return one optimizer and nothing else from"
                f" `configure_optimizers`, set `{name}(replace_scheduler=True)`, or drop this"
                " callback."
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
        """Refuse lengths that are not known, and warn if training ends in the middle of a cycle."""
        name, self._counts_steps = type(self).__name__, self.counts_steps(trainer)
        if math.isinf(trainer.num_training_batches) and not self._counts_steps:
            has_step = "by" in signature(type(self)).parameters
            cure = "count in steps, `by='step'`" if has_step else "give it `max_steps` alone"
            raise SetupError(
                f"`{name}` needs to know how many batches an epoch has, but the training loader has"
                " no length. Set `limit_train_batches` of the trainer to a number of batches, or"
                f" {cure}."
            )
        length = self._length(trainer)
        if self.needs_max_epochs:
            if length < 1:
                raise SetupError(
                    f"`{name}` needs to know when training ends, but `max_epochs` is"
                    f" {trainer.max_epochs}. Set it to a number of epochs, or `max_steps`."
                )
            # At its end the schedule was through. A fit that goes on from there has another cycle.
            now = trainer.global_step if self._counts_steps else trainer.current_epoch
            if self._end is not None and self._end <= now < length:
                self._starts = (*self._starts, now)
            self._end = length
        if not pl.is_fast_dev_run(trainer):
            self._warn_when_cut_short(trainer)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the rate of every group for the optimizer step that this batch belongs to."""
        if trainer.lr_scheduler_configs:
            came = type(trainer.lr_scheduler_configs[0].scheduler).__name__
            raise SetupError(
                f"`{type(self).__name__}` sets the rates, but `{came}` has come in epoch"
                f" {trainer.current_epoch} and set other peaks. Let the callback that brings it"
                f" leave the rates alone, or do without `{type(self).__name__}`."
            )
        start, time = self._starts[-1], Fraction(trainer.global_step)
        if not self._counts_steps:
            step_in_epoch = batch_idx // trainer.accumulate_grad_batches
            time = trainer.current_epoch + Fraction(step_in_epoch, steps_per_epoch_of(trainer))
        length = float(self._length(trainer)) - start
        factor, momentum = self.factor(time - start, length), self.momentum(time - start, length)
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
        is_cut = trainer.should_stop or trainer.max_steps > 0 or self._counts_steps
        if 0 < found < announced and not is_cut:
            rank_zero_warn(
                f"`{type(self).__name__}`: the epoch ended after {found} batches, but the training"
                f" loader has announced {announced}, so that the rates did not reach the end of"
                f" their curve. Set `limit_train_batches={found}` of the trainer."
            )

    def _refuse_others(self, trainer: pl.Trainer) -> None:
        """Refuse what would set the rates as well."""
        name, callbacks = type(self).__name__, pl.callbacks_of(trainer)
        found = [f"`{type(one).__name__}`" for one in callbacks if isinstance(one, Schedule)]
        if len(found) > 1:
            raise SetupError(
                f"One schedule must set the rates, but the trainer has {' and '.join(found)}. Leave"
                " all but one of them out."
            )
        for other in callbacks:
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

    def _length(self, trainer: pl.Trainer) -> int:
        """Return the length of the training in what is counted, 0 if it is open."""
        length = trainer.max_steps if self._counts_steps else trainer.max_epochs
        return max(length or 0, 0)

    def _take_out_schedulers(self, trainer: pl.Trainer) -> None:
        """Leave the rates to this schedule, with the peaks that the schedulers would reach."""
        taken = [config.scheduler for config in trainer.lr_scheduler_configs]
        if not taken:
            return
        optimizer, rates = trainer.optimizers[0], peak_lrs(trainer)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = group["initial_lr"] = rate
            if any(getattr(one, "cycle_momentum", False) for one in taken):
                moved = {"momentum", "betas"} & optimizer.defaults.keys()
                group.update({key: optimizer.defaults[key] for key in moved})
        trainer.strategy.lr_scheduler_configs = []
        names = ", ".join(type(one).__name__ for one in taken)
        rank_zero_info(f"{type(self).__name__}: in place of {names}, from the rates {rates}.")

    def _take_new_groups(self, groups: Sequence[dict[str, Any]]) -> None:
        """Set the peak of groups that were unfrozen in mid-fit and took a part of a low rate.

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

    def _warn_when_cut_short(self, trainer: pl.Trainer) -> None:
        is_endless = math.isinf(trainer.num_training_batches)
        per_epoch = 0 if is_endless else steps_per_epoch_of(trainer)
        lengths = [(trainer.max_epochs or 0) * per_epoch, trainer.max_steps]
        found = [Fraction(steps) for steps in lengths if steps > 0]
        if not found:
            return
        length = min(found) if self._counts_steps else min(found) / per_epoch
        *before, end = self.cycle_ends(math.ceil(length))
        if end == length:
            return
        nearest = " or ".join(str(time) for time in [*before[-1:], end])
        unit = "step" if self._counts_steps else "epoch"
        rank_zero_warn(
            f"`max_{unit}s` should end a cycle of `{type(self).__name__}`, but"
            f" {float(length):g} {unit}s stop within one, while the learning rate is still high."
            f" Set `max_{unit}s` to {nearest}."
        )


def steps_per_epoch_of(trainer: pl.Trainer) -> int:
    """Return the number of optimizer steps in an epoch."""
    # An epoch ends with a step even if the last window of accumulated batches is not full.
    return math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)


def peak_lrs(trainer: pl.Trainer, key: str = "initial_lr") -> list[float]:
    """Return the peak rate of each group: what its scheduler names, else ``key``, else ``lr``."""
    groups = trainer.optimizers[0].param_groups
    rates = [float(group.get("max_lr", group.get(key, group["lr"]))) for group in groups]
    for config in trainer.lr_scheduler_configs:
        rates = getattr(config.scheduler, "max_lrs", rates)
    return rates
