"""Numbers in one byte each: every channel of every map by steps of its own range."""

import torch
from torch import Tensor

_STEPS = 255


def to_bytes(values: Tensor, channel_axis: int) -> tuple[Tensor, Tensor]:
    """Round each channel of each map to the nearest of 256 values, evenly spread over its range.

    ``values`` are finite floats ``(maps, ...)``, with channels at ``channel_axis``. Return codes,
    ``uint8``, of the same shape, and ``(maps, channels, 2)``: the lowest value of each channel, and
    the step between two codes. A number changes by at most half a step, 1/510 of the range.

    >>> codes, scales = to_bytes(torch.tensor([[[0.0, 1.0, 2.55]]]), 1)
    >>> codes.tolist(), [round(number, 4) for number in scales.flatten().tolist()]
    ([[[0, 100, 255]]], [0.0, 0.01])
    """
    others = [axis for axis in range(1, values.ndim) if axis != channel_axis]
    low, high = values.amin(others, keepdim=True), values.amax(others, keepdim=True)
    # In two parts, so that the range of the largest floats is no infinity.
    step = high / _STEPS - low / _STEPS
    codes = ((values - low) / step.where(step > 0, 1.0)).round_().clamp_(0, _STEPS)
    scales = torch.stack([low.flatten(1), step.flatten(1)], dim=2)
    return codes.byte(), scales


def from_bytes(codes: Tensor, scales: Tensor, channel_axis: int) -> Tensor:
    """Return what `to_bytes` rounded. Shape of the codes, ``float32``.

    >>> from_bytes(*to_bytes(torch.tensor([[[0.0, 2.0]]]), 1), 1)
    tensor([[[0., 2.]]])
    """
    shape = [1] * codes.ndim
    shape[0], shape[channel_axis] = codes.shape[0], codes.shape[channel_axis]
    low, step = (part.reshape(shape) for part in scales.unbind(2))
    return codes.float().mul_(step).add_(low)
