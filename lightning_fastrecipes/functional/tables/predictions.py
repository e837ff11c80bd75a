"""Predictions of the rows of a table, as a table."""

from collections.abc import Iterator

import pandas as pd
from torch import Tensor

from lightning_fastrecipes.functional.labels import numbers
from lightning_fastrecipes.functional.labels.merging import named_agreement
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
    classes = pd.Index([f"{prefix}{label}" for label in column.classes])
    return pd.concat([pd.DataFrame({name: names}), pd.DataFrame(values, columns=classes)], axis=1)


def to_csv(table: pd.DataFrame, digits: int = _DIGITS) -> str:
    """Write numbers to seven digits, as many as 32 bits hold, or to more.

    >>> to_csv(pd.DataFrame({"prediction": [0.1 + 0.2, 123456789.0]})).split()
    ['prediction', '0.3', '1.234568e+08']
    """
    return table.to_csv(index=False, float_format=f"%.{digits}g")


def num_digits(spec: TableSpec) -> int:
    """Return to how many digits to write predictions, so that deviations have seven of them."""
    return max(numbers.num_digits(*column.unit) for column in spec.target_columns)
