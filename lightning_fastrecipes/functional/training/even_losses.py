"""Losses of a sweep as if all its batches were equally hard."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

_BANDWIDTH = 0.5  # decades
_CAP = 1.5  # of the first losses, beyond which a step says nothing of how hard its batch is


def even_losses(
    lrs: Sequence[float], losses: Sequence[float], start_losses: Sequence[float]
) -> list[float]:
    """Take out of losses how hard their batches are.

    ``start_losses`` are those of the same batches at the weights of the start. From each loss
    ``b (start loss - mean start loss)`` is subtracted, a control variate. Its weight ``b``, in
    [0, 1], is fitted to the steps around, weighted by a normal distribution of half a decade, with
    a line through their losses: it is 1 where nothing has changed yet, and falls as the weights
    move away. Without it a curve of a model that is trained already is mostly noise: its batches
    differ far more than the loss falls. Losses from the first on that is not finite, and losses
    whose start loss is not finite, stay as they are.

    >>> losses = [1.2, 1.0, 1.1, 1.3]
    >>> [round(loss, 6) for loss in even_losses([1e-4, 1e-3, 1e-2, 1e-1], losses, losses)]
    [1.15, 1.15, 1.15, 1.15]
    """
    found = np.asarray(losses, dtype=np.float64)
    finite = np.isfinite(found)
    known = np.isfinite(start_losses)
    known[len(found) if finite.all() else int(finite.argmin()) :] = False
    if known.sum() < 2:
        return [*losses]
    start = np.asarray(start_losses, dtype=np.float64)[known]
    hardness = start - start.mean()
    decades = np.log10(np.asarray(lrs, dtype=np.float64)[known])
    first = float(np.median(found[known][: known.sum() // 10 + 1]))
    capped = np.minimum(found[known], np.maximum(start, first + (_CAP - 1) * abs(first)))
    shares = [_share(decades - place, hardness, capped) for place in decades]
    found[known] -= np.array(shares) * hardness
    return [float(loss) for loss in found]


def _share(distances: Values, hardness: Values, losses: Values) -> float:
    """Fit a line and a share of the hardness to the losses around; return the share."""
    roots = np.exp(-0.25 * (distances / _BANDWIDTH) ** 2)[:, None]
    columns = np.stack([np.ones_like(distances), distances, hardness], axis=1)
    solution, *_ = np.linalg.lstsq(roots * columns, roots[:, 0] * losses, rcond=None)
    share = float(solution[2])
    return min(max(share, 0.0), 1.0) if math.isfinite(share) else 0.0
