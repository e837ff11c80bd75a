"""The learning rate of each layer group, from one number, several or a range."""

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

Rates = float | Sequence[float] | Mapping[str, float]
"""One rate for the head; one per trained layer group from the input side; or a range."""

_RANGE = {"low", "high"}


def plain_rates(lr: Any) -> Any:
    """Return rates as plain values: a range, ``(low, high)`` or a slice, as a mapping of its ends.

    In YAML and in checkpoints a tuple would become a list, which means an array. Arrays of numpy
    become lists.

    >>> plain_rates((1e-5, 1e-3)), plain_rates([1e-5, 1e-3]), plain_rates(slice(1e-5, 1e-3))
    ({'low': 1e-05, 'high': 0.001}, [1e-05, 0.001], {'low': 1e-05, 'high': 0.001})
    """
    if isinstance(lr, slice) and lr.step is None and lr.start is not None:
        lr = (lr.start, lr.stop)
    if hasattr(lr, "tolist"):
        lr = lr.tolist()
    if isinstance(lr, tuple) and len(lr) == 2:
        return dict(zip(("low", "high"), lr, strict=True))
    return lr


def resolve_group_lrs(
    lr: Rates,
    lr_ratio: float,
    num_groups: int,
    num_frozen: int,
    *,
    train_frozen_norms: bool = False,
) -> list[float]:
    """Return the learning rate of every layer group, from the input side.

    ``lr`` is one of:

    - a number: the rate of the last group; each earlier group's is ``lr_ratio`` times smaller.
    - an array: as many numbers as trained groups stay as they are. Of any other number the last is
      the head's, and the others are spread evenly over the remaining trained groups, in order: with
      fewer, each serves groups next to one another, as equally many as can be, the first ones one
      more; with more, those are taken that lie evenly between the first and the last, which both
      are. One alone is the rate of every trained group.
    - a range, ``(low, high)`` (a tuple of two), ``slice(low, high)`` or ``{"low": ..., "high":
      ...}``: spread over the trained groups by equal factors, as in fastai.

    The ``num_frozen`` leading groups have the rate 0; where their batch norms train
    (``train_frozen_norms``), they follow the ratio, or have the first trained group's. Raise
    `TypeError` if a rate is no number, `ValueError` if one is not above 0, there is none, a range
    falls, or another number is out of range.

    >>> resolve_group_lrs(1e-2, lr_ratio=10, num_groups=3, num_frozen=1)
    [0.0, 0.001, 0.01]
    >>> resolve_group_lrs([1e-4, 1e-2], lr_ratio=1, num_groups=4, num_frozen=0)
    [0.0001, 0.0001, 0.0001, 0.01]
    >>> resolve_group_lrs([1, 2, 3, 4], lr_ratio=1, num_groups=3, num_frozen=0)
    [1.0, 3.0, 4.0]
    >>> [f"{lr:.0e}" for lr in resolve_group_lrs((1e-5, 1e-3), 1, num_groups=3, num_frozen=0)]
    ['1e-05', '1e-04', '1e-03']

    Discriminative fine-tuning: Howard and Ruder, *Universal Language Model Fine-tuning for Text
    Classification* (2018), section 3.2.
    """
    num_trained = num_groups - num_frozen
    check_number("lr_ratio", lr_ratio)
    if lr_ratio < 1:
        raise ValueError(
            f"`lr_ratio` must be at least 1, got {lr_ratio}. 3 makes each earlier group's rate a"
            " third of the next one's."
        )
    plain = plain_rates(lr)
    if isinstance(plain, Real):
        _check_rate(plain)
        rates = [float(plain) / lr_ratio**steps for steps in reversed(range(num_groups))]
    else:
        given = _several(plain)
        if lr_ratio != 1:
            raise ValueError(
                f"`lr_ratio` must be 1 when `lr` names several rates, got {lr_ratio}. Give one rate"
                " and a ratio, or rates alone."
            )
        spread = _between if isinstance(plain, Mapping) else _spread
        trained = spread(given, num_trained)
        rates = trained[:1] * num_frozen + trained
    frozen = rates[:num_frozen] if train_frozen_norms else [0.0] * num_frozen
    return [*frozen, *rates[num_frozen:]]


