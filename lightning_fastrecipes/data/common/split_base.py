"""What all ways to split have in common."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import date
from typing import Any

from typing_extensions import override

from lightning_fastrecipes._lightning import rank_zero_warn
from lightning_fastrecipes.data.common.split_names import SplitName
from lightning_fastrecipes.functional.labels.spellings import look_alikes
from lightning_fastrecipes.messages import name_some
from lightning_fastrecipes.typed import check_types

_MOST_COMPARED = 10_000


def warn_of_like_groups(column: str, groups: Iterable[Any]) -> None:
    """Warn of groups whose names look the same, since they may end in different splits."""
    names = {name for name in groups if isinstance(name, str)}
    alike = look_alikes(names) if len(names) <= _MOST_COMPARED else []
    if alike:
        more = f", and {len(alike) - 1:,} others" if len(alike) > 1 else ""
        rank_zero_warn(
            f"The column '{column}' has {name_some(alike[0])} as different groups, which differ by"
            f" case, blanks, invisible signs or form of their letters alone{more}: they may be in"
            " different splits. If they mean the same, give them one name."
        )


class SplitBase:
    """What the ways to split have in common."""

    @property
    def columns(self) -> list[str]:
        """Columns that the split depends on."""
        column = getattr(self, "column", None)
        return [] if column is None else [column]

    @property
    def asked(self) -> set[SplitName]:
        """Splits that must not come out empty."""
        raise NotImplementedError

    def key(self) -> dict[str, Any]:
        """Describe the split by plain values, for the key of a cache."""
        values = asdict(self)  # type: ignore[call-overload]
        plain = {k: str(v) if isinstance(v, date) else v for k, v in values.items()}
        return {"split": type(self).__name__, **plain}


class Shares(SplitBase):
    """Splits that are drawn by the shares `val` and `test`, and the rest to train on."""

    val: float
    test: float

    def __post_init__(self) -> None:
        check_types(self)
        check_shares({"val": self.val, "test": self.test})

    @property
    def fractions(self) -> list[float]:
        """Shares of training, validation and test."""
        return [1 - self.val - self.test, self.val, self.test]

    @property
    @override
    def asked(self) -> set[SplitName]:
        return asked_splits(self.val, self.test)


def asked_splits(val: object, test: object) -> set[SplitName]:
    """Return the splits that must have rows: training, and those with a share."""
    names: set[SplitName] = {"train"}
    if val:
        names.add("val")
    if test:
        names.add("test")
    return names


def check_shares(shares: Mapping[str, float]) -> None:
    """Raise a `ValueError` unless shares lie in [0, 1) and leave some to train on."""
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise ValueError(f"`{name}` must lie in [0, 1), got {share}.")
    if sum(shares.values()) >= 1:
        raise ValueError(
            f"`{'` and `'.join(shares)}` must sum to less than 1, got"
            f" {' and '.join(map(str, shares.values()))}. Leave some to train on."
        )
