"""Which row of a table is of which split."""

import warnings
from dataclasses import replace
from typing import Any, cast, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from lightning_fastrecipes._lightning import rank_zero_info
from lightning_fastrecipes.data.common.row_splits import FoldSplit, RowSplit
from lightning_fastrecipes.data.common.split_base import Shares, warn_of_like_groups
from lightning_fastrecipes.data.common.split_choice import (
    ColumnSplit,
    DateSplit,
    FractionSplit,
    GroupSplit,
    Split,
    as_split,
)
from lightning_fastrecipes.data.common.split_names import SplitName, read_splits
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.splits import (
    grouped_split,
    hashed_split,
    stratified_split,
    time_split,
)
from lightning_fastrecipes.functional.tables.rows import name_rows
from lightning_fastrecipes.old_names import split_keys

Rows = npt.NDArray[np.int64]
Dates = npt.NDArray[np.datetime64]

TABLE_SPLITS: tuple[SplitName, ...] = get_args(SplitName)


def TableSplit(**arguments: Any) -> Split:  # noqa: N802
    """Return a split by the arguments that earlier versions had for tables.

    >>> TableSplit(val_fraction=0.1, split_seed=3)
    FractionSplit(val=0.1, test=0.0, seed=3, stratify=None)
    """
    return as_split(split_keys(arguments))


def draws_rows(split: Split) -> bool:
    """Return whether a split draws some rows one by one, whatever belongs together."""
    if isinstance(split, FoldSplit):
        return split.column is None and split.date is None
    return isinstance(split, FractionSplit) or (
        isinstance(split, ColumnSplit) and split.missing is not None
    )


def split_rows(split: Split, frame: pd.DataFrame) -> dict[SplitName, Rows]:
    """Return which rows are of ``train``, ``val`` and ``test``, as sorted row numbers from 0.

    Validation and test are empty only where nobody asked for them. The frame has at least the
    columns of the split; its index names rows in messages. Raise `DataError` if a column is
    missing, a value of it cannot be used, or a split is empty.
    """
    if not len(frame):
        raise DataError("The table must have rows, but has none. Check its file and `where`.")
    for name in split.columns:
        if name not in frame:
            raise DataError(
                f"`split` needs the column '{name}', but the table has only:"
                f" {', '.join(map(repr, frame.columns))}. Correct its name."
            )
    if isinstance(split, FractionSplit) and split.stratify is not None:
        parts = stratified_split(_codes(frame[split.stratify]), split.fractions, split.seed)
    elif isinstance(split, FractionSplit):
        parts = hashed_split(len(frame), split.fractions, split.seed)
    elif isinstance(split, ColumnSplit):
        parts = _by_names(frame[split.column], split.missing)
    elif isinstance(split, GroupSplit):
        parts = grouped_split(_groups(frame[split.column]), split.fractions, split.seed)
    elif isinstance(split, FoldSplit) and split.within is not None:
        parts = _folds_within(split, split.within, frame)
    elif isinstance(split, FoldSplit) and split.date is not None:
        parts = split.parts_in_time(_dates(frame[split.date]))
    elif isinstance(split, FoldSplit):
        strata = [0] * len(frame) if split.stratify is None else _codes(frame[split.stratify])
        groups = None if split.column is None else _groups(frame[split.column])
        parts = split.parts(groups, strata)
    elif isinstance(split, RowSplit):
        parts = _by_lists(frame, split)
    else:
        dates = _dates(frame[split.column])
        if split.bounds:
            parts = _by_ranges(split, dates, frame.index)
        else:
            parts = time_split(dates, split.fractions)
        if split.gap_days:
            parts[0] = _without_gaps(parts, dates, split.gap_days)
    found = dict(zip(TABLE_SPLITS, parts, strict=True))
    for name, rows in found.items():
        if name in split.asked and not len(rows):
            counts = ", ".join(f"{len(found[other]):,} of '{other}'" for other in found)
            raise DataError(
                f"The split '{name}' must have rows, but of {len(frame):,} there are {counts}."
                f" Change `split`: {split}."
            )
    return found


def _folds_within(split: FoldSplit, outer: Shares, frame: pd.DataFrame) -> list[Rows]:
    found = split_rows(cast(Split, outer), frame)
    rest = np.sort(np.concatenate([found["train"], found["val"]]))
    inner = split_rows(replace(split, within=None), frame.iloc[rest])
    return [rest[inner["train"]], rest[inner["val"]], found["test"]]


