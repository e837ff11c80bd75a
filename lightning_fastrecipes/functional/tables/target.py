"""The target of a table: a number, perhaps its logarithm, or one of several classes."""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
from torch import Tensor

from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.labels.numbers import (
    LARGEST,
    from_deviations,
    in_deviations,
    mean_and_std,
)
from lightning_fastrecipes.functional.tables.encoding import (
    CategoryColumn,
    Mask,
    chunks,
    number_hint,
    other_kind,
)
from lightning_fastrecipes.functional.tables.rows import in_expression, name_rows
from lightning_fastrecipes.functional.tables.scaling import as_numbers
from lightning_fastrecipes.messages import name_some, shown

TableTask = Literal["regression", "classes"]
SpecTask = Literal["regression", "classes", "several"]
"""``several``: there are several targets, of either task."""

PointEstimate = Literal["median", "mean", "min_rmspe"]
"""``median``: the logarithm undone; ``mean``: minimises the squared error; ``min_rmspe``: minimises
the squared error as a share of the target, which ``RMSPE`` measures."""

_LEAST_LOG_SPREAD = 1e-5
"""Least deviation of logarithms as a share of the largest one; 32 bits tell shares of 1e-7."""

_SHIFTS = {"median": 0.0, "mean": 0.5, "min_rmspe": -1.5}


def log_shift(point_estimate: PointEstimate, squared_error: Tensor) -> Tensor:
    """Return how far from a predicted logarithm that of the best single number lies.

    A logarithm with an error says that the target lies around its ``exp``, half of it above. Where
    errors of logarithms are normal the mean lies higher, and what is best in shares of the target
    lower: to predict 2 where 1 comes is an error of 100 %, to predict 1 where 2 comes one of 50 %.
    The latter is ``E[1 / y] / E[1 / y ** 2]`` (Park and Stefanski, *Relative-error prediction*,
    1998).

    ``squared_error`` is the mean one of the logarithms; the result, of its shape, is to be added to
    each logarithm. Raise `ValueError` if there is no such point estimate.

    >>> import torch
    >>> log_shift("min_rmspe", torch.tensor(0.01))
    tensor(-0.0150)
    """
    if point_estimate not in _SHIFTS:
        raise ValueError(
            f"`point_estimate` must be one of {', '.join(map(repr, _SHIFTS))}, got"
            f" {point_estimate!r}."
        )
    return _SHIFTS[point_estimate] * squared_error


