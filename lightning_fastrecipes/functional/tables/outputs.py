"""What the outputs of a network mean for a target that is a number."""

import math
from typing import Literal

from torch import Tensor

from lightning_fastrecipes.functional.tables.target import TargetColumn

OutputRange = Literal["auto", "span"] | tuple[float, float] | None
"""``span``: ``TargetColumn.range``; ``auto``: that, if a logarithm is predicted, else none."""


def output_range(column: TargetColumn, y_range: OutputRange) -> tuple[float, float] | None:
    """Return least and greatest prediction, encoded; ``None`` if unbounded."""
    if not isinstance(y_range, str):
        return y_range
    found = column.range if y_range == "span" or column.log else None
    return found if found is not None and found[0] < found[1] else None


def first_bias(column: TargetColumn, bounds: tuple[float, float] | None) -> float:
    """Return the bias of an output that predicts about the mean of the training targets.

    >>> first_bias(TargetColumn("km", "regression", low=0.0, high=4.0, mean=1.0), (0.0, 4.0))
    -1.09...
    """
    share = 0.5
    if bounds is not None:
        low, high = bounds
        # Not where the sigmoid is flat.
        share = min(max((column.mean - low) / (high - low), 0.05), 0.95)
    return math.log(share / (1 - share))


def scaled_output(column: TargetColumn, bounds: tuple[float, float] | None, raw: Tensor) -> Tensor:
    """Turn outputs of any size to predictions of a target as ``TargetColumn.to_model`` has it."""
    zero, one = column.unit
    if bounds is None:
        mean, std = column.mean, column.std or 1.0
        return (mean - zero) / one + std / one * raw
    low, high = ((bound - zero) / one for bound in bounds)
    return low + (high - low) * raw.sigmoid()
