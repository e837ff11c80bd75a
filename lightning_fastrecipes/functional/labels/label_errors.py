"""Labels that seem wrong, found by confident learning.

From Northcutt, Jiang and Chuang, *Confident learning: estimating uncertainty in dataset labels*
(2021). Probabilities must be of rows that were not trained on.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_SURE = 0.8


class Overlap(NamedTuple):
    """Two classes that overlap: rows of either that seem to be of the other, and their share."""

    one: str
    other: str
    rows: int
    share: float


def confident_classes(probabilities: Floats, labels: Indices) -> Indices:
    """Return the class that each row is confidently of, or -1 if it is of none.

    A row is confidently of a class if its probability reaches 0.8, or the mean of this probability
    over the rows labelled so, if that is less; of several the likeliest counts. Without the bound,
    half of the rows of a class that is told easily would fall below the mean. ``probabilities``
    have shape ``(rows, classes)``; ``labels`` are class indices, -1 without.

    >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.2, 0.8]])
    >>> confident_classes(p, np.array([0, 0, 1, 1])).tolist()
    [0, 0, -1, 1]
    """
    num_classes = probabilities.shape[1]
    thresholds = np.full(num_classes, np.inf)
    for place in range(num_classes):
        rows = labels == place
        if rows.any():
            thresholds[place] = min(_SURE, probabilities[rows, place].mean())
    reached = np.where(probabilities >= thresholds, probabilities, -1.0)
    best: Indices = reached.argmax(axis=1)
    return np.where(reached.max(axis=1) >= 0, best, -1)


def suspicion(probabilities: Floats, labels: Indices) -> Floats:
    """Return how wrong each label seems, in [-1, 1]: the lead of the best other class.

    Rows without a label have -1.

    >>> suspicion(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0])).round(1).tolist()
    [-0.8, 0.6]
    """
    rows = np.arange(len(labels))
    others = probabilities.copy()
    others[rows, labels] = -1.0
    found = others.max(axis=1) - probabilities[rows, labels]
    return np.where(labels >= 0, found, -1.0)


def label_errors(probabilities: Floats, labels: Indices) -> Flags:
    """Return which labels are probably wrong: those of rows that are confidently of another class.

    >>> p = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.2, 0.8], [0.9, 0.1]])
    >>> label_errors(p, np.array([0, 0, 1, 1, 1])).tolist()
    [False, False, False, False, True]
    """
    confident = confident_classes(probabilities, labels)
    found: Flags = (labels >= 0) & (confident >= 0) & (confident != labels)
    return found


def tag_suspicion(probabilities: Floats, targets: npt.NDArray[np.float64]) -> Floats:
    """Return how wrong each of several labels seems, in [-1, 1]. Shape ``(rows, labels)``.

    A label that is given is as suspicious as it is improbable, one that is not given as it is
    probable. ``targets`` are 0 and 1, -1 where unknown, which is never suspicious.

    >>> p, t = np.array([[0.9, 0.9], [0.1, 0.1]]), np.array([[1.0, 0.0], [0.0, 0.0]])
    >>> tag_suspicion(p, t).round(1).tolist()
    [[-0.8, 0.8], [-0.8, -0.8]]
    """
    given = targets >= 0.5
    found = np.where(given, 1 - 2 * probabilities, 2 * probabilities - 1)
    return np.where(targets >= 0, found, -1.0)


def tag_errors(probabilities: Floats, targets: npt.NDArray[np.float64]) -> Flags:
    """Return which of several labels are probably wrong, each judged as a class of its own.

    >>> p = np.array([[0.9], [0.8], [0.1], [0.2], [0.9]])
    >>> tag_errors(p, np.array([[1.0], [1.0], [0.0], [0.0], [0.0]]))[:, 0].tolist()
    [False, False, False, False, True]
    """
    found = np.zeros(targets.shape, dtype=bool)
    for place in range(targets.shape[1]):
        p, labels = (
            probabilities[:, place],
            np.where(targets[:, place] >= 0, targets[:, place] >= 0.5, -1).astype(np.int64),
        )
        found[:, place] = label_errors(np.column_stack([1 - p, p]), labels)
    return found


def overlapping_classes(
    probabilities: Floats, labels: Indices, classes: Sequence[str], most: int = 10
) -> list[Overlap]:
    """Return pairs of classes whose rows seem to be of one another, the most overlapping first.

    >>> p = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.2, 0.8], [0.9, 0.1]])
    >>> overlapping_classes(p, np.array([0, 0, 1, 1, 1]), ["cat", "dog"])
    [Overlap(one='cat', other='dog', rows=1, share=0.2)]
    """
    num_classes = len(classes)
    confident = confident_classes(probabilities, labels)
    known = (labels >= 0) & (confident >= 0)
    cells = labels[known] * num_classes + confident[known]
    joint = np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)
    sizes = np.bincount(labels[labels >= 0], minlength=num_classes)
    found = []
    for one in range(num_classes):
        for other in range(one + 1, num_classes):
            count = int(joint[one, other] + joint[other, one])
            if count:
                share = count / int(sizes[one] + sizes[other])
                found.append(Overlap(classes[one], classes[other], count, share))
    return sorted(found, key=lambda pair: -pair.share)[:most]
