"""What a report says of several labels per image."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lightning_fastrecipes.functional.intervals import Interval, mean_interval
from lightning_fastrecipes.functional.labels.multi_label import cooccurrence, sample_fbeta
from lightning_fastrecipes.recipe.images.reports import label_table
from lightning_fastrecipes.reporting import blocks
from lightning_fastrecipes.reporting.blocks import Block
from lightning_fastrecipes.reporting.overview import thinned

Floats = npt.NDArray[np.float64]

_MOST_CURVES = 12
_MOST_CELLS = 40


def tag_intervals(p: Floats, targets: npt.NDArray[Any], thresholds: Floats) -> dict[str, Interval]:
    """Return the intervals of the mean F2 and of the share of labels that are right, over images.

    Probabilities and targets have shape ``(rows, labels)``; -1 is unknown.
    """
    scores = _f2(p, targets, thresholds)
    known = targets >= 0
    right = ((p >= thresholds) == (targets >= 0.5)) & known
    shares = right.sum(1) / np.maximum(known.sum(1), 1)
    return {"f2": mean_interval(scores), "accuracy": mean_interval(shares)}


def commonest_tags(targets: npt.NDArray[Any], shares: Floats) -> tuple[str, dict[str, float]]:
    """Return what is measured if the commonest labels are always predicted, and how many.

    So many as score best on these very rows, which flatters the baseline. ``shares`` ``(labels,)``
    are those of training.
    """
    best = (0, -1.0, 0.0)
    order = np.argsort(-shares, kind="stable")
    known = targets >= 0
    for count in range(1, min(len(shares), 10) + 1):
        decided = np.zeros(targets.shape)
        decided[:, order[:count]] = 1
        score = float(_f2(decided, targets, np.full(len(shares), 0.5)).mean())
        right = ((decided == (targets >= 0.5)) & known).sum() / max(known.sum(), 1)
        if score > best[1]:
            best = (count, score, float(right))
    name = f"the {best[0]} commonest labels always"
    return name, {"f2": best[1], "accuracy": best[2]}


def _f2(p: Floats, targets: npt.NDArray[Any], thresholds: Floats) -> Floats:
    found = sample_fbeta(
        torch.from_numpy(p), torch.from_numpy(targets), torch.from_numpy(thresholds)
    )
    return found.double().numpy()


def tag_blocks(
    split: str,
    p: Floats,
    targets: npt.NDArray[Any],
    thresholds: Floats,
    names: Sequence[str],
) -> list[Block | None]:
    """Return figures, curves and thresholds of each label of a split, and which go together."""
    probabilities, truth = torch.from_numpy(p), torch.from_numpy(targets)
    table = label_table(probabilities, truth, names, torch.from_numpy(thresholds))
    found = [blocks.frame_table(f"Labels, {split} split, the commonest first", table)]
    shown = [names.index(name) for name in table["label"].head(_MOST_CURVES)]
    series = []
    for place in shown:
        rows = targets[:, place] >= 0
        points = _precision_recall(p[rows, place], targets[rows, place] >= 0.5)
        series.append({"name": names[place], "points": thinned(points, 100)})
    more = f" (the {_MOST_CURVES} commonest labels)" if len(names) > _MOST_CURVES else ""
    found.append(
        blocks.plot(
            f"Precision and recall by threshold, {split} split{more}",
            series,
            x="recall",
            y="precision",
            unit=True,
        )
    )
    series = [
        {"name": names[place], "points": _f1_by_threshold(p[:, place], targets[:, place])}
        for place in shown
    ]
    found.append(
        blocks.plot(
            f"F1 by threshold, {split} split{more}", series, x="threshold", y="F1", unit=True
        )
    )
    together = cooccurrence(truth).numpy()
    frequent = np.argsort(-np.diag(together), kind="stable")[:_MOST_CELLS]
    note = "Of images with the label of the row, how many have that of the column as well."
    found.append(
        {
            "type": "confusion",
            "title": f"Labels that go together, {split} split",
            "split": split,
            "classes": [names[place] for place in frequent],
            "counts": together[np.ix_(frequent, frequent)],
            "note": note,
            "plain": True,
        }
    )
    return found


def _precision_recall(p: Floats, truth: npt.NDArray[np.bool_]) -> list[list[float]]:
    order = np.argsort(-p, kind="stable")
    hits = truth[order].cumsum()
    if not len(hits) or not hits[-1]:
        return []
    precision = hits / np.arange(1, len(hits) + 1)
    found: list[list[float]] = np.column_stack([hits / hits[-1], precision]).tolist()
    return found


def _f1_by_threshold(p: Floats, targets: npt.NDArray[Any]) -> list[list[float]]:
    known = targets >= 0
    truth = targets[known] >= 0.5
    found = []
    for threshold in np.linspace(0.02, 0.98, 49):
        decided = p[known] >= threshold
        total = int(decided.sum() + truth.sum())
        if total:
            found.append([float(threshold), 2 * float((decided & truth).sum()) / total])
    return found
