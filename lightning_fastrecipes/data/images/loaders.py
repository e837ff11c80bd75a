"""Loaders of images, with workers where they help, and what becomes of their batches."""

from collections.abc import Sized

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_fastrecipes.batches import ViewedBatch
from lightning_fastrecipes.data.common.epoch_place import QuietLoader, ResumableLoader
from lightning_fastrecipes.data.common.samplers import (
    ShuffleSampler,
    WeightedSampler,
    drops_last_batch,
)
from lightning_fastrecipes.data.common.workers import bounded_workers, num_loader_workers
from lightning_fastrecipes.data.images.dataset import (
    ImageDataset,
    PixelDataset,
    WindowDataset,
    identity_collate,
)
from lightning_fastrecipes.data.images.trainer_facts import TrainerFacts
from lightning_fastrecipes.functional.labels.balance import balancing_weights
from lightning_fastrecipes.protocols import InputSpec

Loader = DataLoader[tuple[Tensor, ...]]


def make_sampler(
    dataset: Sized, seed: int, targets: Tensor | None, *, multi_label: bool
) -> ShuffleSampler:
    """Return the order of a training epoch: shuffled, or drawn to balance the ``targets``."""
    if targets is None:
        return ShuffleSampler(dataset, seed)
    weights = balancing_weights(targets, multi_label=multi_label)
    return WeightedSampler(dataset, seed, weights)


def finished_batch(
    batch: list[Tensor], windows: WindowDataset | None, spec: InputSpec | None
) -> ViewedBatch:
    """Augment, and normalise if there is a ``spec``, what a loader serves, on its device.

    A batch holds images, ``uint8``, and targets; then any weights of the rows, which are kept, and
    the indices of ``windows``, or views.
    """
    images, targets, *others = batch
    weights = [part for part in others if part.ndim == 1 and part.is_floating_point()]
    others = others[len(weights) :]
    result = ViewedBatch([images, targets, *weights])
    if others and others[0].ndim == 5:
        views = others[0]
        result.views = views if spec is None else spec.normalised(views)
    elif others and windows is not None:
        result[0] = windows.finish(images, others[0])
    if spec is not None:
        result[0] = spec.normalised(result[0])
    return result


def make_loader(
    dataset: ImageDataset,
    batch_size: int,
    sampler: ShuffleSampler | range | None,
    num_workers: int | None,
    facts: TrainerFacts,
) -> Loader:
    """Make a loader of images and targets, in order and to the last image unless it is shuffled.

    ``batch_size`` is images per step and process; a range is of the places to serve. In a shuffled
    order a last batch of one image is dropped, and a resumed fit goes on within an epoch.
    ``num_workers`` follows from the machine and the data if ``None``.
    """
    in_memory = isinstance(dataset, PixelDataset)
    if num_workers is not None:
        found = bounded_workers(num_workers)
    # On the CPU the model uses all cores: a worker takes from it what it gives, and its start
    # makes a copy of all that the model writes to next.
    elif in_memory or (facts.on_cpu and dataset.is_quick):
        found = 0
    else:
        found = num_loader_workers(len(dataset), facts.num_local_processes)
    is_shuffled = isinstance(sampler, ShuffleSampler)
    loader = ResumableLoader if is_shuffled else QuietLoader
    return loader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        collate_fn=identity_collate if in_memory else None,
        num_workers=found,
        persistent_workers=found > 0,
        pin_memory=torch.cuda.is_available(),
        drop_last=is_shuffled and drops_last_batch(len(sampler or ()), batch_size),
    )
