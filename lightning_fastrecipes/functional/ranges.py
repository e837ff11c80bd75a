"""Ranges of numbers and choices of values, as a search draws them: each from a share in [0, 1)."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lightning_fastrecipes.messages import shown

_EXAMPLES = {
    "uniform": "{uniform: [0.0, 0.5]}",
    "log_uniform": "{log_uniform: [1e-5, 1e-1]}",
    "int_uniform": "{int_uniform: [1, 8]}",
    "choice": "{choice: [16, 32, 64]}",
}
_sobol_engine: Any = torch.quasirandom.SobolEngine
_MOST_DIMENSIONS = 21_201
"""Of torch's Sobol sequence."""


@dataclass(frozen=True)
class Range:
    """What a number or another value may be.

    Args:
        kind: ``uniform``, ``log_uniform`` (by factors), ``int_uniform`` (both ends included) or
            ``choice``.
        values: The two ends; of a choice, at least two values of any kind.

    Raises:
        ValueError: If there is no such kind, or the values do not fit.

    Example:
        >>> Range("log_uniform", (1e-4, 1e-2)).value(0.5)
        0.001
    """

    kind: str
    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if self.kind not in _EXAMPLES:
            raise ValueError(f"a range must be one of {', '.join(_EXAMPLES)}, got {self.kind!r}.")
        if self.kind == "choice":
            if len(self.values) < 2 or _num_different(self.values) < len(self.values):
                raise self._wrong("at least two values, all different")
            return
        kinds = (int,) if self.kind == "int_uniform" else (int, float)
        is_pair = len(self.values) == 2 and all(type(v) in kinds for v in self.values)
        if not is_pair or not all(map(math.isfinite, self.values)):
            raise self._wrong(f"two {'whole ' * (kinds == (int,))}numbers")
        if not self.values[0] < self.values[1]:
            raise self._wrong("the lower end first, and a higher one")
        if self.kind == "log_uniform" and not self.values[0] > 0:
            raise self._wrong("ends above 0")

    def _wrong(self, must: str) -> ValueError:
        return ValueError(
            f"a range `{self.kind}` must have {must}, but has {shown(list(self.values))}. Write"
            f" `{_EXAMPLES[self.kind]}`."
        )

    def value(self, share: float) -> Any:
        """Return the value at a share of the range, in [0, 1).

        >>> [Range("int_uniform", (1, 3)).value(share) for share in (0.0, 0.5, 0.99)]
        [1, 2, 3]
        """
        if self.kind == "choice":
            return self.values[min(int(share * len(self.values)), len(self.values) - 1)]
        low, high = self.values
        if self.kind == "int_uniform":
            return min(low + int(share * (high - low + 1)), high)
        if self.kind == "uniform":
            return _rounded(low + share * (high - low))
        return _rounded(math.exp(math.log(low) + share * math.log(high / low)))

    def share(self, value: Any) -> float:
        """Return the share at which a value lies: the middle of those that have it.

        >>> Range("choice", ("a", "b")).share("b")
        0.75
        """
        if self.kind == "choice":
            return (self.values.index(value) + 0.5) / len(self.values)
        low, high = self.values
        if self.kind == "int_uniform":
            return float((value - low + 0.5) / (high - low + 1))
        if self.kind == "uniform":
            return float((value - low) / (high - low))
        return math.log(value / low) / math.log(high / low)


def is_range(value: Any) -> bool:
    """Return whether a plain value is a range: a mapping of its kind to its values.

    >>> is_range({"uniform": [0, 1]}), is_range({"low": 1e-5, "high": 1e-3})
    (True, False)
    """
    return isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in _EXAMPLES


def read_range(value: Mapping[str, Any]) -> Range:
    """Read a range; raise `ValueError` if it is wrong.

    >>> read_range({"int_uniform": [1, 8]})
    Range(kind='int_uniform', values=(1, 8))
    """
    ((kind, values),) = value.items()
    return Range(kind, tuple(values) if isinstance(values, (list, tuple)) else (values,))


