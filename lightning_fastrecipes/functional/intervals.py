"""How far a measured number may be from the true one: intervals of 95 %."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Interval = tuple[float, float]

_Z = 1.959963984540054


def share_interval(count: int, total: int) -> Interval:
    """Return where the true share lies if ``count`` of ``total`` rows have something.

    Without rows it is (0, 1). From Wilson, *Probable inference* (1927).

    >>> [round(end, 3) for end in share_interval(98, 100)]
    [0.93, 0.994]
    """
    if not total:
        return 0.0, 1.0
    share, square = count / total, _Z**2 / total
    middle = (share + square / 2) / (1 + square)
    half = _Z / (1 + square) * float(np.sqrt(share * (1 - share) / total + square / (4 * total)))
    return max(0.0, middle - half), min(1.0, middle + half)


def mean_interval(values: npt.NDArray[np.float64]) -> Interval:
    """Return where the true mean of independent values lies; NaN twice for fewer than two.

    >>> [round(end, 2) for end in mean_interval(np.array([1.0, 2.0, 3.0, 4.0]))]
    [1.23, 3.77]
    """
    if len(values) < 2:
        return float("nan"), float("nan")
    half = _Z * float(values.std(ddof=1)) / float(np.sqrt(len(values)))
    return float(values.mean()) - half, float(values.mean()) + half


def bootstrap_interval(
    measure: Callable[[npt.NDArray[np.int64]], float],
    num_rows: int,
    *,
    num_draws: int = 200,
    seed: int = 0,
) -> Interval:
    """Return where any measure of rows lies, by drawing rows anew with replacement.

    ``measure`` takes the indices of rows. NaN twice for fewer than two rows. From Efron,
    *Bootstrap methods* (1979).

    >>> values = np.arange(100.0)
    >>> low, high = bootstrap_interval(lambda rows: float(np.median(values[rows])), 100)
    >>> low < 49.5 < high
    True
    """
    if num_rows < 2:
        return float("nan"), float("nan")
    generator = np.random.default_rng(seed)
    found = [measure(generator.integers(0, num_rows, num_rows)) for _ in range(num_draws)]
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return float(low), float(high)