@dataclass(frozen=True)
class TargetColumn:
    """What is predicted, as learned from the training rows.

    ``log`` says whether the logarithm is predicted. Least, greatest and mean target and their
    deviation are of the encoded target, which is the logarithm if that is predicted; they are 0 for
    classes. ``categories``, the first at index 1, is ``None`` for a regression. If ``scaled``, the
    model predicts how many deviations the target lies above the mean, else the encoded target
    itself: logarithms, and every regression before this field was there. Two columns that differ
    in this alone are equal.
    """

    name: str
    task: TableTask
    log: bool = False
    low: float = 0.0
    high: float = 0.0
    mean: float = 0.0
    std: float = 0.0
    categories: CategoryColumn | None = None
    scaled: bool = field(default=False, compare=False)

    @classmethod
    def fit(
        cls, column: "pd.Series[Any]", name: str, task: TableTask, *, log: bool
    ) -> "TargetColumn":
        """Learn from the training rows.

        Raise `ValueError` if there is no such task, or the logarithm of classes is asked for.
        Raise `DataError` if a row has no target, or one that cannot be predicted.

        >>> late = pd.Series(["no", "yes", "no"])
        >>> TargetColumn.fit(late, "late", "classes", log=False).classes
        ['no', 'yes']
        """
        if task not in get_args(TableTask):
            raise ValueError(f"`task` must be 'regression' or 'classes', got {task!r}.")
        if task == "classes":
            if log:
                raise ValueError("`log_target` must be false where `task` is 'classes', got true.")
            _refuse_gaps(column, name)
            categories = CategoryColumn.fit(column, name, keep_order=True)
            if len(categories.values) < 2:
                raise DataError(
                    f"The target {name!r} must have at least 2 classes in the training rows, but"
                    f" all are {categories.values[0]!r}. Check the split, or the column."
                )
            return cls(name, task, categories=categories)
        values = cls(name, task, log).encode(column)
        low, high = float(values.min()), float(values.max())
        if low == high and column.nunique() == 1:
            return cls(name, task, log, low, high, mean=low, scaled=not log)
        mean, std = mean_and_std(lambda: (values[rows] for rows in chunks(len(values))))
        if log and std < _LEAST_LOG_SPREAD * max(abs(low), abs(high)):
            raise DataError(
                f"The logarithm of the target {name!r} must differ between rows by more than 32"
                f" bits can tell, but lies between {low:.9g} and {high:.9g}. Leave `log_target`"
                " out."
            )
        return cls(name, task, log, low, high, mean, std, scaled=not log)

    @property
    def classes(self) -> list[str] | None:
        """Names of the classes in the order of their indices; ``None`` for regression."""
        return None if self.categories is None else [str(x) for x in self.categories.values]

    @property
    def num_outputs(self) -> int:
        """How many numbers a prediction is: one, or a probability for each class."""
        return 1 if self.categories is None else len(self.categories.values)

    @property
    def range(self) -> tuple[float, float] | None:
        """Range that predictions may have, encoded; ``None`` for classes.

        From 0 to 1.2 times the greatest logarithm, as in the course; without logarithms, or if some
        are below 0, a tenth of the span beyond either end.
        """
        if self.task == "classes":
            return None
        if self.log and self.low >= 0 and self.high > 0:
            return 0.0, 1.2 * self.high
        margin = 0.1 * (self.high - self.low)
        return self.low - margin, self.high + margin

    def encode(self, column: "pd.Series[Any]") -> npt.NDArray[Any]:
        """Return the target of each row.

        That is the number in 64 bits, its logarithm in 32 bits, or the index of the class. Raise
        `DataError` if a row has no target, an infinite one, one without a logarithm, or an unknown
        class; the rows are named.
        """
        wanted = "number" if self.categories is None else self.categories.kind
        found = other_kind(wanted, column)
        if found is not None:
            raise DataError(
                f"The target {self.name!r} must hold {'text' if wanted == 'text' else 'numbers'},"
                f" but has {found}{number_hint(column)}. For a target that is one of several values"
                " use `task='classes'` of `TableColumns`."
            )
        _refuse_gaps(column, self.name)
        if self.categories is not None:
            codes = np.empty(len(column), dtype=np.int64)
            self.categories.encode(column, codes)
            unseen = codes == 0
            if unseen.any():
                raise DataError(
                    f"The target {self.name!r} must be one of the training classes"
                    f" {name_some(self.classes or [])}, but is"
                    f" {shown(column[unseen].iloc[0])} in"
                    f" {name_rows(column.index, unseen)}. Leave such rows out, or train with them."
                )
            return codes - 1
        values = np.empty(len(column), dtype=np.float32 if self.log else np.float64)
        for rows in chunks(len(column)):
            numbers = as_numbers(column.iloc[rows])
            if not (np.abs(numbers) <= LARGEST).all():
                bad = np.abs(as_numbers(column)) > LARGEST
                _refuse(column, self.name, bad, "must be finite, but is infinite")
            if self.log:
                if not (numbers > 0).all():
                    bad = ~(as_numbers(column) > 0)
                    _refuse(column, self.name, bad, "must be above 0 for `log_target`, but is not")
                np.log(numbers, out=numbers)
            values[rows] = numbers
        return values

    @property
    def unit(self) -> tuple[float, float]:
        """Zero and one of what the model predicts, encoded."""
        return (self.mean, self.std or 1.0) if self.scaled else (0.0, 1.0)

    def to_model(self, encoded: Tensor) -> Tensor:
        """Convert encoded targets to what the model predicts, in 32 bits."""
        return in_deviations(encoded, *self.unit) if self.scaled else encoded.float()

    def transform(self, values: Tensor) -> Tensor:
        """Convert targets or predictions from the user's units to what the model predicts."""
        return values.log() if self.log else self.to_model(values)

    def invert(self, values: Tensor) -> Tensor:
        """Convert what the model predicts to the user's units; classes stay as they are."""
        if self.scaled:
            return from_deviations(values, *self.unit)
        return self.in_users_units(values)

    def in_users_units(self, encoded: Tensor) -> Tensor:
        """Convert encoded targets to the user's units; classes stay as they are."""
        return encoded.exp() if self.log else encoded


def _refuse_gaps(column: "pd.Series[Any]", name: str) -> None:
    cure = f', as by `where` of the data: "{in_expression(name)} == {in_expression(name)}"'
    _refuse(column, name, column.isna().to_numpy(), "must be there, but is missing", cure)


def _refuse(column: "pd.Series[Any]", name: str, bad: Mask, what: str, cure: str = "") -> None:
    if bad.any():
        raise DataError(
            f"The target {name!r} {what} in {name_rows(column.index, bad)}. Leave such rows out"
            f"{cure}, or mend them."
        )
