"""The engine of the LR finder: optimizer steps at rising rates, in the midst of a fit."""

import random
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import MisconfigurationException
from lightning_fastrecipes.callbacks.engine.state_keeping import preserved_state
from lightning_fastrecipes.callbacks.engine.stepping import (
    call_step,
    cycled,
    kept_generators,
    loss_of,
    mean_over_processes,
    on_device,
    validation_loss,
)
from lightning_fastrecipes.callbacks.schedule import Schedule
from lightning_fastrecipes.functional.training.lr_curves import has_diverged

LossSource = Literal["train", "val"]
MAX_SKIPPED = 30
"""How often the scaler of mixed precision may halve its scale before a sweep gives up."""


def reference_lrs(trainer: pl.Trainer) -> list[float]:
    """Return the rate of each parameter group that a sweep scales, 0 where it is frozen.

    That is the peak of its schedule: ``max_lr`` of a group or the ``max_lrs`` of a scheduler, where
    a schedule such as one-cycle has them, else ``initial_lr``, else ``lr``. Later in a fit, when a
    schedule may have left its peak for good, it is the present ``lr``, unless a schedule of this
    package drives the fit or the schedule names its peak.

    Args:
        trainer: A trainer with one optimizer.

    Returns:
        One rate for each parameter group.
    """
    groups = trainer.optimizers[0].param_groups
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    is_cyclic = any(isinstance(callback, Schedule) for callback in callbacks)
    key = "initial_lr" if is_cyclic or trainer.global_step == 0 else "lr"
    rates = [float(group.get("max_lr", group.get(key, group["lr"]))) for group in groups]
    for config in trainer.lr_scheduler_configs:
        rates = getattr(config.scheduler, "max_lrs", rates)
    trained = [any(p.requires_grad for p in group["params"]) for group in groups]
    return [rate if is_trained else 0.0 for rate, is_trained in zip(rates, trained, strict=True)]


def sweep(
    trainer: pl.Trainer,
    pl_module: pl.LightningModule,
    lrs: Sequence[float],
    references: Sequence[float],
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
        references: Rate of each parameter group that is scaled, 0 where frozen.
        on: Loss of the training batches, or after each step that of the next validation batch.

    Returns:
        The loss at each rate that was reached, equal on all processes.
    """
    losses: list[float] = []
    if on == "val" and trainer.val_dataloaders is None:
        _set_up_validation(trainer)
    # Loaders that keep random numbers of their own are drawn from as well.
    generators = kept_generators(trainer.train_dataloader, trainer.val_dataloaders)
    with generators, preserved_state(trainer, pl_module) as logged:
        _seed(trainer.global_rank)
        train_batches = cycled(trainer.train_dataloader, trainer.num_training_batches)
        val_batches = _val_batches(trainer) if on == "val" else iter(())
        last = [rate for rate in references if rate > 0][-1]
        num_batches = count(step=trainer.accumulate_grad_batches)
        for lr in lrs:
            for group, rate in zip(trainer.optimizers[0].param_groups, references, strict=True):
                group["lr"] = rate * (lr / last)
            steps = (
                _train_step(trainer, train_batches, next(num_batches)) for _ in range(MAX_SKIPPED)
            )
            loss = next((loss for loss in steps if loss is not None), None)
            if loss is None:
                break
            if on == "val":
                batch_idx = int(len(losses) % trainer.num_val_batches[0])
                loss = validation_loss(trainer, next(val_batches), batch_idx, logged)
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
            trainer.lightning_module.on_train_batch_start(batch, batch_idx)
            output = call_step(trainer, "training_step", batch, batch_idx)
            loss = loss_of(output)
            if loss is None:
                raise MisconfigurationException(
                    "`training_step` must give a loss for the LR finder, but gave none. Return a"
                    " tensor, or a mapping with the key `loss`."
                )
            losses.append(loss.detach())
            trainer.strategy.backward(loss / accumulated, optimizer)
            trainer.lightning_module.on_train_batch_end(output, batch, batch_idx)
        return losses[-1]

    scaler = getattr(trainer.precision_plugin, "scaler", None)
    scale = scaler.get_scale() if scaler is not None else None
    trainer.strategy.optimizer_step(optimizer, closure, model=trainer.lightning_module)
    if scaler is not None and scaler.get_scale() < cast(float, scale):
        return None
    return torch.stack([loss.float() for loss in losses]).mean()


def _set_up_validation(trainer: pl.Trainer) -> None:
    """Let Lightning make its validation loaders, which it does no earlier than it needs them."""
    trainer.validating = True
    try:
        trainer.fit_loop.epoch_loop.val_loop.setup_data()
    finally:
        trainer.training = True


def _val_batches(trainer: pl.Trainer) -> Iterator[Any]:
    loaders = trainer.val_dataloaders
    if not loaders or not sum(trainer.num_val_batches):
        raise MisconfigurationException(
            "`on='val'` needs a validation loader, but there is none. Give one, or take the loss"
            " of the training batches with `on='train'`."
        )
    is_mapping = isinstance(loaders, dict)
    listed = list(loaders.values()) if is_mapping else loaders
    first = listed[0] if isinstance(listed, (list, tuple)) else listed
    return cycled(first, trainer.num_val_batches[0])
