"""What a target is: class indices, or one probability per class."""

from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data.distributed import DistributedSampler

from lightning_fastrecipes.errors import ConfigurationError


def hard_labels(targets: Tensor) -> Tensor:
    """Decide one class per row; a tie goes to the later class.

    Thus a probability of exactly 0.5 counts as positive. Targets are class indices ``(batch,)``,
    which are returned as they are, or probabilities ``(batch, num_classes)``; raises ValueError if
    they have another number of dimensions. The result is ``int64``.

    >>> hard_labels(torch.tensor([[0.5, 0.5], [0.7, 0.3]])).tolist()
    [1, 0]
    """
    if targets.ndim == 1:
        return targets.to(torch.int64)
    if targets.ndim != 2:
        raise ValueError(
            "`targets` must be class indices (batch,) or probabilities (batch, num_classes), but"
            f" got shape {tuple(targets.shape)}. Give one row per image."
        )
    last = targets.shape[1] - 1
    return last - targets.flip(1).argmax(dim=1)


def class_targets(targets: Tensor) -> Tensor:
    """Return class indices ``(batch,)`` as ``int64``, and probabilities as they are.

    Raises ConfigurationError for targets that are neither, such as indices that are floats.

    >>> class_targets(torch.tensor([0, 2], dtype=torch.int32))
    tensor([0, 2])
    """
    is_float = targets.is_floating_point()
    if targets.ndim == (2 if is_float else 1):
        return targets if is_float else targets.long()
    raise ConfigurationError(
        "Targets of one class per sample must be whole numbers of shape (batch,), or float"
        f" probabilities of shape (batch, num_classes), but the loader gives {targets.dtype} of"
        f" shape {tuple(targets.shape)}. Give `targets.long()` of one number each, one-hot targets"
        " as floats, or numbers to a regressor."
    )


def known_labels(targets: Tensor) -> Tensor:
    """Return which of several labels are known: not NaN, and not -1. ``bool``, of the same shape.

    >>> known_labels(torch.tensor([[1.0, -1.0, float("nan"), 0.0]])).tolist()
    [[True, False, False, True]]
    """
    return targets >= 0


def padding_rows(num_samples: int, num_replicas: int, rank: int) -> int:
    """Count the rows at the end of a process's shard that another process counts already.

    Distributed samplers pad the data to a multiple of the number of processes, by 0 or 1 rows each;
    a metric would count those rows twice.

    >>> [padding_rows(5, 2, rank) for rank in range(2)]
    [0, 1]
    """
    return int(0 < num_samples % num_replicas <= rank)


def num_repeated_rows(loader: Any, batch_idx: int) -> int:
    """Count the rows of a batch, 0 or 1, that a distributed sampler repeats to pad its shard.

    >>> num_repeated_rows([torch.zeros(2)], 0)
    0
    """
    sampler = getattr(loader, "sampler", None)
    if not isinstance(sampler, DistributedSampler) or batch_idx != len(loader) - 1:
        return 0
    return padding_rows(len(cast(Any, sampler.dataset)), sampler.num_replicas, sampler.rank)
