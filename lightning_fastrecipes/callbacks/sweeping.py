"""The engine of the LR finder: optimizer steps at rising rates, in the midst of a fit."""

import copy
import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count, islice
from typing import Any, Literal, cast

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import CombinedLoader
from pytorch_lightning.utilities.exceptions import (  # type: ignore[attr-defined]
    MisconfigurationException,
)
from pytorch_lightning.utilities.signature_utils import is_param_in_hook_signature
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_fastrecipes.callbacks.preserving import Log, untouched
from lightning_fastrecipes.functional.lr_curves import has_diverged

LossSource = Literal["train", "valid"]
VALID_LOSS = "val_loss"
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
    with _kept_generators(trainer), untouched(trainer, pl_module) as logged:
        _seed(trainer.global_rank)
        train_batches = _cycled(trainer.train_dataloader, trainer.num_training_batches)
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
                loss = _valid_loss(trainer, next(valid_batches), batch_idx, logged)
            losses.append(_mean_over_processes(trainer, loss))
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
            batch = _on_device(trainer, next(batches))
            batch_idx = int((first_batch_idx + index) % trainer.num_training_batches)
            loss = _loss_of(_call_step(trainer, "training_step", batch, batch_idx))
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


def _valid_loss(trainer: pl.Trainer, batch: Any, batch_idx: int, logged: Log) -> Tensor:
    module = trainer.lightning_module
    modes = [(part, part.training) for part in module.modules()]
    logged.pop(VALID_LOSS, None)
    module.eval()
    try:
        with torch.no_grad():
            output = _call_step(trainer, "validation_step", _on_device(trainer, batch), batch_idx)
    finally:
        for part, mode in modes:
            part.training = mode
    loss = _loss_of(output)
    if loss is None and VALID_LOSS in logged:
        loss = _logged_loss(logged[VALID_LOSS])
    if loss is None:
        raise MisconfigurationException(
            "`validation_step` must give a loss for `on='valid'`, but gave none. Return it, or log"
            f" it as `{VALID_LOSS}`."
        )
    return loss.detach().float()


def _logged_loss(value: Any) -> Tensor:
    """Give a logged loss: the number itself, or what a metric made of this batch alone."""
    if hasattr(value, "compute"):
        loss = value.compute()
        value.reset()
        return cast(Tensor, loss)
    return torch.as_tensor(value)


def _loss_of(output: Any) -> Tensor | None:
    if isinstance(output, dict):
        output = output.get("loss")
    return output if isinstance(output, Tensor) and output.numel() == 1 else None


def _call_step(trainer: pl.Trainer, name: str, batch: Any, batch_idx: int) -> Any:
    takes_index = is_param_in_hook_signature(
        getattr(trainer.lightning_module, name), "batch_idx", min_args=2
    )
    arguments = (batch, batch_idx) if takes_index else (batch,)
    return getattr(trainer.strategy, name)(*arguments)


def _on_device(trainer: pl.Trainer, batch: Any) -> Any:
    batch = trainer.precision_plugin.convert_input(batch)
    # Private: Lightning's own loops have no public name for this hook of module and datamodule.
    batch = trainer.lightning_module._on_before_batch_transfer(batch, dataloader_idx=0)
    return trainer.strategy.batch_to_device(batch, dataloader_idx=0)


def _mean_over_processes(trainer: pl.Trainer, loss: Tensor) -> float:
    loss = loss.to(trainer.strategy.root_device)
    return float(cast(Tensor, trainer.strategy.reduce(loss, reduce_op="mean")))


def _valid_batches(trainer: pl.Trainer) -> Iterator[Any]:
    loaders = trainer.val_dataloaders
    if not loaders or not sum(trainer.num_val_batches):
        raise MisconfigurationException(
            "`on='valid'` needs a validation loader, but there is none. Give one, or take the loss"
            " of the training batches with `on='train'`."
        )
    first = loaders[0] if isinstance(loaders, list) else loaders
    return _cycled(first, trainer.num_val_batches[0])


def _cycled(loader: Any, num_batches: float) -> Iterator[Any]:
    """Give batches for ever, from iterators of our own: the fit's may be under way."""
    loader = _map_loaders(loader, _copied)
    if isinstance(loader, (list, tuple, dict)):
        loader = _CombinedBatches(loader)
    while True:
        is_empty = True
        for batch in islice(loader, None if math.isinf(num_batches) else int(num_batches)):
            is_empty = False
            yield batch
        if is_empty:
            raise MisconfigurationException(
                "The LR finder needs batches, but the loader gave none. Check the data set and"
                " `drop_last`."
            )


class _CombinedBatches:
    """Batches of several loaders at once, as Lightning gives them to ``training_step``."""

    def __init__(self, loaders: Any) -> None:
        self._loader = CombinedLoader(loaders, "max_size_cycle")

    def __iter__(self) -> Iterator[Any]:
        return (batch for batch, _, _ in self._loader)


def _map_loaders(loaders: Any, function: Callable[[Any], Any]) -> Any:
    if isinstance(loaders, dict):
        return {name: _map_loaders(loader, function) for name, loader in loaders.items()}
    if isinstance(loaders, (list, tuple)):
        return type(loaders)(_map_loaders(loader, function) for loader in loaders)
    return function(loaders)


def _copied(loader: Any) -> Any:
    if not isinstance(loader, DataLoader):
        return loader
    loader = copy.copy(loader)
    # Private: persistent workers belong to the iterator of the fit, which must not be reset.
    loader._iterator = None
    return loader


@contextmanager
def _kept_generators(trainer: pl.Trainer) -> Iterator[None]:
    """Put back the generators that loaders and samplers were given."""
    found: list[torch.Generator] = []

    def collect(loader: Any) -> None:
        owners = (getattr(loader, name, None) for name in ("sampler", "batch_sampler"))
        for owner in (loader, *owners):
            generator = getattr(owner, "generator", None)
            if isinstance(generator, torch.Generator):
                found.append(generator)

    for loaders in (trainer.train_dataloader, trainer.val_dataloaders):
        _map_loaders(loaders, collect)
    states = [generator.get_state() for generator in found]
    try:
        yield
    finally:
        for generator, state in zip(found, states, strict=True):
            generator.set_state(state)
