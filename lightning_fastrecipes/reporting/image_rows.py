"""The predicted images of a run, row by row: what was true, what was predicted, how wrong it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from lightning_fastrecipes.functional.labels.numbers import read_targets
from lightning_fastrecipes.reporting.finished_run import FinishedRun, numbers_in
from lightning_fastrecipes.reporting.label_sources import image_folder, image_key

Floats = npt.NDArray[np.float64]

_SMALLEST = 1e-7
_NUM_SIGNS = 4


@dataclass(frozen=True)
class ImageRows:
    """The images of the validation and the test split.

    ``frame`` has the columns ``split``, ``position`` (in the split), ``file``, ``truth`` and
    ``prediction`` in words, ``wrongness`` (the greater the worse), ``unsureness``, ``is_right`` and
    ``sureness`` (the probability of the prediction, NaN for numbers). In the same order are
    ``predictions`` and ``targets``: probabilities ``(rows, classes)`` and class indices
    ``(rows,)``, probabilities or 0 and 1 ``(rows, classes)``; or numbers ``(rows, numbers)``.
    ``kind`` is that of the labels, ``thresholds`` are those of several labels.
    """

    kind: str
    names: list[str]
    frame: pd.DataFrame
    predictions: Floats
    targets: npt.NDArray[Any]
    thresholds: Floats | None = None

    def of(self, split: str) -> npt.NDArray[np.int64]:
        """Return the rows of a split."""
        return np.flatnonzero(self.frame["split"].to_numpy() == split)

    @property
    def hard(self) -> npt.NDArray[np.int64]:
        """The true class of each row; of probabilities the last of the likeliest."""
        if self.targets.ndim == 1:
            return self.targets.astype(np.int64)
        last = self.targets.shape[1] - 1
        found: npt.NDArray[np.int64] = last - self.targets[:, ::-1].argmax(axis=1)
        return found


def read_rows(run: FinishedRun) -> ImageRows:
    """Read the predictions of images; a `DataError` names what is none."""
    numbers = run.description.get("numbers")
    if numbers is not None:
        names = [number.name for number in read_targets(numbers)]
        return _number_rows(run, names)
    classes: list[str] = run.description["classes"]
    kind = str(run.description["label_kind"])
    parts, probabilities, targets = [], [], []
    thresholds = _thresholds(run, classes) if kind == "multi" else None
    for split, table in run.predictions.items():
        start = list(table.columns).index("target") + 1
        start += bool(len(table.columns) > start and table.columns[start] == "unknown")
        file = f"predictions_{split}.csv"
        columns = [numbers_in(table.iloc[:, start + k], file) for k in range(len(classes))]
        found = np.column_stack([column.to_numpy() for column in columns])
        truth = _targets(run, split, table, classes, kind)
        parts.append(_named(split, table))
        probabilities.append(found)
        targets.append(truth)
    frame = pd.concat(parts, ignore_index=True)
    predictions: Floats = np.concatenate(probabilities).astype(np.float64)
    truth = np.concatenate(targets)
    rows = ImageRows(kind, classes, frame, predictions, truth, thresholds)
    return _judged(rows)


def _named(split: str, table: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "split": split,
            "position": range(len(table)),
            "file": table["file"].tolist(),
            "truth": table["target"].tolist() if "target" in table else "",
            "prediction": table["prediction"].tolist() if "prediction" in table else "",
        }
    )


def _targets(
    run: FinishedRun, split: str, table: pd.DataFrame, classes: Sequence[str], kind: str
) -> npt.NDArray[Any]:
    """Return the targets as the data have them; without data as the table of predictions has."""
    if (found := same_rows(run, split)) is not None:
        return found
    if kind == "multi":
        sign = next(sign for sign in (" ", ",", ";", "|", "\t") if sign not in "".join(classes))
        unknown = table["unknown"] if "unknown" in table else [""] * len(table)
        target = np.zeros((len(table), len(classes)))
        for row, (labels, others) in enumerate(zip(table["target"], unknown, strict=True)):
            for name in filter(None, labels.split(sign)):
                target[row, classes.index(name)] = 1
            for name in filter(None, others.split(sign)):
                target[row, classes.index(name)] = -1
        return target
    places = {name: place for place, name in enumerate(classes)}
    return np.array([places.get(name, -1) for name in table["target"]], dtype=np.int64)


def same_rows(run: FinishedRun, split: Any) -> npt.NDArray[Any] | None:
    """Return the targets of a split if the data still have exactly the images that it had."""
    if run.data is None or split not in run.predictions:
        return None
    dataset, folder = run.data.eval_dataset(split), image_folder(run.data)
    before = [image_key(file, folder) for file in run.predictions[split]["file"]]
    if [image_key(str(file), folder) for file in dataset.files] != before:
        return None
    return cast(npt.NDArray[Any], dataset.targets.numpy())


def _thresholds(run: FinishedRun, classes: Sequence[str]) -> Floats:
    known = run.description.get("thresholds") or {}
    return np.array([float(known.get(name, 0.5)) for name in classes])


def _judged(rows: ImageRows) -> ImageRows:
    """Fill in how wrong and how unsure each row of classes is."""
    frame, p = rows.frame, rows.predictions
    if rows.kind == "multi":
        assert rows.thresholds is not None
        target = rows.targets
        known = target >= 0
        truth = target >= 0.5
        decided = (p >= rows.thresholds) & known
        losses = np.where(truth, -np.log(np.clip(p, _SMALLEST, 1)), 0.0)
        losses += np.where(~truth & known, -np.log(np.clip(1 - p, _SMALLEST, 1)), 0.0)
        frame["wrongness"] = losses.sum(1) / np.maximum(known.sum(1), 1)
        frame["unsureness"] = -np.abs(p - rows.thresholds).min(1)
        frame["is_right"] = (decided == (truth & known)).all(1)
        frame["sureness"] = p.max(1)
        return rows
    order = np.sort(p, axis=1)
    hard = rows.hard
    if rows.targets.ndim == 2:
        frame["wrongness"] = -(rows.targets * np.log(np.clip(p, _SMALLEST, 1))).sum(1)
    else:
        of_truth = np.where(hard >= 0, p[np.arange(len(p)), hard], 1.0)
        frame["wrongness"] = -np.log(np.clip(of_truth, _SMALLEST, 1))
    frame["unsureness"] = order[:, -2] - order[:, -1]
    last = p.shape[1] - 1
    frame["is_right"] = last - p[:, ::-1].argmax(1) == hard
    frame["sureness"] = order[:, -1]
    return rows


def _number_rows(run: FinishedRun, names: Sequence[str]) -> ImageRows:
    parts, predictions, targets = [], [], []
    numbers = read_targets(run.description["numbers"])
    for split, table in run.predictions.items():
        ends = [""] if len(names) == 1 else [f"_{name}" for name in names]
        file = f"predictions_{split}.csv"
        found = [
            np.column_stack([numbers_in(table[f"{what}{end}"], file) for end in ends])
            for what in ("prediction", "target")
        ]
        part = _named(split, table)
        for place, what in enumerate(("prediction", "truth")):
            part[what] = [_number_words(names, row) for row in found[place]]
        parts.append(part)
        predictions.append(found[0])
        targets.append(found[1])
    frame = pd.concat(parts, ignore_index=True)
    predicted, truth = np.concatenate(predictions), np.concatenate(targets)
    scale = np.array([number.std or 1.0 for number in numbers])
    logs = np.array([number.log for number in numbers])
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b = (np.where(logs, np.log(values), values) for values in (predicted, truth))
    errors = np.abs(a - b) / scale
    frame["wrongness"] = errors.max(1)
    frame["unsureness"] = np.nan
    frame["is_right"] = errors.max(1) <= np.nanmedian(errors.max(1))
    frame["sureness"] = np.nan
    return ImageRows("numbers", list(names), frame, predicted, truth)


def _number_words(names: Sequence[str], values: Floats) -> str:
    texts = [f"{value:.{_NUM_SIGNS}g}" for value in values]
    if len(texts) == 1:
        return texts[0]
    return ", ".join(f"{name} {text}" for name, text in zip(names, texts, strict=True))
