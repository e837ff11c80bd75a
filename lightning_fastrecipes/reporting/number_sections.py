"""What a report says of predicted numbers, of images or of rows of a table."""

from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_fastrecipes.functional.intervals import Interval, bootstrap_interval
from lightning_fastrecipes.reporting import blocks
from lightning_fastrecipes.reporting.blocks import Block

Floats = npt.NDArray[np.float64]

_MOST_POINTS = 1500
_NUM_BINS = 30


def number_metrics(truth: Floats, predicted: Floats) -> dict[str, float]:
    """Return the usual metrics of numbers ``(rows,)``; those that are not defined are NaN.

    >>> number_metrics(np.array([1.0, 3.0]), np.array([2.0, 2.0]))["mae"]
    1.0
    """
    errors = predicted - truth
    spread = float(((truth - truth.mean()) ** 2).sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(truth == 0, np.nan, errors / truth)
    has_zero = bool((truth == 0).any())
    return {
        "mae": float(np.abs(errors).mean()),
        "rmse": float(np.sqrt((errors**2).mean())),
        "r2": 1 - float((errors**2).sum()) / spread if spread else float("nan"),
        "rmspe": float("nan") if has_zero else float(np.sqrt((shares**2).mean())),
    }


def number_intervals(truth: Floats, predicted: Floats, seed: int = 0) -> dict[str, Interval]:
    """Return the intervals of those metrics."""

    def measure(name: str) -> Interval:
        return bootstrap_interval(
            lambda rows: number_metrics(truth[rows], predicted[rows])[name], len(truth), seed=seed
        )

    return {name: measure(name) for name in ("mae", "rmse", "r2", "rmspe")}


def number_blocks(split: str, name: str, truth: Floats, predicted: Floats) -> list[Block | None]:
    """Return predictions against targets, and the residuals of a split."""
    known = np.isfinite(truth) & np.isfinite(predicted)
    truth, predicted = truth[known], predicted[known]
    if not len(truth):
        return []
    order = np.random.default_rng(0).permutation(len(truth))[:_MOST_POINTS]
    residuals = predicted - truth
    points = np.column_stack([truth[order], predicted[order]]).tolist()
    counts, edges = np.histogram(residuals, _NUM_BINS)
    bars = np.column_stack([(edges[:-1] + edges[1:]) / 2, counts]).tolist()
    spread = np.column_stack([truth[order], residuals[order]]).tolist()
    more = "" if len(truth) <= _MOST_POINTS else f", {_MOST_POINTS:,} of {len(truth):,} rows"
    dots: dict[str, Any] = {"kind": "points", "name": split}
    return [
        blocks.plot(
            f"{name}: predicted against true, {split} split{more}",
            [{**dots, "points": points}], x="true", y="predicted", diagonal=True,
        ),
        blocks.plot(
            f"{name}: error against truth, {split} split{more}",
            [{**dots, "points": spread}], x="true", y="predicted - true",
        ),
        blocks.plot(
            f"{name}: how large the errors are, {split} split",
            [{"name": "rows", "kind": "bars", "points": bars}],
            x="predicted - true", y="rows",
        ),
    ]  # fmt: skip
