"""Train or evaluate in the midst of a fit, and leave no trace of it."""

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import DummyLogger, ProgressBar, isolate_rng
from lightning_fastrecipes.callbacks.engine.saving import StateSnapshot

Log = dict[str, Any]
"""What ``self.log`` was called with last, by name."""


@contextmanager
def preserved_state(trainer: pl.Trainer, pl_module: pl.LightningModule) -> Iterator[Log]:
    """Put everything back that steps within this block change, also when one of them raises.

    Kept in memory, without any file: parameters, gradients, buffers, modes, states of metrics,
    counters, arrays, generators and containers of the module and its parts; state and rates of the
    optimizers; the scaler of mixed precision; the random numbers of torch, CUDA, numpy and Python.
    What objects of other classes hold is out of reach. Meanwhile loggers and other callbacks hear
    nothing, and ``self.log`` goes into the mapping that the block gets.
    Loops and schedulers are not part of it: do not run them.

    Args:
        trainer: The trainer, within ``fit``.
        pl_module: The module that it trains.

    Yields:
        The values that the module logs, by name.
    """
    with ExitStack() as stack:
        rng = isolate_rng()
        rng.__enter__()
        # Left as if all had gone well: Lightning does not put the numbers back after an error.
        stack.callback(rng.__exit__, None, None, None)
        stack.callback(_saved_tensors([*pl_module.parameters(), *pl_module.buffers()]))
        stack.callback(_saved_gradients(list(pl_module.parameters())))
        saved = StateSnapshot()
        saved.keep_modules(pl_module)
        stack.callback(saved.restore)
        for optimizer in trainer.optimizers:
            stack.callback(_saved_optimizer(optimizer))
        scaler_state = copy.deepcopy(trainer.precision_plugin.state_dict())
        stack.callback(lambda: trainer.precision_plugin.load_state_dict(scaler_state))
        # A bar may be drawn at any time by a thread of its own, which asks the trainer for it.
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        bars = [callback for callback in callbacks if isinstance(callback, ProgressBar)]
        stack.callback(_set_aside(trainer, "callbacks", bars))
        dummies = [DummyLogger() for _ in trainer.loggers]
        stack.callback(_set_aside(trainer, "loggers", dummies))
        logged: Log = {}
        stack.callback(_captured_log(pl_module, logged))
        yield logged


def _set_aside(owner: Any, name: str, value: Any) -> Callable[[], None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    return lambda: setattr(owner, name, before)


def _saved_tensors(tensors: list[Tensor]) -> Callable[[], None]:
    copies = [tensor.detach().to("cpu", copy=True) for tensor in tensors]

    def restore() -> None:
        with torch.no_grad():
            for tensor, before in zip(tensors, copies, strict=True):
                tensor.copy_(before)

    return restore


def _saved_gradients(parameters: list[nn.Parameter]) -> Callable[[], None]:
    gradients = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None

    def restore() -> None:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient

    return restore


def _saved_optimizer(optimizer: Optimizer) -> Callable[[], None]:
    state = optimizer.state
    optimizer.state = defaultdict(dict, {key: copy.deepcopy(held) for key, held in state.items()})
    groups = [dict(group) for group in optimizer.param_groups]

    def restore() -> None:
        optimizer.state = state
        for group, before in zip(optimizer.param_groups, groups, strict=True):
            group.clear()
            group.update(before)

    return restore


def _captured_log(pl_module: pl.LightningModule, logged: Log) -> Callable[[], None]:
    """Let ``self.log`` note values alone: in the midst of a hook Lightning would refuse them."""

    def log(name: str, value: Any, *_: Any, **__: Any) -> None:
        logged[name] = value

    def log_dict(dictionary: Any, *_: Any, **__: Any) -> None:
        logged.update(dictionary)

    own = vars(pl_module)
    before: Log = {name: own[name] for name in ("log", "log_dict") if name in own}
    own.update(log=log, log_dict=log_dict)

    def restore() -> None:
        del own["log"], own["log_dict"]
        own.update(before)

    return restore
