"""Sizes of a training on a table: batches, steps and network, by rules of its rows and columns."""

import math
from dataclasses import dataclass

CYCLES = 7
"""Cycles of 1, 2 and 4 units are a training of so many."""

_STEPS_PER_EPOCH = 25
_SMALLEST_BATCH, _LARGEST_BATCH = 16, 1024
LEAST_STEPS = 500
"""Optimizer steps below which a table is not learned, however small it is."""


@dataclass(frozen=True)
class TableSizes:
    """How large batches, cycles and network are.

    ``cycle_len`` is the length in epochs of the first cycle; the next two are twice and four times
    as long, so that ``max_epochs`` is seven times that, and ``num_steps`` its optimizer steps.
    """

    batch_size: int
    steps_per_epoch: int
    cycle_len: int
    layers: tuple[int, ...]
    dropout: float
    lr: float
    weight_decay: float

    @property
    def max_epochs(self) -> int:
        """Epochs of the three cycles."""
        return CYCLES * self.cycle_len

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the three cycles."""
        return self.max_epochs * self.steps_per_epoch


def table_sizes(num_train: int) -> TableSizes:
    """Return sizes for a number of training rows, at least 1.

    A batch is the power of two nearest to a 25th of the rows, from 16 to 1,024. Cycles are as many
    epochs as make ``LEAST_STEPS`` optimizer steps, more with more rows (by their fourth root).

    >>> sizes = table_sizes(2_000)
    >>> sizes.batch_size, sizes.max_epochs, sizes.num_steps
    (64, 21, 672)
    """
    wished = max(num_train, 1) / _STEPS_PER_EPOCH
    batch_size = 2 ** round(math.log2(wished)) if wished > 1 else 1
    batch_size = min(max(batch_size, _SMALLEST_BATCH), _LARGEST_BATCH)
    steps_per_epoch = max(math.ceil(num_train / batch_size), 1)
    num_steps = max(LEAST_STEPS, LEAST_STEPS * (num_train / 1_000) ** 0.25)
    cycle_len = max(math.ceil(num_steps / steps_per_epoch / CYCLES), 1)
    layers, dropout = _network(num_train)
    return TableSizes(batch_size, steps_per_epoch, cycle_len, layers, dropout, 5e-3, 1e-2)


def _network(num_train: int) -> tuple[tuple[int, ...], float]:
    if num_train < 500:
        return (64, 32), 0.2
    return ((200, 100), 0.1) if num_train < 50_000 else ((500, 250), 0.05)
