"""Triangular cyclical learning rates, one factor for every layer group."""

import math
from fractions import Fraction

from lightning_fastrecipes.callbacks.schedule import Schedule
from lightning_fastrecipes.functional.training.schedules import (
    check_cycle,
    cycle_ends,
    triangular_factor,
)


class Triangular(Schedule):
    """Raise and lower the learning rates of a fit in straight lines, over and over.

    Works on any ``LightningModule`` with one optimizer and no scheduler; the configured rates are
    the peaks. Resumes exactly at any step. Choose ``max_epochs`` so that training ends with a
    cycle.

    Args:
        cycle_len: Length of a cycle in epochs, at least 1: two of Smith's step sizes.
        rise: Share of the cycle that the rise takes, in (0, 1).
        floor: Lowest rate as a share of the peak rate, in [0, 1).
        peak_decay: How far a cycle's peak stands above ``floor``, as a share of the cycle before
            it, in (0, 1]; 0.5 is Smith's ``triangular2``.

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
    ) -> None:
        check_cycle(cycle_len, 1)
        self.cycle_len = cycle_len
        self.rise = rise
        self.floor = floor
        self.peak_decay = peak_decay
        self.factor(0)

    def factor(self, epoch: float | Fraction, num_epochs: float = 0) -> float:
        """Return the share of the peak rates at one moment of training.

        Args:
            epoch: Time since the start of training in epochs, at least 0.
            num_epochs: Of no influence: cycles repeat for as long as training lasts.

        Returns:
            Factor for the rate of every layer group, in [``floor``, 1].
        """
        return triangular_factor(epoch, self.cycle_len, self.rise, self.floor, self.peak_decay)

    def cycle_ends(self, num_epochs: int) -> list[int]:
        """List after how many epochs cycles end.

        Args:
            num_epochs: ``max_epochs`` of the fit.

        Returns:
            Ends of cycles, rising; the last is the only one at ``num_epochs`` or after it.
        """
        num_cycles = max(1, math.ceil(num_epochs / self.cycle_len))
        return cycle_ends(self.cycle_len, 1, num_cycles)
