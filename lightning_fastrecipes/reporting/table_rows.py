"""The rows of a table that a run has predicted, beside what they are made of."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from lightning_fastrecipes.functional.tables.predictions import target_slices
from lightning_fastrecipes.functional.tables.spec import TableSpec
from lightning_fastrecipes.functional.tables.target import TargetColumn
from lightning_fastrecipes.recipe.tables.reports import shown_targets
from lightning_fastrecipes.reporting.finished_run import FinishedRun, numbers_in

MOST_ROWS = 20_000
"""Rows of a split that columns are looked at in, drawn at random from more."""

_SEED = 0

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TargetRows:
    """What was predicted of one target in one split, row for row.

    ``places`` names each row in its source; ``truth`` and ``predicted`` are numbers in the user's
    units, or class indices; ``probabilities`` ``(rows, classes)`` are there for classes.
    """

    places: pd.DataFrame
    truth: npt.NDArray[Any]
    predicted: npt.NDArray[Any]
    probabilities: Floats | None = None


def read_target(run: FinishedRun, spec: TableSpec, split: Any, column: TargetColumn) -> TargetRows:
    """Read what was predicted of one target; a `DataError` names what is no number."""
    table, file = run.predictions[split], f"predictions_{split}.csv"
    end = "" if spec.task != "several" else f"_{column.name}"
    names = [str(name) for name in table]
    places = table[[name for name in names[:2] if name in ("file", "row")]]
    if column.classes is None:
        truth, predicted = (
            numbers_in(table[f"{what}{end}"], file).to_numpy() for what in ("target", "prediction")
        )
        return TargetRows(places, truth, predicted)
    slices = {one.name: outputs for one, outputs in target_slices(spec)}
    outputs = slices[column.name]
    start = _first_output(spec, names, column)
    count = outputs.stop - outputs.start
    columns = [numbers_in(table.iloc[:, start + k], file) for k in range(count)]
    stacked = np.column_stack([one.to_numpy() for one in columns])
    probabilities: Floats = stacked.astype(np.float64)
    known = {name: place for place, name in enumerate(column.classes)}
    truth = np.array([known.get(name, -1) for name in table[f"target{end}"]], dtype=np.int64)
    return TargetRows(places, truth, probabilities.argmax(axis=1), probabilities)


def _first_output(spec: TableSpec, names: list[str], column: TargetColumn) -> int:
    """Return where the probabilities of a target begin: right behind its prediction."""
    wanted = "prediction" if spec.task != "several" else f"prediction_{column.name}"
    return names.index(wanted) + 1


def encoded_frame(run: FinishedRun, spec: TableSpec, split: Any) -> pd.DataFrame | None:
    """Return the columns of a split as numbers, codes of categories and scaled numbers.

    At most ``MOST_ROWS`` rows, drawn at random, whose places in the split are the index. ``None``
    if there is no such split, or no data.
    """
    if run.data is None or not run.data.num_rows(split):
        return None
    encoded = run.data.encoded(split)
    total = len(encoded.rows)
    drawn = np.arange(total)
    if total > MOST_ROWS:
        drawn = np.sort(np.random.default_rng(_SEED).choice(total, MOST_ROWS, replace=False))
    codes = pd.DataFrame(np.asarray(encoded.codes)[drawn], columns=list(spec.categorical))
    numbers = pd.DataFrame(
        np.asarray(encoded.continuous)[drawn], columns=list(spec.continuous_columns)
    )
    return pd.concat([codes, numbers], axis=1).set_axis(pd.Index(drawn), axis=0)


def encoded_targets(
    run: FinishedRun, spec: TableSpec, split: Any, column: TargetColumn, rows: Any
) -> npt.NDArray[Any]:
    """Return the targets of rows of a split in the user's units, or as class indices."""
    place = spec.targets.index(column.name)
    values = torch.from_numpy(np.array(np.asarray(run.data.encoded(split).target)[rows]))
    compared = run.model.metric_targets(values).reshape(len(values), -1)[:, place]
    if column.classes is not None:
        return np.asarray(compared.long().numpy())
    return np.asarray(shown_targets(column, compared), dtype=np.float64)


def readable_frame(frame: pd.DataFrame, spec: TableSpec) -> pd.DataFrame:
    """Return an encoded frame with names of categories and numbers in the user's units."""
    found = pd.DataFrame(index=frame.index)
    if spec.categorical:
        decoded = spec.decode(frame[spec.categorical].to_numpy(np.int64))
        for name in spec.categorical:
            found[name] = decoded[name].to_numpy()
    for column in spec.number_columns:
        found[column.name] = frame[column.name].to_numpy() * (column.std or 1.0) + column.mean
    return found
