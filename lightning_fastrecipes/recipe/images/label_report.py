"""Tables of a run whose images have several labels: each label by itself, and in company."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_average_precision

from lightning_fastrecipes.data.common.files import write_atomically
from lightning_fastrecipes.functional.labels.multi_label import (
    cooccurrence,
    decide_labels,
    fbeta_of_counts,
)
from lightning_fastrecipes.plots.runs import draw_cooccurrence

DECIMALS = 6


def label_table(
    probabilities: Tensor, targets: Tensor, classes: Sequence[str], thresholds: Tensor
) -> pd.DataFrame:
    """Measure each label by itself.

    Args:
        probabilities: Shape ``(rows, num_classes)``.
        targets: 0 or 1. Shape ``(rows, num_classes)``.
        classes: One name per column.
        thresholds: One per column.

    Returns:
        One row per label, the commonest first: ``label``, ``count``, ``predicted``, ``threshold``,
        ``precision``, ``recall``, ``f1``, ``f2`` and ``average_precision``; a value that nothing
        says anything of, such as the precision of what is never predicted, is missing.

    Example:
        >>> p, t = torch.tensor([[0.9, 0.6], [0.2, 0.7]]), torch.tensor([[1, 0], [0, 1]])
        >>> label_table(p, t, ["sun", "sea"], torch.tensor([0.5, 0.5]))["f2"].round(3).tolist()
        [0.833, 1.0]
    """
    decided, truth = decide_labels(probabilities, thresholds), targets >= 0.5
    right, predicted, actual = (c.sum(0) for c in (decided & truth, decided, truth))
    scores = {
        "precision": right / predicted,
        "recall": right / actual,
        "f1": fbeta_of_counts(right, predicted, actual, 1.0),
        "f2": fbeta_of_counts(right, predicted, actual, 2.0),
        "average_precision": torch.stack(
            [
                binary_average_precision(probabilities[:, i], truth[:, i].long())
                if actual[i]
                else torch.tensor(float("nan"))
                for i in range(len(classes))
            ]
        ),
    }
    nothing = (actual + predicted) == 0
    scores["f1"][nothing] = scores["f2"][nothing] = float("nan")
    table = pd.DataFrame(
        {
            "label": list(classes),
            "count": actual.tolist(),
            "predicted": predicted.tolist(),
            "threshold": [float(str(value)) for value in thresholds.cpu().numpy()],
        }
        | {name: values.double().numpy().round(DECIMALS) for name, values in scores.items()}
    )
    return table.sort_values(["count", "label"], ascending=[False, True], ignore_index=True)


def write_label_report(
    folder: Path,
    split: str,
    rows: tuple[Tensor, Tensor],
    classes: Sequence[str],
    thresholds: Tensor,
) -> None:
    """Write ``labels_SPLIT.csv``, and which labels go together as table and image.

    Args:
        folder: Run folder.
        split: Name of the split; of ``test``, which labels go together bears no suffix.
        rows: Probabilities and targets. Shape ``(rows, num_classes)`` each.
        classes: One name per column.
        thresholds: One per column.
    """
    probabilities, targets = rows
    thresholds = thresholds.cpu()
    table = label_table(probabilities, targets, classes, thresholds)
    write_atomically(folder / f"labels_{split}.csv", table.to_csv(index=False))
    stem = "label_cooccurrence" if split == "test" else f"label_cooccurrence_{split}"
    together = cooccurrence_table(targets, classes)
    write_atomically(folder / f"{stem}.csv", together.to_csv(index=False))
    decided = decide_labels(probabilities, thresholds)
    draw_cooccurrence(cooccurrence(targets), cooccurrence(decided), classes, folder / f"{stem}.png")


def cooccurrence_table(holds: Tensor, classes: Sequence[str]) -> pd.DataFrame:
    """Count in how many images two labels hold together.

    Args:
        holds: 0 or 1. Shape ``(rows, num_classes)``.
        classes: One name per column.

    Returns:
        Column ``label``, and one column per label; a label with itself is its count.

    Example:
        >>> cooccurrence_table(torch.tensor([[1, 1], [1, 0]]), ["sun", "sea"])["sun"].tolist()
        [2, 1]
    """
    counts = pd.DataFrame(cooccurrence(holds).numpy(), columns=list(classes))
    counts.insert(0, "label", list(classes))
    return counts
