"""Learning-rate schedules as pure functions of the training time in epochs."""

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import accumulate

import torch
from torch import Tensor


def warm_restart_factor(
    epoch: float | Fraction, cycle_len: float, cycle_mult: float = 1, floor: float = 0.0
) -> float:
    """Give the share of the peak rate at one moment of cosine annealing with warm restarts.

    Every cycle falls from 1 towards ``floor`` along half a cosine and the next one starts at 1
    again. The arithmetic is that of fractions, without logarithm: numbers are taken as the
    decimals that they print as, so a restart falls exactly where the lengths add up to. Give
    ``epoch`` as ``Fraction(step, steps_per_epoch)`` to meet the restarts to the very step.

    Args:
        epoch: Time since the start of training in epochs, at least 0.
        cycle_len: Length of the first cycle in epochs, above 0.
        cycle_mult: Growth of each cycle over the one before it, at least 1.
        floor: Share of the peak rate that a cycle falls towards, in [0, 1).

    Returns:
        Factor for every peak rate, in [``floor``, 1].

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> [round(warm_restart_factor(epoch / 2, 1, cycle_mult=2), 3) for epoch in range(7)]
        [1.0, 0.5, 1.0, 0.854, 0.5, 0.146, 1.0]

    Note:
        fast.ai 0.7 stays at a hundredth of the rate for the first 5 % of the first cycle; this
        does not. torch and timm find the cycle by a logarithm when they are asked for a given
        time, which misses some restarts for a ``cycle_mult`` of 3.

    References:
        Loshchilov and Hutter, *SGDR: Stochastic Gradient Descent with Warm Restarts* (2017).
    """
    if not 0 <= epoch < math.inf:
        raise ValueError(f"`epoch` must be a finite number of at least 0, got {epoch}.")
    if not 0 < cycle_len < math.inf:
        raise ValueError(f"`cycle_len` must be a finite number of epochs above 0, got {cycle_len}.")
    if not 1 <= cycle_mult < math.inf:
        raise ValueError(
            f"`cycle_mult` must be at least 1, got {cycle_mult}. Cycles may grow, but not shrink."
        )
    if not 0 <= floor < 1:
        raise ValueError(f"`floor` is a share of the peak rate in [0, 1), got {floor}.")
    # Through `str`, so that 0.1 means a tenth and not the binary number next to it.
    position, length, growth = (Fraction(str(value)) for value in (epoch, cycle_len, cycle_mult))
    if growth == 1:
        position %= length
    while position >= length:
        position -= length
        length *= growth
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * float(position / length)))


def cycle_lengths(cycle_len: int, cycle_mult: int, num_cycles: int) -> list[int]:
    """List how many epochs each of the first cycles lasts.

    Args:
        cycle_len: Length of the first cycle in epochs, at least 1.
        cycle_mult: Growth of each cycle over the one before it, at least 1.
        num_cycles: Number of cycles, at least 0.

    Returns:
        One length in epochs for each cycle.

    Raises:
        ValueError: If an argument is no whole number in its range.

    Example:
        >>> cycle_lengths(cycle_len=1, cycle_mult=2, num_cycles=4)
        [1, 2, 4, 8]
    """
    check_cycle(cycle_len, cycle_mult)
    if num_cycles < 0:
        raise ValueError(f"`num_cycles` must be at least 0, got {num_cycles}.")
    return [cycle_len * cycle_mult**index for index in range(num_cycles)]


def cycle_ends(cycle_len: int, cycle_mult: int, num_cycles: int) -> list[int]:
    """List after how many epochs each of the first cycles ends.

    Args:
        cycle_len: Length of the first cycle in epochs, at least 1.
        cycle_mult: Growth of each cycle over the one before it, at least 1.
        num_cycles: Number of cycles, at least 0.

    Returns:
        For each cycle the number of epochs from the start of training to its end.

    Example:
        >>> cycle_ends(cycle_len=1, cycle_mult=2, num_cycles=4)
        [1, 3, 7, 15]
    """
    return list(accumulate(cycle_lengths(cycle_len, cycle_mult, num_cycles)))


def epochs_for_cycles(cycle_len: int, cycle_mult: int, num_cycles: int) -> int:
    """Count the epochs that a number of whole cycles takes.

    Args:
        cycle_len: Length of the first cycle in epochs, at least 1.
        cycle_mult: Growth of each cycle over the one before it, at least 1.
        num_cycles: Number of cycles, at least 0.

    Returns:
        The ``max_epochs`` that ends exactly with the last of the cycles.

    Example:
        >>> epochs_for_cycles(cycle_len=1, cycle_mult=2, num_cycles=3)
        7
    """
    return sum(cycle_lengths(cycle_len, cycle_mult, num_cycles))


def simulate(
    schedule: Callable[[Fraction], float], num_epochs: int, steps_per_epoch: int
) -> Tensor:
    """Give the whole curve of a schedule without training.

    Args:
        schedule: What to simulate: a function from the time in epochs to a factor or a rate.
        num_epochs: Length of the curve in epochs, at least 0.
        steps_per_epoch: Optimizer steps in one epoch, at least 1.

    Returns:
        One value for each optimizer step. Shape ``(num_epochs * steps_per_epoch,)``, ``float64``.

    Raises:
        ValueError: If there is not at least one step an epoch, or ``num_epochs`` is below 0.

    Example:
        >>> simulate(lambda epoch: warm_restart_factor(epoch, 1), num_epochs=2, steps_per_epoch=2)
        tensor([1.0000, 0.5000, 1.0000, 0.5000], dtype=torch.float64)
    """
    if num_epochs < 0:
        raise ValueError(f"`num_epochs` must be at least 0, got {num_epochs}.")
    if steps_per_epoch < 1:
        raise ValueError(f"`steps_per_epoch` must be at least 1, got {steps_per_epoch}.")
    times = (Fraction(step, steps_per_epoch) for step in range(num_epochs * steps_per_epoch))
    return torch.tensor([schedule(time) for time in times], dtype=torch.float64)


def check_cycle(cycle_len: int, cycle_mult: int) -> None:
    """Refuse cycles that do not end together with an epoch.

    Args:
        cycle_len: Length of the first cycle in epochs, at least 1.
        cycle_mult: Growth of each cycle over the one before it, at least 1.

    Raises:
        ValueError: If either is no whole number of at least 1.
    """
    for name, value in (("cycle_len", cycle_len), ("cycle_mult", cycle_mult)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(
                f"`{name}` must be a whole number of at least 1, got {value!r}."
                " Cycles are counted in epochs, so that each ends where an epoch ends."
            )
