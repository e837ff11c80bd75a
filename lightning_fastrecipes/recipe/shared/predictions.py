"""Final metrics and predictions, row for row, whatever the number of processes."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes.callbacks.test_time_augmentation import MERGED
from lightning_fastrecipes.functional.labels.multi_label import decide_labels
from lightning_fastrecipes.functional.labels.targets import hard_labels

Split = Literal["val", "test"]
DECIMALS = 6


class PredictionCollector(pl.Callback):
    """Keep the probabilities of a validation or test run, in the order of the files.

    Args:
        num_samples: Rows of the split.

    Attributes:
        probabilities: The plain ones. Shape ``(num_samples, num_classes)``.
        targets: One row each.
        merged: Those of ``TestTimeAugmentation``, if it stands before this callback.
    """

    def __init__(self, num_samples: int) -> None:
        self.num_samples = num_samples
        self.probabilities = torch.empty(0)
        self.targets = torch.empty(0)
        self.merged: Tensor | None = None
        self._rows: list[Mapping[str, Tensor]] = []

    @property
    def predictions(self) -> Tensor:
        """The merged probabilities, or the plain ones without test-time augmentation."""
        return self.probabilities if self.merged is None else self.merged

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any, **__: Any
    ) -> None:
        """Keep one batch."""
        self._rows.append({key: value.cpu() for key, value in outputs.items()})

    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Join the batches, and the shards of all processes."""
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
        # Process r holds rows r, r + world size, ...; the shorter shards are filled up to gather.
        longest = math.ceil(self.num_samples / trainer.world_size)
        filled = rows.new_zeros(longest, *rows.shape[1:])
        filled[: len(rows)] = rows
        shards = pl_module.all_gather(filled.to(pl_module.device))
        if not isinstance(shards, Tensor):
            raise TypeError(f"`all_gather` must give a tensor, but gave {type(shards).__name__}.")
        return shards.transpose(0, 1).flatten(0, 1)[: self.num_samples].cpu()


def prediction_table(
    files: list[str],
    probabilities: Tensor,
    classes: list[str],
    targets: Tensor | None = None,
    thresholds: Tensor | None = None,
) -> pd.DataFrame:
    """List predictions beside file names.

    Args:
        files: One name per row.
        probabilities: Shape ``(rows, num_classes)``.
        classes: One name per column.
        targets: Class indices or probabilities, or 0 and 1; adds the column ``target``.
        thresholds: One per class, for images with several labels, which are then joined by a
            space, or by a sign that no label has.

    Returns:
        Columns ``file``, ``prediction``, ``target`` if given, then one per class, rounded to six
        decimals.

    Example:
        >>> prediction_table(["a.png"], torch.tensor([[0.25, 0.75]]), ["cat", "dog"]).values
        array([['a.png', 'dog', 0.25, 0.75]], dtype=object)
    """
    table = pd.DataFrame({"file": files})
    decided = {"prediction": probabilities} | ({} if targets is None else {"target": targets})
    for name, values in decided.items():
        if thresholds is None:
            table[name] = [classes[i] for i in hard_labels(values).tolist()]
        else:
            holds = decide_labels(values, thresholds if name == "prediction" else 0.5)
            table[name] = _joined_names(holds, classes)
    columns = pd.DataFrame(probabilities.double().numpy().round(DECIMALS), columns=classes)
    return pd.concat([table, columns], axis=1)


def _joined_names(holds: Tensor, classes: list[str]) -> list[str]:
    separator = next(sign for sign in (" ", ",", ";", "|", "\t") if sign not in "".join(classes))
    return [
        separator.join(name for name, is_held in zip(classes, row, strict=True) if is_held)
        for row in holds.tolist()
    ]


def evaluate(
    trainer: pl.Trainer, model: pl.LightningModule, images: pl.LightningDataModule, split: Split
) -> dict[str, float]:
    """Measure one split.

    Args:
        trainer: A trainer in 32-bit arithmetic: there the probabilities of a image do not
            depend on which others share its batch.
        model: The trained model.
        images: Its datamodule.
        split: ``val`` or ``test``.

    Returns:
        Metric name without the split's prefix, such as ``accuracy``, to value.
    """
    run = trainer.validate if split == "val" else trainer.test
    metrics = run(model, datamodule=images, verbose=False)[0]
    return {name.partition("_")[2]: float(value) for name, value in metrics.items()}


def confusion_counts(probabilities: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """Count rows by true (first axis) and predicted (second axis) class.

    Args:
        probabilities: Shape ``(rows, num_classes)``.
        targets: Class indices or probabilities, one row each.
        num_classes: Number of classes.

    Returns:
        Shape ``(num_classes, num_classes)``, dtype ``int64``.

    Example:
        >>> confusion_counts(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 0]), 2)
        tensor([[1, 1],
                [0, 0]])
    """
    cells = hard_labels(targets) * num_classes + hard_labels(probabilities)
    return torch.bincount(cells, minlength=num_classes**2).view(num_classes, num_classes)
