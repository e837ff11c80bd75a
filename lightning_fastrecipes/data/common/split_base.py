"""What all ways to split have in common."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import date
from typing import Any

from typing_extensions import override

from lightning_fastrecipes.data.common.split_names import SplitName
from lightning_fastrecipes.typed import check_types


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
