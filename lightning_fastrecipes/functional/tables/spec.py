"""How a table becomes numbers, learned from its training rows."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from torch import Tensor

from lightning_fastrecipes import formats
from lightning_fastrecipes import plain as plain_values
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.tables.checks import (
    check_columns,
    check_kinds,
    check_roles,
    check_spec,
    spec_difference,
)
from lightning_fastrecipes.functional.tables.encoding import (
    CategoryColumn,
    EmbeddingRule,
    embedding_size,
    number_hint,
    other_kind,
)
from lightning_fastrecipes.functional.tables.scaling import FAR, ContinuousColumn
from lightning_fastrecipes.functional.tables.target import SpecTask, TableTask, TargetColumn

FLAG_SUFFIX = "_na"


class EncodedTable(NamedTuple):
    """A table as numbers.

    ``codes`` ``(rows, num_categorical)`` are category indices, 0 for unknown and missing, in the
    narrowest signed integer type that holds them all. ``continuous`` ``(rows, num_continuous)``,
    float32, are scaled values, then the flags of missing ones (0 or 1). ``target`` ``(rows,)`` is
    for a regression float64, or its logarithm in float32, and int64 for classes; ``None`` if it was
    not asked for.
    By column, for those with any, ``unknown`` counts values that training had not, ``filled``
    missing ones, and ``far`` numbers that lie more than ``FAR`` deviations from the mean. Of
    several targets, ``target`` ``(rows, targets)`` is float64, each as it would be alone.
    """

    codes: npt.NDArray[Any]
    continuous: npt.NDArray[np.float32]
    target: npt.NDArray[Any] | None
    unknown: dict[str, int]
    filled: dict[str, int]
    far: dict[str, int]


@dataclass(frozen=True)
class TableSpec:
    """How a table becomes numbers: categories, medians, scaling, target.

    It is learned from the training rows by ``fit``, holds plain values only, and goes into the
    checkpoint; a row is encoded in the same way whatever other rows are beside it.

    Args:
        category_columns: The categorical columns, in order.
        number_columns: The continuous columns, in order.
        target_column: What is predicted.
        source_text: Columns that were text when the table was read, before any step, so that rows
            to predict are read alike; two specs that differ in this alone are equal.
        more_targets: What is predicted besides, where there are several targets.
        side_text: Columns that were text in each side table that steps joined, as ``source_text``.

    Example:
        >>> table = pd.DataFrame(
        ...     {"shop": ["a", "b", "a"], "km": [1.0, None, 3.0], "sales": [5.0, 7.0, 6.0]}
        ... )
        >>> spec = TableSpec.fit(table, target="sales", categorical=["shop"], continuous=["km"])
        >>> spec.cardinalities, spec.continuous_columns
        ([3], ['km', 'km_na'])
        >>> new = pd.DataFrame({"shop": ["b", "zoo"], "km": [2.0, None]})
        >>> encoded = spec.encode(new, has_target=False)
        >>> encoded.codes.tolist(), encoded.continuous.tolist(), encoded.unknown
        ([[2], [0]], [[0.0, 0.0], [0.0, 1.0]], {'shop': 1})

    References:
        Guo and Berkhahn, *Entity Embeddings of Categorical Variables* (2016); fast.ai course
        (2018), lesson 3.
    """

    category_columns: tuple[CategoryColumn, ...]
    number_columns: tuple[ContinuousColumn, ...]
    target_column: TargetColumn
    source_text: tuple[str, ...] = field(default=(), compare=False)
    more_targets: tuple[TargetColumn, ...] = ()
    side_text: tuple[tuple[str, ...], ...] = field(default=(), compare=False)

    @classmethod
    def fit(
        cls,
        frame: pd.DataFrame,
        *,
        target: str | Sequence[str],
        categorical: Sequence[str],
        continuous: Sequence[str],
        task: TableTask | Mapping[str, TableTask] = "regression",
        log_target: bool = False,
        min_count: int = 1,
    ) -> "TableSpec":
        """Learn from the training rows, all of them and only them.

        The other arguments are those of ``TableColumns``. Raise `ValueError` if a column is named
        twice or none is named, or an argument is out of range, `DataError` if a column is missing
        or cannot be encoded.
        """
        targets = [target] if isinstance(target, str) else list(target)
        check_roles(targets, categorical, continuous)
        if min_count < 1:
            raise ValueError(f"`min_count` must be at least 1, got {min_count}.")
        check_columns(frame, [*categorical, *continuous, *targets])
        if not len(frame):
            raise DataError("The training rows must be at least one, but there are none.")
        for name in continuous:
            found = other_kind("number", frame[name])
            if found is not None:
                raise DataError(
                    f"Column {name!r} must hold numbers to be one of `continuous`, but has"
                    f" {found}. List it in `categorical`, or mend it{number_hint(frame[name])}."
                )
        numbers = tuple(ContinuousColumn.fit(frame[name], name) for name in continuous)
        clash = {f"{column.name}{FLAG_SUFFIX}" for column in numbers if column.has_flag}
        clash &= {*categorical, *continuous, *targets}
        if clash:
            raise DataError(
                f"The columns {sorted(clash)} must not be named, because they flag the gaps of"
                " others by themselves. Leave them out, or rename them."
            )
        tasks = dict.fromkeys(targets, task) if isinstance(task, str) else task
        is_mixed = len({*tasks.values()}) > 1
        first, *others = (
            TargetColumn.fit(
                frame[name],
                name,
                tasks[name],
                # Classes beside numbers are never logarithms.
                log=log_target and not (is_mixed and tasks[name] == "classes"),
            )
            for name in targets
        )
        return cls(
            tuple(CategoryColumn.fit(frame[name], name, min_count) for name in categorical),
            numbers,
            first,
            more_targets=tuple(others),
        )

    @property
    def target(self) -> str:
        """Name of the target, or of the first of several."""
        return self.target_column.name

    @property
    def target_columns(self) -> tuple[TargetColumn, ...]:
        """What is predicted, one or several."""
        return (self.target_column, *self.more_targets)

    @property
    def targets(self) -> list[str]:
        """Names of all that is predicted."""
        return [column.name for column in self.target_columns]

    @property
    def task(self) -> SpecTask:
        """What is predicted: ``regression``, ``classes``, or ``several`` targets."""
        return "several" if self.more_targets else self.target_column.task

    @property
    def log_target(self) -> bool:
        """Whether targets that are numbers are transformed by the logarithm."""
        return any(column.log for column in self.target_columns)

    @property
    def categorical(self) -> list[str]:
        """Names of the categorical columns, in the order of the codes."""
        return [column.name for column in self.category_columns]

    @property
    def continuous(self) -> list[str]:
        """Names of the continuous columns of the table, which has no flags."""
        return [column.name for column in self.number_columns]

    @property
    def continuous_columns(self) -> list[str]:
        """Names of the encoded continuous columns, the flags of missing values last."""
        flags = [f"{column.name}{FLAG_SUFFIX}" for column in self.number_columns if column.has_flag]
        return [*self.continuous, *flags]

    @property
    def constant_columns(self) -> list[str]:
        """Names of the continuous columns with one value alone, which carry no information."""
        return [column.name for column in self.number_columns if column.std == 0]

    @property
    def cardinalities(self) -> list[int]:
        """Number of indices per categorical column, index 0 included."""
        return [column.cardinality for column in self.category_columns]

    @property
    def classes(self) -> list[str] | None:
        """Names of the classes in the order of the target index; ``None`` unless ``task`` is so."""
        return None if self.more_targets else self.target_column.classes

    @property
    def target_range(self) -> tuple[float, float] | None:
        """Range that predictions may have, of logarithms if these are predicted; or ``None``."""
        return self.target_column.range

    def embedding_sizes(self, rule: EmbeddingRule = "course") -> list[int]:
        """Return the width of the vectors of each categorical column."""
        return [embedding_size(cardinality, rule) for cardinality in self.cardinalities]

    def encode(self, frame: pd.DataFrame, *, has_target: bool = True) -> EncodedTable:
        """Turn rows into numbers, whatever other rows are beside them.

        Other columns than ours are not looked at, nor the target without ``has_target``. Raise
        `DataError` if the table is not like that of the training, or a value cannot be encoded.
        """
        self.check(frame, has_target=has_target)
        # The narrowest type that holds the least number too is a signed one.
        codes_type = np.min_scalar_type(-max(self.cardinalities, default=1))
        codes = np.empty((len(frame), len(self.category_columns)), dtype=codes_type)
        continuous = np.empty((len(frame), len(self.continuous_columns)), dtype=np.float32)
        unknown: dict[str, int] = {}
        filled: dict[str, int] = {}
        far: dict[str, int] = {}
        for place, category in enumerate(self.category_columns):
            column = frame[category.name]
            counts = category.encode(column, codes[:, place])
            unknown[category.name], filled[category.name] = counts
        flag_place = len(self.number_columns)
        for place, number in enumerate(self.number_columns):
            flags = continuous[:, flag_place] if number.has_flag else None
            flag_place += number.has_flag
            filled[number.name] = number.encode(frame[number.name], continuous[:, place], flags)
            far[number.name] = int((np.abs(continuous[:, place]) > FAR).sum())
        target = self._encoded_targets(frame) if has_target else None
        found = (_above_0(counted) for counted in (unknown, filled, far))
        return EncodedTable(codes, continuous, target, *found)

    def decode(self, codes: Any) -> pd.DataFrame:
        """Turn indices ``(rows, num_categorical)`` back into a table of the categorical columns.

        Unknown, missing and rare categories are missing. Raise `ValueError` if the shape is
        another, or an index is out of range.
        """
        array = np.asarray(codes)
        if array.ndim != 2 or array.shape[1] != len(self.category_columns):
            raise ValueError(
                f"`codes` must have shape (rows, {len(self.category_columns)}), got"
                f" {tuple(array.shape)}. Give one column for each of {self.categorical}."
            )
        return pd.DataFrame(
            {
                column.name: column.decode(array[:, place])
                for place, column in enumerate(self.category_columns)
            },
            index=pd.RangeIndex(len(array)),
        )

    def invert_target(self, values: Tensor) -> Tensor:
        """Convert what the model predicts of one target to the user's units."""
        return self.target_column.invert(values)

    def check(self, frame: pd.DataFrame, *, has_target: bool = True) -> None:
        """Refuse a table that is not like that of the training.

        Raise `DataError` if columns are missing or twice there, or text came for numbers or
        numbers for text; every such column is named.
        """
        wanted = {column.name: column.kind for column in self.category_columns}
        wanted |= {column.name: "number" for column in self.number_columns}
        check_columns(frame, [*wanted, *(self.targets if has_target else [])])
        check_kinds(frame, wanted)

    def difference(self, other: "TableSpec") -> str:
        """Return how another spec differs from this one, one line for each column."""
        return spec_difference(self.to_dict(), other.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, which JSON and any checkpoint reader take."""
        plain = {"version": formats.TABLE_SPEC, **asdict(self)}
        if not self.side_text:
            del plain["side_text"]
        if not self.more_targets:
            del plain["more_targets"]
            plain["version"] = formats.TABLE_SPEC_OF_ONE_TARGET
        return {name: _listed(value) for name, value in plain.items()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "TableSpec":
        """Read what ``to_dict`` returned.

        Raise `ValueError` if that was a later version's, `ConfigurationError` if it is damaged.
        """
        plain_values.named(plain_values.anything)(plain, "spec")
        version = plain.get("version")
        if type(version) is not int or not 1 <= version <= formats.TABLE_SPEC:
            raise ValueError(
                f"The table's spec must have version {formats.TABLE_SPEC} at most, got"
                f" {version!r}. Train anew, or use the version of the package that"
                " wrote it."
            )
        check_spec(plain)
        return cls(
            tuple(_category_column(column) for column in plain["category_columns"]),
            tuple(ContinuousColumn(**column) for column in plain["number_columns"]),
            _target_column(plain["target_column"]),
            tuple(plain.get("source_text", ())),
            tuple(map(_target_column, plain.get("more_targets", ()))),
            tuple(map(tuple, plain.get("side_text", ()))),
        )

    def _encoded_targets(self, frame: pd.DataFrame) -> npt.NDArray[Any]:
        if not self.more_targets:
            return self.target_column.encode(frame[self.target])
        encoded = [column.encode(frame[column.name]) for column in self.target_columns]
        return np.column_stack(encoded).astype(np.float64)


def _target_column(plain: Mapping[str, Any]) -> TargetColumn:
    categories = plain["categories"]
    return TargetColumn(
        **{**plain, "categories": None if categories is None else _category_column(categories)}
    )


def _category_column(plain: Mapping[str, Any]) -> CategoryColumn:
    return CategoryColumn(
        plain["name"], plain["kind"], tuple(plain["values"]), tuple(plain["rare"])
    )


def _listed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _listed(item) for name, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, (tuple, list)) else value


def _above_0(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count > 0}
