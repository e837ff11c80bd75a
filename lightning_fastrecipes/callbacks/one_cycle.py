"""The one-cycle policy: one rise and fall of the rates, and of the momentum against them."""

from fractions import Fraction

from typing_extensions import override

from lightning_fastrecipes.callbacks.schedule import Schedule
from lightning_fastrecipes.functional.training.one_cycle import one_cycle_factor, one_cycle_momentum
from lightning_fastrecipes.functional.training.schedules import Shape


class OneCycle(Schedule):
    """Raise the learning rates of a whole fit once and let them fall, momentum the other way.

    Works as every ``Schedule``; the cycle is as long as ``max_epochs``, or as ``max_steps``
    where only these are set.

    Args:
        rise: Share of the training that the rise takes, in (0, 1).
        start: First rate as a share of the peak rate, in [0, 1].
        end: Last rate as a share of the peak rate, in [0, 1].
        momentum_range: Lowest and highest momentum, in [0, 1), of SGD's ``momentum`` or the first
            of Adam's ``betas``; ``None`` leaves it as it is.
        tail: Share of the training from the return to ``start`` to its end, in [0, 1 - rise); 0
            falls to ``end`` at once.
        shape: ``cosine`` or ``linear``.
        replace_scheduler: Take out a scheduler that the module has configured; else it is refused.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> OneCycle(rise=0.5, start=0.0, end=0.0).simulate(num_epochs=1, steps_per_epoch=4)
        tensor([0.0000, 0.5000, 1.0000, 0.5000], dtype=torch.float64)

    Note:
        The defaults are those of fastai 2. ``use_clr_beta=(div, pct, high, low)`` of fast.ai 0.7 is
        ``start=1 / div, end=0.01 / div, tail=pct / 100, rise=(1 - pct / 100) / 2`` and ``linear``.

    References:
        Smith and Topin, *Super-Convergence* (2019).
    """

    needs_max_epochs = True

    def __init__(
        self,
        rise: float = 0.25,
        start: float = 0.04,
        end: float = 1e-5,
        momentum_range: tuple[float, float] | None = (0.85, 0.95),
        tail: float = 0.0,
        shape: Shape = "cosine",
        *,
        replace_scheduler: bool = False,
    ) -> None:
        self.replace_scheduler = replace_scheduler
        self.rise = rise
        self.start = start
        self.end = end
        self.momentum_range = momentum_range
        self.tail = tail
        self.shape = shape
        self.factor(0, 1)
        self.momentum(0, 1)

    @override
    def factor(self, epoch: float | Fraction, num_epochs: float) -> float:
        progress = min(1.0, float(epoch) / num_epochs)
        return one_cycle_factor(progress, self.rise, self.start, self.end, self.tail, self.shape)

    @override
    def momentum(self, epoch: float | Fraction, num_epochs: float) -> float | None:
        if self.momentum_range is None:
            return None
        low, high = self.momentum_range
        progress = min(1.0, float(epoch) / num_epochs)
        return one_cycle_momentum(progress, self.rise, high, low, self.tail, self.shape)
