"""Whether probabilities can be taken at their word, and the temperature that mends them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_SMALLEST = 1e-7
_RANGE = (0.01, 100.0)  # of the inverse of a temperature


@dataclass(frozen=True)
class ReliabilityBin:
    """Predictions of about the same confidence.

    ``confidence`` is their mean, ``accuracy`` the share that is right; the bin reaches from ``low``
    to ``high``.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def reliability(
    confidence: Floats, is_right: npt.NDArray[np.bool_], num_bins: int = 10
) -> list[ReliabilityBin]:
    """Compare confidence with the share that is right, in bins of equal width.

    ``confidence`` ``(rows,)`` is in [0, 1]. Bins without a row are left out. From Niculescu-Mizil
    and Caruana, *Predicting good probabilities* (2005).

    >>> found = reliability(np.array([0.95, 0.85, 0.91]), np.array([True, True, False]))
    >>> [(one.count, one.accuracy) for one in found]
    [(1, 1.0), (2, 0.5)]
    """
    places = np.minimum((confidence * num_bins).astype(np.int64), num_bins - 1)
    found = []
    for place in np.unique(places):
        rows = places == place
        found.append(
            ReliabilityBin(
                float(place / num_bins),
                float((place + 1) / num_bins),
                int(rows.sum()),
                float(confidence[rows].mean()),
                float(is_right[rows].mean()),
            )
        )
    return found


def calibration_error(bins: list[ReliabilityBin]) -> float:
    """Return the expected calibration error: mean gap of confidence and accuracy, over rows.

    From Guo et al., *On calibration of modern neural networks* (2017); 0 is perfect, and nothing is
    NaN.

    >>> calibration_error([ReliabilityBin(0.9, 1.0, 4, 0.95, 0.75)])
    0.2
    """
    total = sum(one.count for one in bins)
    if not total:
        return float("nan")
    gaps = sum(one.count * abs(one.confidence - one.accuracy) for one in bins)
    return round(gaps / total, 12)


def at_temperature(probabilities: Floats, temperature: float) -> Floats:
    """Soften probabilities ``(rows, classes)`` by a temperature above 1, or sharpen them below it.

    >>> at_temperature(np.array([[0.9, 0.1]]), 2.0).round(2).tolist()
    [[0.75, 0.25]]
    """
    return _powers(_logarithms(probabilities), 1.0 / temperature)


def fit_temperature(probabilities: Floats, targets: npt.NDArray[np.int64]) -> float:
    """Find the temperature at which the cross entropy of probabilities is lowest.

    ``probabilities`` have shape ``(rows, classes)``, ``targets`` are class indices ``(rows,)``. The
    result lies in [0.01, 100]. Fit it on rows that were not trained on. The loss is convex in the
    inverse of the temperature, so that halving its range finds the one minimum. From Guo et al.,
    *On calibration of modern neural networks* (2017).

    >>> sure = np.array([[0.99, 0.01]] * 4)
    >>> mended = at_temperature(sure, fit_temperature(sure, np.array([0, 0, 0, 1])))
    >>> mended[0].round(2).tolist()
    [0.75, 0.25]
    """
    logs = _logarithms(probabilities)
    wanted = logs[np.arange(len(logs)), targets].mean()
    low, high = np.log(_RANGE)
    for _ in range(60):
        middle = (low + high) / 2
        expected = (_powers(logs, float(np.exp(middle))) * logs).sum(axis=1).mean()
        low, high = (low, middle) if expected > wanted else (middle, high)
    return float(np.exp(-(low + high) / 2))


def usable_temperature(probabilities: Floats, targets: npt.NDArray[np.int64]) -> float | None:
    """Fit a temperature as :func:`fit_temperature`, on the rows that have a label, -1 being none.

    Return ``None`` where these have no lowest cross entropy, as they are all right.

    >>> usable_temperature(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1])) is None
    True
    """
    known = targets >= 0
    if not known.any():
        return None
    found = fit_temperature(probabilities[known], targets[known])
    low, high = _RANGE
    return found if 1.01 / high < found < 0.99 / low else None


def _logarithms(probabilities: Floats) -> Floats:
    found: Floats = np.log(np.clip(probabilities, _SMALLEST, None))
    return found


def _powers(logs: Floats, power: float) -> Floats:
    scaled = logs * power
    scaled -= scaled.max(axis=1, keepdims=True)
    found: Floats = np.exp(scaled)
    found /= found.sum(axis=1, keepdims=True)
    return found
