"""Predictions of the rows of a table, as a table."""

import math

import pandas as pd
from torch import Tensor

from lightning_fastrecipes.functional.tables.spec import TableSpec

_DIGITS = 7


def predicted_columns(spec: TableSpec, predictions: Tensor) -> pd.DataFrame:
    """Return a column ``prediction``, and for classes one column of probabilities each.

    ``predictions`` have shape ``(rows,)``, in the user's units, or are probabilities of shape
    ``(rows, classes)``.
    """
    values = predictions.double().numpy()
    if spec.classes is None:
        return pd.DataFrame({"prediction": values})
    names = [spec.classes[index] for index in values.argmax(axis=1)]
    table = pd.DataFrame({"prediction": names})
    return pd.concat([table, pd.DataFrame(values, columns=pd.Index(spec.classes))], axis=1)


def to_csv(table: pd.DataFrame, digits: int = _DIGITS) -> str:
    """Write numbers to seven digits, as many as 32 bits hold, or to more.

    >>> to_csv(pd.DataFrame({"prediction": [0.1 + 0.2, 123456789.0]})).split()
    ['prediction', '0.3', '1.234568e+08']
    """
    return table.to_csv(index=False, float_format=f"%.{digits}g")


def num_digits(spec: TableSpec) -> int:
    """Return to how many digits to write predictions, so that deviations have seven of them."""
    zero, one = spec.target_column.unit
    return min(_DIGITS + max(0, math.ceil(math.log10(max(abs(zero) / one, 1e-9)))), 17)
