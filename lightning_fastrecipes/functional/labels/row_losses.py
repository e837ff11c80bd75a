"""The loss of each row, by which models of the same data are compared."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

_LEAST = 1e-7


def row_losses(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of each row in 64 bits. Shape ``(rows,)``.

    Squared errors of numbers ``(rows,)`` or ``(rows, numbers)``; the negative logarithm of the
    probability of class indices ``(rows,)``; the mean binary cross entropy of ``targets`` from 0 to
    1 beside probabilities ``(rows, classes)``. Targets that are -1 or NaN are unknown there and
    count nothing.

    >>> row_losses(torch.tensor([[0.5, 0.5], [0.25, 0.75]]), torch.tensor([0, 0])).tolist()
    [0.6931471805599453, 1.3862943611198906]
    >>> row_losses(torch.tensor([3.0, 4.0]), torch.tensor([1.0, 4.0])).tolist()
    [4.0, 0.0]
    """
    found = predictions.double()
    if found.ndim == 2 and targets.ndim == 1 and not targets.is_floating_point():
        own = found.gather(1, targets.long().unsqueeze(1)).squeeze(1)
        return -own.clamp(_LEAST, 1.0).log()
    wanted = targets.double()
    is_share = found.ndim == 2 and found.min() >= 0 and found.max() <= 1
    if is_share and wanted.nan_to_num(0).le(1).all():
        known = (wanted >= 0).double()
        clamped = found.clamp(_LEAST, 1 - _LEAST)
        losses = F.binary_cross_entropy(clamped, wanted.nan_to_num(0).clamp(0, 1), reduction="none")
        return (losses * known).sum(1) / known.sum(1).clamp(min=1)
    squared = torch.square(found - wanted)
    return squared.mean(1) if squared.ndim == 2 else squared
