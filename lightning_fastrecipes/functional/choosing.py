"""Which of several models to keep: the simplest that is not clearly worse than the best."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Losses = npt.NDArray[np.float64]


class Choice(NamedTuple):
    """The name that was chosen, and one sentence with the figures that it rests on."""

    name: str
    sentence: str


def choose(losses: Mapping[str, Losses], unit: str = "loss") -> Choice:
    """Choose by the losses of the same rows, names from the simplest to the most complex.

    The rule of one standard error: of the best mean and those whose rows are worse by no more than
    one standard error of the mean difference, the simplest is taken. Raise `ValueError` if there is
    nothing to choose from, or the rows are not the same number.

    >>> rng = np.random.default_rng(0)
    >>> noise = rng.normal(size=400)
    >>> choose({"plain": 1 + noise**2, "deep": 0.999 + noise**2 + 0.1 * rng.normal(size=400)}).name
    'plain'

    References:
        Breiman and others, *Classification and Regression Trees* (1984); the difference is paired.
    """
    if not losses or len({len(rows) for rows in losses.values()}) != 1:
        counts = {name: len(rows) for name, rows in losses.items()}
        raise ValueError(f"`losses` must be of the same rows for each name, got {counts}.")
    means = {name: float(np.mean(rows)) for name, rows in losses.items()}
    best = min(means, key=lambda name: means[name])
    for name, rows in losses.items():
        if name == best:
            break
        worse = rows - losses[best]
        error = standard_error(worse)
        if np.mean(worse) <= error:
            return Choice(
                name,
                f"{name}, {unit} {means[name]:.4g} in the mean of {len(rows):,} rows: {best} has"
                f" {means[best]:.4g}, which is less by no more than one standard error"
                f" ({error:.2g}).",
            )
    others = ", ".join(f"{name} {mean:.4g}" for name, mean in means.items() if name != best)
    against = f", against {others}" if others else ""
    return Choice(
        best,
        f"{best}, {unit} {means[best]:.4g} in the mean of {len(losses[best]):,} rows{against}.",
    )


def standard_error(values: Losses | Sequence[float]) -> float:
    """Return the standard error of a mean, infinite of fewer than two values.

    >>> standard_error([1.0, 3.0])
    1.0
    """
    found = np.asarray(values, dtype=np.float64)
    return float(found.std(ddof=1) / len(found) ** 0.5) if len(found) > 1 else float("inf")
