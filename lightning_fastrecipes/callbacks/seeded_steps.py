"""Random numbers that depend on the step alone, so that a resumed fit draws what it would have."""

import random
from typing import Any

import numpy as np
import torch

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes.errors import check_at_least


class SeededSteps(pl.OwnCallback):
    """Seed all random number generators anew for each training batch.

    Dropout, drop path and augmentation on the device then depend on the seed (at least 0, the same
    for every process), the process, the epoch and the batch index, and on nothing that happened
    before: a fit that is stopped and resumed at any batch draws the very numbers of an
    uninterrupted one, and validating more or less often changes nothing. Two batches, two epochs or
    two processes never share their numbers. The order of the data is not touched, since a batch is
    loaded before it starts; and the generators are left as they are after the fit.
    """

    def __init__(self, seed: int) -> None:
        check_at_least("seed", seed, 0)
        self.seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed the generators of torch, numpy and Python for this batch."""
        seed_step(self.seed, trainer.global_rank, trainer.current_epoch, batch_idx)


def seed_step(*step: int) -> None:
    """Seed the generators of torch, numpy and Python for a batch: seed, process, epoch, index."""
    low, high, *words = np.random.SeedSequence(step).generate_state(6).tolist()
    torch_seed = low + (high << 32)
    # Not `torch.manual_seed`: while CUDA is not in use, it queues one call a batch for later.
    torch.default_generator.manual_seed(torch_seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(torch_seed)
    np.random.seed(words)
    random.seed(torch_seed)
