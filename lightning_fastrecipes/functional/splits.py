"""Seeded splits that keep the mix of every stratum and never move with the order of the data."""

import hashlib
import math
from collections import Counter
from collections.abc import Collection, Hashable, Sequence, Sized
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Subset


def stratified_split(
    strata: Sequence[Hashable],
    fractions: Sequence[float],
    seed: int,
    *,
    names: Sequence[str] | None = None,
) -> list[npt.NDArray[np.int64]]:
    """Split positions so that every stratum is shared out by the same fractions.

    Within a stratum the items are ordered by a hash of seed, any integer, and name, so the result
    is the same on every machine and in every process, and a new item moves hardly any of the
    others.

    ``strata`` has one value per item; items of equal value form a stratum. ``fractions`` are the
    shares of the parts, each at least 0, summing to 1. Without ``names``, unique ones, an item is
    known by its position. Return one sorted array of positions per fraction: together every item
    once. A stratum of ``n`` items gives a part ``n * fraction`` of them, rounded by largest
    remainder (a tie goes to the earlier part). Raise `ValueError` if the fractions do not sum to 1,
    or ``names`` does not name each item once.

    >>> train, val = stratified_split(["cat"] * 8 + ["dog"] * 4, [0.75, 0.25], seed=0)
    >>> len(train), sum(val < 8), sum(val >= 8)
    (9, np.int64(2), np.int64(1))
    """
    _check_fractions(fractions)
    names = [str(position) for position in range(len(strata))] if names is None else names
    if len(names) != len(strata) or len(set(names)) != len(names):
        raise ValueError(
            f"`names` must name each of the {len(strata)} items once, got {len(names)} names,"
            f" {len(set(names))} of them different. Use relative paths or row numbers."
        )
    members: dict[Hashable, list[int]] = {}
    for position, stratum in enumerate(strata):
        members.setdefault(stratum, []).append(position)
    parts: list[list[int]] = [[] for _ in fractions]
    for positions in members.values():
        shuffled = sorted(positions, key=lambda position: _rank(seed, names[position]))
        start = 0
        for part, count in zip(parts, _counts(len(shuffled), fractions), strict=True):
            part += shuffled[start : start + count]
            start += count
    return [np.array(sorted(part), dtype=np.int64) for part in parts]


def hashed_split(
    num_rows: int, fractions: Sequence[float], seed: int
) -> list[npt.NDArray[np.int64]]:
    """Split the rows of a long table at random, by a hash of seed and row number.

    The result is the same on every machine and with every version of numpy, and rows added at the
    end move hardly any of the others. Fractions and seed are as for ``stratified_split``. Return
    one sorted array of row numbers per fraction, rounded by largest remainder.

    >>> train, val = hashed_split(10, [0.8, 0.2], seed=0)
    >>> len(train), sorted([*train.tolist(), *val.tolist()]) == list(range(10))
    (8, True)
    """
    _check_fractions(fractions)
    ends = np.cumsum(_counts(num_rows, fractions))
    first = int.from_bytes(hashlib.blake2b(str(seed).encode(), digest_size=8).digest(), "little")
    order = _mixed(_mixed(np.arange(num_rows, dtype=np.uint64)) ^ np.uint64(first)).argsort()
    return [np.sort(part) for part in np.split(order.astype(np.int64), ends[:-1])]


def time_split(
    dates: npt.NDArray[np.datetime64], fractions: Sequence[float]
) -> list[npt.NDArray[np.int64]]:
    """Split rows by time: the first part is the earliest, and no date is cut in two.

    A date on which a later part begins belongs to it as a whole, so that a later part holds its
    fraction of the rows at least. No date may be missing; the fractions are as for
    ``stratified_split``. Return one sorted array of row numbers per fraction.

    >>> days = np.array(["2014-01-02", "2014-01-01", "2014-01-02"], "datetime64[D]")
    >>> [part.tolist() for part in time_split(days, [0.5, 0.5])]
    [[1], [0, 2]]
    """
    _check_fractions(fractions)
    ordered = np.sort(dates)
    starts = np.cumsum(_counts(len(dates), fractions))[:-1]
    parts, taken = [], np.zeros(len(dates), dtype=bool)
    for start in starts[::-1]:
        late = dates >= ordered[start] if start < len(dates) else np.zeros_like(taken)
        parts.append(np.flatnonzero(late & ~taken))
        taken |= late
    return [np.flatnonzero(~taken), *parts[::-1]]


