"""What the columns of a table are for."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import get_args

import pandas as pd
from torch import Tensor

from lightning_fastrecipes.functional.labels.balance import balancing_weights
from lightning_fastrecipes.functional.tables.checks import check_roles
from lightning_fastrecipes.functional.tables.spec import TableSpec
from lightning_fastrecipes.functional.tables.target import TableTask


@dataclass(frozen=True)
class TableColumns:
    """What the columns of a table are for.

    Args:
        target: Column to predict.
        categorical: Columns whose values are categories.
        continuous: Columns whose values are numbers.
        task: ``regression``, or ``classes`` where the target is one of several values.
        log_target: Whether a regression predicts the logarithm of the target.
        min_count: Categories in fewer training rows than this share one index, at least 1.
        class_balanced: Whether training rows are drawn, with replacement, so that all classes come
            equally often.

    Raises:
        ValueError: If an argument is out of its range, or a column is named twice or none is.
    """

    target: str
    categorical: Sequence[str] = ()
    continuous: Sequence[str] = ()
    task: TableTask = "regression"
    log_target: bool = False
    min_count: int = 1
    class_balanced: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.target, str):
            raise ValueError(  # noqa: TRY004
                f"`target` must be the name of one column, got {self.target!r}. For several targets"
                " train a model each."
            )
        for role in ("categorical", "continuous"):
            if not isinstance(getattr(self, role), str):  # which is refused next
                # An index of pandas, too.
                object.__setattr__(self, role, list(getattr(self, role)))
        check_roles(self.target, self.categorical, self.continuous)
        if self.task not in get_args(TableTask):
            raise ValueError(
                f"`task` must be one of {', '.join(get_args(TableTask))}, got {self.task!r}."
            )
        if self.log_target and self.task == "classes":
            raise ValueError(
                "`log_target` must be False for the task 'classes', got True. Leave it out."
            )
        if self.class_balanced and self.task != "classes":
            raise ValueError(
                "`class_balanced` must be False for a regression, got True. Leave it out."
            )
        if self.min_count < 1:
            raise ValueError(f"`min_count` must be at least 1, got {self.min_count}.")

    @classmethod
    def of(cls, spec: TableSpec) -> "TableColumns":
        """Return the columns that a spec was learned from."""
        return cls(spec.target, spec.categorical, spec.continuous, spec.task, spec.log_target)

    @property
    def names(self) -> list[str]:
        """Names of all columns that are used."""
        return [*self.categorical, *self.continuous, self.target]

    @property
    def codes(self) -> list[str]:
        """Names of the columns whose values are categories or classes."""
        return [*self.categorical, *[self.target] * (self.task == "classes")]

    def draw_weights(self, targets: Tensor) -> Tensor | None:
        """Return how often each training row is drawn, or ``None`` if all come once."""
        return balancing_weights(targets) if self.class_balanced else None

    def fit(self, frame: pd.DataFrame) -> TableSpec:
        """Learn from the training rows how the table becomes numbers."""
        roles = asdict(self)
        del roles["class_balanced"]
        return TableSpec.fit(frame, **roles)
