"""How much training fits into a time, by seconds that were measured."""

from typing import NamedTuple


class Cycles(NamedTuple):
    """Cycles of training: the first is ``cycle_len`` epochs long, each next one twice as long."""

    cycle_len: int
    max_epochs: int


def cycles_within(cycle_len: int, seconds_per_epoch: float, seconds: float) -> Cycles | None:
    """Return three cycles of 1, 2 and 4 times ``cycle_len`` epochs, fewer if they last too long.

    First the cycles become shorter, then there are two, then one; ``None`` if not even one epoch
    lasts at most ``seconds``.

    >>> cycles_within(4, 1.0, 100), cycles_within(4, 1.0, 15), cycles_within(4, 1.0, 4)
    (Cycles(cycle_len=4, max_epochs=28), Cycles(cycle_len=2, max_epochs=14), Cycles(cycle_len=1, max_epochs=3))
    >>> cycles_within(4, 1.0, 0.5) is None
    True
    """  # noqa: E501
    epochs = int(seconds / max(seconds_per_epoch, 1e-9))
    for units in (7, 3, 1):
        if epochs >= units:
            length = min(cycle_len, epochs // units)
            return Cycles(length, units * length)
    return None


def models_within(seconds_per_model: float, seconds: float, most: int) -> int:
    """Return how many models can be trained within a time, at most ``most``, perhaps none.

    >>> models_within(10.0, 35.0, 5)
    3
    """
    return max(min(int(seconds / max(seconds_per_model, 1e-9)), most), 0)
