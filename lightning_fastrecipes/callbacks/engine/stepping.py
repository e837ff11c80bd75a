"""Single steps on batches of one's own, in the midst of a fit: what a sweep and checks share."""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import (
    CombinedLoader,
    MisconfigurationException,
    is_param_in_hook_signature,
)
from lightning_fastrecipes.callbacks.engine.saving import StateSnapshot
from lightning_fastrecipes.callbacks.engine.state_keeping import Log

VALID_LOSS = "val_loss"


def validation_loss(trainer: pl.Trainer, batch: Any, batch_idx: int, logged: Log) -> Tensor:
    """Return the loss of one batch as the module's validation has it; call within ``untouched``.

    Args:
        trainer: The trainer, within ``fit``.
        batch: A batch as its loader gave it.
        batch_idx: Its number.
        logged: What ``untouched`` gives.

    Returns:
        The loss that ``validation_step`` returns, or logs as ``val_loss``. Shape ``()``.

    Raises:
        MisconfigurationException: If it does neither.
    """
    module = trainer.lightning_module
    modes = [(part, part.training) for part in module.modules()]
    logged.pop(VALID_LOSS, None)
    module.eval()
    trainer.validating = True
    try:
        with torch.no_grad():
            output = call_step(trainer, "validation_step", on_device(trainer, batch), batch_idx)
    finally:
        trainer.training = True
        for part, mode in modes:
            part.training = mode
    loss = loss_of(output)
    if loss is None and VALID_LOSS in logged:
        loss = _logged_loss(logged[VALID_LOSS])
    if loss is None:
        raise MisconfigurationException(
            f"`validation_step` must give a loss, but gave none. Return it, or log it as"
            f" `{VALID_LOSS}`."
        )
    return loss.detach().float()


def _logged_loss(value: Any) -> Tensor:
    """Return a logged loss: the number itself, or what a metric made of this batch alone."""
    if hasattr(value, "compute"):
        loss = value.compute()
        value.reset()
        return cast(Tensor, loss)
    return torch.as_tensor(value)


def loss_of(output: Any) -> Tensor | None:
    """Find the loss in what a step returns: the tensor, or the mapping's ``loss``."""
    if isinstance(output, dict):
        output = output.get("loss")
    return output if isinstance(output, Tensor) and output.numel() == 1 else None


def call_step(trainer: pl.Trainer, name: str, batch: Any, batch_idx: int) -> Any:
    """Call ``training_step`` or ``validation_step`` through the strategy, as Lightning does."""
    step = getattr(trainer.lightning_module, name)
    arguments: dict[str, int] = {}
    if is_param_in_hook_signature(step, "batch_idx", min_args=2):
        arguments["batch_idx"] = batch_idx
    if is_param_in_hook_signature(step, "dataloader_idx", min_args=3):
        arguments["dataloader_idx"] = 0
    return getattr(trainer.strategy, name)(batch, *arguments.values())


def on_device(trainer: pl.Trainer, batch: Any) -> Any:
    """Send a batch through all hooks to the device."""
    batch = trainer.precision_plugin.convert_input(batch)
    # Private: Lightning's own loops have no public name for this hook of module and datamodule.
    batch = trainer.lightning_module._on_before_batch_transfer(batch, dataloader_idx=0)
    return trainer.strategy.batch_to_device(batch, dataloader_idx=0)


def mean_over_processes(trainer: pl.Trainer, loss: Tensor) -> float:
    """Return the mean of a number that every process has, the same on all of them."""
    loss = loss.to(trainer.strategy.root_device)
    return float(cast(Tensor, trainer.strategy.reduce(loss, reduce_op="mean")))


def cycled(loader: Any, num_batches: float) -> Iterator[Any]:
    """Return batches for ever, from iterators of our own: the fit's may be under way."""
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
    source = getattr(loader, "dataset", loader)
    if isinstance(source, Iterator) or (hasattr(source, "__iter__") and iter(source) is source):
        raise MisconfigurationException(
            f"Steps that are to leave no trace need data that can be gone through again, but"
            f" {type(source).__name__} gives its samples only once: `iter` gives back itself. Let"
            " `__iter__` start anew each time."
        )
    if not isinstance(loader, DataLoader):
        return loader
    loader = copy.copy(loader)
    # Private: persistent workers belong to the iterator of the fit, which must not be reset.
    loader._iterator = None
    return loader


@contextmanager
def kept_generators(*loaders: Any) -> Iterator[None]:
    """Put back the random generators that loaders, samplers, data sets and transforms hold.

    Args:
        *loaders: Loaders, or lists, tuples and mappings of them; anything else is left alone.
    """
    saved = StateSnapshot()
    _map_loaders(loaders, saved.keep_generators)
    try:
        yield
    finally:
        saved.restore()