def grouped_split(
    groups: Sequence[Hashable],
    fractions: Sequence[float],
    seed: int,
    *,
    strata: Sequence[Hashable] | None = None,
) -> list[npt.NDArray[np.int64]]:
    """Split positions so that items of one group stay together.

    Groups, told apart by their text, are taken in an order drawn by ``seed``. Each goes to the part
    that lacks most of what the group holds, stratum by stratum, so that the result is as near to
    ``fractions`` as whole groups allow. A part with a fraction above 0 gets a group if there are
    enough of them. Arguments and result are as for ``stratified_split``, with the group of each
    item.

    >>> train, val = grouped_split(["ann"] * 3 + ["bob"] * 3 + ["eve"] * 2, [0.75, 0.25], 0)
    >>> train.tolist(), val.tolist()
    ([0, 1, 2, 6, 7], [3, 4, 5])
    """
    _check_fractions(fractions)
    found, codes = np.unique([str(group) for group in groups], return_inverse=True)
    names: list[str] = found.tolist()
    order = sorted(range(len(names)), key=lambda code: _rank(seed, names[code]))
    kinds = {stratum: kind for kind, stratum in enumerate(dict.fromkeys(strata or [0]))}
    held = np.zeros((len(names), len(kinds)))
    columns = np.array([kinds[stratum] for stratum in strata or [0] * len(groups)], dtype=np.int64)
    np.add.at(held, (codes, columns), 1)
    totals = held.sum(0)
    # What each part lacks of each stratum, as a share of the stratum.
    lacking = np.repeat(np.array(fractions, dtype=float)[:, None], len(kinds), axis=1)
    chosen = np.zeros(len(names), dtype=np.int64)
    wanted = [part for part, fraction in enumerate(fractions) if fraction > 0]
    empty = wanted
    for place, code in enumerate(order):
        must_fill = len(empty) >= len(order) - place
        candidates = empty if must_fill and empty else wanted
        need = {part: round(float(held[code] @ lacking[part]), 9) for part in candidates}
        part = max(need, key=lambda part: need[part])
        chosen[code] = part
        lacking[part] -= held[code] / totals
        empty = [other for other in empty if other != part]
    return [np.flatnonzero(chosen[codes] == part) for part in range(len(fractions))]


def fold_parts(
    strata: Sequence[Hashable], folds: int, seed: int, *, names: Sequence[str] | None = None
) -> list[npt.NDArray[np.int64]]:
    """Deal positions out to folds whose sizes differ by at most one, in every stratum as well.

    Arguments are as for ``stratified_split``; the order of the items changes nothing where they
    have names. Return one sorted array of positions per fold: together every item once.

    >>> [part.tolist() for part in fold_parts(["cat"] * 4 + ["dog"] * 2, 2, seed=0)]
    [[1, 2, 4], [0, 3, 5]]
    """
    names = [str(position) for position in range(len(strata))] if names is None else names
    members: dict[Hashable, list[tuple[bytes, int]]] = {}
    for position, stratum in enumerate(strata):
        members.setdefault(stratum, []).append((_rank(seed, names[position]), position))
    # One stratum is dealt out where the one before it ended.
    dealt = [place for found in sorted(map(sorted, members.values())) for _, place in found]
    return [np.array(sorted(dealt[fold::folds]), dtype=np.int64) for fold in range(folds)]


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Scramble 64-bit numbers one to one, as SplitMix64 does."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: npt.NDArray[np.uint64] = values ^ (values >> np.uint64(31))
    return mixed


