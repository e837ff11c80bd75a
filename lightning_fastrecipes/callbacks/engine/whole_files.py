"""Checkpoints that are written as a whole or not at all."""

import os
import shutil
from pathlib import Path

import torch
from torch import Tensor

from lightning_fastrecipes import _lightning as pl


def save_as_a_whole(trainer: pl.Trainer, path: Path) -> None:
    """Write a checkpoint beside its place, and put it there once it is whole.

    Lightning itself writes to a temporary folder, which may be on another disk, from where half a
    file can take the place of the last one. Every process must call it.
    """
    part = path.with_name(f".part-{path.name[-50:]}")
    try:
        trainer.save_checkpoint(part, weights_only=False)  # Lightning remarks on what is left out
        if trainer.is_global_zero:
            if path.is_dir():  # of a strategy that writes folders
                shutil.rmtree(path)
            os.replace(part, path)
    finally:
        if trainer.is_global_zero and part.is_file():
            part.unlink()
    trainer.strategy.barrier()


def weights_are_finite(trainer: pl.Trainer, pl_module: pl.LightningModule) -> bool:
    """Return whether all weights are numbers, in every process."""
    found: list[Tensor] = [torch.isfinite(one.detach()).all() for one in pl_module.parameters()]
    is_good = not found or bool(torch.stack([one.to(found[0].device) for one in found]).all())
    return bool(trainer.strategy.reduce_boolean_decision(is_good, all=True))
