"""Predictions of the rows of a table, as a table."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from lightning_fastrecipes.functional.labels import numbers
from lightning_fastrecipes.functional.labels.classes import probability_columns
from lightning_fastrecipes.functional.labels.merging import named_agreement
from lightning_fastrecipes.functional.tables.rows import name_rows
from lightning_fastrecipes.functional.tables.spec import TableSpec
from lightning_fastrecipes.functional.tables.target import TargetColumn

_DIGITS = 7


def predicted_columns(spec: TableSpec, predictions: Tensor) -> pd.DataFrame:
    """Return a column ``prediction``, and for classes one column of probabilities each.

    ``predictions`` have shape ``(rows,)``, in the user's units, or are probabilities of shape
    ``(rows, classes)``. Of several targets they are beside one another, as ``target_slices`` has
    them; the columns are then ``prediction_TARGET``, and ``TARGET=CLASS`` for probabilities.
    """
    if spec.task != "several":
        return _columns_of(spec.target_column, predictions, "prediction", "")
    parts = [
        _columns_of(column, predictions[:, place], f"prediction_{column.name}", f"{column.name}=")
        for column, place in target_slices(spec)
    ]
    return pd.concat(parts, axis=1)


def far_predictions(spec: TableSpec, table: pd.DataFrame) -> list[str]:
    """Return a sentence for each number with predictions that are far from all training targets.

    Far is more than the whole span of these beyond either end; ``table`` has the columns of
    ``predicted_columns``, and the index names its rows.

    >>> rows = pd.DataFrame({"km": [1.0, 2.0], "cost": [3.0, 5.0]})
    >>> spec = TableSpec.fit(rows, target="cost", categorical=[], continuous=["km"])
    >>> far_predictions(spec, pd.DataFrame({"prediction": [5.5, 900.0]}))
    ["1 of 2 predictions of 'cost' is far from all training targets, ... row 1, the first 900. ...
    """
    said = []
    for column in spec.target_columns:
        if column.classes is not None or not column.std:
            continue
        name = f"prediction_{column.name}" if spec.task == "several" else "prediction"
        low, high = column.low, column.high
        ends = np.array([low, 2 * low - high, 2 * high - low, high])
        low, least, greatest, high = np.exp(ends) if column.log else ends
        values = table[name].to_numpy(np.float64)
        is_far = ~((values >= least) & (values <= greatest))
        if is_far.any():
            first = values[is_far][0]
            said.append(
                f"{int(is_far.sum()):,} of {len(values):,} predictions of '{column.name}'"
                f" {'is' if is_far.sum() == 1 else 'are'} far from all training targets, which lie"
                f" between {low:.6g} and {high:.6g}: {name_rows(table.index, is_far)}, the first"
                f" {first:.6g}. Look for features unlike those of the training; `y_range` bounds"
                " predictions."
            )
    return said


def target_slices(spec: TableSpec) -> Iterator[tuple[TargetColumn, slice]]:
    """Yield each target with the place of its predictions beside those of the others.

    >>> rows = pd.DataFrame({"km": [1.0, 2.0], "late": ["no", "yes"], "cost": [3.0, 5.0]})
    >>> tasks = {"late": "classes", "cost": "regression"}
    >>> spec = TableSpec.fit(rows, target=[*tasks], task=tasks, categorical=[], continuous=["km"])
    >>> [place for _, place in target_slices(spec)]
    [slice(0, 2, None), slice(2, 3, None)]
    """
    start = 0
    for column in spec.target_columns:
        yield column, slice(start, start + column.num_outputs)
        start += column.num_outputs


def plain_names(spec: TableSpec) -> list[str]:
    """Return different names of the targets that metrics and files can be called by.

    >>> table = pd.DataFrame({"km": [1.0, 2.0], "a.b": [1.0, 2.0], "a b": [1.0, 2.0]})
    >>> spec = TableSpec.fit(table, target=["a.b", "a b"], categorical=[], continuous=["km"])
    >>> plain_names(spec)
    ['a_b', 'a_b_2']
    """
    return numbers.plain_names(spec.targets)


def prediction_agreement(spec: TableSpec, members: Tensor, merged: Tensor) -> dict[str, Tensor]:
    """Return by its name how far members agree, as ``named_agreement``, by target if several."""
    if spec.task != "several":
        return named_agreement(members, merged)
    found: dict[str, Tensor] = {}
    for column, place in target_slices(spec):
        each, mean = members[:, :, place], merged[:, place]
        if column.classes is None:
            each, mean = each[:, :, 0], mean[:, 0]
        found |= {f"{k}_{column.name}": v for k, v in named_agreement(each, mean).items()}
    return found


def _columns_of(column: TargetColumn, predictions: Tensor, name: str, prefix: str) -> pd.DataFrame:
    values = predictions.double().numpy()
    if column.classes is None:
        return pd.DataFrame({name: values.reshape(-1)})
    names = [column.classes[index] for index in values.argmax(axis=1)]
    classes = pd.Index(probability_columns([f"{prefix}{label}" for label in column.classes]))
    return pd.concat([pd.DataFrame({name: names}), pd.DataFrame(values, columns=classes)], axis=1)


def to_csv(table: pd.DataFrame, digits: int = _DIGITS, kept: Sequence[str] = ()) -> str:
    """Write numbers to seven digits, as many as 32 bits hold, or to more; ``kept`` ones in full.

    >>> to_csv(pd.DataFrame({"prediction": [0.1 + 0.2, 123456789.0]})).split()
    ['prediction', '0.3', '1.234568e+08']
    """
    whole = {name: table[name].astype(object) for name in kept if table[name].dtype.kind == "f"}
    full = {name: values.where(values.isna(), values.astype(str)) for name, values in whole.items()}
    return table.assign(**full).to_csv(index=False, float_format=f"%.{digits}g")


def num_digits(spec: TableSpec) -> int:
    """Return to how many digits to write predictions, so that deviations have seven of them."""
    return max(numbers.num_digits(*column.unit) for column in spec.target_columns)
