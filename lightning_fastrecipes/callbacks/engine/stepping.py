"""Single steps on given batches, in the midst of a fit."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import SetupError, is_param_in_hook_signature
from lightning_fastrecipes.callbacks.engine.state_keeping import Log
from lightning_fastrecipes.messages import name_some

VAL_LOSS = "val_loss"
_MOST_SKIPPED = 1000


def take_step(
    trainer: pl.Trainer,
    batches: Iterator[Any],
    num_batches: int = 1,
    first_batch_idx: int | None = None,
    before: Callable[[Any, int], None] = lambda *_: None,
) -> tuple[Tensor, bool]:
    """Take one optimizer step on batches that are on the device, within ``preserved_state``.

    Gradients are accumulated over ``num_batches``. The module's hooks before and after a batch are
    called if ``first_batch_idx`` is given; batches whose step returns ``None`` are then left out,
    as in a fit. ``before`` is called with each batch ahead of its step. Return the mean loss of the
    batches before the step, and whether it was taken: the scaler of mixed precision may skip it.
    """
    module, optimizer = trainer.lightning_module, trainer.optimizers[0]
    losses: list[Tensor] = []

    def closure() -> Tensor:
        losses.clear()
        optimizer.zero_grad()
        tries = 1 if first_batch_idx is None else _MOST_SKIPPED
        for index in range(num_batches * tries):
            batch, batch_idx = next(batches), 0
            if first_batch_idx is not None:
                batch_idx = int((first_batch_idx + index) % trainer.num_training_batches)
                module.on_train_batch_start(batch, batch_idx)
            before(batch, batch_idx)
            output = call_step(trainer, "training_step", batch, batch_idx)
            if output is None and tries > 1 and index + 1 < num_batches * tries:
                continue
            loss = training_loss(output)
            losses.append(loss.detach())
            trainer.strategy.backward(loss / num_batches, optimizer)
            if first_batch_idx is not None:
                module.on_train_batch_end(output, batch, batch_idx)
            if len(losses) == num_batches:
                break
        return losses[-1]

    scaler = getattr(trainer.precision_plugin, "scaler", None)
    scale = None if scaler is None else scaler.get_scale()
    trainer.strategy.optimizer_step(optimizer, closure, model=module)
    is_taken = scaler is None or scaler.get_scale() >= cast(float, scale)
    return torch.stack([loss.float() for loss in losses]).mean(), is_taken


def training_loss(output: Any) -> Tensor:
    """Find the loss in what ``training_step`` returns, or raise a ``SetupError``."""
    loss = step_loss(output)
    if loss is None:
        raise SetupError(
            "`training_step` must give a loss for steps that leave no trace, such as those of"
            " `LRFinder` and `InitialLossCheck`, but gave none. Return a tensor, or a mapping with"
            " the key `loss`."
        )
    return loss


def run_validation_step(trainer: pl.Trainer, batch: Any, batch_idx: int) -> Any:
    """Return what ``validation_step`` returns, in eval mode; the batch is as its loader gave it.

    Call it within ``preserved_state``.
    """
    module = trainer.lightning_module
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    trainer.validating = True
    try:
        with torch.no_grad():
            return call_step(trainer, "validation_step", on_device(trainer, batch), batch_idx)
    finally:
        trainer.training = True
        for part, mode in modes:
            part.training = mode


def validation_loss(
    trainer: pl.Trainer, batch: Any, batch_idx: int, logged: Log, loss_name: str = VAL_LOSS
) -> Tensor:
    """Return the loss that ``validation_step`` logs as ``loss_name``, or returns.

    What it returns goes before ``val_loss``, but not before another name. Call it within
    ``preserved_state``, which gives ``logged``, with a batch as its loader gave it.
    """
    name = logged_name(loss_name)
    logged.pop(name, None)
    loss = step_loss(run_validation_step(trainer, batch, batch_idx))
    if (loss is None or name != VAL_LOSS) and name in logged:
        value = logged[name]
        is_metric = hasattr(value, "compute")
        loss = torch.as_tensor(value.compute() if is_metric else value)
        if is_metric:
            value.reset()  # the next loss is of the next batch alone
    elif name != VAL_LOSS:
        loss = None
    if loss is None:
        found = f"; it logs {name_some(sorted(logged))}" if logged else ""
        raise SetupError(
            "`validation_step` must give a loss, but gave none. Return it, or log it as"
            f" `{name}`{found}. Another name is given by `loss_name`."
        )
    return loss.detach().float()


def logged_name(name: str) -> str:
    """Return the name that a step logs by, without the loader that Lightning adds.

    >>> logged_name("val_loss/dataloader_idx_1")
    'val_loss'
    """
    return name.partition("/dataloader_idx_")[0]


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


def mean_over_processes(trainer: pl.Trainer, value: Tensor) -> float:
    """Return the mean of a number that every process has, the same on all of them."""
    value = value.detach().float().to(trainer.strategy.root_device)
    return float(cast(Tensor, trainer.strategy.reduce(value, reduce_op="mean")))


def step_loss(output: Any) -> Tensor | None:
    """Return the loss in what a step returns, or ``None``."""
    if isinstance(output, Mapping):
        output = output.get("loss")
    return output if isinstance(output, Tensor) and output.numel() == 1 else None