def describe_group_lrs(group_lrs: Mapping[str, float]) -> str:
    """Write the rate of each layer group by its name; those of rate 0 are frozen.

    >>> describe_group_lrs({"early": 0.0, "late": 1e-4, "head": 1e-3})
    'early frozen, late 1.00e-04, head 1.00e-03'
    """
    return ", ".join(
        f"{name} {f'{lr:.2e}' if lr > 0 else 'frozen'}" for name, lr in group_lrs.items()
    )


def by_layer_group(names: Sequence[str], values: Sequence[float]) -> dict[str, float]:
    """Join the parameter groups of a layer group, such as ``head/decay``, if they share a value.

    >>> by_layer_group(["body/decay", "head/decay", "head/no_decay"], [0.1, 0.3, 0.3])
    {'body': 0.1, 'head': 0.3}
    """
    by_name = dict(zip(names, values, strict=True))
    layers: dict[str, set[float]] = {}
    for name, value in by_name.items():
        layers.setdefault(name.partition("/")[0], set()).add(value)
    if all(len(found) == 1 for found in layers.values()):
        return {name: found.pop() for name, found in layers.items()}
    return by_name


def rates_in_words(groups: Sequence[Mapping[str, Any]]) -> str:
    """Write the rates of an optimizer's parameter groups by layer group.

    >>> rates_in_words([{"name": "body/decay", "lr": 0.0}, {"lr": 0.1}])
    'body frozen, group 1 1.00e-01'
    """
    names = [str(group.get("name", f"group {place}")) for place, group in enumerate(groups)]
    return describe_group_lrs(by_layer_group(names, [group["lr"] for group in groups]))


def check_number(argument: str, value: Any) -> None:
    """Raise a TypeError if a value is no number, a ValueError if it is not finite."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"`{argument}` must be a number, got {value!r}.")
    if not math.isfinite(value):
        raise ValueError(f"`{argument}` must be finite, got {value}.")


def _several(plain: Any) -> list[float]:
    if isinstance(plain, Mapping):
        if set(plain) != _RANGE:
            raise ValueError(
                f"A range of rates must have the keys `low` and `high`, got {sorted(plain)}."
                " Write {low: 1e-5, high: 1e-3}."
            )
        plain = [plain["low"], plain["high"]]
        if all(isinstance(rate, Real) for rate in plain) and plain[0] > plain[1]:
            raise ValueError(
                f"The range of rates must rise from the input side to the head, got {plain[0]} to"
                f" {plain[1]}. Give the lower rate first."
            )
    if isinstance(plain, slice):
        raise TypeError(
            f"A slice of rates must have two ends, such as slice(1e-5, 1e-3), got {plain}. What"
            " fastai means by slice(lr) is the array [lr / 10, lr]."
        )
    if isinstance(plain, str) or not isinstance(plain, Iterable):
        raise TypeError(
            f"`lr` must be a number, an array with the head's rate last, or a range, got {plain!r}."
        )
    given = list(plain)
    if not given:
        raise ValueError("`lr` must hold at least one rate, got none. Give the head's.")
    for rate in given:
        _check_rate(rate)
    return [float(rate) for rate in given]


def _check_rate(rate: Any) -> None:
    check_number("lr", rate)
    if rate <= 0:
        raise ValueError(f"`lr` must be above 0, got {rate}. To leave a group as it is, freeze it.")


def _spread(given: list[float], num_trained: int) -> list[float]:
    """Assign the last rate to the head, and spread the others evenly over the remaining groups."""
    *others, head = given
    num_others = num_trained - 1
    if len(others) > num_others > 0:
        step = (len(others) - 1) / max(num_others - 1, 1)
        chosen = [others[round(index * step)] for index in range(num_others)]
    else:
        others = others or [head]
        chosen = [others[index * len(others) // num_others] for index in range(num_others)]
    return [*chosen, head]


def _between(ends: list[float], num_trained: int) -> list[float]:
    """Rise from the low to the high rate by equal factors; one group alone has the high one."""
    low, high = ends
    if num_trained == 1:
        return [high]
    inner = range(1, num_trained - 1)
    return [low, *(low * (high / low) ** (index / (num_trained - 1)) for index in inner), high]
