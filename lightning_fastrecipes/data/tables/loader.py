"""Batches of a table as slices of one tensor: shuffled, shared out, and resumed half-way."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler, SequentialSampler

from lightning_fastrecipes.batches import TableInputs
from lightning_fastrecipes.data.common.epoch_place import EpochPlace
from lightning_fastrecipes.data.common.samplers import draw_weighted, drops_last_batch
from lightning_fastrecipes.data.tables.encoding import EncodedSplit
from lightning_fastrecipes.functional.random import seeded_generator

TableBatch = tuple[TableInputs, Tensor, Tensor] | tuple[TableInputs, Tensor] | tuple[TableInputs]

_MASK = 1
"""First number of the seeds of masks, so that they are none of the shuffles'."""


class TableRows(Dataset[TableBatch]):
    """Rows of a split as tensors, given batch by batch; without targets for rows to predict.

    The shapes are ``(rows, num_categorical)``, ``(rows, num_continuous)`` and ``(rows,)``, or
    ``(rows, targets)`` where there are several; ``weights`` ``(rows,)`` are of training rows.
    """

    def __init__(
        self,
        codes: Tensor,
        continuous: Tensor,
        targets: Tensor | None,
        weights: Tensor | None = None,
    ) -> None:
        self.codes = codes
        self.continuous = continuous
        self.targets = targets
        self.weights = weights

    @classmethod
    def of(cls, split: EncodedSplit) -> "TableRows":
        """Make rows of the arrays of a split, without a copy."""
        targets = None if split.target is None else torch.from_numpy(split.target)
        weights = None if split.weights is None else torch.from_numpy(split.weights)
        inputs = torch.from_numpy(split.codes), torch.from_numpy(split.continuous)
        return cls(*inputs, targets, weights)

    @property
    def num_bytes(self) -> int:
        """Memory that the rows take."""
        parts = (self.codes, self.continuous, self.targets, self.weights)
        return sum(part.element_size() * part.nelement() for part in parts if part is not None)

    def to(self, device: torch.device) -> "TableRows":
        """Return the rows on a device."""
        others = (self.targets, self.weights)
        moved = (None if part is None else part.to(device) for part in others)
        return TableRows(self.codes.to(device), self.continuous.to(device), *moved)

    def __len__(self) -> int:
        return len(self.continuous)

    def __getitem__(self, index: int) -> TableBatch:
        return self.batch(slice(index, index + 1))

    def __getitems__(self, indices: Sequence[int]) -> TableBatch:
        """Return one batch, for loaders of torch that ask for it as a whole."""
        return self.batch(torch.as_tensor(indices, device=self.codes.device))

    def batch(self, rows: Tensor | slice) -> TableBatch:
        """Return inputs, and targets and weights if there are any, as one batch.

        ``rows`` is a slice, which is not copied, or indices on the device of the rows.
        """
        inputs = TableInputs(self.codes[rows], self.continuous[rows])
        if self.targets is None:
            return (inputs,)
        if self.weights is None:
            return inputs, self.targets[rows]
        return inputs, self.targets[rows], self.weights[rows]


class TableSampler(DistributedSampler[int]):
    """The rows of this process: all of them, or every so many-th, in order or shuffled.

    The order follows from seed and epoch alone; without a seed the rows stay in order. All
    processes get equally many rows, the first ones once more if need be, unless ``evens_out`` is
    false. With ``weights``, one of at least 0 for each row, a shuffled order is drawn in their
    proportion, with replacement.

    >>> sampler = TableSampler(5, seed=None, num_replicas=2, rank=1)
    >>> list(sampler), len(sampler)
    ([1, 3, 0], 3)
    """

    def __init__(
        self,
        num_rows: int,
        seed: int | None,
        evens_out: bool = True,
        num_replicas: int | None = None,
        rank: int | None = None,
        weights: Tensor | None = None,
    ) -> None:
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        if num_replicas is None:
            num_replicas = torch.distributed.get_world_size() if distributed else 1
        if rank is None:
            rank = torch.distributed.get_rank() if distributed else 0
        super().__init__(
            cast(Any, range(num_rows)), num_replicas, rank, shuffle=False, seed=seed or 0
        )
        self.is_shuffled = seed is not None
        self._weights = weights
        self.num_rows = num_rows
        if not evens_out:
            self.num_samples = len(range(rank, num_rows, num_replicas))

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices().tolist())

    def indices(self) -> Tensor:
        """Return the rows of this process in the epoch that was set. Shape ``(samples,)``."""
        places = torch.arange(self.num_samples) * self.num_replicas + self.rank
        places %= self.num_rows
        if not self.is_shuffled:
            return places
        generator = seeded_generator(self.seed, self.epoch)
        if self._weights is None:
            return torch.randperm(self.num_rows, generator=generator)[places]
        return draw_weighted(self._weights.double().cumsum(0), self.num_rows, generator)[places]


