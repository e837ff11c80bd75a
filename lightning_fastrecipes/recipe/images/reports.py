"""Predictions of images beside their files, and for several labels a report of each label."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_average_precision

from lightning_fastrecipes.data.common.files import write_atomically
from lightning_fastrecipes.data.images.module import ImageDataModule
from lightning_fastrecipes.functional.labels.classes import probability_columns
from lightning_fastrecipes.functional.labels.decisions import decide_labels, decided_names
from lightning_fastrecipes.functional.labels.multi_label import cooccurrence, fbeta_of_counts
from lightning_fastrecipes.functional.labels.targets import known_labels
from lightning_fastrecipes.plots.classes import draw_cooccurrence
from lightning_fastrecipes.recipe.shared.predictions import (
    Predicted,
    append_columns,
    write_confusion,
)

DECIMALS = 6


def write_image_predictions(folder: Path, images: ImageDataModule, predicted: Predicted) -> None:
    """Write ``predictions_SPLIT.csv``, and a confusion matrix or a report of each label."""
    split, probabilities, targets = predicted.split, predicted.predictions, predicted.targets
    classes, thresholds = images.classes, predicted.thresholds
    # A rehearsal predicts the first batch alone.
    files = [str(name) for name in images.eval_dataset(split).files[: len(probabilities)]]
    table = prediction_table(files, probabilities, classes, targets, thresholds)
    table = append_columns(table, predicted.agreement, DECIMALS)
    write_atomically(folder / f"predictions_{split}.csv", table.to_csv(index=False))
    if thresholds is None:
        write_confusion(folder, predicted, classes)
        return
    thresholds = thresholds.cpu()
    labels = label_table(probabilities, targets, classes, thresholds)
    write_atomically(folder / f"labels_{split}.csv", labels.to_csv(index=False))
    stem = "label_cooccurrence" if split == "test" else f"label_cooccurrence_{split}"
    together = cooccurrence_table(targets, classes)
    write_atomically(folder / f"{stem}.csv", together.to_csv(index=False))
    decided = decide_labels(probabilities, thresholds) & known_labels(targets)
    draw_cooccurrence(
        cooccurrence(targets), cooccurrence(decided), classes, folder / f"{stem}.png",
        split=split, with_views=predicted.with_views,
    )  # fmt: skip


def prediction_table(
    files: list[str],
    probabilities: Tensor,
    classes: list[str],
    targets: Tensor | None = None,
    thresholds: Tensor | None = None,
) -> pd.DataFrame:
    """List predictions beside file names.

    The columns are ``file``, ``prediction``, ``target`` if given, and ``probability_columns``,
    rounded to six decimals. ``probabilities`` have shape ``(rows, num_classes)``; ``targets`` are
    class indices, probabilities, or 0 and 1. With ``thresholds``, one per class, images have
    several labels, which are joined by a space, or by a sign that no label has; ``unknown`` names
    those that are not known, if any.

    >>> prediction_table(["a.png"], torch.tensor([[0.25, 0.75]]), ["cat", "dog"]).values
    array([['a.png', 'dog', 0.25, 0.75]], dtype=object)
    """
    table = pd.DataFrame({"file": files})
    decided = {"prediction": probabilities} | ({} if targets is None else {"target": targets})
    for name, values in decided.items():
        wanted = 0.5 if thresholds is not None and name == "target" else thresholds
        table[name] = decided_names(values, classes, wanted)
    if thresholds is not None and targets is not None and not bool(known_labels(targets).all()):
        table["unknown"] = decided_names((~known_labels(targets)).float(), classes, 0.5)
    rounded = probabilities.double().numpy().round(DECIMALS)
    columns = pd.DataFrame(rounded, columns=probability_columns(classes))
    return pd.concat([table, columns], axis=1)


def label_table(
    probabilities: Tensor, targets: Tensor, classes: Sequence[str], thresholds: Tensor
) -> pd.DataFrame:
    """Measure each label by itself, the commonest first.

    ``probabilities`` and ``targets``, 0 or 1, have shape ``(rows, num_classes)``. The columns are
    ``label``, ``count``, ``predicted``, ``threshold``, ``precision``, ``recall``, ``f1``, ``f2``
    and ``average_precision``, and ``known`` where some labels are unknown, NaN or -1: all numbers
    are of the known ones. A value that is not defined, such as the precision of a label that is
    never predicted, is missing.

    >>> p, t = torch.tensor([[0.9, 0.6], [0.2, 0.7]]), torch.tensor([[1, 0], [0, 1]])
    >>> label_table(p, t, ["sun", "sea"], torch.tensor([0.5, 0.5]))["f2"].round(3).tolist()
    [0.833, 1.0]
    """
    known = known_labels(targets)
    decided, truth = decide_labels(probabilities, thresholds) & known, targets >= 0.5
    right, predicted, actual = (c.sum(0) for c in (decided & truth, decided, truth))
    scores = {
        "precision": right / predicted,
        "recall": right / actual,
        "f1": fbeta_of_counts(right, predicted, actual, 1.0),
        "f2": fbeta_of_counts(right, predicted, actual, 2.0),
        "average_precision": torch.full((len(classes),), torch.nan),
    }
    for i in torch.nonzero(actual).flatten().tolist():
        rows = known[:, i]
        score = binary_average_precision(probabilities[rows, i], truth[rows, i].long())
        scores["average_precision"][i] = score
    nothing = (actual + predicted) == 0
    scores["f1"][nothing] = scores["f2"][nothing] = torch.nan
    columns: dict[str, Any] = {
        "label": list(classes),
        "count": actual.tolist(),
        "predicted": predicted.tolist(),
        "threshold": [float(str(value)) for value in thresholds.cpu().numpy()],
    }
    if not bool(known.all()):
        columns["known"] = known.sum(0).tolist()
    columns |= {name: values.double().numpy().round(DECIMALS) for name, values in scores.items()}
    table = pd.DataFrame(columns)
    return table.sort_values(["count", "label"], ascending=[False, True], ignore_index=True)


def cooccurrence_table(holds: Tensor, classes: Sequence[str]) -> pd.DataFrame:
    """Count in how many images two labels hold together; the diagonal counts each label.

    ``holds`` is 0 or 1 in shape ``(rows, num_classes)``.

    >>> cooccurrence_table(torch.tensor([[1, 1], [1, 0]]), ["sun", "sea"])["sun"].tolist()
    [2, 1]
    """
    counts = pd.DataFrame(cooccurrence(holds).numpy(), columns=list(classes))
    counts.insert(0, "label", list(classes))
    return counts