def find_ranges(
    value: Any, path: tuple[str | int, ...] = ()
) -> dict[tuple[str | int, ...], Mapping[str, Any]]:
    """Return the ranges in nested plain values, by the keys and places that lead to them.

    >>> find_ranges({"stages": {"all": {"lr": {"uniform": [0, 1]}}}})
    {('stages', 'all', 'lr'): {'uniform': [0, 1]}}
    """
    if is_range(value):
        return {path: value}
    items: Any = value.items() if isinstance(value, Mapping) else ()
    items = enumerate(value) if isinstance(value, list) else items
    found: dict[tuple[str | int, ...], Mapping[str, Any]] = {}
    for key, item in items:
        found |= find_ranges(item, (*path, key))
    return found


def quasi_random(count: int, dimensions: int, seed: int, first: int = 0) -> list[list[float]]:
    """Return points that fill a cube more evenly than random ones; a point follows from its number.

    Points ``first`` to ``first + count - 1`` of a scrambled Sobol sequence, shares in [0, 1).
    Raise `ValueError` for more dimensions than the sequence has.

    >>> quasi_random(2, 1, seed=0, first=3) == quasi_random(5, 1, seed=0)[3:]
    True

    References:
        Bergstra and Bengio, *Random Search for Hyper-Parameter Optimization* (2012), section 3.
    """
    if dimensions > _MOST_DIMENSIONS:
        raise ValueError(
            f"at most {_MOST_DIMENSIONS:,} ranges can be searched, got {dimensions:,}."
        )
    engine: Any = _sobol_engine(dimensions, scramble=True, seed=seed)
    engine.fast_forward(first)
    points: list[list[float]] = engine.draw(count, dtype=torch.float64).clamp(0, 1 - 1e-9).tolist()
    return points


def around(centre: Sequence[float], point: Sequence[float], width: float) -> list[float]:
    """Return a point of a cube of a width around a centre, kept within [0, 1).

    Both are shares; where the small cube would leave the large one, it is moved back into it.

    >>> around([0.5, 0.0], [0.5, 0.5], 0.2)
    [0.5, 0.1]
    """
    lows = [min(max(share - width / 2, 0.0), 1.0 - width) for share in centre]
    return [low + width * share for low, share in zip(lows, point, strict=True)]


def best_first(figures: Mapping[int, tuple[float, ...]], *, count: int | None = None) -> list[int]:
    """Return the numbers of trials, the best first; of equal ones the first.

    ``figures`` are lower for a better trial; the second decides where the first is equal, and so
    on. With a ``count`` only so many are returned.

    >>> best_first({0: (0.2, 1.0), 1: (0.1, 0.5), 2: (0.1, 0.4)}, count=2)
    [2, 1]
    """
    order = sorted(figures, key=lambda number: (*map(_finite, figures[number]), number))
    return order[:count]


def survivors(count: int, factor: int = 3) -> int:
    """Return how many of several trials are trained further, at least one.

    >>> [survivors(count) for count in (15, 5, 2, 1)]
    [5, 2, 1, 1]

    References:
        Jamieson and Talwalkar, *Non-stochastic Best Arm Identification* (2016).
    """
    return max(1, -(-count // factor))


def halving_epochs(num_epochs: int, cycle_ends: Sequence[int], factor: int = 3) -> list[int]:
    """Return after how many epochs trials are compared, the last time at the end.

    About a ninth and a third of the epochs; where the schedule has several cycles, the first end of
    a cycle from there on.

    >>> halving_epochs(10, [10]), halving_epochs(7, [1, 3, 7]), halving_epochs(1, [1])
    ([2, 4, 10], [1, 3, 7], [1])
    """
    wanted = [-(-num_epochs // factor**2), -(-num_epochs // factor)]
    ends = [end for end in cycle_ends if end < num_epochs]
    if ends:
        wanted = [next((end for end in ends if end >= one), num_epochs) for one in wanted]
    return sorted({*wanted, num_epochs})


def _finite(figure: float) -> float:
    return figure if math.isfinite(figure) else math.inf


def _rounded(value: float) -> float:
    """Round to four digits, which no training can tell from more."""
    return float(f"{value:.4g}")


def _num_different(values: Sequence[Any]) -> int:
    # Values may be lists, and 1 is not 1.0 to a recipe.
    key: Callable[[Any], str] = repr
    return len({key(value) for value in values})
