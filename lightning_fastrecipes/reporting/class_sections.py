"""What a report says of classes: one per image or row, certain or as probabilities."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lightning_fastrecipes.functional.intervals import Interval, mean_interval, share_interval
from lightning_fastrecipes.functional.labels.calibration import (
    at_temperature,
    calibration_error,
    fit_temperature,
    reliability,
)
from lightning_fastrecipes.functional.labels.confusion import class_scores, confused_pairs
from lightning_fastrecipes.reporting import blocks
from lightning_fastrecipes.reporting.blocks import Block

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

_MOST_CELLS = 50  # classes of a confusion matrix, beyond which the most confused are shown
_MOST_PAIRS = 15
_SMALLEST = 1e-7


class Decided(NamedTuple):
    """Probabilities ``(rows, classes)`` of a split, and true classes ``(rows,)``, -1 if unknown.

    ``losses`` ``(rows,)`` are the cross entropy.
    """

    probabilities: Floats
    truth: Indices
    losses: Floats

    @property
    def predicted(self) -> Indices:
        """The likeliest class of each row; of several the last."""
        last = self.probabilities.shape[1] - 1
        found: Indices = last - self.probabilities[:, ::-1].argmax(axis=1)
        return found

    def counts(self) -> Indices:
        """Count rows by true and predicted class."""
        size = self.probabilities.shape[1]
        known = self.truth >= 0
        cells = self.truth[known] * size + self.predicted[known]
        return np.bincount(cells, minlength=size * size).reshape(size, size)


def class_intervals(found: Decided) -> dict[str, Interval]:
    """Return the intervals of accuracy and loss."""
    right = found.predicted == found.truth
    return {
        "accuracy": share_interval(int(right.sum()), len(right)),
        "loss": mean_interval(found.losses),
    }


def commonest_class(found: Decided, shares: Floats) -> dict[str, float]:
    """Return what is measured if the commonest training class is always predicted.

    ``shares`` ``(classes,)`` are those of the training rows, which are predicted for the loss.
    """
    losses = -np.log(np.clip(shares[found.truth], _SMALLEST, 1))
    share = float((found.truth == int(shares.argmax())).mean())
    return {"accuracy": share, "loss": float(losses.mean())}


def confusion_blocks(splits: Mapping[str, Decided], classes: Sequence[str]) -> list[Block | None]:
    """Return confusion matrices, the commonest mistakes and figures of each class."""
    found: list[Block | None] = []
    for split, decided in reversed(list(splits.items())):
        counts = decided.counts()
        shown = _most_confused(counts)
        note = "Click a cell to see its images." if found == [] else ""
        if len(shown) < len(classes):
            note += f" The {len(shown)} of {len(classes)} classes with most mistakes."
        found.append(
            {
                "type": "confusion",
                "title": f"Confusion matrix, {split} split",
                "split": split,
                "classes": [classes[place] for place in shown],
                "counts": counts[np.ix_(shown, shown)],
                "note": note.strip(),
            }
        )
        pairs = confused_pairs(counts, classes, _MOST_PAIRS)
        rows = [[one.truth, one.taken_for, one.times, 100 * one.share] for one in pairs]
        columns = ["true class", "taken for", "times", "% of the class"]
        found.append(blocks.table(f"Most confused pairs, {split} split", columns, rows))
        scores = class_scores(counts, classes)
        found.append(blocks.frame_table(f"Classes, {split} split", scores))
    return found


def _most_confused(counts: Indices) -> list[int]:
    if len(counts) <= _MOST_CELLS:
        return list(range(len(counts)))
    wrong = counts.sum(0) + counts.sum(1) - 2 * np.diag(counts)
    return sorted(np.argsort(-wrong, kind="stable")[:_MOST_CELLS].tolist())


class Calibration(NamedTuple):
    """The temperature fitted on validation, if any, and the calibration error by split."""

    temperature: float | None
    errors: dict[str, float]
    mended: dict[str, float]


def measure_calibration(splits: Mapping[str, Decided]) -> Calibration:
    """Fit a temperature on the validation split, and measure calibration with and without it."""
    temperature = None
    if "val" in splits and len(splits["val"].truth) > 1:
        one = splits["val"]
        known = one.truth >= 0
        temperature = fit_temperature(one.probabilities[known], one.truth[known])
    errors = {split: _error(found, None) for split, found in splits.items()}
    # On the split that it was fitted on, a temperature proves nothing.
    others = {split: found for split, found in splits.items() if split != "val"}
    mended = {} if temperature is None else {s: _error(f, temperature) for s, f in others.items()}
    return Calibration(temperature, errors, mended)


def _error(found: Decided, temperature: float | None) -> float:
    p = found.probabilities
    p = p if temperature is None else at_temperature(p, temperature)
    return calibration_error(reliability(p.max(axis=1), found.predicted == found.truth))


def calibration_blocks(splits: Mapping[str, Decided], measured: Calibration) -> list[Block | None]:
    """Return reliability diagrams, the calibration errors and the temperature."""
    series: list[dict[str, Any]] = []
    for split, found in splits.items():
        bins = reliability(found.probabilities.max(axis=1), found.predicted == found.truth)
        points = [[one.confidence, one.accuracy] for one in bins]
        series.append({"name": split, "points": points, "kind": "line", "dots": True})
    plot = blocks.plot(
        "Reliability: of predictions that are so sure, how many are right",
        series, x="probability of the predicted class", y="share that is right", diagonal=True,
        unit=True,
    )  # fmt: skip
    rows = [[split, error, measured.mended.get(split)] for split, error in measured.errors.items()]
    columns = ["split", "calibration error", "at the temperature"]
    table = blocks.table("Expected calibration error", columns, rows)
    said = None
    if measured.temperature is not None:
        direction = "too sure" if measured.temperature > 1 else "not sure enough"
        said = blocks.text(
            f"The temperature that fits the validation split best is {measured.temperature:.3g}:"
            f" by it the model is {direction}. `fastrecipes predict --calibrated` divides logits by"
            " it, which changes no decision."
            " It was fitted on the validation split, so that only other splits show what it is"
            " worth."
        )
    return [said, plot, table]
