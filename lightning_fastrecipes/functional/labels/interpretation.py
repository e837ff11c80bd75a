"""Which samples a model takes for which, and which it is most wrong about, from its predictions."""

import numpy as np
import pandas as pd

from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.labels.classes import probability_columns


def confusion(predictions: pd.DataFrame) -> pd.DataFrame:
    """Count how often each class was taken for which.

    Args:
        predictions: A table with the columns ``target`` and ``prediction``, one label each, such as
            ``predictions_test.csv`` of a run folder.

    Returns:
        Counts, with a row for each true class and a column for each predicted one, both sorted as
        the table has its columns of probabilities, or else by name.

    Raises:
        DataError: If a column is missing, or there are no rows.

    Example:
        >>> table = pd.DataFrame({"target": ["cat", "dog", "dog"], "prediction": ["dog"] * 3})
        >>> confusion(table).loc["cat", "dog"]
        np.int64(1)

    References:
        ``ClassificationInterpretation.confusion_matrix`` of fastai 2.
    """
    targets, predicted = _labels(predictions)
    found = sorted(set(targets) | set(predicted))
    columns = [str(name) for name in predictions.columns]
    places = dict(zip(found, probability_columns(found), strict=True))
    known = [name for name in found if places[name] in columns]
    known.sort(key=lambda name: columns.index(places[name]))
    classes = [*known, *(name for name in found if name not in known)]
    counts = pd.crosstab(targets, predicted)
    counts = counts.reindex(index=classes, columns=classes, fill_value=0)
    return counts.rename_axis(index="target", columns="prediction")


def most_confused(predictions: pd.DataFrame, min_count: int = 1) -> pd.DataFrame:
    """List the pairs of classes that are taken for one another, the commonest mistake first.

    Args:
        predictions: A table as for ``confusion``.
        min_count: Leave out pairs that came less often.

    Returns:
        One row for each mistake: ``target``, ``prediction``, ``count`` and ``share`` of the
        samples of the true class, in [0, 1].

    Raises:
        DataError: If a column is missing, or there are no rows.

    Example:
        >>> table = pd.DataFrame({"target": ["cat", "dog", "dog"], "prediction": ["dog"] * 3})
        >>> most_confused(table).values.tolist()
        [['cat', 'dog', 1, 1.0]]

    References:
        ``ClassificationInterpretation.most_confused`` of fastai 2.
    """
    counts = confusion(predictions)
    rows = [
        (target, prediction, int(count), count / counts.loc[target].sum())
        for target in counts.index
        for prediction, count in counts.loc[target].items()
        if target != prediction and count >= max(min_count, 1)
    ]
    table = pd.DataFrame(rows, columns=["target", "prediction", "count", "share"])
    order = ["count", "share"]
    return table.sort_values(order, ascending=False, kind="stable", ignore_index=True)


def top_losses(predictions: pd.DataFrame, k: int = 9) -> pd.DataFrame:
    """Return the samples that a model was most surely wrong about, or least sure of.

    Args:
        predictions: A table as for ``confusion``, with a column of probabilities for each class.
        k: How many rows to return, at least 1.

    Returns:
        The rows with the highest cross entropy, worst first, without the other probabilities:
        what names the sample, ``prediction``, ``target``, ``probability`` of the target, ``loss``.

    Raises:
        DataError: If a column is missing, there are no rows, or ``k`` is out of range.

    Example:
        >>> table = pd.DataFrame({"file": ["a", "b"], "prediction": ["dog", "dog"],
        ...                       "target": ["cat", "dog"], "cat": [0.25, 0.0], "dog": [0.75, 1.0]})
        >>> top_losses(table, 1)[["file", "probability"]].values.tolist()
        [['a', 0.25]]

    References:
        ``Interpretation.top_losses`` of fastai 2.
    """
    if k < 1:
        raise DataError(f"`k` must be at least 1, got {k}.")
    targets, _ = _labels(predictions)
    names = [str(name) for name in predictions.columns]
    wanted = probability_columns(targets.tolist())
    missing = sorted(set(wanted) - set(names))
    if missing:
        raise DataError(
            "The table must have a column of probabilities for each class, but has none for"
            f" {missing[:10]}. Give the table of predictions as it was written."
        )
    columns = [names.index(name) for name in wanted]
    own = predictions.to_numpy(object)[np.arange(len(targets)), columns].astype(float)
    last = max(names.index("target"), names.index("prediction"))
    table = predictions.iloc[:, : last + 1].assign(
        # What is rounded to nothing has a loss, too.
        probability=own,
        loss=-np.log(np.maximum(own, 1e-7)),
    )
    return table.sort_values("loss", ascending=False, kind="stable").head(k)


def _labels(predictions: pd.DataFrame) -> tuple["pd.Series[str]", "pd.Series[str]"]:
    """Return target and prediction as text, since a file cannot tell a class 7 from a number."""
    for name in ("target", "prediction"):
        if name not in predictions:
            raise DataError(
                f"The table must have the columns `target` and `prediction`, but has no `{name}`."
                " Give the predictions of a split with one label each."
            )
    if predictions.empty:
        raise DataError("The table must have rows, but has none.")
    target, prediction = (predictions[name].astype(str) for name in ("target", "prediction"))
    return target, prediction
