"""Cosine annealing with warm restarts (SGDR), one factor for every layer group."""

from fractions import Fraction
from itertools import count
from typing import Literal

from typing_extensions import override

from lightning_fastrecipes.callbacks.schedule import Schedule
from lightning_fastrecipes.errors import check_choice
from lightning_fastrecipes.functional.training.schedules import (
    check_cycle,
    cycle_ends,
    warm_restart_factor,
)


class SGDR(Schedule):
    """Anneal the learning rates of a fit in cosine cycles with warm restarts.

    Works as every ``Schedule``. The rates that ``configure_optimizers`` gives are the peaks of the
    first cycle; the ratios between layer groups stay as they are. Resumes exactly at any step.
    Choose ``max_epochs`` so that training ends with a cycle.

    Args:
        cycle_len: Length of the first cycle in epochs (or steps, see ``by``), at least 1.
        cycle_mult: Growth of each cycle over the one before it, at least 1.
        floor: Share of the peak rate that each cycle falls towards, in [0, 1).
        warm_in: Epochs (or steps) at the start of training over which the rate rises from a
            hundredth of what it would be to all of it, at least 0 and at most ``cycle_len``; for
            optimizers whose first steps are too long.
        peak_decay: Peak of each cycle as a share of the peak before it, in (0, 1].
        by: What ``cycle_len`` counts, ``epoch`` or optimizer ``step``.
        replace_scheduler: Take out a scheduler that the module has configured; else it is refused.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> schedule = SGDR(cycle_len=1, cycle_mult=2)
        >>> schedule.simulate(num_epochs=3, steps_per_epoch=2, lr=0.1)
        tensor([0.1000, 0.0500, 0.1000, 0.0854, 0.0500, 0.0146], dtype=torch.float64)
        >>> schedule.cycle_ends(6)
        [1, 3, 7]

    Note:
        fast.ai 0.7 stays at a hundredth of the rate for the first 5 % of the first cycle; here that
        is ``warm_in``, a rise instead of a jump. fastai 2 cannot repeat cycles of one length. Put a
        ``LearningRateMonitor`` after this callback, or it reads the rates of the step before.

    References:
        Loshchilov and Hutter, *SGDR: Stochastic Gradient Descent with Warm Restarts* (2017);
        ``cycle_len`` and ``cycle_mult`` as in lesson 1 of the fast.ai course of 2018.
    """

    def __init__(
        self,
        cycle_len: int = 1,
        cycle_mult: int = 1,
        floor: float = 0.0,
        warm_in: float = 0.0,
        peak_decay: float = 1.0,
        *,
        by: Literal["epoch", "step"] = "epoch",
        replace_scheduler: bool = False,
    ) -> None:
        check_cycle(cycle_len, cycle_mult)
        check_choice("by", by, ("epoch", "step"))
        self.by = by
        self.replace_scheduler = replace_scheduler
        self.cycle_len = cycle_len
        self.cycle_mult = cycle_mult
        self.floor = floor
        self.warm_in = warm_in
        self.peak_decay = peak_decay
        self.factor(0)

    @override
    def factor(self, epoch: float | Fraction, num_epochs: float = 0) -> float:
        return warm_restart_factor(
            epoch, self.cycle_len, self.cycle_mult, self.floor, self.warm_in, self.peak_decay
        )

    @override
    def cycle_ends(self, num_epochs: int) -> list[int]:
        for num_cycles in count(1):
            ends = cycle_ends(self.cycle_len, self.cycle_mult, num_cycles)
            if ends[-1] >= num_epochs:
                break
        return ends
