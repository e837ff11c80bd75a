"""Rows that a search does not look at, on which its choice is checked."""

import copy
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from lightning_fastrecipes.data.common.row_splits import FoldSplit, RowSplit
from lightning_fastrecipes.data.common.split_choice import (
    ColumnSplit,
    DateSplit,
    FractionSplit,
    GroupSplit,
    Split,
    as_split,
)
from lightning_fastrecipes.functional.splits import hashed_split

_SHARE_OF_TRAINING = 0.1
"""To test on, where the data bring their own rows to validate on, and none to test on."""


def with_unseen(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the document of a recipe without a test split, with one of rows held out so far.

    Of rows to validate on that are drawn, half are tested on: the same are trained on. Where they
    are not drawn, a tenth of the training rows is. ``None`` if the split cannot be divided.
    """
    changed = copy.deepcopy(dict(document))
    data = changed["data"]
    if not isinstance(data, dict):
        data = changed["data"] = {"class_path": data}
    arguments = data["init_args"] = dict(data.get("init_args") or {})
    divided = _divided(as_split(arguments.get("split")))
    if divided is None:
        return None
    arguments["split"] = divided
    return changed


def _divided(split: Split) -> dict[str, Any] | None:
    if isinstance(split, (FractionSplit, GroupSplit)):
        half = _half(split.val)
        return _plain(split) | ({"val": half, "test": half} if half else {"test": _share()})
    if isinstance(split, FoldSplit):
        return _plain(split) | {"test": _half(1 / split.folds)}
    if isinstance(split, ColumnSplit):
        drawn = {"val": 0.0} if split.missing is None else _plain(split.missing)
        share = _half(float(drawn["val"])) or _share()
        return {"column": split.column, "missing": {**drawn, "test": share}}
    if isinstance(split, RowSplit):
        keep, test = hashed_split(len(split.val), [0.5, 0.5], seed=0)
        rows = np.array(split.val, dtype=object)
        return _plain(split) | {"val": rows[keep].tolist(), "test": rows[test].tolist()}
    return _divided_dates(split)


def _divided_dates(split: DateSplit) -> dict[str, Any] | None:
    if split.val_last:
        half = _half(split.val_last)
        return _plain(split) | {"val_last": half, "test_last": half}
    bounds = split.bounds
    if not {"val_from", "val_until"} <= bounds.keys():
        return None  # which dates these are is not known before the data are read
    first, last = pd.Timestamp(bounds["val_from"]), pd.Timestamp(bounds["val_until"])
    middle = first + (last - first) / 2
    ends = {"val_until": str((middle - pd.Timedelta(days=1)).date())}
    ends |= {"test_from": str(middle.date()), "test_until": str(last.date())}
    return _plain(split) | ends if first.date() < middle.date() else None


def _plain(split: Split) -> dict[str, Any]:
    """Return what a split was given, as a recipe writes it."""
    values = {key: value for key, value in asdict(split).items() if value is not None}
    if isinstance(split, RowSplit):
        return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}
    return {key: str(v) if hasattr(v, "isoformat") else v for key, v in values.items()}


def _half(share: float) -> float:
    return round(share / 2, 6)


def _share() -> float:
    return _SHARE_OF_TRAINING
