"""How far predicted numbers are from their targets, in the user's units."""

from typing import Literal, get_args

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_fastrecipes.errors import check_choice

Measure = Literal["mae", "rmse", "r2"]
"""Mean absolute error, root of the mean squared error, share of the variance that is explained."""


class NumberMetric(Metric):
    """Measure predicted numbers, or one column of several, over all rows of an epoch.

    Args:
        measure: ``mae`` or ``rmse``, in the units of the target, or ``r2``.
        column: Which of several numbers, from 0; ``None`` where there is one, ``(batch,)``.
        centre: A number near the targets, such as their mean in training, so that ``r2`` keeps its
            digits where they are far from 0.

    Raises:
        ValueError: If there is no such measure.

    Example:
        >>> metric = NumberMetric("r2", centre=1e9)
        >>> rows = torch.tensor([1e9, 1e9 + 2.0], dtype=torch.float64)
        >>> metric.set_dtype(torch.float64).update(rows + torch.tensor([0.5, -0.5]), rows)
        >>> metric.compute().item()
        0.75
    """

    full_state_update = False
    is_differentiable = True
    total: Tensor
    deviation: Tensor
    square: Tensor
    count: Tensor

    def __init__(self, measure: Measure, column: int | None = None, centre: float = 0.0) -> None:
        super().__init__()
        check_choice("measure", measure, get_args(Measure))
        self.measure = measure
        self.column = column
        self.centre = centre
        for name in ("total", "deviation", "square", "count"):
            self.add_state(name, default=torch.tensor(0.0), dist_reduce_fx="sum")

    @property
    def higher_is_better(self) -> bool:  # type: ignore[override]
        """Whether more of it is better."""
        return self.measure == "r2"

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Add the rows of one batch, of shape ``(batch,)`` or ``(batch, numbers)``."""
        if self.column is not None:
            predictions, targets = predictions[:, self.column], targets[:, self.column]
        errors = (predictions - targets).to(self.total)
        self.total += errors.abs().sum() if self.measure == "mae" else errors.square().sum()
        self.count += len(errors)
        deviations = (targets - self.centre).to(self.total)
        self.deviation += deviations.sum()
        self.square += deviations.square().sum()

    def compute(self) -> Tensor:
        """Return the measure of all rows; NaN for ``r2`` where all targets are the same."""
        count = self.count.clamp_min(1)
        if self.measure == "mae":
            return self.total / count
        if self.measure == "rmse":
            return (self.total / count).sqrt()
        spread = self.square - self.deviation.square() / count
        is_spread = spread > self.square * torch.finfo(spread.dtype).eps
        return torch.where(is_spread, 1 - self.total / spread, torch.nan)
