"""What a batch of images holds, whoever made it."""

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from torch import Tensor
from torch.utils.data.distributed import DistributedSampler

from lightning_fastrecipes.functional.labels.targets import padding_rows


class Wholes(NamedTuple):
    """Whole images and targets, as loaders serve them, before their middle is taken out.

    Args:
        images: Shape ``(channels, side, side)``, with the batch before it where there is one.
        targets: One, or one row each.
    """

    images: Tensor
    targets: Tensor


class WholeBatch(list[Tensor]):
    """Images and targets, as usual, with the whole images that they are the middle of.

    Args:
        images: What is predicted. Shape ``(batch, channels, height, width)``.
        targets: One row each.
        wholes: The same images with what is around them. Shape ``(batch, channels, side, side)``.
    """

    def __init__(self, images: Tensor, targets: Tensor, wholes: Tensor) -> None:
        super().__init__([images, targets])
        self.wholes = wholes


def images_of(batch: Any) -> Tensor:
    """Find the images in a batch: the first tensor of four dimensions.

    Args:
        batch: A tensor, or a list, tuple or mapping that holds one.

    Returns:
        Shape ``(batch, channels, height, width)``.

    Raises:
        ValueError: If there is none.

    Example:
        >>> images_of([torch.zeros(2, 3, 8, 8), torch.zeros(2)]).shape
        torch.Size([2, 3, 8, 8])
    """
    parts = list(batch.values()) if isinstance(batch, Mapping) else batch
    for part in parts if isinstance(parts, (list, tuple)) else [parts]:
        if isinstance(part, Tensor) and part.ndim == 4:
            return part
    raise ValueError(
        "A batch must hold images (batch, channels, height, width), but this one, a"
        f" {type(batch).__name__}, has no tensor of four dimensions. Serve images: precomputed"
        " features have lost them."
    )


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
