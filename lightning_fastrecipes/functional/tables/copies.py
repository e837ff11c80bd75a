"""Rows of one split that are copies of rows of another."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_SAMPLE = 10_000
_LEAST_SHARE = 0.01
_FACTOR = 10
_MIXER = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)
_WIDE = {"f": np.float64, "i": np.int64}


def copies_in_words(splits: Mapping[Any, Sequence[Any]]) -> list[str]:
    """Return a sentence on rows of val and test that are in ``train`` as well, if there are some.

    Rows are given as ``num_copies`` takes them.
    """
    counts = {
        name: num_copies(splits["train"], rows) for name, rows in splits.items() if name != "train"
    }
    found = [f"{n:,} of {len(splits[name][0]):,} in {name}" for name, n in counts.items() if n]
    if not found:
        return []
    return [
        "Some rows are in training as well, with the same features and the same target:"
        f" {', '.join(found)}. These are remembered, not predicted, and scores are too good. Drop"
        " the copies, or keep rows that belong together in one split by a column that names their"
        " group: `split: {column: ..., val: 0.2}`."
    ]


def num_copies(training: Sequence[npt.NDArray[Any]], others: Sequence[npt.NDArray[Any]]) -> int:
    """Count rows that are in the training as well, beyond what chance explains; else 0.

    Rows are given as arrays ``(rows,)`` or ``(rows, columns)`` of numbers side by side, the same
    for both. Chance is that of columns that know nothing of one another: rows of a few categories
    are often the same. Fewer than one in a hundred, or a single one, are 0.

    >>> rows = np.arange(60.0).reshape(20, 3)
    >>> num_copies([rows], [rows[4:8] + [[0], [0], [0], [1]]])
    3
    """
    mine, theirs = _columns(training), _columns(others)
    found = int(np.isin(_digests(theirs), _digests(mine)).sum())
    if found < max(2, _LEAST_SHARE * len(theirs[0])):
        return 0
    alike = float(np.prod([_chance(column) for column in mine]))
    expected = len(theirs[0]) * min(1.0, alike * len(mine[0]))
    return found if found > _FACTOR * expected else 0


def _columns(arrays: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    return [column for array in arrays for column in array.reshape(len(array), -1).T]


def _digests(columns: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.uint64]:
    found = np.zeros(len(columns[0]), dtype=np.uint64)
    for column in columns:
        found ^= column.astype(_WIDE[column.dtype.kind]).view(np.uint64)
        found *= _MIXER
        found ^= found >> _SHIFT
    return found


def _chance(column: npt.NDArray[Any]) -> float:
    """Return how often two rows have the same value."""
    some = column[:: max(1, len(column) // _SAMPLE)]
    _, counts = np.unique(some, return_counts=True)
    return float(np.sum(counts * (counts - 1.0)) / max(1, len(some) * (len(some) - 1)))
