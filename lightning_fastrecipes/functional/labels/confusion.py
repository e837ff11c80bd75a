"""What a confusion matrix says of each class, and of which classes are taken for one another."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

Counts = npt.NDArray[np.int64]


class ConfusedPair(NamedTuple):
    """Rows of one class that were taken for another, and their share of the class."""

    truth: str
    taken_for: str
    times: int
    share: float


def class_scores(counts: Counts, classes: Sequence[str]) -> pd.DataFrame:
    """Return precision, recall, F1 and support of each class, in the order of ``classes``.

    ``counts`` has true classes in rows and predicted ones in columns. What is not defined, such as
    the precision of a class that is never predicted, is NaN.

    >>> class_scores(np.array([[8, 2], [0, 10]]), ["cat", "dog"])["recall"].tolist()
    [0.8, 1.0]
    """
    right = np.diag(counts).astype(np.float64)
    support, predicted = counts.sum(axis=1), counts.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        columns = {
            "class": list(classes),
            "precision": right / predicted,
            "recall": right / support,
            "f1": 2 * right / (support + predicted),
            "support": support,
            "predicted": predicted,
        }
    return pd.DataFrame(columns)


def confused_pairs(counts: Counts, classes: Sequence[str], most: int = 10) -> list[ConfusedPair]:
    """List the commonest mistakes: which class was taken for which, the most frequent first.

    >>> confused_pairs(np.array([[8, 2], [0, 10]]), ["cat", "dog"])
    [ConfusedPair(truth='cat', taken_for='dog', times=2, share=0.2)]
    """
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    support = counts.sum(axis=1)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    found = []
    for place in order.tolist():
        row, column = divmod(place, len(classes))
        count = int(wrong[row, column])
        if count:
            share = count / int(support[row])
            found.append(ConfusedPair(classes[row], classes[column], count, share))
    return found
