"""What people write for a missing value: -999, 9999 or -1 among numbers, `?` among texts."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lightning_fastrecipes.functional.tables.codes import has_leading_zeros

_CODES = (9, 77, 88, 98, 99, 777, 888, 998, 999, 7777, 8888, 9998, 9999, 99999, 999999)
_LARGE_CODE = 777
_LEAST_TIMES = 5
_LEAST_DIFFERENT = 10
_MOST_WORDS = 3


def missing_codes(numbers: npt.NDArray[Any]) -> list[float]:
    """Return numbers that probably stand for a missing value.

    Such a number is there five times at least, and farther from the others than these span, or
    than a tenth of it if it is 999, -9999 or the like; or it is -1, -9, -99 and so on where no
    other is negative. Where fewer than ten others differ, nothing is said.

    >>> missing_codes(np.array([*range(20, 40), *[-999] * 6]))
    [-999.0]
    """
    values, counts = np.unique(numbers, return_counts=True)
    is_code = np.isin(np.abs(values), _CODES) | (values == -1)
    is_suspect = is_code.copy()
    is_suspect[[0, -1]] = True
    is_suspect &= counts >= _LEAST_TIMES
    others = values[~is_suspect].astype(np.float64)
    if len(others) < _LEAST_DIFFERENT:
        return []
    low, high = others[0], others[-1]
    gaps = np.maximum(low - values, values - high)
    is_far = gaps > (high - low) * np.where(is_code & (np.abs(values) >= _LARGE_CODE), 0.1, 1)
    is_found = is_suspect & (is_far | (is_code & (values < 0) & (low >= 0)))
    return [float(value) for value in values[is_found]]


def stray_words(column: "pd.Series[Any]") -> list[str]:
    """Return the few words beside which all texts of a column are numbers; else nothing.

    >>> stray_words(pd.Series([*map(str, range(20)), "?", None]))
    ['?']
    >>> stray_words(pd.Series(["red", "blue", "7"]))
    []
    """
    texts = pd.Series(column.dropna().unique()).astype(str)
    is_number = pd.to_numeric(texts, errors="coerce").notna()
    words = texts[~is_number].tolist()
    few = 0 < len(words) <= _MOST_WORDS and is_number.sum() >= _LEAST_DIFFERENT
    return words if few and not has_leading_zeros(texts) else []


def read_as_missing(words: list[str]) -> str:
    """Return how to read words as missing values, for messages."""
    return f"`reading: {{na_values: {words}}}`"
