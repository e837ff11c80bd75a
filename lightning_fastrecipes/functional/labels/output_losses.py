"""Losses of predictions by what they are, to be compared with the loss that a module logs."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from lightning_fastrecipes.functional.labels.merging import row_losses
from lightning_fastrecipes.functional.labels.targets import known_labels

PredictionKind = Literal["classes", "yes_no", "numbers", "raw"]
"""``classes``: probabilities that sum to 1 along the first axis after the rows; ``yes_no``: each a
probability of its own; ``numbers``: anything; ``raw``: numbers, or logits of yes and no."""

RowLosses = tuple[Tensor, Tensor]
"""The loss of each row, and its weight. Shape ``(rows,)`` each."""


def candidate_losses(
    predictions: Tensor, targets: Tensor, kind: PredictionKind
) -> dict[str, RowLosses]:
    """Compute the usual losses of predictions of one kind, by name; none if the shapes differ.

    Predictions are ``(rows, ...)``, and targets class indices ``(rows, ...)`` without the axis of
    classes, or of as many numbers as the predictions. Which losses there are depends on shapes
    and types alone.

    >>> found = candidate_losses(torch.tensor([[0.5], [2.0]]), torch.tensor([1.5, 2.0]), "numbers")
    >>> {name: losses.tolist() for name, (losses, _) in found.items()}
    {'squared error': [1.0, 0.0], 'absolute error': [1.0, 0.0], 'smooth error': [0.5, 0.0]}
    """
    if kind == "classes":
        return _of_classes(predictions, targets)
    if targets.numel() != predictions.numel():
        return {}
    given = predictions.reshape(len(predictions), -1).float()
    wanted = targets.reshape(given.shape)
    if kind == "yes_no":
        return {"log loss": _of_yes_and_no(given, wanted)}
    weights = torch.ones(len(given), device=given.device)
    losses = {
        "squared error": functional.mse_loss,
        "absolute error": functional.l1_loss,
        "smooth error": functional.smooth_l1_loss,
    }
    found = {
        name: (loss(given, wanted.float(), reduction="none").mean(1), weights)
        for name, loss in losses.items()
    }
    if kind == "raw":
        found["log loss"] = _of_yes_and_no(given.sigmoid(), wanted)
    return found


def targets_like(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return targets in the shape of predictions that differ in axes of length 1 alone.

    >>> targets_like(torch.zeros(2, 1), torch.tensor([0, 1])).shape
    torch.Size([2, 1])
    """
    same = [n for n in targets.shape[1:] if n > 1] == [n for n in predictions.shape[1:] if n > 1]
    return targets.reshape(predictions.shape) if same else targets


def _of_classes(predictions: Tensor, targets: Tensor) -> dict[str, RowLosses]:
    rows, num_classes, *places = predictions.shape
    if targets.is_floating_point() or targets.shape == predictions.shape:
        if targets.shape != predictions.shape:
            return {}
        flat = predictions.movedim(1, -1).reshape(-1, num_classes)
        losses = row_losses(flat, targets.movedim(1, -1).reshape(flat.shape).to(flat))
        return {"log loss": (losses.view(rows, -1).mean(1), torch.ones_like(losses[:rows]))}
    expected = rows * torch.Size(places).numel()
    if targets.numel() != expected:
        return {}
    wanted = targets.reshape(rows, -1)
    known = (wanted >= 0) & (wanted < num_classes)
    flat = predictions.reshape(rows, num_classes, -1).movedim(1, -1).reshape(-1, num_classes)
    losses = row_losses(flat, torch.where(known, wanted, 0).flatten()).view(rows, -1)
    share = known.to(losses).mean(1)
    return {"log loss": ((losses * known).mean(1) / share.clamp_min(1e-9), share)}


def _of_yes_and_no(probabilities: Tensor, targets: Tensor) -> RowLosses:
    wanted = targets.float()
    # What is no probability has no log loss; which losses there are must not depend on numbers.
    possible = bool(((wanted <= 1) | wanted.isnan()).all())
    losses = row_losses(probabilities, wanted.clamp(max=1), multi_label=True)
    weights = known_labels(wanted).to(losses).mean(1)
    return (losses if possible else torch.full_like(losses, torch.nan)), weights
