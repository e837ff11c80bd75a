"""The engine of the LR finder: optimizer steps at rising rates, in the midst of a fit."""

import random
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, Literal, cast

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import (  # type: ignore[attr-defined]
    MisconfigurationException,
)
from torch import Tensor

from lightning_fastrecipes.callbacks.preserving import untouched
from lightning_fastrecipes.callbacks.stepping import (
    call_step,
    cycled,
    kept_generators,
    loss_of,
    mean_over_processes,
    on_device,
    validation_loss,
)
from lightning_fastrecipes.functional.lr_curves import has_diverged

LossSource = Literal["train", "valid"]
MAX_SKIPPED = 30
"""How often the scaler of mixed precision may halve its scale before a sweep gives up."""


def peak_lrs(trainer: pl.Trainer) -> list[float]:
    """Give the rate of each parameter group at the peak of its schedule, 0 where it is frozen.

    Args:
        trainer: A trainer with one optimizer.

    Returns:
        ``max_lr`` of a group or the ``max_lrs`` of a scheduler, where a schedule such as one-cycle
        has them, else ``initial_lr``, else ``lr``.
    """
    groups = trainer.optimizers[0].param_groups
    peaks = [float(g.get("max_lr", g.get("initial_lr", g["lr"]))) for g in groups]
    for config in trainer.lr_scheduler_configs:
        peaks = getattr(config.scheduler, "max_lrs", peaks)
    trained = [any(p.requires_grad for p in group["params"]) for group in groups]
    return [peak if is_trained else 0.0 for peak, is_trained in zip(peaks, trained, strict=True)]


def sweep(
    trainer: pl.Trainer,
    pl_module: pl.LightningModule,
    lrs: Sequence[float],
    on: LossSource = "train",
) -> list[float]:
    """Take one optimizer step at each rate, note the losses, and put everything back.

    All groups are scaled by one factor, so that their ratios stay; ``lrs`` are the rates of the
    last trained group. Short loaders are cycled. A step that the scaler of mixed precision skips is
    taken again. The sweep ends early when the loss diverges. Its random numbers do not depend on
    what happened before, so that the same model on the same data gives the same curve.

    Args:
        trainer: The trainer, within an epoch of ``fit``.
        pl_module: The module that it trains.
        lrs: Rates of the last trained group, rising, above 0.
        on: Loss of the training batches, or after each step that of the next validation batch.

    Returns:
        The loss at each rate that was reached, equal on all processes.
    """
    losses: list[float] = []
    # Loaders that keep random numbers of their own are drawn from as well.
    with kept_generators(trainer), untouched(trainer, pl_module) as logged:
        _seed(trainer.global_rank)
        train_batches = cycled(trainer.train_dataloader, trainer.num_training_batches)
        valid_batches = _valid_batches(trainer) if on == "valid" else iter(())
        peaks = peak_lrs(trainer)
        last = [peak for peak in peaks if peak > 0][-1]
        num_batches = count(step=trainer.accumulate_grad_batches)
        for lr in lrs:
            for group, peak in zip(trainer.optimizers[0].param_groups, peaks, strict=True):
                group["lr"] = peak * (lr / last)
            steps = (
                _train_step(trainer, train_batches, next(num_batches)) for _ in range(MAX_SKIPPED)
            )
            loss = next((loss for loss in steps if loss is not None), None)
            if loss is None:
                break
            if on == "valid":
                batch_idx = int(len(losses) % trainer.num_val_batches[0])
                loss = validation_loss(trainer, next(valid_batches), batch_idx, logged)
            losses.append(mean_over_processes(trainer, loss))
            if has_diverged(losses):
                break
    return losses


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def _train_step(trainer: pl.Trainer, batches: Iterator[Any], first_batch_idx: int) -> Tensor | None:
    """Take one optimizer step; give its mean loss, or nothing if the scaler skipped it."""
    optimizer = trainer.optimizers[0]
    accumulated = trainer.accumulate_grad_batches
    losses: list[Tensor] = []

    def closure() -> Tensor:
        losses.clear()
        optimizer.zero_grad()
        for index in range(accumulated):
            batch = on_device(trainer, next(batches))
            batch_idx = int((first_batch_idx + index) % trainer.num_training_batches)
            loss = loss_of(call_step(trainer, "training_step", batch, batch_idx))
            if loss is None:
                raise MisconfigurationException(
                    "`training_step` must give a loss for the LR finder, but gave none. Return a"
                    " tensor, or a mapping with the key `loss`."
                )
            losses.append(loss.detach())
            trainer.strategy.backward(loss / accumulated, optimizer)
        return losses[-1]

    scaler = getattr(trainer.precision_plugin, "scaler", None)
    scale = scaler.get_scale() if scaler is not None else None
    trainer.strategy.optimizer_step(optimizer, closure, model=trainer.lightning_module)
    if scaler is not None and scaler.get_scale() < cast(float, scale):
        return None
    return torch.stack([loss.float() for loss in losses]).mean()


def _valid_batches(trainer: pl.Trainer) -> Iterator[Any]:
    loaders = trainer.val_dataloaders
    if not loaders or not sum(trainer.num_val_batches):
        raise MisconfigurationException(
            "`on='valid'` needs a validation loader, but there is none. Give one, or take the loss"
            " of the training batches with `on='train'`."
        )
    first = loaders[0] if isinstance(loaders, list) else loaders
    return cycled(first, trainer.num_val_batches[0])
