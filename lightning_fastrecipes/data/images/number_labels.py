"""Read numbers as labels, from columns of a table, arrays or text."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lightning_fastrecipes.data.images.label_table import Numbers
from lightning_fastrecipes.data.images.listing import Listing
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.labels.numbers import LARGEST, NumberTarget
from lightning_fastrecipes.messages import name_some

Doubles = npt.NDArray[np.float64]


def numbers_of_columns(frame: pd.DataFrame, labels: Numbers) -> Doubles:
    """Return the numbers of each row, NaN where there is none. Shape ``(rows, columns)``.

    Raise `DataError` for numbers with a comma instead of a point.
    """
    for name in labels.names:
        texts = [text.strip() for text in frame[name] if isinstance(text, str)]
        commas = [text for text in texts if "," in text]
        if commas and all(re.fullmatch(r"-?\d+(,\d+)?", text) for text in texts):
            raise DataError(
                f"The column '{name}' must have numbers with a point, but has '{commas[0]}'. Write"
                " them so, or give the frame that `pandas.read_csv(..., decimal=',')` reads."
            )
    values = frame[labels.names].apply(pd.to_numeric, errors="coerce")
    return np.array(values.to_numpy(dtype=np.float64, na_value=np.nan))


def bad_numbers(values: Doubles, labels: Numbers) -> tuple[list[int], str]:
    """Return which rows have a number that cannot be learned, and what is wrong with them."""
    for is_bad, problem in (
        (~(np.abs(values) <= LARGEST), "have no finite number in {}"),  # also NaN
        (labels.is_log & (values <= 0), "must be above 0 in {}, whose logarithm is asked for"),
    ):
        columns = [labels.names[place] for place in np.flatnonzero(is_bad.any(axis=0))]
        if columns:
            return np.flatnonzero(is_bad.any(axis=1)).tolist(), problem.format(name_some(columns))
    return [], ""


def with_numbers(listing: Listing, labels: Numbers) -> Listing:
    """Read the labels of a listing, such as those in the names of files, as numbers.

    Images of the split ``predict`` have none. A DataError names labels that are no numbers.
    """
    rows = listing.rows
    values = pd.to_numeric(rows["label"], errors="coerce").to_numpy(dtype=np.float64)
    named = [f"{file} ({label})" for file, label in zip(rows["file"], rows["label"], strict=True)]
    return numbered(listing, labels.for_columns(1), values[:, None], named)


def numbered(
    listing: Listing, labels: Numbers, values: Doubles, names: Sequence[str] | None = None
) -> Listing:
    """Return a listing with numbers, in the order of its rows, in place of its labels.

    A DataError names rows whose numbers are bad, by ``names`` in place of the files.
    """
    is_labelled = (listing.rows["split"] != "predict").to_numpy()[:, None]
    bad, problem = bad_numbers(np.where(is_labelled, values, 1.0), labels)
    if bad:
        files = listing.rows["file"].tolist() if names is None else names
        raise DataError(
            f"{len(bad)} images {problem}: {name_some([files[row] for row in bad])}. Correct them."
        )
    return replace(
        listing,
        rows=listing.rows.assign(label="", stratum=""),
        classes=[],
        label_kind="numbers",
        numbers=np.where(is_labelled, values, np.nan),
        number_labels=labels,
    )


def numbers_of_array(array: npt.NDArray[Any], num_images: int, what: str) -> Doubles:
    """Return numbers of shape ``(images, columns)``; a DataError refuses other arrays."""
    values = array[:, None] if array.ndim == 1 else array
    if values.ndim != 2 or len(values) != num_images or not values.shape[1]:
        raise DataError(
            f"{what} must have one number per image, shape ({num_images},), or several,"
            f" ({num_images}, numbers), but has {array.shape}."
        )
    if values.dtype.kind not in "iuf":
        raise DataError(f"{what} must be numbers, but is {array.dtype}. Convert it.")
    return values.astype(np.float64)


def fit_targets(listing: Listing, is_trained: npt.NDArray[np.bool_]) -> tuple[NumberTarget, ...]:
    """Learn mean and deviation of each number from the training rows; none without numbers."""
    labels, numbers = listing.number_labels, listing.numbers
    if labels is None or numbers is None:
        return ()
    return tuple(
        NumberTarget.fit(name, column[is_trained], log=bool(log))
        for name, column, log in zip(labels.names, numbers.T, labels.is_log, strict=True)
    )
