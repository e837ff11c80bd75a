"""Categories that are written as numbers: which of them are numbers, and which are codes."""

import io
import re
from collections.abc import Collection
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from lightning_fastrecipes.functional.tables.narrowing import narrow_column
from lightning_fastrecipes.functional.tables.operands import is_text

Column: TypeAlias = "pd.Series[Any]"

NO_CATEGORY = -(2**63)
"""Stands for text where training had numbers: a number that no table has."""

_CODE = re.compile(r"\s*([+-]?0\d+|\+.*|\d+[eE]\d+)\s*")
"""What says more as text than as a number: 007, +7, 1E3."""
_LEADING_ZEROS = re.compile(r"\s*0\d+\s*")
_EXACT = 2**53


def is_text_column(column: Column) -> bool:
    """Return whether a column holds text, or categories that are text."""
    is_category = isinstance(column.dtype, pd.CategoricalDtype)
    return is_text(pd.Series(column.cat.categories) if is_category else column)


def has_leading_zeros(column: Column) -> bool:
    """Return whether some text is digits with zeros before them, as codes are.

    >>> has_leading_zeros(pd.Series(["02139", "10001", None])), has_leading_zeros(pd.Series(["0"]))
    (True, False)
    """
    return any(_LEADING_ZEROS.fullmatch(str(text)) for text in column.dropna().unique())


def as_text(frame: pd.DataFrame, names: Collection[str]) -> pd.DataFrame:
    """Return a table in which some columns, if they are there, are text."""
    made = {name: frame[name] for name in names if name in frame}
    return frame.assign(
        **{
            name: values.astype(str).where(values.notna())
            for name, values in made.items()
            if not is_text_column(values)
        }
    )


def numbers_of(
    column: Column, otherwise: int | None = None, decimal: str = ".", thousands: str | None = None
) -> Column:
    """Turn text into numbers, or true and false, if that loses nothing; else return it as it is.

    Whole numbers keep all digits beside gaps. Two texts that are one fraction, as 1.1 and 1.10 of
    versions, are no numbers. With ``otherwise``, everything becomes a number, and what is none
    becomes that one. ``decimal`` and ``thousands`` are the marks in the numbers.

    >>> numbers_of(pd.Series(["7", None, "12"])).tolist()
    [7.0, nan, 12.0]
    >>> numbers_of(pd.Series(["007", "7"])).tolist()
    ['007', '7']
    """
    codes, different = pd.factorize(column)
    words = pd.Index(different).astype(str)
    if otherwise is not None and (thousands or decimal != "."):
        marks = str.maketrans({decimal: ".", **({thousands: ""} if thousands else {})})
        words = words.map(lambda word: word.translate(marks))
    if otherwise is None and any(map(_CODE.fullmatch, words)):
        return column
    if otherwise is None:
        lines = "\n".join(["x", *(f'"{word}"' for word in words if '"' not in word)])
        values = pd.read_csv(
            io.StringIO(lines),
            keep_default_na=False,
            low_memory=False,
            decimal=decimal,
            thousands=thousands,
        )["x"]
        if len(values) < len(words) or values.dtype.kind not in "iufb":
            return column
        if values.dtype.kind == "f" and (values.duplicated() & (values % 1 != 0)).any():
            return column
    else:
        found = pd.to_numeric(pd.Series(words, dtype=object), errors="coerce")
        if found.notna().all():
            values = found
        elif (found.dropna() == np.floor(found.dropna())).all():
            is_whole = [re.fullmatch(r"\s*-?\d{1,18}\s*", word) is not None for word in words]
            pairs = zip(words, is_whole, strict=True)
            values = pd.Series([int(word) if whole else otherwise for word, whole in pairs])
        else:
            values = found.fillna(float(otherwise))
    if values.dtype.kind in "iu" and (codes < 0).any() and values.abs().max() >= _EXACT:
        values = values.astype("Int64" if values.dtype.kind == "i" else "UInt64")
    taken = values.astype(object) if values.dtype.kind == "b" and (codes < 0).any() else values
    return narrow_column(pd.Series(taken.array.take(codes, allow_fill=True)))
