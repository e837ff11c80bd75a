"""How far a training epoch has come, so that a fit that is resumed goes on in the midst of it."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

import torch
from torch.random import fork_rng
from torch.utils.data import DataLoader

from lightning_fastrecipes.data.common.samplers import ShuffleSampler
from lightning_fastrecipes.errors import ConfigurationError

_Batch = TypeVar("_Batch")


class EpochPlace:
    """The place in an epoch of one loader: what was served, and where the next iterator begins.

    The loader's order must follow from its seed and the epoch alone.

    >>> place = EpochPlace()
    >>> place.load({"epoch": 3, "num_given": 2}, samples_per_step=8)
    >>> [place.first(place.take(), epoch=3, num_batches=5) for _ in range(2)]
    [2, 0]
    """

    def __init__(self) -> None:
        self._num_given = 0
        self._resumed: tuple[int, int] | None = None

    def state(self, epoch: int, num_batches: int, samples_per_step: int) -> dict[str, int]:
        """Return the epoch, how many of its batches were served, and what a step is made of.

        ``samples_per_step`` counts those of all processes together.
        """
        return {
            "epoch": epoch,
            "num_given": self._num_given,
            "num_batches": num_batches,
            "samples_per_step": samples_per_step,
        }

    def load(self, state: Mapping[str, int], samples_per_step: int) -> None:
        """Let the next iterator of that epoch begin where another one was.

        Raise `ConfigurationError` if that is in the midst of the epoch, and the steps that are left
        would be of other samples: with another batch size, or another number of processes.
        """
        epoch, num_given = state["epoch"], state["num_given"]
        before = state.get("samples_per_step", samples_per_step)
        is_open = 0 < num_given < state.get("num_batches", num_given + 1)
        if is_open and before != samples_per_step:
            raise ConfigurationError(
                f"A step must be of {before} samples over all processes, as in the begun epoch that"
                f" the fit goes on with, but it is of {samples_per_step}. Start as many processes"
                " as before, or give each of them another batch size; or go on from a checkpoint of"
                " the end of an epoch."
            )
        self._resumed = (epoch, num_given) if is_open else None

    def take(self) -> tuple[int, int] | None:
        """Return epoch and batch that the next iterator is to go on with, once."""
        resumed, self._resumed = self._resumed, None
        return resumed

    @staticmethod
    def first(resumed: tuple[int, int] | None, epoch: int, num_batches: int) -> int:
        """Return the batch, counted from 0, that an iterator of an epoch begins with.

        Ask when its first batch is asked for: Lightning sets the epoch after it has the iterator.
        """
        is_open = resumed is not None and resumed[0] == epoch and resumed[1] < num_batches
        return resumed[1] if resumed is not None and is_open else 0

    def counted(self, batches: Iterator[_Batch], first: int) -> Iterator[_Batch]:
        """Pass batches on, of which the first has a number, and note how many were served."""
        for number, batch in enumerate(batches, first + 1):
            self._num_given = number
            yield batch


class QuietLoader(DataLoader[_Batch]):
    """A loader that draws one number of those of training each time that it begins.

    Torch's own draws the seed of its workers once an epoch, or once a fit if they persist, so that
    dropout would depend on the number of workers and on where a fit was resumed.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Begin an epoch."""
        torch.empty((), dtype=torch.int64).random_()
        return self._quietly()

    def _quietly(self) -> Iterator[Any]:
        with fork_rng(devices=[]):
            return super().__iter__()


class ResumableLoader(QuietLoader[_Batch]):
    """A loader over a ``ShuffleSampler`` that goes on in the midst of an epoch, with any workers.

    Lightning stores its state in every checkpoint. What was served before is not loaded again.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Begin an epoch, or go on with one."""
        torch.empty((), dtype=torch.int64).random_()
        return self._batches(self._place.take())

    def _batches(self, resumed: tuple[int, int] | None) -> Iterator[Any]:
        first = self._place.first(resumed, self._epoch, len(self))
        is_skipped = isinstance(self.sampler, ShuffleSampler) and first > 0
        if is_skipped:
            self.sampler.begin_at(first * int(self.batch_size or 1))  # type: ignore[attr-defined]
        batches = self._quietly()
        rest = batches if is_skipped else islice(batches, first, None)
        yield from self._place.counted(rest, first)

    def state_dict(self) -> dict[str, int]:
        """Return the epoch, and how many of its batches were served."""
        return self._place.state(self._epoch, len(self), self.samples_per_step)

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Let the next iterator, if it is of that epoch, begin where another one was."""
        self._place.load(state_dict, self.samples_per_step)

    @property
    def _place(self) -> EpochPlace:
        # Not of the constructor: Lightning builds loaders anew by the arguments of torch's.
        place: EpochPlace = self.__dict__.setdefault("_epoch_place", EpochPlace())
        return place

    @property
    def _epoch(self) -> int:
        return int(getattr(self.sampler, "epoch", 0))

    @property
    def samples_per_step(self) -> int:
        """How many samples all processes together take in a step, at least 1."""
        return int(self.batch_size or 1) * int(getattr(self.sampler, "num_replicas", 1))
