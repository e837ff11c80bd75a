"""How much each searched number decides of what trials reach."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_FEWEST = 4
_NUM_TREES, _NUM_STEPS = 100, 16


def trial_importance(shares: Floats, figures: Floats, seed: int = 0) -> list[float]:
    """Return for each searched number how much of the spread of the figures it explains alone.

    A random forest learns the figures ``(trials,)`` from where the values lie in their ranges
    ``(trials, numbers)``; what counts is the variance of its mean prediction along each number, as
    a share of that of all predictions. They sum to 1 at most, if numbers do not depend on one
    another. All are 0 of fewer than four trials, or of equal figures.

    >>> shares = np.random.default_rng(0).random((30, 2))
    >>> first, second = trial_importance(shares, (shares[:, 0] - 0.5) ** 2)
    >>> first > 0.8 > 0.1 > second
    True

    References:
        Hutter, Hoos and Leyton-Brown, *An Efficient Approach for Assessing Hyperparameter
        Importance* (2014).
    """
    figures = np.nan_to_num(figures, nan=np.inf)
    if len(figures) < _FEWEST or figures.min() == figures.max():
        return [0.0] * shares.shape[1]
    from sklearn.ensemble import RandomForestRegressor

    # By ranks, so that one trial that went astray does not decide alone.
    ranks = _ranks(figures)
    forest = RandomForestRegressor(_NUM_TREES, random_state=seed, min_samples_leaf=2)
    forest.fit(shares, ranks)
    whole = max(float(np.var(forest.predict(shares))), 1e-12)
    found = []
    for number in range(shares.shape[1]):
        means = []
        for share in (np.arange(_NUM_STEPS) + 0.5) / _NUM_STEPS:
            moved = shares.copy()
            moved[:, number] = share
            means.append(float(forest.predict(moved).mean()))
        found.append(min(float(np.var(means)) / whole, 1.0))
    return found


def _ranks(figures: Sequence[float] | Floats) -> Floats:
    order = np.argsort(np.argsort(figures, kind="stable"), kind="stable")
    return np.asarray(order, dtype=np.float64)
