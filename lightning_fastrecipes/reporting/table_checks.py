"""What other models make of a table, which columns say the target by themselves, and drift."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lightning_fastrecipes.functional.tables.spec import TableSpec
from lightning_fastrecipes.reporting.number_sections import number_metrics

_MOST_CATEGORIES = 250  # of scikit-learn's boosting
_MOST_ONE_HOT = 50
_LEAVES = 64
_SAYS_ALL = 0.99
_FEWEST_ROWS = 30
_SMALLEST = 1e-7

Values = npt.NDArray[Any]


def baseline_metrics(
    train: pd.DataFrame,
    targets: Values,
    others: dict[str, tuple[pd.DataFrame, Values]],
    spec: TableSpec,
    *,
    is_class: bool,
    log: bool,
    seed: int = 0,
) -> dict[str, dict[str, dict[str, float]]]:
    """Fit a constant, a linear model and gradient boosting; return their metrics by split.

    ``train`` is an encoded frame with its ``targets``, numbers in the user's units or class
    indices; ``others`` are frame and targets by split. Numbers that the model predicts the
    logarithm of are so here, too. With fewer than 30 rows there is the constant alone.
    """
    found: dict[str, dict[str, dict[str, float]]] = {split: {} for split in others}
    learned = np.log(targets) if log else targets
    for name, model, design in _models(train, spec, len(targets), is_class=is_class, seed=seed):
        if not is_class or len(np.unique(learned)) > 1:
            model.fit(design(train), learned)
        else:
            continue
        for split, (frame, truth) in others.items():
            if is_class:
                found[split][name] = _class_metrics(model, design(frame), truth)
                continue
            predicted = model.predict(design(frame))
            found[split][name] = number_metrics(truth, np.exp(predicted) if log else predicted)
    return found


def _models(
    frame: pd.DataFrame, spec: TableSpec, num_rows: int, *, is_class: bool, seed: int
) -> Sequence[tuple[str, Any, Any]]:
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.linear_model import LogisticRegression, Ridge

    sizes = dict(zip(spec.categorical, spec.cardinalities, strict=True))
    few = [name for name in sizes if sizes[name] <= _MOST_ONE_HOT]

    def one_hot(rows: pd.DataFrame) -> Values:
        parts = [np.eye(sizes[name], dtype=np.float32)[rows[name].to_numpy(int)] for name in few]
        parts.append(rows[[n for n in rows if n not in sizes]].to_numpy(np.float32))
        return np.concatenate(parts, axis=1)

    def as_it_is(rows: pd.DataFrame) -> Values:
        return rows.to_numpy(np.float32)

    marks = [sizes.get(str(name), _MOST_CATEGORIES + 1) <= _MOST_CATEGORIES for name in frame]
    boosting = HistGradientBoostingClassifier if is_class else HistGradientBoostingRegressor
    constant = DummyClassifier(strategy="prior") if is_class else DummyRegressor()
    name = "the commonest class always" if is_class else "the mean always"
    found = [(name, constant, as_it_is)]
    if num_rows < _FEWEST_ROWS:
        return found
    linear = LogisticRegression(max_iter=200) if is_class else Ridge()
    boosted = boosting(categorical_features=marks, random_state=seed)
    return [*found, ("linear", linear, one_hot), ("gradient boosting", boosted, as_it_is)]


def _class_metrics(model: Any, design: Values, truth: Values) -> dict[str, float]:
    p = model.predict_proba(design)
    places = {int(one): place for place, one in enumerate(model.classes_)}
    of_truth = np.array(
        [p[row, places[int(t)]] if int(t) in places else 0.0 for row, t in enumerate(truth)]
    )
    accuracy = float((model.classes_[p.argmax(axis=1)] == truth).mean())
    return {"accuracy": accuracy, "loss": float(-np.log(np.clip(of_truth, _SMALLEST, 1)).mean())}


def telling_columns(
    train: pd.DataFrame, targets: Values, other: pd.DataFrame, truth: Values, *, is_class: bool
) -> list[tuple[str, float]]:
    """Return how much of the target each column says by itself, the most telling first.

    That is R² of numbers on rows that were not learned from, and of classes how much of the way
    from always predicting the commonest to being always right: 1 is all, 0 nothing.
    """
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    tree = DecisionTreeClassifier if is_class else DecisionTreeRegressor
    found = []
    for name in train:
        model = tree(max_leaf_nodes=_LEAVES, min_samples_leaf=5, random_state=0)
        predicted = model.fit(train[[name]].to_numpy(), targets).predict(other[[name]].to_numpy())
        if is_class:
            share = float(np.bincount(truth[truth >= 0]).max() / len(truth))
            right = float((predicted == truth).mean())
            score = (right - share) / (1 - share) if share < 1 else 0.0
        else:
            score = number_metrics(truth.astype(np.float64), predicted)["r2"]
        found.append((str(name), max(0.0, score) if np.isfinite(score) else 0.0))
    return sorted(found, key=lambda pair: -pair[1])


def leaking(columns: Sequence[tuple[str, float]]) -> list[str]:
    """Return the columns that say the target almost exactly by themselves."""
    return [name for name, score in columns if score >= _SAYS_ALL]


def drift(train: pd.DataFrame, other: pd.DataFrame, spec: TableSpec) -> dict[str, float]:
    """Return how differently columns are spread in two splits, in [0, 1], the most first.

    Of numbers it is the largest distance of the cumulated shares (Kolmogorov and Smirnov), of
    categories the share of rows that would have to change (total variation).
    """
    found = {}
    for name in train:
        one, two = train[name].to_numpy(), other[name].to_numpy()
        if name in spec.categorical:
            size = int(max(one.max(), two.max())) + 1
            shares = [np.bincount(v.astype(int), minlength=size) / len(v) for v in (one, two)]
            found[str(name)] = float(np.abs(shares[0] - shares[1]).sum() / 2)
            continue
        values = np.concatenate([one, two])
        cumulated = [np.searchsorted(np.sort(v), values, side="right") / len(v) for v in (one, two)]
        found[str(name)] = float(np.abs(cumulated[0] - cumulated[1]).max())
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))
