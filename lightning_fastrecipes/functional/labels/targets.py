"""What a target is: class indices, or one probability per class."""

from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data.distributed import DistributedSampler


def hard_labels(targets: Tensor) -> Tensor:
    """Decide one class per row; a tie goes to the later class.

    The later class wins so that a probability of exactly 0.5 counts as positive.

    Args:
        targets: Class indices of shape ``(batch,)``, returned as they are, or probabilities of
            shape ``(batch, num_classes)``.

    Returns:
        Class indices. Shape ``(batch,)``, dtype ``int64``.

    Raises:
        ValueError: If ``targets`` has neither one nor two dimensions.

    Example:
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


def padding_rows(num_samples: int, num_replicas: int, rank: int) -> int:
    """Count the rows a distributed sampler repeats at the end of one process's shard.

    Samplers of several processes pad the data to a multiple of their number, so that a metric
    would count those rows twice.

    Args:
        num_samples: Rows of the data set, at least 1.
        num_replicas: Number of processes, at least 1.
        rank: This process, in [0, num_replicas).

    Returns:
        0 or 1: rows at the end of this shard that another process already counts.

    Example:
        >>> [padding_rows(5, 2, rank) for rank in range(2)]
        [0, 1]
    """
    return int(0 < num_samples % num_replicas <= rank)


def num_repeated_rows(loader: Any, batch_idx: int) -> int:
    """Count a batch's rows that a distributed sampler repeats to even out the shards.

    Args:
        loader: The loader that the batch is from; without a distributed sampler, nothing is
            repeated.
        batch_idx: Number of the batch, from 0.

    Returns:
        0 or 1: rows at the end of the batch that another process counts already.

    Example:
        >>> num_repeated_rows([torch.zeros(2)], 0)
        0
    """
    sampler = getattr(loader, "sampler", None)
    if not isinstance(sampler, DistributedSampler) or batch_idx != len(loader) - 1:
        return 0
    return padding_rows(len(cast(Any, sampler.dataset)), sampler.num_replicas, sampler.rank)
