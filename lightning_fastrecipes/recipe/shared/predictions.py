"""Metrics and predictions of a split, row for row, with any number of processes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor
from typing_extensions import override

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes.callbacks.test_time_augmentation import MERGED
from lightning_fastrecipes.data.common.files import write_atomically
from lightning_fastrecipes.errors import ConfigurationError, DataError
from lightning_fastrecipes.functional.labels.confusion import class_scores
from lightning_fastrecipes.functional.labels.targets import hard_labels
from lightning_fastrecipes.plots.classes import draw_confusion_matrix

Split = Literal["val", "test"]

_DECIMALS = 6


@dataclass(frozen=True)
class Predicted:
    """What was predicted of one split, ``val`` or ``test``, in the order of its rows.

    ``predictions`` are probabilities ``(rows, classes)`` or numbers ``(rows,)``, ``targets`` as the
    datamodule gives them. With several labels, ``thresholds`` ``(classes,)`` say where each begins
    to count. Where several members predict together, ``agreement`` ``(rows,)`` is by its name: the
    share of them that decide so, or the deviation of their numbers. ``with_views`` says whether
    these are the predictions merged over views.
    """

    split: Split
    predictions: Tensor
    targets: Tensor
    thresholds: Tensor | None = None
    agreement: Mapping[str, Tensor] = field(default_factory=dict)
    with_views: bool = False


@dataclass(frozen=True)
class Predictions:
    """What finished runs predict: a row for each image or row of a table, also as CSV ``content``.

    ``bad`` names files that could not be read, with the reason; ``notes`` are remarks, a line each.
    """

    table: pd.DataFrame
    content: str
    bad: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Write the table as CSV."""
        write_atomically(path, self.content)


def append_columns(
    table: pd.DataFrame, columns: Mapping[str, Tensor], decimals: int = 15
) -> pd.DataFrame:
    """Append columns of numbers, rounded, to a table of predictions."""
    found = {name: values.double().numpy().round(decimals) for name, values in columns.items()}
    return pd.concat([table, pd.DataFrame(found, index=table.index)], axis=1)


def check_finite(predictions: Tensor, folder: Path) -> Tensor:
    """Return what an exported model predicts ``(rows, ...)``; `DataError` if that is no number."""
    wrong = _rows_without_numbers(predictions)
    if len(wrong):
        raise DataError(
            f"The model in {folder} must predict finite numbers, but does not for {len(wrong):,} of"
            f" {len(predictions):,} rows, the first of which is row {int(wrong[0])}. Look at them;"
            " if they are as those of the training, copy the export again, or export it anew."
        )
    return predictions


def _rows_without_numbers(predictions: Tensor) -> Tensor:
    finite = predictions.isfinite()
    return torch.nonzero(~(finite.flatten(1).all(dim=1) if finite.ndim > 1 else finite))


def check_measured(metrics: Mapping[str, float], predictions: Tensor, split: Split) -> None:
    """Raise `ConfigurationError` if a trained model has no numbers to say of a split."""
    wrong = len(_rows_without_numbers(predictions))
    loss = metrics.get("loss", 0.0)
    if wrong or not math.isfinite(loss):
        raise ConfigurationError(
            f"The trained model must predict finite numbers, but for {wrong:,} of"
            f" {len(predictions):,} samples of the {split} split it does not, and the loss is"
            f" {loss:g}. Nothing is exported. Train anew at a tenth of the rates, or look for"
            " inputs and targets that are no numbers."
        )


class PredictionCollector(pl.Callback):
    """Keep the predictions of a validation or test run, in the order of the data set.

    ``probabilities`` ``(num_samples, num_classes)`` are those without views; ``merged`` those of
    ``TestTimeAugmentation``, if it stands before this callback.
    """

    def __init__(self, num_samples: int) -> None:
        self.num_samples = num_samples
        self.probabilities = torch.empty(0)
        self.targets = torch.empty(0)
        self.merged: Tensor | None = None
        self._rows: list[Mapping[str, Tensor]] = []

    @property
    def predictions(self) -> Tensor:
        """The merged probabilities, or the plain ones without views."""
        return self.probabilities if self.merged is None else self.merged

    @override
    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any, **__: Any
    ) -> None:
        self._rows.append({key: value.cpu() for key, value in outputs.items()})

    on_test_batch_end = on_validation_batch_end

    @override
    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.probabilities = self._joined("probabilities", trainer, pl_module)
        self.targets = self._joined("targets", trainer, pl_module)
        is_augmented = MERGED in self._rows[0]
        self.merged = self._joined(MERGED, trainer, pl_module) if is_augmented else None
        self._rows.clear()

    on_test_epoch_end = on_validation_epoch_end

    def _joined(self, key: str, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Tensor:
        rows = torch.cat([row[key] for row in self._rows])
        if trainer.world_size == 1:
            return rows
        # Process r holds rows r, r + world size, ...; shorter shards are padded to be gathered.
        longest = math.ceil(self.num_samples / trainer.world_size)
        filled = rows.new_zeros(longest, *rows.shape[1:])
        filled[: len(rows)] = rows
        shards = pl_module.all_gather(filled.to(pl_module.device))
        if not isinstance(shards, Tensor):
            raise TypeError(f"`all_gather` must give a tensor, but gave {type(shards).__name__}.")
        return shards.transpose(0, 1).flatten(0, 1)[: self.num_samples].cpu()


def evaluate(
    trainer: pl.Trainer, model: pl.LightningModule, data: pl.LightningDataModule, split: Split
) -> dict[str, float]:
    """Return the metrics of one split by their names without its prefix, such as ``accuracy``."""
    run = trainer.validate if split == "val" else trainer.test
    metrics = run(model, datamodule=data, verbose=False)[0]
    return {name.partition("_")[2]: float(value) for name, value in metrics.items()}


def write_confusion(
    folder: Path, predicted: Predicted, classes: Sequence[str], suffix: str = ""
) -> None:
    """Write what the classes of a split were taken for, as figure and table, and their scores.

    The table ``confusion_matrix.csv`` has true classes in rows and predicted ones in columns;
    ``classes_SPLIT.csv`` precision, recall, F1 and support of each class, the commonest first,
    with nothing where a value is not defined. ``suffix`` ends the names of the files.
    """
    counts = confusion_counts(predicted.predictions, predicted.targets, len(classes))
    name = "confusion_matrix" if predicted.split == "test" else "confusion_matrix_val"
    draw_confusion_matrix(
        counts, classes, folder / f"{name}{suffix}.png",
        split=predicted.split, with_views=predicted.with_views,
    )  # fmt: skip
    table = pd.DataFrame(counts.numpy(), columns=list(classes))
    table.insert(0, "true class", list(classes), allow_duplicates=True)
    write_atomically(folder / f"{name}{suffix}.csv", table.to_csv(index=False))
    scores = class_scores(counts.numpy(), classes).round(_DECIMALS)
    scores = scores.sort_values("support", ascending=False, kind="stable")
    place = folder / f"classes_{predicted.split}{suffix}.csv"
    write_atomically(place, scores.to_csv(index=False))


def confusion_counts(probabilities: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """Count rows by true (first axis) and predicted (second axis) class.

    ``probabilities`` has shape ``(rows, num_classes)``; ``targets`` are class indices or
    probabilities, one row each.

    >>> confusion_counts(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 0]), 2)
    tensor([[1, 1],
            [0, 0]])
    """
    cells = hard_labels(targets) * num_classes + hard_labels(probabilities)
    return torch.bincount(cells, minlength=num_classes**2).view(num_classes, num_classes)
