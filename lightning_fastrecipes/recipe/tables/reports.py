"""Reports of a model of a table: predictions, vectors of categories, importance of columns."""

import itertools
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from lightning_fastrecipes.batches import TableInputs
from lightning_fastrecipes.data.common.files import write_atomically
from lightning_fastrecipes.data.common.split_names import SplitName
from lightning_fastrecipes.data.tables.datamodule import TabularDataModule
from lightning_fastrecipes.data.tables.encoding import EncodedSplit
from lightning_fastrecipes.functional.tables.embeddings import embedding_table
from lightning_fastrecipes.functional.tables.importance import permutation_importance
from lightning_fastrecipes.functional.tables.predictions import (
    num_digits,
    plain_names,
    predicted_columns,
    target_slices,
    to_csv,
)
from lightning_fastrecipes.functional.tables.spec import FLAG_SUFFIX, TableSpec
from lightning_fastrecipes.functional.tables.target import TargetColumn
from lightning_fastrecipes.life_signs import LifeSign
from lightning_fastrecipes.messages import name_some
from lightning_fastrecipes.plots.tables import draw_embeddings, draw_importance, draw_predictions
from lightning_fastrecipes.recipe.shared.predictions import (
    Predicted,
    append_columns,
    write_confusion,
)
from lightning_fastrecipes.tasks.table_task import TabularTask

NUM_SAMPLED_ROWS = 2000
"""Rows that the importance of columns is measured on, so that it takes seconds."""

NUM_REPEATS = 3


def write_table_predictions(
    folder: Path, data: TabularDataModule, model: TabularTask, predicted: Predicted
) -> None:
    """Write each row's place in the source, its target and its prediction, and a figure."""
    split, spec = predicted.split, model.require_spec()
    is_one = spec.task != "several"
    targets = model.metric_targets(predicted.targets).reshape(-1, len(spec.targets))
    predictions = predicted.predictions.reshape(len(targets), -1)
    # A rehearsal predicts the first batch alone.
    table = data.row_names(split).head(len(targets))
    for place, column in enumerate(spec.target_columns):
        name = "target" if is_one else f"target_{column.name}"
        table[name] = shown_targets(column, targets[:, place])
    table = pd.concat([table, predicted_columns(spec, predicted.predictions)], axis=1)
    content = to_csv(append_columns(table, predicted.agreement), num_digits(spec))
    write_atomically(folder / f"predictions_{split}.csv", content)
    for place, (column, outputs) in enumerate(target_slices(spec)):
        suffix = "" if is_one else f"_{plain_names(spec)[place]}"
        if column.classes is not None:
            part = replace(
                predicted, predictions=predictions[:, outputs], targets=targets[:, place].long()
            )
            write_confusion(folder, part, column.classes, suffix)
            continue
        draw_predictions(
            shown_targets(column, targets[:, place]), predictions[:, place].double().numpy(),
            column.name, folder / f"predictions_{split}{suffix}.png", split=split, log=column.log,
        )  # fmt: skip


def write_table_reports(
    folder: Path, data: TabularDataModule, model: TabularTask, seed: int
) -> None:
    """Write the vectors of the categories, and how much each column matters.

    The seed is for drawing rows and shuffling columns.
    """
    spec = model.require_spec()
    if spec.categorical:
        _write_embeddings(folder, spec, model)
    splits: tuple[SplitName, ...] = ("val", "test", "train")
    split = next(name for name in splits if data.num_rows(name))
    importance = column_importance(model, data.encoded(split), seed)
    importance.insert(1, "split", split)
    write_atomically(folder / "importance.csv", to_csv(importance))
    error = f"rmse of {'log ' if spec.log_target else ''}{spec.target}"
    if spec.classes is not None:
        error = f"cross entropy of {spec.target}"
    elif spec.task == "several":
        error = f"loss of {name_some(spec.targets)}"
    draw_importance(importance, folder / "importance.png", error=error, split=split)


def _write_embeddings(folder: Path, spec: TableSpec, model: TabularTask) -> None:
    table = embedding_table(spec, model.embedding_weights())
    for place, name in enumerate(spec.categorical):
        rows = table[table["column"] == name].dropna(axis="columns", how="all")
        # Two names may differ in characters that a file name cannot have.
        plain = re.sub(r"[^\w-]", "_", name)
        content = to_csv(rows.drop(columns="column"))
        write_atomically(folder / "embeddings" / f"{place:02d}_{plain}.csv", content)
    draw_embeddings(table, folder / "embeddings.png")


def shown_targets(column: TargetColumn, targets: Tensor) -> npt.NDArray[Any]:
    """Return names of classes, or numbers in the user's units.

    They are rounded to six digits if the model predicts their logarithm, which in 32 bits has lost
    the digits after these.
    """
    if column.classes is not None:
        return np.array([column.classes[int(index)] for index in targets.tolist()], dtype=object)
    values = targets.double().numpy()
    if not column.log:
        return values
    scale = 10.0 ** (5 - np.floor(np.log10(values)))
    return cast(npt.NDArray[Any], np.round(values * scale) / scale)


def column_importance(model: TabularTask, split: EncodedSplit, seed: int) -> pd.DataFrame:
    """Measure how much the error of a model grows when a column is shuffled.

    The error is the root of the mean squared error, of logarithms where the model predicts these,
    in the user's units where it does not, or for classes the cross entropy, and of several targets
    the loss, on ``NUM_SAMPLED_ROWS`` random rows with targets. A column's flag of missing values
    is shuffled with it.
    """
    spec = model.require_spec()
    generator = np.random.default_rng(seed)
    num_rows = min(NUM_SAMPLED_ROWS, len(split.rows))
    drawn = np.sort(generator.choice(len(split.rows), num_rows, replace=False))
    codes = pd.DataFrame(split.codes[drawn], columns=pd.Index(spec.categorical, dtype=object))
    names = pd.Index(spec.continuous_columns, dtype=object)
    frame = pd.concat([codes, pd.DataFrame(split.continuous[drawn], columns=names)], axis=1)
    groups = {name: [name] for name in spec.categorical}
    for name in spec.continuous:
        flag = f"{name}{FLAG_SUFFIX}"
        groups[name] = [name, flag] if flag in spec.continuous_columns else [name]
    was_training = model.training
    model.eval()

    sign = LifeSign("Shuffling columns", 1 + NUM_REPEATS * len(groups))
    done = itertools.count(1)

    def predict(rows: pd.DataFrame) -> npt.NDArray[Any]:
        inputs = TableInputs(
            torch.tensor(rows[spec.categorical].to_numpy(np.int64)),
            torch.tensor(rows[spec.continuous_columns].to_numpy(np.float32)),
        )
        inputs = TableInputs(*(part.to(model.device) for part in inputs))
        with torch.inference_mode():
            found = cast(Tensor, model(inputs)).float().cpu()
        sign.show(next(done))
        return found.numpy()

    def error(predictions: npt.NDArray[Any], targets: npt.NDArray[Any]) -> float:
        loss = model.loss(torch.from_numpy(predictions), torch.from_numpy(targets))
        is_number = spec.task == "regression"
        return float(loss) ** 0.5 * spec.target_column.unit[1] if is_number else float(loss)

    try:
        with sign:
            return permutation_importance(
                predict,
                frame,
                np.asarray(split.target)[drawn],
                groups,
                error,
                num_repeats=NUM_REPEATS,
                seed=seed,
            )
    finally:
        model.train(was_training)
