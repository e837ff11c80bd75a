"""Change the learning rates by given factors, from given epochs or steps on."""

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Literal

from typing_extensions import override

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import rank_zero_info
from lightning_fastrecipes.callbacks.schedule import Schedule, steps_per_epoch_of
from lightning_fastrecipes.errors import check_choice
from lightning_fastrecipes.functional.training.schedules import check_factors, factor_from


class StepSchedule(Schedule):
    """Scale the learning rates of a fit by given factors, each from a given epoch or step on.

    Works as every ``Schedule``: the ratios between layer groups stay as they are, and a resumed fit
    goes on exactly.

    Args:
        factors: From the first epoch (or optimizer step) that each holds for, 0 among them, to the
            factor of the peak rates, above 0.
        by: What the factors are counted in, ``epoch`` or optimizer ``step``, both from 0.
        replace_scheduler: Take out a scheduler that the module has configured.

    Raises:
        ValueError: If an argument is out of its range.
        TypeError: If ``factors`` is no mapping of whole numbers to numbers.

    Example:
        >>> schedule = StepSchedule({0: 1.0, 2: 0.1})
        >>> schedule.simulate(num_epochs=3, steps_per_epoch=2)
        tensor([1.0000, 1.0000, 1.0000, 1.0000, 0.1000, 0.1000], dtype=torch.float64)

    References:
        fast.ai course (2017): ``model.optimizer.lr = 0.01`` between two fits.
    """

    def __init__(
        self,
        factors: Mapping[int, float],
        by: Literal["epoch", "step"] = "epoch",
        *,
        replace_scheduler: bool = False,
    ) -> None:
        check_choice("by", by, ("epoch", "step"))
        self.factors = check_factors(factors)
        self.by = by
        self.replace_scheduler = replace_scheduler

    @override
    def factor(self, epoch: float | Fraction, num_epochs: float = 0) -> float:
        """Return the factor at a time in epochs, or in steps with ``by="step"``."""
        return factor_from(self.factors, epoch)

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        max_epochs = trainer.max_epochs or -1
        is_endless = math.isinf(trainer.num_training_batches)
        unit = 1 if self.by == "epoch" else 0 if is_endless else steps_per_epoch_of(trainer)
        late = [start for start in self.factors if start >= max_epochs * unit > 0]
        if late and not pl.is_fast_dev_run(trainer):
            rank_zero_info(
                f"`StepSchedule` has factors from {self.by} {late} on, but the fit ends after"
                f" {max_epochs} epochs: they are never reached."
            )
