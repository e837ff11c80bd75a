"""The mean of what several models, or several views, predict for the same rows."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from lightning_fastrecipes.errors import check_choice
from lightning_fastrecipes.functional.labels.targets import known_labels

Merge = Literal["probabilities", "logits"]
"""``probabilities``: their mean; ``logits``: the mean of the logits, a geometric mean."""

_NUM_WEIGHTS = 101


def merge_predictions(
    probabilities: Iterable[Tensor], merge: Merge = "probabilities", *, multi_label: bool = False
) -> Tensor:
    """Merge what several models predict for the same rows into one distribution per row.

    The result is the mean of the probabilities ``(rows, num_classes)``, or of the logits: their
    logarithms up to a constant; with ``multi_label`` each probability is a yes or no of its own,
    with the logit ``log(p / (1 - p))``. One tensor is held at a time, so that a generator bounds
    the memory. Raises ValueError if there is no model, or if shapes differ.

    >>> merge_predictions([torch.tensor([[0.9, 0.1]]), torch.tensor([[0.5, 0.5]])])
    tensor([[0.7000, 0.3000]])
    >>> merge_predictions([torch.tensor([[0.9, 0.1]]), torch.tensor([[0.5, 0.5]])], "logits")
    tensor([[0.7500, 0.2500]])
    """
    check_choice("merge", merge, get_args(Merge))
    total: Tensor | None = None
    count = 0
    for values in _of_one_shape(probabilities):
        if merge == "logits":
            values = logits_of(values, multi_label=multi_label)
        total = values if total is None else total + values
        count += 1
    if total is None:
        raise ValueError("There must be at least one model to merge, got none.")
    mean = total / count
    if merge == "probabilities":
        return mean
    return mean.sigmoid() if multi_label else mean.softmax(dim=-1)


def stack_predictions(predictions: Iterable[Tensor]) -> Tensor:
    """Return what several models predict for the same rows, one below the other.

    Shape ``(members, rows, num_classes)``, or ``(members, rows)`` of numbers. Raises ValueError if
    shapes differ.

    >>> stack_predictions([torch.tensor([0.5, 1.0]), torch.tensor([0.0, 1.0])]).shape
    torch.Size([2, 2])
    """
    return torch.stack(list(_of_one_shape(predictions)))


def agreement(members: Tensor, merged: Tensor, thresholds: Tensor | None = None) -> Tensor:
    """Return for each row the share of members that decide as they do together. Shape ``(rows,)``.

    ``members`` are probabilities ``(members, rows, num_classes)``, ``merged`` those of all together
    ``(rows, num_classes)``. What is decided is the most probable class; with ``thresholds``, one
    per class, which classes reach theirs, and the share is of members and classes.

    >>> members = torch.tensor([[[0.9, 0.1]], [[0.4, 0.6]]])
    >>> agreement(members, members.mean(0))
    tensor([0.5000])
    """
    if thresholds is None:
        same = members.argmax(2) == merged.argmax(1)
        return same.float().mean(0)
    same = (members >= thresholds) == (merged >= thresholds)
    return same.float().mean((0, 2))


def named_agreement(
    members: Tensor,
    merged: Tensor,
    thresholds: Tensor | None = None,
    numbers: Sequence[str] = (),
) -> dict[str, Tensor]:
    """Return by its name how far members agree on each row, as a table shows it.

    Of classes the :func:`agreement`; of numbers ``(members, rows)`` their ``deviation`` from their
    mean, in the same units; of several ``numbers``, ``(members, rows, numbers)``, that of each,
    such as ``deviation_age``.

    >>> named_agreement(torch.tensor([[1.0], [3.0]]), torch.tensor([2.0]))
    {'deviation': tensor([1.])}
    """
    if merged.ndim == 1:
        return {"deviation": members.std(0, correction=0)}
    if numbers:
        deviations = members.std(0, correction=0).unbind(1)
        return {f"deviation_{x}": found for x, found in zip(numbers, deviations, strict=True)}
    return {"agreement": agreement(members, merged, thresholds)}


def _of_one_shape(predictions: Iterable[Tensor]) -> Iterator[Tensor]:
    shape: torch.Size | None = None
    for values in predictions:
        if shape not in (None, values.shape):
            raise ValueError(
                "Every model must return one row of probabilities for each input and class, but the"
                f" shapes are {tuple(shape or ())} and {tuple(values.shape)}."
            )
        shape = values.shape
        yield values


def logits_of(probabilities: Tensor, *, multi_label: bool = False) -> Tensor:
    """Return logits whose softmax, or sigmoid if ``multi_label``, are these probabilities.

    A probability of 0 has no logarithm, and would forbid a class to all other models: it is
    replaced by the nearest number that has one.

    >>> logits_of(torch.tensor([0.5, 0.75]), multi_label=True)
    tensor([0.0000, 1.0986])
    """
    limits = torch.finfo(probabilities.dtype)
    if multi_label:
        return probabilities.clamp(limits.tiny, 1 - limits.eps).logit()
    return probabilities.clamp_min(limits.tiny).log()


def running_mean(predictions: Iterable[Tensor]) -> Tensor:
    """Return the mean of tensors, holding one at a time; of equal ones, exactly what they are.

    >>> running_mean([torch.tensor(1.0), torch.tensor(2.0)])
    tensor(1.5000)
    """
    mean: Tensor | None = None
    for count, values in enumerate(predictions, start=1):
        mean = values if mean is None else mean + (values - mean) / count
    if mean is None:
        raise ValueError("There must be at least one prediction to average, got none.")
    return mean


def weigh(plain: Tensor, views: Tensor, plain_weight: float) -> Tensor:
    """Return the weighted mean of plain probabilities and of those of the views.

    Where both are equal, the result is exactly the same. ``plain_weight`` is in [0, 1].

    >>> weigh(torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5]), plain_weight=0.2)
    tensor([0.6000, 0.4000])
    """
    return torch.lerp(plain, views, 1 - plain_weight)


def row_losses(
    probabilities: Tensor,
    targets: Tensor,
    *,
    multi_label: bool = False,
    pos_weight: Tensor | None = None,
) -> Tensor:
    """Compute the log loss of each row of probabilities. Shape ``(rows,)``.

    Targets are class indices ``(rows,)`` or probabilities ``(rows, num_classes)``. With
    ``multi_label`` any number of classes may be right: the loss is the mean over the classes that
    are known, where positives weigh ``pos_weight``.

    >>> row_losses(torch.tensor([[0.5, 0.5]]), torch.tensor([1]))
    tensor([0.6931])
    """
    if multi_label:
        known = known_labels(targets)
        wanted = torch.where(known, targets, 0).to(probabilities.dtype)
        losses = functional.binary_cross_entropy(probabilities, wanted, reduction="none")
        if pos_weight is not None:
            losses = losses * (1 + wanted * (pos_weight.to(probabilities) - 1))
        # Exactly the mean where all are known.
        return (losses * known).mean(dim=1) * (known.shape[1] / known.sum(dim=1).clamp_min(1))
    logs = logits_of(probabilities)
    if targets.ndim == 1:
        return -logs.gather(1, targets.long()[:, None])[:, 0]
    return -(targets * logs).sum(dim=1)


def weight_losses(
    plain: Tensor,
    views: Tensor,
    targets: Tensor,
    *,
    multi_label: bool = False,
    total_loss: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Sum the loss of a batch for plain weights from 0 to 1 in steps of a hundredth.

    The arguments are those of :func:`weigh` and :func:`row_losses`; ``total_loss`` sums the loss
    of merged predictions that are no probabilities. Sums of batches and of
    processes add up; :func:`best_weight` reads the total. Shape ``(101,)``, ``float64``.
    """
    weights = [index / (_NUM_WEIGHTS - 1) for index in range(_NUM_WEIGHTS)]

    def total(merged: Tensor) -> Tensor:
        if total_loss is not None:
            return total_loss(merged)
        return row_losses(merged, targets, multi_label=multi_label).double().sum()

    return torch.stack([total(weigh(plain, views, weight)) for weight in weights])


def best_weight(losses: Tensor) -> float:
    """Return the plain weight with the smallest sum of :func:`weight_losses`.

    The log loss of a mixture is convex in its weight, so that the best step is next to the optimum.

    >>> right, wrong = torch.tensor([[0.9, 0.1]]), torch.tensor([[0.2, 0.8]])
    >>> best_weight(weight_losses(right, wrong, torch.tensor([0])))
    1.0
    """
    return int(losses.argmin()) / (_NUM_WEIGHTS - 1)