def spread_samples(
    loader: DataLoader[Any],
    num_samples: int,
    rank: int = 0,
    world_size: int = 1,
    num_workers: int = 0,
) -> DataLoader[Any]:
    """Return a loader of at most ``num_samples``, evenly spread over the data set of another.

    They are shared out to the processes, the same number to each: a metric is brought together once
    a batch, on all processes or on none. Their order is mixed, always in the same way: a folder is
    sorted by class, and batches of one class alone have other statistics than those of training.

    >>> [batch.tolist() for batch in spread_samples(DataLoader(range(9), batch_size=2), 3)]
    [[8, 0], [4]]
    """
    size = len(cast(Sized, loader.dataset))
    count = min(size, num_samples)
    count = max(count - count % world_size, world_size)
    chosen = torch.linspace(0, size - 1, count).round().int().numpy()
    mixed = np.random.default_rng(0).permutation(chosen)[rank::world_size].tolist()
    subset = Subset(loader.dataset, mixed)
    return DataLoader(
        subset,
        batch_size=loader.batch_size or 1,
        num_workers=num_workers,
        collate_fn=loader.collate_fn,
    )


def share_to_validate(num_items: int) -> float:
    """Return which share of a data set to hold out: a fifth of few items, less of many.

    >>> share_to_validate(500), share_to_validate(5_000), share_to_validate(1_000_000)
    (0.2, 0.15, 0.05)
    """
    return 0.2 if num_items < 1_000 else 0.15 if num_items < 20_000 else 0.05


def _check_fractions(fractions: Sequence[float]) -> None:
    if min(fractions, default=-1.0) < 0 or not math.isclose(sum(fractions), 1.0, abs_tol=1e-9):
        raise ValueError(
            f"`fractions` must be at least 0 each and sum to 1, got {list(fractions)}."
            " Give the share of every part, the training part included."
        )


def _rank(seed: int, name: str) -> bytes:
    return hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=16).digest()


def _counts(total: int, fractions: Sequence[float]) -> list[int]:
    # Rounded first, so that a tie is one: 5 * (1 - 0.9) is 0.4999...
    shares = [round(total * fraction, 9) for fraction in fractions]
    counts = [math.floor(share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda part: counts[part] - shares[part])
    for part in by_remainder[: total - sum(counts)]:
        counts[part] += 1
    return counts


def rarest_labels(labels: Sequence[Collection[str]]) -> list[str]:
    """Name the rarest label of each item, as the stratum of items that hold several.

    A rare label is shared out by the fractions of a split; a common one is nearly so, since it is
    spread over the strata of many others. Of equally rare ones the first in alphabetical order is
    taken; the stratum of an item without labels is empty.

    >>> rarest_labels([["a", "b"], ["a"], []])
    ['b', 'a', '']
    """
    counts = Counter(label for item in labels for label in item)
    return [min(item, key=lambda label: (counts[label], label), default="") for item in labels]


def keep_labels(
    parts: Sequence[npt.NDArray[np.int64]], labels: Sequence[Collection[str]]
) -> list[npt.NDArray[np.int64]]:
    """Move items into the first part, in the order of positions, until it holds every label.

    >>> train, val = keep_labels([np.array([0]), np.array([1, 2])], ["a", "a", "b"])
    >>> train.tolist(), val.tolist()
    ([0, 2], [1])
    """
    kept = {label for position in parts[0] for label in labels[position]}
    moved: list[int] = []
    for part in parts[1:]:
        for position in part.tolist():
            if not kept.issuperset(labels[position]):
                kept.update(labels[position])
                moved.append(position)
    first = np.sort(np.concatenate([parts[0], np.array(moved, dtype=np.int64)]))
    return [first, *(np.setdiff1d(part, moved) for part in parts[1:])]
