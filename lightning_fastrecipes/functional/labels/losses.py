"""Losses of classes and labels, cell by cell: weights, smoothing and focus on what is hard."""

import torch
from torch import Tensor
from torch.nn import functional


def class_losses(
    logits: Tensor,
    targets: Tensor,
    *,
    class_weight: Tensor | None = None,
    smoothing: float = 0.0,
    focal_gamma: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Return the cross entropy of each row, and how much the row counts; both ``(rows,)``.

    The mean loss is the sum of the first over that of the second. A row counts 1, or the weight of
    its class, and the mean one of its classes where targets are probabilities. ``smoothing`` moves
    a share of each target to all classes alike; ``focal_gamma`` multiplies the part of a class by
    ``(1 - its probability) ** gamma``. Targets are class indices ``(rows,)`` or probabilities
    ``(rows, num_classes)``.

    >>> losses, counts = class_losses(torch.zeros(1, 2), torch.tensor([1]), focal_gamma=1.0)
    >>> losses, counts
    (tensor([0.3466]), tensor([1.]))
    """
    logs = logits.log_softmax(dim=1)
    shares = targets.to(logs)
    if targets.ndim == 1:
        shares = torch.zeros_like(logs).scatter_(1, targets.long()[:, None], 1.0)
    wanted = shares * (1 - smoothing) + smoothing / logits.shape[1]
    counts = shares.new_ones(len(shares))
    if class_weight is not None:
        wanted, counts = wanted * class_weight.to(logs), shares @ class_weight.to(logs)
    if focal_gamma:
        # Below a gamma of 1, the slope at a probability of 1 would be infinite.
        wrong = (-torch.expm1(logs)).clamp_min(torch.finfo(logs.dtype).tiny)
        wanted = wanted * wrong**focal_gamma
    return -(wanted * logs).sum(dim=1), counts


def label_losses(
    logits: Tensor,
    targets: Tensor,
    *,
    pos_weight: Tensor | None = None,
    smoothing: float = 0.0,
    focal_gamma: float = 0.0,
) -> Tensor:
    """Return the binary cross entropy of each label of each row. Shape ``(rows, num_labels)``.

    Targets, in [0, 1], have the same shape. Positives weigh ``pos_weight``, ``(num_labels,)``;
    ``smoothing`` moves targets towards 0.5; ``focal_gamma`` multiplies the part of yes and of no by
    ``(1 - its probability) ** gamma``.

    >>> label_losses(torch.zeros(1, 1), torch.ones(1, 1), focal_gamma=1.0)
    tensor([[0.3466]])
    """
    wanted = targets * (1 - smoothing) + smoothing / 2
    yes, no = functional.logsigmoid(logits), functional.logsigmoid(-logits)
    yes_loss, no_loss = -wanted * yes, -(1 - wanted) * no
    if focal_gamma:
        yes_loss, no_loss = (
            yes_loss * (focal_gamma * no).exp(),
            no_loss * (focal_gamma * yes).exp(),
        )
    return (yes_loss if pos_weight is None else yes_loss * pos_weight.to(logits)) + no_loss


def balanced_class_weight(targets: Tensor, num_classes: int) -> Tensor:
    """Return ``rows / (classes * rows of the class)`` of each class, whose mean over rows is 1.

    Targets are class indices ``(rows,)`` or probabilities ``(rows, num_classes)``; a class counts
    at least one row. Shape ``(num_classes,)``, ``float32``.

    >>> balanced_class_weight(torch.tensor([0, 0, 0, 1]), 2).tolist()
    [0.6666666865348816, 2.0]
    """
    if targets.ndim == 1:
        counts = torch.bincount(targets, minlength=num_classes).double()
    else:
        counts = targets.double().sum(0)
    return (len(targets) / (num_classes * counts.clamp_min(1))).float()
