"""Triangular cyclical learning rates, one factor for every layer group."""

import math
from fractions import Fraction
from typing import Literal

from typing_extensions import override

from lightning_fastrecipes.callbacks.schedule import Schedule
from lightning_fastrecipes.errors import check_choice
from lightning_fastrecipes.functional.training.schedules import (
    check_cycle,
    cycle_ends,
    triangular_factor,
)


class Triangular(Schedule):
    """Raise and lower the learning rates of a fit in straight lines, over and over.

    Works as every ``Schedule``. Choose ``max_epochs`` so that training ends with a cycle.

    Args:
        cycle_len: Length of a cycle in epochs (or steps), at least 1: two of Smith's step sizes.
        rise: Share of the cycle that the rise takes, in (0, 1).
        floor: Lowest rate as a share of the peak rate, in [0, 1).
        peak_decay: How far a cycle's peak stands above ``floor``, as a share of the cycle before
            it, in (0, 1]; 0.5 is Smith's ``triangular2``.
        by: What ``cycle_len`` counts, ``epoch`` or optimizer ``step``.
        replace_scheduler: Take out a scheduler that the module has configured; else it is refused.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> Triangular(cycle_len=1, floor=0.5).simulate(num_epochs=1, steps_per_epoch=4)
        tensor([0.5000, 0.7500, 1.0000, 0.7500], dtype=torch.float64)

    Note:
        fast.ai 0.7's ``use_clr=(div, cut_div)`` is ``floor=1 / div, rise=1 / cut_div``.

    References:
        Smith, *Cyclical Learning Rates for Training Neural Networks* (2017).
    """

    def __init__(
        self,
        cycle_len: int = 2,
        rise: float = 0.5,
        floor: float = 0.25,
        peak_decay: float = 1.0,
        *,
        by: Literal["epoch", "step"] = "epoch",
        replace_scheduler: bool = False,
    ) -> None:
        check_cycle(cycle_len, 1)
        check_choice("by", by, ("epoch", "step"))
        self.by = by
        self.replace_scheduler = replace_scheduler
        self.cycle_len = cycle_len
        self.rise = rise
        self.floor = floor
        self.peak_decay = peak_decay
        self.factor(0)

    @override
    def factor(self, epoch: float | Fraction, num_epochs: float = 0) -> float:
        return triangular_factor(epoch, self.cycle_len, self.rise, self.floor, self.peak_decay)

    @override
    def cycle_ends(self, num_epochs: int) -> list[int]:
        num_cycles = max(1, math.ceil(num_epochs / self.cycle_len))
        return cycle_ends(self.cycle_len, 1, num_cycles)
