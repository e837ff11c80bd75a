"""Loaders of images, with workers where they help."""

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_fastrecipes.data.common.samplers import ShuffleSampler, drops_last_batch
from lightning_fastrecipes.data.common.workers import num_loader_workers
from lightning_fastrecipes.data.images.dataset import ImageDataset, PixelDataset, identity_collate
from lightning_fastrecipes.data.images.trainer_facts import TrainerFacts

Loader = DataLoader[tuple[Tensor, ...]]


def make_loader(
    dataset: ImageDataset,
    batch_size: int,
    sampler: ShuffleSampler | None,
    num_workers: int | None,
    facts: TrainerFacts,
) -> Loader:
    """Make a loader of images and targets, in order and to the last image unless it has a sampler.

    ``batch_size`` is images per step and process. With a sampler, a last batch of one image is
    dropped. ``num_workers`` follows from the machine and the data if ``None``.
    """
    in_memory = isinstance(dataset, PixelDataset)
    if num_workers is not None:
        found = num_workers
    # On the CPU the model uses all cores: a worker takes from it what it gives, and its start
    # makes a copy of all that the model writes to next.
    elif in_memory or (facts.on_cpu and dataset.is_quick):
        found = 0
    else:
        found = num_loader_workers(len(dataset), facts.num_local_processes)
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        collate_fn=identity_collate if in_memory else None,
        num_workers=found,
        persistent_workers=found > 0,
        pin_memory=torch.cuda.is_available(),
        drop_last=sampler is not None and drops_last_batch(len(sampler), batch_size),
    )
