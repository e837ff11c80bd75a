"""Learning-rate schedules as pure functions of the training time in epochs."""

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from itertools import accumulate
from numbers import Real
from typing import Literal, get_args

import torch
from torch import Tensor

from lightning_fastrecipes.errors import check_at_least, check_choice

Shape = Literal["cosine", "linear"]
"""``cosine``: half a cosine from one value to the next; ``linear``: a straight line."""

_WARM_IN_START = 0.01


def warm_restart_factor(
    epoch: float | Fraction,
    cycle_len: float,
    cycle_mult: float = 1,
    floor: float = 0.0,
    warm_in: float = 0.0,
    peak_decay: float = 1.0,
) -> float:
    """Return the factor of the peak rate, in [0, 1], in cosine annealing with warm restarts.

    Every cycle falls from its peak towards ``floor`` of it along half a cosine, and the next one
    starts at its own peak, ``peak_decay`` times the one before. Numbers are computed as fractions
    of the decimals that they print as, without logarithms, so that restarts fall exactly where the
    cycle lengths add up to: torch and timm find the cycle by a logarithm when they are asked for a
    given time, which misses some restarts for a ``cycle_mult`` of 3. Pass ``epoch``, the time since
    the start of training in epochs, as ``Fraction(step, steps_per_epoch)`` to meet the restarts to
    the very step.

    The arguments are those of ``SGDR``, except that ``cycle_len`` may be any number above 0. Raise
    `ValueError` if one is out of its range.

    >>> [round(warm_restart_factor(epoch / 2, 1, cycle_mult=2), 3) for epoch in range(7)]
    [1.0, 0.5, 1.0, 0.854, 0.5, 0.146, 1.0]
    """
    _check_common(epoch, cycle_len, floor, peak_decay)
    if not 1 <= cycle_mult < math.inf:
        raise ValueError(
            f"`cycle_mult` must be at least 1, got {cycle_mult}. Cycles may grow, but not shrink."
        )
    if not 0 <= warm_in <= cycle_len:
        raise ValueError(
            f"`warm_in` must be at least 0 epochs and end with the first cycle, got {warm_in} for"
            f" a cycle of {cycle_len}."
        )
    # Through `str`, so that 0.1 means a tenth and not the binary number next to it.
    position, length, growth = (Fraction(str(value)) for value in (epoch, cycle_len, cycle_mult))
    num_cycles = 0
    if growth == 1:
        num_cycles, position = divmod(position, length)
    while position >= length:
        position -= length
        length *= growth
        num_cycles += 1
    fallen = interpolate(1.0, floor, float(position / length), "cosine")
    warmth = float(epoch) / warm_in if epoch < warm_in else 1.0
    return peak_decay**num_cycles * fallen * interpolate(_WARM_IN_START, 1.0, warmth, "linear")


def triangular_factor(
    epoch: float | Fraction,
    cycle_len: float,
    rise: float = 0.5,
    floor: float = 0.25,
    peak_decay: float = 1.0,
) -> float:
    """Return the factor of the peak rate, in [``floor``, 1], in triangular cycles.

    Every cycle rises in a straight line from ``floor`` to its peak, and falls back in another.
    ``epoch`` is the time since the start of training in epochs, at least 0. The arguments are those
    of ``Triangular``, except that ``cycle_len`` may be any number above 0. Raise `ValueError` if
    one is out of its range.

    >>> [triangular_factor(epoch, cycle_len=4, floor=0.5) for epoch in range(5)]
    [0.5, 0.75, 1.0, 0.75, 0.5]
    """
    _check_common(epoch, cycle_len, floor, peak_decay)
    if not 0 < rise < 1:
        raise ValueError(f"`rise` must lie in (0, 1), got {rise}. It is a share of the cycle.")
    num_cycles, position = divmod(Fraction(str(epoch)), Fraction(str(cycle_len)))
    share = float(position) / cycle_len
    height = share / rise if share <= rise else (1 - share) / (1 - rise)
    return floor + (1 - floor) * peak_decay**num_cycles * height


def check_factors(factors: Mapping[int, float]) -> dict[int, float]:
    """Check and sort a mapping from epochs or steps, 0 among them, to factors of the rates.

    Raise `TypeError` if it is no mapping of whole numbers to numbers, `ValueError` if there is
    nothing for 0, a key is negative, or a factor is not a finite number above 0.

    >>> check_factors({4: 0.1, 0: 1})
    {0: 1.0, 4: 0.1}
    """
    example = "Write it as {0: 1.0, 4: 0.1}."
    if not isinstance(factors, Mapping):
        raise TypeError(f"`factors` must be a mapping, got {factors!r}. {example}")
    for start, factor in factors.items():
        if isinstance(start, bool) or not isinstance(start, int) or not _is_number(factor):
            raise TypeError(
                f"`factors` must map whole numbers to numbers, got {start!r}: {factor!r}. {example}"
            )
        if start < 0 or not 0 < factor < math.inf:
            raise ValueError(
                "`factors` must map epochs or steps from 0 on to finite factors above 0, got"
                f" {start}: {factor}. {example}"
            )
    if 0 not in factors:
        raise ValueError(
            f"`factors` must say what holds from 0 on, but begin with {sorted(factors)[:1]}."
            " Add 0: 1.0 to begin with the rates as they are."
        )
    return {start: float(factor) for start, factor in sorted(factors.items())}


