"""Grids of numbers as a page holds them: two bytes a number, between the lowest and highest."""

import base64
import math
from typing import Any

from torch import Tensor
from torch.nn.functional import avg_pool2d

MOST_MAP_BYTES = 9_000_000
"""Of Base64 text, so that the page stays below 20 MB."""

_LEVELS = 65_535


def pack(grid: Tensor) -> dict[str, Any]:
    """Return numbers ``(height, width)`` as text.

    >>> import torch
    >>> pack(torch.tensor([[0.0, 1.0]]))
    {'height': 1, 'width': 2, 'low': 0.0, 'high': 1.0, 'values': 'AAD//w=='}
    """
    values = grid.double().nan_to_num()
    low, high = values.min().item(), values.max().item()
    levels = (values - low) / ((high - low) or 1.0) * _LEVELS
    content = levels.round().numpy().astype("<u2").tobytes()
    return {
        "height": grid.shape[0],
        "width": grid.shape[1],
        "low": low,
        "high": high,
        "values": base64.b64encode(content).decode(),
    }


def smaller(maps: Tensor, side: int) -> tuple[Tensor, int]:
    """Return maps ``(channels, height, width)`` of at most ``side``, and how many make one.

    Squares of so many numbers become their mean.
    """
    factor = math.ceil(max(maps.shape[1:]) / side)
    if factor == 1:
        return maps, 1
    return avg_pool2d(maps[None], factor, ceil_mode=True, count_include_pad=False)[0], factor
