"""Which column of a table is predicted, and how: a class, a number, or its logarithm."""

import re
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.tables.codes import is_text_column
from lightning_fastrecipes.functional.tables.rows import refuse_lists
from lightning_fastrecipes.functional.tables.target import TableTask

Column: TypeAlias = "pd.Series[Any]"

MOST_CLASSES = 10
"""Different whole numbers up to which they are taken for classes."""

_TARGET_NAME = re.compile(r"(target|label|class|outcome|y)$", re.IGNORECASE)
_LEAST_SKEW = 1.0


@dataclass(frozen=True)
class TargetChoice:
    """How a target is predicted, and why, in words.

    ``log`` says whether its logarithm is; ``log_reason`` is empty for classes. ``num_classes`` is 0
    for a regression, ``rarest`` the rows of the rarest class. ``has_other_scale`` says that numbers
    are above 0 and so skewed that the other scale may be as good.
    """

    task: TableTask
    reason: str
    log: bool = False
    log_reason: str = ""
    num_classes: int = 0
    rarest: int = 0
    has_other_scale: bool = False


def guess_target(frame: pd.DataFrame) -> tuple[str, str]:
    """Return the column that is probably predicted, and why.

    >>> guess_target(pd.DataFrame({"label": [0, 1], "size": [2, 3]}))
    ('label', 'the only column with a name such as target or label')
    """
    names = [str(name) for name in frame]
    named = [name for name in names if _TARGET_NAME.match(name)]
    if len(named) == 1:
        return named[0], "the only column with a name such as target or label"
    return names[-1], "the last column"


def choose_task(target: Column) -> TargetChoice:
    """Return whether a column holds classes or numbers, and whether their logarithm is predicted.

    Text, true and false, two values and up to ``MOST_CLASSES`` different whole numbers are classes.
    A logarithm is taken of numbers above 0 whose skew is above 1, if it more than halves the skew.
    Raise `DataError` if there are fewer than two different values.

    >>> choose_task(pd.Series([1.5, 2.5, 3.5])).task
    'regression'
    """
    values = target.dropna()
    refuse_lists(values)
    different = int(values.nunique())
    if different < 2:
        raise DataError(
            f"The target '{target.name}' must have two different values at least, but has"
            f" {different}. Name another by `target`."
        )
    if is_text_column(values) or values.dtype.kind not in "iuf":
        return _classes(values, f"{different} different values that are no numbers")
    numbers = values.to_numpy(np.float64)
    is_whole = bool(np.all(numbers == np.floor(numbers)))
    few = different <= MOST_CLASSES and len(numbers) >= 10 * different
    if is_whole and (different == 2 or few):
        return _classes(values, f"{different} different whole numbers in {len(numbers):,} rows")
    log, reason = _choose_log(numbers)
    both = float(numbers.min()) > 0 and _skew(numbers) > _LEAST_SKEW / 2
    words = f"{different:,} different numbers"
    return TargetChoice("regression", words, log, reason, has_other_scale=both)


def _classes(values: Column, reason: str) -> TargetChoice:
    counts = values.value_counts()
    counts = counts[counts > 0]
    return TargetChoice("classes", reason, num_classes=len(counts), rarest=int(counts.min()))


def _choose_log(numbers: Any) -> tuple[bool, str]:
    least = float(numbers.min())
    if least <= 0:
        return False, f"as it is, since the least is {least:g} and logarithms need more than 0"
    before, after = _skew(numbers), _skew(np.log(numbers))
    figures = f"its skew is {before:.1f}, that of its logarithm {after:.1f}"
    if before > _LEAST_SKEW and abs(after) < before / 2:
        return True, f"its logarithm, since {figures}"
    return False, f"as it is, since {figures}"


def _skew(numbers: Any) -> float:
    deviations = numbers - numbers.mean()
    std = deviations.std()
    return float(np.mean(deviations**3) / std**3) if std > 0 else 0.0
