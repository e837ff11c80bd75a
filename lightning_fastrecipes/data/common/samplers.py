"""Shuffled and weighted orders that tell the data set which epoch it is."""

from collections.abc import Iterator, Sized
from typing import Any

import torch
import torch.distributed
from torch import Tensor
from torch.utils.data import DistributedSampler

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes.functional.random import seeded_generator


class ShuffleSampler(DistributedSampler[int]):
    """Shuffle by seed and epoch alone, and yield ``epoch * len(dataset) + index``.

    Workers, even persistent ones, learn the epoch from the index itself, so an image's augmentation
    never depends on which worker makes it. Being a ``DistributedSampler``, it is left alone by
    Lightning, which calls its ``set_epoch``; without ``torch.distributed`` it serves all. The
    dataset must have a length of at least 1.

    >>> sampler = ShuffleSampler("abcd", seed=0)
    >>> sampler.set_epoch(2)
    >>> sorted(sampler)
    [8, 9, 10, 11]
    """

    def __init__(
        self, dataset: Sized, seed: int, num_replicas: int | None = None, rank: int | None = None
    ) -> None:
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        if num_replicas is None:
            num_replicas = torch.distributed.get_world_size() if distributed else 1
        if rank is None:
            rank = torch.distributed.get_rank() if distributed else 0
        super().__init__(dataset, num_replicas, rank, seed=seed)  # type: ignore[arg-type]
        self._num_samples = len(dataset)
        self._first = 0

    def __iter__(self) -> Iterator[int]:
        """Return this process's share of the epoch's order, padded so that all shares are equal."""
        order = self._order(seeded_generator(self.seed, self.epoch))
        shares = order.repeat(-(-self.total_size // len(order)))[: self.total_size]
        first, self._first = self._first, 0
        share = shares[self.rank :: self.num_replicas][first:]
        return iter((self.epoch * self._num_samples + share).tolist())

    def begin_at(self, first: int) -> None:
        """Let the next iterator begin with a sample of this process's share, counted from 0."""
        self._first = first

    def _order(self, generator: torch.Generator) -> Tensor:
        """Return the whole epoch's order, the same in every process."""
        return torch.randperm(self._num_samples, generator=generator)


class WeightedSampler(ShuffleSampler):
    """Draw samples with replacement in proportion to their weights, by seed and epoch alone.

    Every process makes the draws of the whole epoch and takes its share of them, so that together
    they see what one process would see. ``weights`` has one number per sample, at least 0, not all
    of them 0; a `ValueError` says so.

    >>> list(WeightedSampler("abcd", seed=0, weights=torch.tensor([0.0, 1.0, 0.0, 0.0])))
    [1, 1, 1, 1]
    """

    def __init__(
        self,
        dataset: Sized,
        seed: int,
        weights: Tensor,
        num_replicas: int | None = None,
        rank: int | None = None,
    ) -> None:
        super().__init__(dataset, seed, num_replicas, rank)
        if weights.shape != (len(dataset),) or not bool((weights >= 0).all()) or not weights.any():
            raise ValueError(
                f"`weights` must be a number of at least 0 for each of {len(dataset)} samples, not"
                f" all of them 0, got shape {tuple(weights.shape)}."
            )
        self._ends = weights.double().cumsum(0)

    def _order(self, generator: torch.Generator) -> Tensor:
        return draw_weighted(self._ends, self.total_size, generator)


def draw_weighted(ends: Tensor, num_draws: int, generator: torch.Generator) -> Tensor:
    """Draw positions in proportion to weights whose running sum is given, with replacement."""
    places = torch.rand(num_draws, generator=generator, dtype=torch.float64)
    # A rounded product may reach the end of the last interval.
    last = int(torch.searchsorted(ends, ends[-1]))
    return torch.searchsorted(ends, places * ends[-1], right=True).clamp_max(last)


def upcoming_epoch(trainer: pl.Trainer) -> int:
    """Return the epoch of a new training loader, which Lightning will pass to ``set_epoch``.

    Lightning makes a loader's first iterator before that, and when a run is resumed
    ``trainer.current_epoch`` is still one behind by then.
    """
    progress: Any = trainer.fit_loop.epoch_progress
    return int(progress.current.processed)


def drops_last_batch(num_samples: int, batch_size: int) -> bool:
    """Return whether the last training batch must go: batch norm cannot train on one sample.

    ``num_samples`` is what one process sees in an epoch. The only batch stays.

    >>> drops_last_batch(9, 4), drops_last_batch(10, 4), drops_last_batch(1, 4)
    (True, False, False)
    """
    return num_samples > batch_size > 1 and num_samples % batch_size == 1
