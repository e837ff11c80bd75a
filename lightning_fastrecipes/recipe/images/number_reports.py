"""Predicted numbers of images beside their files, and a figure of each number."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from torch import Tensor

from lightning_fastrecipes.data.common.files import write_atomically
from lightning_fastrecipes.data.images.module import ImageDataModule
from lightning_fastrecipes.functional.labels.numbers import NumberTarget, plain_names
from lightning_fastrecipes.plots.tables import draw_predictions
from lightning_fastrecipes.recipe.shared.predictions import Predicted


def write_number_predictions(folder: Path, images: ImageDataModule, predicted: Predicted) -> None:
    """Write ``predictions_SPLIT.csv``, and targets against predictions as PNG, one per number."""
    split, predictions, numbers = predicted.split, predicted.predictions, images.number_targets
    # A rehearsal predicts the first batch alone.
    files = [str(name) for name in images.eval_dataset(split).files[: len(predictions)]]
    table = number_table(files, predictions, numbers, predicted.targets, predicted.agreement)
    write_atomically(folder / f"predictions_{split}.csv", table.to_csv(index=False))
    plain = plain_names(number.name[:100] for number in numbers)
    for number, end, name in zip(numbers, _endings(numbers), plain, strict=True):
        which = f"_{name}" if end else ""
        draw_predictions(
            table[f"target{end}"], table[f"prediction{end}"], number.name,
            folder / f"predictions_{split}{which}.png", split=split, log=number.log,
            with_views=predicted.with_views,
        )  # fmt: skip


def number_table(
    files: Sequence[str],
    predictions: Tensor,
    numbers: Sequence[NumberTarget],
    targets: Tensor | None = None,
    agreement: Mapping[str, Tensor] | None = None,
) -> pd.DataFrame:
    """List predicted numbers beside file names, to as many digits as they are known.

    The columns are ``file``, ``prediction``, and ``target`` if given; of several numbers
    ``prediction_NAME`` and ``target_NAME``; and those of ``agreement``. Predictions and targets
    have shape ``(rows,)``, or ``(rows, numbers)`` of several.

    >>> import torch
    >>> numbers = [NumberTarget("age", 40.0, 12.0)]
    >>> number_table(["a.png"], torch.tensor([31.1234567]), numbers).values.tolist()
    [['a.png', 31.123457]]
    """
    columns: dict[str, Sequence[str] | npt.NDArray[np.float64]] = {"file": files}
    for place, (number, end) in enumerate(zip(numbers, _endings(numbers), strict=True)):
        for name, values in (("prediction", predictions), ("target", targets)):
            if values is not None:
                column = values[:, place] if values.ndim == 2 else values
                columns[f"{name}{end}"] = _rounded(column, number.num_digits)
    for name, values in (agreement or {}).items():
        columns[name] = _rounded(values, 7)
    return pd.DataFrame(columns)


def _endings(numbers: Sequence[NumberTarget]) -> list[str]:
    """Return what the columns of each number end with: nothing if there is one."""
    return [""] if len(numbers) == 1 else [f"_{number.name}" for number in numbers]


def _rounded(values: Tensor, digits: int) -> npt.NDArray[np.float64]:
    texts = [f"{value:.{digits}g}" for value in values.double().tolist()]
    return cast(npt.NDArray[np.float64], np.array(texts, dtype=np.float64))
