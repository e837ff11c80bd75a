"""How much worse predictions become when a column is shuffled."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt
import pandas as pd

Predict = Callable[[pd.DataFrame], npt.NDArray[Any]]
ErrorOf = Callable[[npt.NDArray[Any], npt.NDArray[Any]], float]


def permutation_importance(
    predict: Predict,
    frame: pd.DataFrame,
    targets: npt.NDArray[Any],
    columns: Sequence[str] | Mapping[str, Sequence[str]],
    error: ErrorOf,
    *,
    num_repeats: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure how much the error of a model grows when a column is shuffled.

    Each column is shuffled over the rows, ``num_repeats`` times, all else as it is. Measure it on
    rows that were not trained on. Columns that say the same, such as the parts of a date, stand in
    for each other and each seem to matter little: shuffle such columns together, as one group.

    Args:
        predict: Returns the predictions for a table, one for each row, such as ``lambda rows:
            predictor.predict(rows)["prediction"].to_numpy()`` with what ``load`` returns.
        frame: The rows, as ``predict`` takes them.
        targets: What is to be predicted. Shape ``(rows,)``, or more axes.
        columns: Columns that are shuffled each by itself, or the name of a group to the columns
            that are shuffled together.
        error: Computes from predictions and targets a number that is greater the worse they are.
        num_repeats: How often each column is shuffled, at least 1.
        seed: At least 0. A column is shuffled in the same way whatever others are asked for.

    Returns:
        One row for each column or group, the most important first: ``column``, ``importance``
        (mean growth of the error), ``spread`` (its deviation over the repeats; missing for one),
        ``error`` (mean when shuffled) and ``plain_error``.

    Raises:
        ValueError: If a column is not there, there are no rows, or numbers are out of range.

    Example:
        >>> rows = pd.DataFrame({"used": [1.0, 2.0, 3.0, 4.0], "unused": [1.0, 2.0, 3.0, 4.0]})
        >>> targets = np.array([1.0, 2.0, 3.0, 4.0])
        >>> def error(predictions, targets):
        ...     return float(np.abs(predictions - targets).mean())
        >>> def predict(table):
        ...     return table["used"].to_numpy()
        >>> found = permutation_importance(predict, rows, targets, ["unused", "used"], error)
        >>> found["column"].tolist(), found["importance"].min()
        (['used', 'unused'], np.float64(0.0))

    References:
        Breiman, *Random Forests* (2001), section 10; fast.ai machine-learning course (2018),
        lesson 3.
    """
    groups = columns if isinstance(columns, Mapping) else {name: [name] for name in columns}
    _check(frame, targets, groups, num_repeats, seed)
    plain = float(error(predict(frame), targets))
    rows = []
    for name, members in groups.items():
        errors = [
            float(
                error(predict(_shuffled(frame, members, [seed, crc32(name.encode()), n])), targets)
            )
            for n in range(num_repeats)
        ]
        rows.append(
            {
                "column": name,
                "importance": float(np.mean(errors)) - plain,
                "spread": float(np.std(errors, ddof=1)) if num_repeats > 1 else float("nan"),
                "error": float(np.mean(errors)),
                "plain_error": plain,
            }
        )
    found = pd.DataFrame(rows, columns=["column", "importance", "spread", "error", "plain_error"])
    return found.sort_values("importance", ascending=False, kind="stable", ignore_index=True)


def _shuffled(frame: pd.DataFrame, names: Sequence[str], seeds: Sequence[int]) -> pd.DataFrame:
    order = np.random.default_rng(seeds).permutation(len(frame))
    # The other columns are shared with the frame, not copied.
    shuffled = frame.copy(deep=False)
    for name in names:
        shuffled[name] = frame[name].take(order).set_axis(frame.index)
    return shuffled


def _check(
    frame: pd.DataFrame,
    targets: npt.NDArray[Any],
    groups: Mapping[str, Sequence[str]],
    num_repeats: int,
    seed: int,
) -> None:
    if num_repeats < 1:
        raise ValueError(f"`num_repeats` must be at least 1, got {num_repeats}.")
    if seed < 0:
        raise ValueError(f"`seed` must be at least 0, got {seed}.")
    if len(frame) != len(targets) or not len(frame):
        raise ValueError(
            "`targets` must have one value for each row, and there must be rows, got"
            f" {len(targets)} targets and {len(frame)} rows. Give the targets of these rows."
        )
    missing = [name for members in groups.values() for name in members if name not in frame]
    if missing:
        raise ValueError(
            f"`columns` must name columns of the table, but {missing} are not among"
            f" {[str(name) for name in frame.columns][:30]}. Check the spelling."
        )
