"""What a batch of images holds, whoever made it."""

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

from torch import Tensor

_TARGET_NAMES = ("target", "targets", "label", "labels", "y", "mask", "masks")


def by_name(batch: Any) -> Any:
    """Return the fields of a dataclass, which stay its own; others are what they are.

    So are dataclasses that are mappings, as the outputs of Hugging Face's models.

    >>> by_name([1, 2])
    [1, 2]
    """
    is_instance = is_dataclass(batch) and not isinstance(batch, (type, Mapping))
    return vars(batch) if is_instance and hasattr(batch, "__dict__") else batch


def images_of(batch: Any) -> Tensor:
    """Find the images in a batch: its first tensor ``(batch, channels, height, width)``.

    The batch is a tensor, or a list, tuple, mapping or dataclass. Raise `ValueError` if there are
    none.

    >>> images_of([torch.zeros(2, 3, 8, 8), torch.zeros(2)]).shape
    torch.Size([2, 3, 8, 8])
    """
    parts = by_name(batch)
    parts = list(parts.values()) if isinstance(parts, Mapping) else parts
    for part in parts if isinstance(parts, (list, tuple)) else [parts]:
        if isinstance(part, Tensor) and part.ndim == 4:
            return part
    raise ValueError(
        "A batch must hold images (batch, channels, height, width), but this one, a"
        f" {type(batch).__name__}, has no tensor of four dimensions. Serve images: precomputed"
        " features have lost them."
    )


def target_key(batch: Any) -> Any:
    """Find where the targets of a batch are: 1 in lists and tuples, a key of mappings, or ``None``.

    The key of a mapping is ``target``, ``label``, ``y`` or ``mask``, or the plural of one.

    >>> target_key({"image": torch.zeros(2, 3, 8, 8), "label": torch.zeros(2)})
    'label'
    """
    if isinstance(batch, Mapping):
        return next((n for n in _TARGET_NAMES if isinstance(batch.get(n), Tensor)), None)
    is_pair = isinstance(batch, (list, tuple)) and len(batch) > 1
    return 1 if is_pair and isinstance(batch[1], Tensor) else None


def targets_of(batch: Any) -> Tensor | None:
    """Return the targets of a batch, ``None`` if there are none."""
    batch = by_name(batch)
    key = target_key(batch)
    return None if key is None else batch[key]