class TableLoader:
    """Batches of a table, for Lightning, which leaves anything that is no ``DataLoader`` as it is.

    A share ``mask_fraction`` of the codes become 0, the index of unknown values, so that it is
    trained; which ones follows from seed, epoch, step and process. ``state_dict`` says how far an
    epoch has come, so that a run that is resumed in the middle of it goes on with the batches that
    are left. In training, a last batch of one row, which batch norm cannot take, is dropped. With
    ``is_fixed``, every epoch is as the first, in the order of the table, as Lightning's
    ``overfit_batches`` wants it.
    """

    def __init__(
        self,
        dataset: TableRows,
        batch_size: int,
        sampler: TableSampler,
        mask_fraction: float = 0.0,
        is_training: bool = False,
        is_fixed: bool = False,
    ) -> None:
        self.batch_size = batch_size
        self.order = sampler
        self.mask_fraction = mask_fraction
        self.is_training = is_training
        self.drop_last = is_training and drops_last_batch(sampler.num_samples, batch_size)
        self.dataset = dataset
        self.sampler = SequentialSampler(range(len(dataset))) if is_fixed else sampler
        self.batch_sampler = None  # Lightning asks for it where there is a sampler
        self._place = EpochPlace()

    def __len__(self) -> int:
        whole, rest = divmod(self.order.num_samples, self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[TableBatch]:
        return self._batches(self._place.take())

    def state_dict(self) -> dict[str, int]:
        """Return the epoch, and how many of its batches were served."""
        return self._place.state(self.order.epoch, len(self), self.samples_per_step)

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Let the next iterator, if it is of that epoch, begin where another one was."""
        self._place.load(state_dict, self.samples_per_step)

    @property
    def samples_per_step(self) -> int:
        """How many rows all processes together take in a step, at least 1."""
        return self.batch_size * self.order.num_replicas

    @staticmethod
    def collate_fn(batch: TableBatch) -> TableBatch:
        """Leave a batch as it is, for loaders of torch over our data set."""
        return batch

    def _batches(self, resumed: tuple[int, int] | None) -> Iterator[TableBatch]:
        first = self._place.first(resumed, self.order.epoch, len(self))
        yield from self._place.counted(self._slices(first), first)

    def _slices(self, first: int) -> Iterator[TableBatch]:
        epoch, num_batches = self.order.epoch, len(self)
        # Without an order, batches are slices of all rows.
        is_whole = self.order.num_replicas == 1 and not self.order.is_shuffled
        order = None if is_whole else self.order.indices().to(self.dataset.codes.device)
        for step in range(first, num_batches):
            place = slice(step * self.batch_size, (step + 1) * self.batch_size)
            batch = self.dataset.batch(place if order is None else order[place])
            if not self.is_training:
                batch = cast(TableBatch, batch[:2])  # evaluations are not weighted
            if self.mask_fraction > 0:
                batch = self._masked(batch, epoch, step)
            yield batch

    def _masked(self, batch: TableBatch, epoch: int, step: int) -> TableBatch:
        codes, continuous = batch[0]
        generator = seeded_generator(_MASK, self.order.seed, epoch, step, self.order.rank)
        draws = torch.rand(codes.shape, generator=generator)
        masked = codes.masked_fill((draws < self.mask_fraction).to(codes.device), 0)
        return cast(TableBatch, (TableInputs(masked, continuous), *batch[1:]))
