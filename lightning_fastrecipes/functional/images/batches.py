"""What a batch of images holds, whoever made it."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def images_of(batch: Any) -> Tensor:
    """Find the images in a batch: its first tensor ``(batch, channels, height, width)``.

    The batch is a tensor, or a list, tuple or mapping. Raise `ValueError` if there are none.

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
