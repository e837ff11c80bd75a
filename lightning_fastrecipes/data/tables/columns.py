"""What the columns of a table are for."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

import pandas as pd
from torch import Tensor

from lightning_fastrecipes._lightning import rank_zero_info
from lightning_fastrecipes.data.common.split_names import may_be_split
from lightning_fastrecipes.data.tables.frames import read_undescribed
from lightning_fastrecipes.data.tables.reading import Reading
from lightning_fastrecipes.errors import ConfigurationError, DataError
from lightning_fastrecipes.functional.labels.balance import balancing_weights
from lightning_fastrecipes.functional.tables.checks import check_roles
from lightning_fastrecipes.functional.tables.inputs import as_frame, is_in_memory
from lightning_fastrecipes.functional.tables.roles import find_roles
from lightning_fastrecipes.functional.tables.spec import TableSpec
from lightning_fastrecipes.functional.tables.target import SpecTask, TableTask
from lightning_fastrecipes.functional.tables.target_choice import choose_task
from lightning_fastrecipes.messages import shown
from lightning_fastrecipes.typed import check_types


@dataclass(frozen=True)
class TableColumns:
    """What the columns of a table are for.

    Args:
        target: Column to predict, or several: a list of at most 100 that ``TabularMultiTarget``
            predicts together.
        categorical: Columns whose values are categories.
        continuous: Columns whose values are numbers.
        task: ``regression``, or ``classes`` where the target is one of several values; of several
            targets the same for all, or a mapping with one for each, such as
            ``{"sales": "regression", "late": "classes"}``.
        log_target: Whether a regression predicts the logarithm of the target; of several targets,
            of all that are numbers.
        min_count: Categories in fewer training rows than this share one index, at least 1.
        class_balanced: Whether training rows are drawn, with replacement, so that all classes come
            equally often; for one target.
        weight: Column of numbers of at least 0, which is never a feature: how many times the loss
            of a row counts in training, over the mean of the training rows. Validation and test are
            not weighted, and rows to predict need none.

    Raises:
        ValueError: If an argument is out of its range, or a column is named twice or none is.
    """

    target: str | Sequence[str]
    categorical: Sequence[str] = ()
    continuous: Sequence[str] = ()
    task: TableTask | Mapping[str, TableTask] = "regression"
    log_target: bool = False
    min_count: int = 1
    class_balanced: bool = False
    weight: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.target, str):
            targets = list(self.target) if isinstance(self.target, Iterable) else [self.target]
            if not all(isinstance(name, str) for name in targets):
                raise ValueError(
                    "`target` must be the name of a column, or a list of names, got"
                    f" {shown(self.target)}."
                )
            object.__setattr__(self, "target", targets[0] if len(targets) == 1 else targets)
        check_types(self)
        for role in ("categorical", "continuous"):
            if not isinstance(getattr(self, role), str):  # which is refused next
                # An index of pandas, too.
                object.__setattr__(self, role, list(getattr(self, role)))
        check_roles(self.targets, self.categorical, self.continuous)
        self._set_task()
        if self.log_target and {*self.tasks.values()} == {"classes"}:
            raise ValueError(
                "`log_target` must be False for the task 'classes', got True. Leave it out."
            )
        if self.class_balanced and self.task != "classes":
            raise ValueError(
                "`class_balanced` must be False for a regression, got True. Leave it out."
            )
        if self.class_balanced and len(self.targets) > 1:
            raise ValueError(
                f"`class_balanced` must be False for {len(self.targets)} targets, got True: rows"
                " are drawn by the classes of one. Leave it out."
            )
        if self.weight is not None and self.weight in self.names:
            raise ValueError(
                f"`weight` must be a column that is neither predicted nor a feature, got"
                f" {shown(self.weight)}. Take it out of the others."
            )
        if self.min_count < 1:
            raise ValueError(f"`min_count` must be at least 1, got {self.min_count}.")

    @classmethod
    def guess(
        cls, table: Any, target: str, *, reading: Reading | Mapping[str, Any] | None = None
    ) -> "TableColumns":
        """Find out what the columns of a table are for, by the rules of `fastrecipes new`.

        Text and whole numbers of few values are categories, other numbers are numbers. Left out
        are dates, which the step ``date_parts`` makes columns of, ids, columns that say the target
        by themselves, and what names the splits; a line says so of each.

        Args:
            table: A file or pattern, or a table in memory, as for ``TabularDataModule``; columns
                that its steps make are not known.
            target: Column to predict: classes if it is text or has few whole numbers.
            reading: How files of text are written, as for ``TabularDataModule``.

        Returns:
            Columns, which ``dataclasses.replace`` changes.

        Raises:
            DataError: If the table cannot be read, has no such column, or none that is a feature.

        Example:
            >>> rows = {"size": [1.5, 2.5, 4.0] * 9, "kind": ["a", "b", "b"] * 9}
            >>> TableColumns.guess(rows | {"price": range(27)}, "price").continuous
            ['size']
        """
        frame = as_frame(table) if is_in_memory(table) else read_undescribed(table, reading)
        frame = frame.rename(columns=str)
        splits = [str(name) for name in frame if may_be_split(frame[name])][:1]
        roles = find_roles(frame, target, splits)
        choice = choose_task(frame[target])
        for role in roles:
            if role.role not in ("category", "number"):
                rank_zero_info(f"Column '{role.name}' is no feature: {role.reason}.")
        categorical = [role.name for role in roles if role.role == "category"]
        continuous = [role.name for role in roles if role.role == "number"]
        if not categorical and not continuous:
            raise DataError(
                f"The table must have a column to predict '{target}' from, but has none:"
                f" {'; '.join(f'{role.name}: {role.reason}' for role in roles[:10])}. Name the"
                " columns yourself, or make some by steps."
            )
        return cls(target, categorical, continuous, choice.task, choice.log)

    @classmethod
    def of(cls, spec: TableSpec) -> "TableColumns":
        """Return the columns that a spec was learned from."""
        tasks = {column.name: column.task for column in spec.target_columns}
        return cls(spec.targets, spec.categorical, spec.continuous, tasks, spec.log_target)

    @classmethod
    def known(cls, given: "TableColumns | None", spec: TableSpec | None) -> "TableColumns":
        """Return those of a spec, with the weight of given ones, or else the given ones."""
        if spec is not None:
            return replace(cls.of(spec), weight=None if given is None else given.weight)
        if isinstance(given, TableColumns):
            return given
        raise ConfigurationError(
            f"`columns` must say what the columns of the table are for, got {shown(given)}. Give"
            " `TableColumns(target, categorical, continuous)`, or the `spec` of a model."
        )

    @property
    def targets(self) -> list[str]:
        """Names of the columns to predict, one or several."""
        return [self.target] if isinstance(self.target, str) else list(self.target)

    @property
    def tasks(self) -> dict[str, TableTask]:
        """What each target is: ``regression`` or ``classes``."""
        task = self.task
        return dict.fromkeys(self.targets, task) if isinstance(task, str) else dict(task)

    @property
    def spec_task(self) -> SpecTask:
        """What a spec of these columns has as its ``task``."""
        return "several" if len(self.targets) > 1 else self.tasks[self.targets[0]]

    @property
    def names(self) -> list[str]:
        """Names of all columns that are used."""
        return [*self.categorical, *self.continuous, *self.targets]

    @property
    def codes(self) -> list[str]:
        """Names of the columns whose values are categories or classes."""
        classes = [name for name, task in self.tasks.items() if task == "classes"]
        return [*self.categorical, *classes]

    def draw_weights(self, targets: Tensor) -> Tensor | None:
        """Return how often each training row is drawn, or ``None`` if all come once."""
        return balancing_weights(targets) if self.class_balanced else None

    def fit(self, frame: pd.DataFrame) -> TableSpec:
        """Learn from the training rows how the table becomes numbers."""
        roles = asdict(self)
        del roles["class_balanced"], roles["weight"]
        return TableSpec.fit(frame, **roles)

    def _set_task(self) -> None:
        """Refuse what is no task, and write one that all targets have as that."""
        if not isinstance(self.task, str | Mapping):
            raise ValueError(f"`task` must be text or a mapping, got {shown(self.task)}.")  # noqa: TRY004
        tasks = self.tasks
        if isinstance(self.task, Mapping) and {*tasks} != {*self.targets}:
            raise ValueError(
                f"`task` must have one task for each of {self.targets}, but has them for"
                f" {list(tasks)}. Name every target once, or give one task for all."
            )
        wrong = [task for task in tasks.values() if task not in get_args(TableTask)]
        if wrong:
            raise ValueError(
                f"`task` must be one of {', '.join(get_args(TableTask))}, got {wrong[0]!r}."
            )
        is_same = len({*tasks.values()}) == 1
        object.__setattr__(self, "task", next(iter(tasks.values())) if is_same else tasks)
