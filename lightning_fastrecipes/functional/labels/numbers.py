"""Numbers that are predicted: their mean, deviation and unit, in double precision."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

LARGEST = float(np.finfo(np.float32).max)


def mean_and_std(parts: Callable[[], Iterable[npt.NDArray[Any]]]) -> tuple[float, float]:
    """Return mean and deviation of numbers that come in parts, in double precision.

    ``parts`` is called twice.
    """
    counts, sums = zip(*((len(part), part.sum(dtype=np.float64)) for part in parts()), strict=True)
    mean = math.fsum(sums) / sum(counts)
    squares = (np.square(part - np.float64(mean)).sum() for part in parts())
    return mean, math.sqrt(math.fsum(squares) / sum(counts))


def in_deviations(values: Tensor, zero: float, one: float) -> Tensor:
    """Return in 32 bits how many times ``one`` numbers lie above ``zero``."""
    return ((as_doubles(values) - zero) / one).float()


def from_deviations(values: Tensor, zero: float, one: float) -> Tensor:
    """Undo :func:`in_deviations`, in 64 bits.

    >>> from_deviations(torch.tensor([0.5]), 1e9, 2.0).item()
    1000000001.0
    """
    return zero + one * as_doubles(values)


def as_doubles(values: Tensor) -> Tensor:
    """Return numbers in 64 bits, on the CPU where their device has no such numbers."""
    return (values if has_doubles(values.device) else values.cpu()).double()


def has_doubles(device: torch.device) -> bool:
    """Return whether a device computes in 64 bits; Apple's do not."""
    return device.type != "mps"
