"""The ends of a fit's cycles, and the metric that tells which of them is the best."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import SetupError
from lightning_fastrecipes.callbacks.engine.stepping import mean_over_processes
from lightning_fastrecipes.callbacks.schedule import Schedule
from lightning_fastrecipes.callbacks.sgdr import SGDR
from lightning_fastrecipes.errors import check_choice


class CycleEnds:
    """The ends of a fit's cycles: of ``cycle_len`` epochs, or those of the trainer's schedule.

    ``asking`` is the name of the callback, for messages.
    """

    def __init__(self, asking: str, cycle_len: int | None, cycle_mult: int) -> None:
        self.asking = asking
        self.schedule = None if cycle_len is None else SGDR(cycle_len, cycle_mult)

    def epochs(self, trainer: pl.Trainer) -> list[int]:
        """List after how many epochs cycles end; the last is at the end of training or after it."""
        found = [one for one in pl.callbacks_of(trainer) if isinstance(one, Schedule)]
        schedule = self.schedule or (found[0] if found else None)
        if schedule is None:
            raise SetupError(
                f"`{self.asking}` needs to know where cycles end, but the trainer has no schedule"
                " of this package. Add `SGDR` to its callbacks, or set `cycle_len`."
            )
        max_epochs = trainer.max_epochs
        has_own_cycles = type(schedule).cycle_ends is not Schedule.cycle_ends
        if schedule.counts_steps(trainer) and (has_own_cycles or not (max_epochs or 0) > 0):
            raise SetupError(
                f"`{self.asking}` looks at the ends of epochs, but `{type(schedule).__name__}`"
                " counts optimizer steps. Set `cycle_len`, or let the schedule count epochs."
            )
        is_open = max_epochs is None or max_epochs < 1
        return schedule.fit_cycle_ends(trainer.current_epoch + 1 if is_open else max_epochs or 1)

    def unvalidated(self, trainer: pl.Trainer) -> list[int]:
        """List the ends at which the trainer does not validate."""
        every = trainer.check_val_every_n_epoch or 1
        return [end for end in self.epochs(trainer) if end % every]

    def refuse_early_validation(self, trainer: pl.Trainer, unit: str = "cycle") -> None:
        """Refuse validations of which none sees the weights that an epoch ends with."""
        every, batches = trainer.val_check_batch, trainer.num_training_batches
        if pl.is_fast_dev_run(trainer):
            return
        # Where a stream ends is not known, and so not whether a validation comes then.
        is_stream = math.isinf(batches)
        length = "an unknown number" if is_stream else f"{batches:g}"
        found = "one after a given time" if every is None else f"one after every {every:g} batches"
        # Without `check_val_every_n_epoch` the batches of all epochs are counted.
        ends = self.epochs(trainer) if trainer.check_val_every_n_epoch is None else [1]
        if every is None or (
            every < math.inf and (is_stream or any(end * batches % every for end in ends))
        ):
            raise SetupError(
                f"`{self.asking}` needs a validation after the last batch of each {unit}, but"
                f" `val_check_interval` has {found}, and an epoch has {length}. Set it to 1.0,"
                " or to a share of the epoch that ends with it, such as 0.5."
            )

    def ending_cycle(self, trainer: pl.Trainer) -> int | None:
        """Return the number, from 1, of the cycle that ends with this epoch, or ``None``.

        No cycle ends in a ``fast_dev_run``, or if ``max_steps`` ends the epoch before its last
        batch. Call it in ``on_train_epoch_end``.
        """
        epoch, ends = trainer.current_epoch + 1, self.epochs(trainer)
        is_whole = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if epoch not in ends or not is_whole or pl.is_fast_dev_run(trainer):
            return None
        return ends.index(epoch) + 1


@dataclass(frozen=True)
class Monitor:
    """A logged metric; its best value is the lowest, ``min``, or the highest, ``max``."""

    name: str
    mode: Literal["min", "max"]

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, ("min", "max"))

    def check(self, metrics: Mapping[str, Tensor]) -> None:
        """Raise a ``SetupError`` unless the metric was logged."""
        if self.name not in metrics:
            found, cure = f"{self.name!r} is none of {sorted(metrics)}", "Name one of them."
            if not metrics:
                found = f"nothing was logged, nor {self.name!r}"
                cure = "Log it in `validation_step`, and leave `barebones` of the trainer out."
            raise SetupError(
                f"`monitor` must be a metric that the module logs, but {found}. {cure}"
            )

    def value(self, trainer: pl.Trainer, metrics: Mapping[str, Tensor]) -> float:
        """Return the metric's mean over all processes."""
        self.check(metrics)
        return mean_over_processes(trainer, metrics[self.name])

    def badness(self, value: float) -> float:
        """Return a number that is lower for a better value, and infinite for none."""
        if math.isnan(value):
            return math.inf
        return value if self.mode == "min" else -value