def factor_from(factors: Mapping[int, float], time: float | Fraction) -> float:
    """Return the factor of the last start up to a time, in epochs or steps as the starts are.

    >>> [factor_from({0: 1.0, 2: 0.1}, time / 2) for time in range(6)]
    [1.0, 1.0, 1.0, 1.0, 0.1, 0.1]
    """
    return factors[max(start for start in factors if start <= time)]


def cycle_lengths(cycle_len: int, cycle_mult: int, num_cycles: int) -> list[int]:
    """List how many epochs each of the first cycles lasts.

    All arguments are whole numbers of at least 1, ``num_cycles`` of at least 0; raises ValueError
    if one is not.

    >>> cycle_lengths(cycle_len=1, cycle_mult=2, num_cycles=4)
    [1, 2, 4, 8]
    """
    check_cycle(cycle_len, cycle_mult)
    check_at_least("num_cycles", num_cycles, 0)
    return [cycle_len * cycle_mult**index for index in range(num_cycles)]


def cycle_ends(cycle_len: int, cycle_mult: int, num_cycles: int) -> list[int]:
    """List how many epochs each of the first cycles ends after the start of training.

    >>> cycle_ends(cycle_len=1, cycle_mult=2, num_cycles=4)
    [1, 3, 7, 15]
    """
    return list(accumulate(cycle_lengths(cycle_len, cycle_mult, num_cycles)))


def epochs_for_cycles(cycle_len: int, cycle_mult: int, num_cycles: int) -> int:
    """Return the ``max_epochs`` with which training ends exactly at the end of a cycle.

    >>> epochs_for_cycles(cycle_len=1, cycle_mult=2, num_cycles=3)
    7
    """
    return sum(cycle_lengths(cycle_len, cycle_mult, num_cycles))


def simulate(
    schedule: Callable[[Fraction], float], num_epochs: int, steps_per_epoch: int
) -> Tensor:
    """Compute the whole curve of a schedule without training.

    ``schedule`` is a function from the time in epochs to a factor or a rate. The result has one
    value for each optimizer step, ``float64``. Raises ValueError if a number is out of its range.

    >>> simulate(lambda epoch: warm_restart_factor(epoch, 1), num_epochs=2, steps_per_epoch=2)
    tensor([1.0000, 0.5000, 1.0000, 0.5000], dtype=torch.float64)
    """
    check_at_least("num_epochs", num_epochs, 0)
    check_at_least("steps_per_epoch", steps_per_epoch, 1)
    times = (Fraction(step, steps_per_epoch) for step in range(num_epochs * steps_per_epoch))
    return torch.tensor([schedule(time) for time in times], dtype=torch.float64)


def check_cycle(cycle_len: int, cycle_mult: int) -> None:
    """Raise a ValueError if cycles of this length and growth do not end with an epoch."""
    for name, value in (("cycle_len", cycle_len), ("cycle_mult", cycle_mult)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(
                f"`{name}` must be a whole number of at least 1, got {value!r}."
                " Cycles are counted in epochs, so that each ends where an epoch ends."
            )


def interpolate(first: float, last: float, share: float, shape: Shape) -> float:
    """Return the value at a ``share`` in [0, 1] of the way from one value to another.

    >>> round(interpolate(1.0, 0.0, 0.5, "cosine"), 6), interpolate(1.0, 0.0, 0.25, "linear")
    (0.5, 0.75)
    """
    check_choice("shape", shape, get_args(Shape))
    done = share if shape == "linear" else 0.5 * (1.0 - math.cos(math.pi * share))
    return first + (last - first) * done


def _check_common(
    epoch: float | Fraction, cycle_len: float, floor: float, peak_decay: float
) -> None:
    if not 0 <= epoch < math.inf:
        raise ValueError(f"`epoch` must be a finite number of at least 0, got {epoch}.")
    if not 0 < cycle_len < math.inf:
        raise ValueError(f"`cycle_len` must be a finite number of epochs above 0, got {cycle_len}.")
    if not 0 <= floor < 1:
        raise ValueError(
            f"`floor` must lie in [0, 1), got {floor}. It is a share of each group's peak rate."
        )
    if not 0 < peak_decay <= 1:
        raise ValueError(f"`peak_decay` must lie in (0, 1], got {peak_decay}. Use 1 for none.")


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