def _by_names(column: pd.Series, missing: FractionSplit | None) -> list[Rows]:
    splits, said = read_splits(column)
    wrong = splits.isna().to_numpy()
    if wrong.any():
        raise DataError(
            f"The column '{column.name}' must say 'train', 'val' or 'test', but says"
            f" {_example(column, wrong)}. Correct it, or drop those rows."
        )
    if said:
        rank_zero_info(f"Splits: {said}")
    parts = [np.flatnonzero((splits == split).to_numpy()) for split in TABLE_SPLITS]
    if missing is not None:
        val, test = [
            0.0 if len(rows) else share
            for rows, share in zip(parts[1:], missing.fractions[1:], strict=True)
        ]
        drawn = hashed_split(len(parts[0]), [1 - val - test, val, test], missing.seed)
        parts[1:] = [
            named if len(named) else parts[0][rows]
            for named, rows in zip(parts[1:], drawn[1:], strict=True)
        ]
        parts[0] = parts[0][drawn[0]]
    return parts


def _codes(column: pd.Series) -> list[int]:
    """Number the values of a column; a gap is a value of its own."""
    codes: list[int] = pd.factorize(column)[0].tolist()
    return codes


def _groups(column: pd.Series) -> list[Any]:
    is_missing = column.isna().to_numpy()
    if is_missing.any():
        raise DataError(
            f"The column '{column.name}' must name the group of every row, but does not in"
            f" {name_rows(column.index, is_missing)}. Fill it in, or drop those rows."
        )
    # A blank behind a name makes no other owner.
    groups = [name.strip() if isinstance(name, str) else name for name in column.tolist()]
    warn_of_like_groups(str(column.name), groups)
    return groups


def _by_lists(frame: pd.DataFrame, split: RowSplit) -> list[Rows]:
    rows = frame.index.to_series() if split.column is None else frame[split.column]
    found, said = split.splits(rows)
    if said:
        rank_zero_info(f"Splits: {said}.")
    return [np.flatnonzero((found == name).to_numpy()) for name in TABLE_SPLITS]


def _by_ranges(split: DateSplit, dates: Dates, index: "pd.Index[Any]") -> list[Rows]:
    bounds = split.bounds
    test = _within(dates, bounds, "test")
    if "val_until" not in bounds and "val_from" in bounds and "test_from" in bounds:
        bounds["val_until"] = bounds["test_from"] - np.timedelta64(1, "us")
    val = _within(dates, bounds, "val")
    if (val & test).any():
        raise DataError(
            "The ranges to validate and to test on must not overlap, but both hold"
            f" {name_rows(index, val & test)}. Move `val_until` or `test_from`."
        )
    train = ~(val | test)
    if split.past_only:
        train &= dates < dates[~train].min(initial=dates.max() + np.timedelta64(1, "us"))
    return [np.flatnonzero(part) for part in (train, val, test)]


def _without_gaps(parts: list[Rows], dates: Dates, gap_days: float) -> Rows:
    """Return the training rows but for those near the first or last date of another split."""
    gap = np.timedelta64(round(gap_days * 86_400_000_000), "us")
    mine = dates[parts[0]]
    is_near = np.zeros(len(mine), dtype=bool)
    for part in parts[1:]:
        if len(part):
            start, end = dates[part].min(), dates[part].max()
            is_near |= ((mine >= start - gap) & (mine < start)) | (
                (mine > end) & (mine <= end + gap)
            )
    left_out = int(is_near.sum())
    rank_zero_info(f"Splits: {left_out:,} rows within {gap_days:g} days of others are left out.")
    rows: Rows = parts[0][~is_near]
    return rows


def _within(dates: Dates, bounds: dict[str, np.datetime64], split: str) -> npt.NDArray[np.bool_]:
    start, end = bounds.get(f"{split}_from"), bounds.get(f"{split}_until")
    within = np.full(len(dates), start is not None or end is not None)
    if start is not None:
        within &= dates >= start
    if end is not None:
        within &= dates <= end
    return within


def _dates(column: pd.Series) -> Dates:
    """Return dates in microseconds, in the clock time of their own zone."""
    if pd.api.types.is_numeric_dtype(column):
        raise DataError(
            f"The column '{column.name}' must hold dates, but holds {column.dtype}. Turn it into"
            " dates, or name another column."
        )
    try:
        is_local = getattr(column.dtype, "tz", None) is not None
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)  # pandas 2 warns of several time zones
            parsed = (
                column if is_local else pd.to_datetime(column, format="ISO8601", errors="coerce")
            )
    except (ValueError, FutureWarning) as error:  # several time zones
        raise DataError(
            f"The column '{column.name}' must hold dates of one time zone, but pandas says: {error}"
            " Convert it with `pandas.to_datetime` first."
        ) from error
    if getattr(parsed.dtype, "tz", None) is not None:
        parsed = parsed.dt.tz_localize(None)
    is_missing = parsed.isna().to_numpy()
    if is_missing.any():
        raise DataError(
            f"The column '{column.name}' must hold a date such as '2014-08-01' in every row, but"
            f" holds {_example(column, is_missing)}. Correct or drop them."
        )
    return cast(Dates, parsed.to_numpy().astype("datetime64[us]"))


def _example(column: pd.Series, is_meant: npt.NDArray[np.bool_]) -> str:
    return f"{column[is_meant].iloc[0]!r} in {name_rows(column.index, is_meant)}"
