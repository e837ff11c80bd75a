"""Train at the peak rates for long, then let them fall along half a cosine."""

from fractions import Fraction

from typing_extensions import override

from lightning_fastrecipes.callbacks.schedule import Schedule
from lightning_fastrecipes.functional.training.one_cycle import flat_cosine_factor


class FlatCosine(Schedule):
    """Hold the learning rates of a fit, and let them fall along half a cosine at its end.

    Works as every ``Schedule``; it is as long as ``max_epochs``, or as ``max_steps``
    where only these are set.

    Args:
        flat: Share of the training at the peak, in [0, 1).
        end: Last rate as a share of the peak rate, in [0, 1].
        replace_scheduler: Take out a scheduler that the module has configured; else it is refused.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> FlatCosine(flat=0.5, end=0.0).simulate(num_epochs=1, steps_per_epoch=4)
        tensor([1.0000, 1.0000, 1.0000, 0.5000], dtype=torch.float64)

    References:
        fastai 2, ``fit_flat_cos``.
    """

    needs_max_epochs = True

    def __init__(
        self, flat: float = 0.75, end: float = 1e-5, *, replace_scheduler: bool = False
    ) -> None:
        self.replace_scheduler = replace_scheduler
        self.flat = flat
        self.end = end
        self.factor(0, 1)

    @override
    def factor(self, epoch: float | Fraction, num_epochs: float) -> float:
        return flat_cosine_factor(min(1.0, float(epoch) / num_epochs), self.flat, self.end)
