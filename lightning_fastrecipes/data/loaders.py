"""Loaders of pictures, with workers where they help."""

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_fastrecipes.data.image_dataset import ImageDataset, PixelDataset, same
from lightning_fastrecipes.data.samplers import ShuffleSampler, drops_last_batch
from lightning_fastrecipes.data.workers import num_loader_workers

Loader = DataLoader[tuple[Tensor, Tensor]]


def make_loader(
    dataset: ImageDataset,
    batch_size: int,
    sampler: ShuffleSampler | None = None,
    num_workers: int | None = None,
    num_local_processes: int = 1,
) -> Loader:
    """Make a loader, in order and to the last picture unless it has a sampler.

    Args:
        dataset: The pictures.
        batch_size: Pictures per step and process, at least 1.
        sampler: The order of training; a last batch of one picture is then dropped.
        num_workers: Loader processes; from the machine and the data if ``None``.
        num_local_processes: Training processes that share this machine, at least 1.

    Returns:
        A loader of pictures and targets.
    """
    in_memory = isinstance(dataset, PixelDataset)
    if num_workers is None:
        # From memory a batch is cut faster than it is sent from one process to another.
        found = 0 if in_memory else num_loader_workers(len(dataset), num_local_processes)
    else:
        found = num_workers
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        collate_fn=same if in_memory else None,
        num_workers=found,
        persistent_workers=found > 0,
        pin_memory=torch.cuda.is_available(),
        drop_last=sampler is not None and drops_last_batch(len(sampler), batch_size),
    )
