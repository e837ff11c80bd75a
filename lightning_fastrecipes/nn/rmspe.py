"""The error of a forecast as a share of the target, as in the Rossmann competition."""

import torch
from torch import Tensor
from torchmetrics import Metric


class RMSPE(Metric):
    """Root of the mean squared error as a share of the target, over all rows of an epoch.

    Rows whose target is 0 are not counted.

    Example:
        >>> metric = RMSPE()
        >>> metric.update(torch.tensor([110.0, 80.0, 3.0]), torch.tensor([100.0, 100.0, 0.0]))
        >>> metric.compute()
        tensor(0.1581)

    References:
        The evaluation of the Kaggle competition *Rossmann Store Sales* (2015).
    """

    is_differentiable = True
    higher_is_better = False
    full_state_update = False
    squares: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("squares", default=torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Add the rows of one batch, both in the units of the table. Shape ``(batch,)``."""
        if predictions.shape != targets.shape:
            raise ValueError(
                "`predictions` and `targets` must have one shape, got"
                f" {tuple(predictions.shape)} and {tuple(targets.shape)}. Give one number a row."
            )
        counted = targets != 0
        shares = (predictions[counted] - targets[counted]) / targets[counted]
        self.squares += shares.square().sum()
        self.count += counted.sum()

    def compute(self) -> Tensor:
        """Return the error of all rows; 0 if none was counted."""
        return (self.squares / self.count.clamp_min(1)).sqrt()
