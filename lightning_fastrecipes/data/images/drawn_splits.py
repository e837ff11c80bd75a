"""Draw the splits of images that the data lack."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from lightning_fastrecipes.data.common.row_splits import FoldSplit
from lightning_fastrecipes.data.common.split_base import warn_of_like_groups
from lightning_fastrecipes.data.common.split_choice import (
    ColumnSplit,
    FractionSplit,
    GroupSplit,
    Split,
)
from lightning_fastrecipes.data.images.label_sets import label_lists
from lightning_fastrecipes.data.images.listing import Listing
from lightning_fastrecipes.errors import ConfigurationError, DataError
from lightning_fastrecipes.functional.splits import grouped_split, keep_labels, stratified_split
from lightning_fastrecipes.protocols import LabelKind

Parts = list[npt.NDArray[np.int64]]


def draw_splits(listing: Listing, split: Split) -> pd.DataFrame:
    """Take the splits that the data lack out of the training split.

    Raise `DataError` if one comes out empty, or the data bring what folds should be.
    """
    rows = listing.rows
    drawn = split.missing if isinstance(split, ColumnSplit) else split
    if not isinstance(drawn, FractionSplit | GroupSplit | FoldSplit):
        return rows
    if any(getattr(way, "stratify", None) for way in (drawn, getattr(drawn, "within", None))):
        raise ConfigurationError(
            "`stratify` is for tables, since images are drawn class by class. Leave it out."
        )
    if isinstance(drawn, FoldSplit) and drawn.date is not None:
        raise ConfigurationError("`date` of folds is for tables. Leave it out.")
    there = set(rows["split"])
    places = np.flatnonzero(rows["split"] == "train")
    pool = rows.iloc[places]
    if not isinstance(drawn, FractionSplit) and drawn.column is not None:
        warn_of_like_groups(drawn.column, pool["group"])
    found = dict.fromkeys(("val", "test"), np.empty(0, dtype=np.int64))
    if isinstance(drawn, FoldSplit):
        if "val" in there:
            raise DataError(
                "`split` asks for folds, but the data bring images to validate on. Put them among"
                " those to train on, or leave `split` out."
            )
        if "test" in there:
            drawn = replace(drawn, test=0.0, within=None)
        _, found["val"], found["test"] = _draw_folds(drawn, pool, listing.label_kind)
    else:
        shares = {name: getattr(drawn, name) * (name not in there) for name in found}
        found.update(zip(found, _draw_shares(drawn, shares, pool, listing.label_kind), strict=True))
    splits = rows["split"].to_numpy(dtype=object, copy=True)
    for name, part in found.items():
        if not len(part) and name in drawn.asked and name not in there:
            share = f"`{name}={getattr(drawn, name, 0.0)}` of " * bool(getattr(drawn, name, 0.0))
            raise DataError(
                f"{share}`split` leaves the {name} split without an image: there are {len(pool)} to"
                f" share out, in {pool['stratum'].nunique()} strata. Enlarge it, or set it to 0."
            )
        splits[places[part]] = name
    return rows.assign(split=splits)


def _draw_shares(
    drawn: FractionSplit | GroupSplit, shares: dict[str, float], pool: pd.DataFrame, kind: LabelKind
) -> Parts:
    """Return the places to validate and to test on."""
    fractions, strata = [1 - sum(shares.values()), *shares.values()], pool["stratum"].tolist()
    if not any(shares.values()):
        return [np.empty(0, dtype=np.int64)] * len(shares)
    if isinstance(drawn, GroupSplit):
        parts = grouped_split(pool["group"].tolist(), fractions, drawn.seed, strata=strata)
        return _keep_groups(pool, parts)[1:]
    parts = stratified_split(strata, fractions, drawn.seed, names=pool["file"].tolist())
    return (keep_labels(parts, label_lists(pool)) if kind == "multi" else parts)[1:]


def _draw_folds(drawn: FoldSplit, pool: pd.DataFrame, kind: LabelKind) -> Parts:
    """Return the places to train, to validate and to test on; every label is trained on."""
    if isinstance(drawn.within, FractionSplit | GroupSplit):
        shares = {"val": drawn.within.val, "test": drawn.within.test}
        test = _draw_shares(drawn.within, shares, pool, kind)[1]
        rest = np.setdiff1d(np.arange(len(pool)), test)
        train, val, _ = _draw_folds(replace(drawn, within=None), pool.iloc[rest], kind)
        return [rest[train], rest[val], test]
    strata = pool["stratum"].tolist()
    if drawn.column is not None:
        return _keep_groups(pool, drawn.parts(pool["group"].tolist(), strata))
    return keep_labels(drawn.parts(None, strata, pool["file"].tolist()), label_lists(pool))


def _keep_groups(pool: pd.DataFrame, parts: Parts) -> Parts:
    """Move whole groups into training until every label is trained on."""
    codes, _ = pd.factorize(pool["group"])
    labels: list[set[str]] = [set() for _ in range(int(codes.max(initial=-1)) + 1)]
    for code, found in zip(codes, label_lists(pool), strict=True):
        labels[code].update(found)
    kept = keep_labels([np.unique(codes[part]) for part in parts], labels)
    return [np.flatnonzero(np.isin(codes, part)) for part in kept]
