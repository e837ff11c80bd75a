"""Numbers that are predicted: their mean, deviation and unit, in double precision."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_fastrecipes import plain
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.messages import name_some

LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class NumberTarget:
    """A number that is predicted, as learned from the training rows.

    ``mean`` and ``std`` are those of the training targets, or of their logarithms if ``log``. A
    model predicts how many deviations the target, or its logarithm, lies above the mean; where all
    training targets are the same, ``std`` is 0, and the deviation is taken for 1.

    >>> age = NumberTarget.fit("age", np.array([20.0, 40.0]))
    >>> age.to_model(torch.tensor([50.0])), age.from_model(torch.tensor([2.0]))
    (tensor([2.]), tensor([50.], dtype=torch.float64))
    """

    name: str
    mean: float = 0.0
    std: float = 1.0
    log: bool = False

    @classmethod
    def fit(
        cls, name: str, values: npt.NDArray[np.float64], *, log: bool = False
    ) -> "NumberTarget":
        """Learn from the targets of the training rows, ``(rows,)``, above 0 if ``log``."""
        encoded = np.log(values) if log else values
        if encoded.min() == encoded.max():
            return cls(name, float(encoded[0]), 0.0, log)
        return cls(name, *mean_and_std(lambda: [encoded]), log)

    def to_model(self, values: Tensor) -> Tensor:
        """Convert numbers from the user's units to what the model predicts, in 32 bits."""
        encoded = as_doubles(values).log() if self.log else values
        return in_deviations(encoded, self.mean, self.std or 1.0)

    def from_model(self, values: Tensor) -> Tensor:
        """Convert what the model predicts to the user's units, in 64 bits."""
        encoded = from_deviations(values, self.mean, self.std or 1.0)
        return encoded.exp() if self.log else encoded

    @property
    def centre(self) -> float:
        """What is predicted for a deviation of 0, in the user's units."""
        return math.exp(self.mean) if self.log else self.mean

    @property
    def num_digits(self) -> int:
        """To how many digits numbers are written, so that deviations have seven of them."""
        return 7 if self.log else num_digits(self.mean, self.std or 1.0)


_LOGARITHMS = (-750.0, 100.0)
_number = plain.number(-LARGEST, LARGEST)
_check_each = plain.items(
    plain.keys(
        {"name": plain.text(".{1,1000}", "a name")},
        {"mean": _number, "std": plain.number(0, LARGEST), "log": plain.flag},
        closed=True,
    ),
    1,
)


def by_column(
    convert: Callable[[NumberTarget, Tensor], Tensor],
    targets: Sequence[NumberTarget],
    values: Tensor,
) -> Tensor:
    """Convert the numbers of each target: ``(rows,)`` of one, ``(rows, targets)`` of several."""
    if len(targets) == 1:
        return convert(targets[0], values)
    pairs = zip(targets, values.unbind(1), strict=True)
    return torch.stack([convert(target, column) for target, column in pairs], dim=1)


def read_targets(targets: Any) -> tuple[NumberTarget, ...]:
    """Return targets that are given as such or as plain values; a ConfigurationError if wrong."""
    found = targets
    if isinstance(targets, Sequence):
        found = [asdict(x) if isinstance(x, NumberTarget) else x for x in targets]
    check_targets(found, "numbers")
    return tuple(NumberTarget(**values) for values in found)


def check_targets(value: Any, key: str) -> None:
    """Check plain values of targets, such as those of a file, by a ConfigurationError."""
    _check_each(value, key)
    plain.items(plain.anything, unique=True)([one["name"] for one in value], key)
    for one in value:
        if one.get("log"):
            plain.number(*_LOGARITHMS)(one.get("mean", 0.0), f"{key}: mean of {one['name']}")


def describe_targets(targets: Sequence[NumberTarget]) -> str:
    """Describe what is predicted, for people.

    >>> describe_targets([NumberTarget("age", 30.0, 12.5)])
    'age (mean 30, deviation 12.5)'
    """
    said = [
        f"{x.name} ({'logarithms: ' * x.log}mean {x.mean:.{x.num_digits - 1}g}, deviation"
        f" {x.std:.6g})"
        for x in targets[:10]
    ]
    return ", ".join([*said, *(["..."] if len(targets) > 10 else [])])


def refuse_other_numbers(trained: Sequence[str], found: Sequence[str]) -> None:
    """Raise a ConfigurationError unless names of numbers are the same, in the same order.

    >>> refuse_other_numbers(["age"], ["weight"])
    Traceback (most recent call last):
    lightning_fastrecipes.errors.ConfigurationError: The numbers of the data must be those of the \
model and its checkpoint, 'age', but are 'weight'. Use the data it was trained on, or start a new \
model.
    """
    if list(trained) != list(found):
        raise ConfigurationError(
            "The numbers of the data must be those of the model and its checkpoint,"
            f" {name_some(list(trained))}, but are {name_some(list(found))}. Use the data it was"
            " trained on, or start a new model."
        )


def plain_names(targets: Iterable[str]) -> list[str]:
    """Return different names of targets that metrics and files can be called by.

    >>> plain_names(["a.b", "a b"])
    ['a_b', 'a_b_2']
    """
    names: list[str] = []
    for target in targets:
        name = plain = re.sub(r"\W", "_", target)
        while name in names:
            name = f"{plain}_{len(names) + 1}"
        names.append(name)
    return names


def num_digits(zero: float, one: float) -> int:
    """Return to how many digits to write numbers, so that multiples of ``one`` have seven of them.

    >>> num_digits(1e6, 10.0), num_digits(0.0, 1.0)
    (12, 7)
    """
    return min(7 + max(0, math.ceil(math.log10(max(abs(zero) / one, 1e-9)))), 17)


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
