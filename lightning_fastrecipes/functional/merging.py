"""The mean of what several models say about the same rows."""

from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

Merge = Literal["probabilities", "logits"]
"""``probabilities``: their mean; ``logits``: the mean of the logits, a geometric mean."""


def merge_predictions(
    probabilities: Iterable[Tensor], merge: Merge = "probabilities", *, multi_label: bool = False
) -> Tensor:
    """Merge what several models say about the same rows into one distribution a row.

    Args:
        probabilities: One tensor a model, rows summing to 1. Shape ``(rows, num_classes)``; one
            is held at a time, so that a generator bounds the memory.
        merge: Mean of the probabilities, or of the logits: their logarithms up to a constant.
        multi_label: Whether each probability is of a yes or no of its own, so that its logit is
            ``log(p / (1 - p))`` and rows need not sum to 1.

    Returns:
        Probabilities. Shape ``(rows, num_classes)``.

    Raises:
        ValueError: If there is no model, or the shapes differ.

    Example:
        >>> merge_predictions([torch.tensor([[0.9, 0.1]]), torch.tensor([[0.5, 0.5]])])
        tensor([[0.7000, 0.3000]])
        >>> merge_predictions([torch.tensor([[0.9, 0.1]]), torch.tensor([[0.5, 0.5]])], "logits")
        tensor([[0.7500, 0.2500]])
    """
    if merge not in get_args(Merge):
        raise ValueError(f"`merge` must be 'probabilities' or 'logits', got {merge!r}.")
    total: Tensor | None = None
    count = 0
    for values in probabilities:
        if merge == "logits":
            values = logits_of(values, multi_label=multi_label)
        if total is not None and total.shape != values.shape:
            raise ValueError(
                f"Every model must give one row of probabilities for each input and class, but the"
                f" shapes are {tuple(total.shape)} and {tuple(values.shape)}."
            )
        total = values if total is None else total + values
        count += 1
    if total is None:
        raise ValueError("There must be at least one model to merge, got none.")
    mean = total / count
    if merge == "probabilities":
        return mean
    return mean.sigmoid() if multi_label else mean.softmax(dim=-1)


def logits_of(probabilities: Tensor, *, multi_label: bool = False) -> Tensor:
    """Give logits whose softmax, or sigmoid, are these probabilities.

    A probability of 0 has no logarithm, and would forbid a class to all other models: the nearest
    that has one is taken.

    Args:
        probabilities: Any shape.
        multi_label: Whether each is of a yes or no of its own.

    Returns:
        The same shape.

    Example:
        >>> logits_of(torch.tensor([0.5, 0.75]), multi_label=True)
        tensor([0.0000, 1.0986])
    """
    limits = torch.finfo(probabilities.dtype)
    if multi_label:
        return probabilities.clamp(limits.tiny, 1 - limits.eps).logit()
    return probabilities.clamp_min(limits.tiny).log()


def columns_by_name(classes: Sequence[str], others: Sequence[str]) -> list[int]:
    """Find the classes of one model among those of another.

    Args:
        classes: Class names in the order wished for.
        others: The same names in any order.

    Returns:
        For each of ``classes`` its position in ``others``.

    Raises:
        ValueError: If the names are not the same; the message lists the differences.

    Example:
        >>> columns_by_name(["cat", "dog"], ["dog", "cat"])
        [1, 0]
    """
    if sorted(classes) != sorted(others):
        raise ValueError(
            "All members must know the same classes, but"
            f" {sorted(set(classes) - set(others))[:20]} are in the first alone and"
            f" {sorted(set(others) - set(classes))[:20]} in another alone."
        )
    return [list(others).index(name) for name in classes]
