"""The sweep of the LR finder: optimizer steps at rising rates, in the midst of a fit."""

import copy
import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import count, islice
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import (
    CombinedLoader,
    SetupError,
    SIGTERMException,
    isolate_rng,
)
from lightning_fastrecipes.callbacks.engine.state_keeping import preserved_state
from lightning_fastrecipes.callbacks.engine.stepping import (
    VAL_LOSS,
    call_step,
    mean_over_processes,
    on_device,
    step_loss,
    take_step,
    validation_loss,
)
from lightning_fastrecipes.callbacks.schedule import Schedule, peak_lrs
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
    """
    groups = trainer.optimizers[0].param_groups
    is_cyclic = any(isinstance(callback, Schedule) for callback in pl.callbacks_of(trainer))
    key = "initial_lr" if is_cyclic or trainer.global_step == 0 else "lr"
    rates = peak_lrs(trainer, key)
    trained = [any(p.requires_grad for p in group["params"]) for group in groups]
    return [rate if is_trained else 0.0 for rate, is_trained in zip(rates, trained, strict=True)]


def sweep(
    trainer: pl.Trainer,
    pl_module: pl.LightningModule,
    lrs: Iterable[float],
    references: Sequence[float],
    on: LossSource = "train",
    loss_name: str = VAL_LOSS,
) -> tuple[list[float], list[float]]:
    """Take one optimizer step at each rate, return two losses of each, and put everything back.

    ``lrs`` are the rates of the last trained group; all groups are scaled by one factor, so that
    the ratios of ``references`` stay. Short loaders are cycled. A step that the scaler of mixed
    precision skips is taken again. The sweep ends early when the loss diverges, so there may be
    fewer losses than rates; they are equal on all processes. Its random numbers do not depend on
    what happened before: the same model on the same data gives the same curve. The loss of
    validation batches is what their step logs as ``loss_name``, or returns.

    The second loss is that of the same batches, with the same random numbers, at the weights of
    the start: how hard they are. It is NaN where the step gives none.
    """
    losses: list[float] = []
    at_start: list[float] = []
    if on == "val" and trainer.val_dataloaders is None:
        _set_up_validation(trainer)
    loaders = trainer.train_dataloader, trainer.val_dataloaders
    with preserved_state(trainer, pl_module, *loaders) as logged:
        for seed in (torch.manual_seed, np.random.seed, random.seed):
            seed(trainer.global_rank)
        batches = _cycled(trainer.train_dataloader, trainer.num_training_batches)
        train_batches = (on_device(trainer, batch) for batch in batches)
        val_batches = _val_batches(trainer) if on == "val" else iter(())
        last = [rate for rate in references if rate > 0][-1]
        num_accumulated = trainer.accumulate_grad_batches
        first_batch_idx = count(step=num_accumulated)
        start = _Start(trainer)
        for lr in lrs:
            for group, rate in zip(trainer.optimizers[0].param_groups, references, strict=True):
                group["lr"] = rate * (lr / last)
            for _ in range(MAX_SKIPPED):
                start.losses.clear()
                loss, is_taken = take_step(
                    trainer, train_batches, num_accumulated, next(first_batch_idx), start.train
                )
                if is_taken:
                    break
            else:
                break
            # Lightning notes the signal, and ends its own loop alone at the next step.
            if trainer.received_sigterm:
                raise SIGTERMException
            if on == "val":
                batch_idx = int(len(losses) % trainer.num_val_batches[0])
                val = partial(validation_loss, trainer, next(val_batches), batch_idx, logged)
                start.losses = [start.call(val, loss_name)]
                loss = val(loss_name)
            losses.append(mean_over_processes(trainer, loss))
            at_start.append(mean_over_processes(trainer, start.mean_loss()))
            if has_diverged(losses):
                break
    return losses, at_start


class _Start:
    """The module as a sweep found it, asked about batches in the midst of the sweep."""

    def __init__(self, trainer: pl.Trainer) -> None:
        self.trainer = trainer
        module = trainer.lightning_module
        self.weights = [*module.parameters()]
        self.tensors = [*self.weights, *module.buffers()]
        self.contents: list[Tensor] = []
        self.losses: list[Tensor] = []

    @torch.no_grad()
    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function with the weights and buffers of the start; it draws what comes next."""
        now = self._copies()
        with isolate_rng():
            self._fill(self.contents)
            try:
                return function(*arguments)
            finally:
                self._fill(now)

    def train(self, batch: Any, batch_idx: int) -> None:
        """Add the loss of a training batch, if it has one."""
        ask = self.call if self.contents else self._call_first
        output = ask(call_step, self.trainer, "training_step", batch, batch_idx)
        if (loss := step_loss(output)) is not None:
            self.losses.append(loss.detach().float())

    @torch.no_grad()
    def _call_first(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function with the weights as they are, which may be set by its first call.

        The policy ``calibrated`` sets norms to the data in the first step of a fit: the sweep then
        starts from these weights, as the fit does.
        """
        before = self._copies()
        with isolate_rng():
            output = function(*arguments)
        if all(map(torch.equal, self.weights, before)):
            self._fill(before)
        self.contents = self._copies()
        return output

    def mean_loss(self) -> Tensor:
        """Return the mean loss of the batches since they were cleared, NaN of none."""
        return torch.stack(self.losses).mean() if self.losses else torch.tensor(math.nan)

    def _copies(self) -> list[Tensor]:
        return [tensor.detach().clone() for tensor in self.tensors]

    def _fill(self, contents: list[Tensor]) -> None:
        for tensor, content in zip(self.tensors, contents, strict=True):
            tensor.copy_(content)


def _set_up_validation(trainer: pl.Trainer) -> None:
    """Let Lightning make its validation loaders, which it does no earlier than it needs them."""
    trainer.validating = True
    try:
        trainer.fit_loop.epoch_loop.val_loop.setup_data()
    finally:
        trainer.training = True


def _val_batches(trainer: pl.Trainer) -> Iterator[Any]:
    loaders = trainer.val_dataloaders
    if not sum(trainer.num_val_batches):
        raise SetupError(
            "`on='val'` needs a validation loader, but there is none. Give one, or take the loss"
            " of the training batches with `on='train'`."
        )
    listed = list(loaders.values()) if isinstance(loaders, dict) else loaders
    first = listed[0] if isinstance(listed, (list, tuple)) else listed
    return _cycled(first, trainer.num_val_batches[0])


def _cycled(loaders: Any, num_batches: float) -> Iterator[Any]:
    """Return batches for ever, from iterators of our own: the fit's may be under way."""
    loader = _copied(loaders)
    is_combined = isinstance(loader, (list, tuple, dict))
    # Batches of several loaders at once, as Lightning gives them to `training_step`.
    combined = CombinedLoader(loader, "max_size_cycle") if is_combined else None
    while True:
        found = loader if combined is None else (batch for batch, _, _ in combined)
        is_empty = True
        for batch in islice(found, None if math.isinf(num_batches) else int(num_batches)):
            is_empty = False
            yield batch
        if is_empty:
            raise SetupError(
                "The LR finder needs batches, but the loader gave none. Check the data set and"
                " `drop_last`."
            )


def _copied(loader: Any) -> Any:
    if isinstance(loader, dict):
        return {name: _copied(part) for name, part in loader.items()}
    if isinstance(loader, (list, tuple)):
        return type(loader)(_copied(part) for part in loader)
    source = getattr(loader, "dataset", loader)
    if isinstance(source, Iterator) or (hasattr(source, "__iter__") and iter(source) is source):
        raise SetupError(
            f"Steps that leave no trace need data that can be gone through again, but"
            f" {type(source).__name__} gives its samples only once: `iter` gives back itself. Let"
            " `__iter__` start anew each time."
        )
    if not isinstance(loader, DataLoader):
        return loader
    loader = copy.copy(loader)
    # Private: persistent workers belong to the iterator of the fit, which must not be reset.
    loader._iterator = None
    return loader
