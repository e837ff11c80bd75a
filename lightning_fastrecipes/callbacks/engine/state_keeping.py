"""Train or evaluate in the midst of a fit, and put everything back."""

import copy
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, MutableSequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import DummyLogger, ProgressBar, isolate_rng

Log = dict[str, Any]
"""What ``self.log`` was called with last, by name."""

_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_GENERATORS = (torch.Generator, np.random.RandomState, np.random.Generator, random.Random)
_MODULE_INTERNALS = frozenset(vars(nn.Module())) - {"training"}
_LINKS = ("dataset", "transform", "sampler", "batch_sampler")


@contextmanager
def preserved_state(
    trainer: pl.Trainer, pl_module: pl.LightningModule, *loaders: Any
) -> Iterator[Log]:
    """Put everything back that steps within this block change, also when one of them raises.

    Kept in memory, without any file: parameters, gradients, buffers, modes, states of metrics,
    counters, arrays, generators and containers of the module and its parts; state and rates of the
    optimizers; the scaler of mixed precision; the random numbers of torch, CUDA, numpy, Python and
    the loaders. What objects of other classes hold is not kept. Meanwhile loggers and other
    callbacks are not called, and ``self.log`` goes into the mapping that the block gets. Loops and
    schedulers are not kept either: do not run them.
    """
    with StateSnapshot() as saved:
        saved.keep_random_numbers(*loaders)
        for tensor in (*pl_module.parameters(), *pl_module.buffers()):
            saved.callback(_fill, tensor, tensor.detach().to("cpu", copy=True))
        for parameter in pl_module.parameters():
            saved.set_aside(parameter, "grad", None)
        saved.keep_modules(pl_module)
        for optimizer in trainer.optimizers:
            saved.keep_optimizer(optimizer)
        precision = trainer.precision_plugin
        saved.callback(precision.load_state_dict, copy.deepcopy(precision.state_dict()))
        # A bar may be drawn at any time by a thread of its own, which asks the trainer for it.
        bars = [one for one in pl.callbacks_of(trainer) if isinstance(one, ProgressBar)]
        saved.set_aside(trainer, "callbacks", bars)
        saved.set_aside(trainer, "loggers", [DummyLogger() for _ in trainer.loggers])
        yield saved.capture_log(pl_module)


class StateSnapshot(ExitStack):
    """A block at whose end the contents that were kept in it are put back, each thing once."""

    def __init__(self) -> None:
        super().__init__()
        # Holds what it has seen, so that no other object takes the same identity meanwhile.
        self._seen: dict[int, Any] = {}

    def set_aside(self, owner: Any, name: str, value: Any) -> None:
        """Replace an attribute until the end of the block."""
        self.callback(setattr, owner, name, getattr(owner, name))
        setattr(owner, name, value)

    def keep_random_numbers(self, *loaders: Any) -> None:
        """Keep the generators of torch, CUDA, numpy and Python, and those of loaders."""
        isolated = isolate_rng()
        isolated.__enter__()
        # Left as if all had gone well: Lightning does not put the numbers back after an error.
        self.callback(isolated.__exit__, None, None, None)
        self.keep_generators(loaders)

    def keep_generators(self, owner: Any, depth: int = 4) -> None:
        """Keep the generators of loaders, and of their samplers, data sets and transforms."""
        if isinstance(owner, (list, tuple, dict)):
            for part in owner.values() if isinstance(owner, dict) else owner:
                self.keep_generators(part, depth)
            return
        attributes = getattr(owner, "__dict__", {})
        for value in list(attributes.values()):
            if isinstance(value, _GENERATORS):
                self.keep(value)
        for name in _LINKS if depth else ():
            if attributes.get(name) is not None:
                self.keep_generators(attributes[name], depth - 1)

    def keep_optimizer(self, optimizer: Optimizer) -> None:
        """Keep the state and the parameter groups of an optimizer."""
        for group in optimizer.param_groups:
            self._keep_container(group, dict(group), group.update)
        state = {key: copy.deepcopy(held) for key, held in optimizer.state.items()}
        self.set_aside(optimizer, "state", defaultdict(dict, state))

    def keep_modules(self, root: nn.Module) -> None:
        """Keep what a module and its parts hold, but not the contents of parameters and buffers."""
        modules = list(root.modules())
        self._seen |= {id(module): module for module in modules}
        for module in modules:
            self._keep_module(module)

    def keep(self, value: Any) -> None:
        """Keep the contents of a tensor, array, generator, module or container, and its parts."""
        if isinstance(value, _PLAIN) or id(value) in self._seen:
            return
        self._seen[id(value)] = value
        if isinstance(value, Tensor):
            self.callback(_fill, value, value.detach().clone())
        elif isinstance(value, np.ndarray):
            self.callback(np.copyto, value, value.copy())
        elif isinstance(value, np.random.Generator):
            bits = value.bit_generator
            self.callback(setattr, bits, "state", copy.deepcopy(bits.state))
        elif isinstance(value, random.Random):
            self.callback(value.setstate, value.getstate())
        elif isinstance(value, _GENERATORS):
            generator: Any = value
            self.callback(generator.set_state, generator.get_state())
        elif isinstance(value, nn.Module):
            self.keep_modules(value)
            for tensor in (*value.parameters(), *value.buffers()):
                self.keep(tensor)
        elif isinstance(value, MutableSequence):
            self._keep_container(value, list(value), value.extend, value)
        elif isinstance(value, dict):
            self._keep_container(value, dict(value), value.update, value.values())
        elif isinstance(value, set):
            self._keep_container(value, set(value), value.update)
        elif isinstance(value, tuple):
            for part in value:
                self.keep(part)

    def capture_log(self, module: pl.LightningModule) -> Log:
        """Let ``log`` and ``log_dict`` fill a mapping: Lightning refuses them within a hook."""
        logged: Log = {}

        def log(name: str, value: Any, *_: Any, **__: Any) -> None:
            logged[name] = value

        def log_dict(dictionary: Any, *_: Any, **__: Any) -> None:
            logged.update(dictionary)

        own: dict[str, Any] = vars(module)
        before: Log = {k: own[k] for k in ("log", "log_dict") if k in own}
        self.callback(lambda: own.update(before))
        self.callback(lambda: [own.pop(name) for name in ("log", "log_dict")])
        own.update(log=log, log_dict=log_dict)
        return logged

    def _keep_module(self, module: nn.Module) -> None:
        attributes = {k: v for k, v in vars(module).items() if k not in _MODULE_INTERNALS}
        # Private: a buffer may be replaced by another tensor, not only filled with other numbers.
        buffers = dict(module._buffers)

        def restore() -> None:
            for name in set(vars(module)) - _MODULE_INTERNALS - set(attributes):
                del vars(module)[name]
            vars(module).update(attributes)
            module._buffers.update(buffers)

        self.callback(restore)
        for value in attributes.values():
            self.keep(value)

    def _keep_container(
        self, container: Any, items: Any, refill: Callable[[Any], None], parts: Any = ()
    ) -> None:
        # The last one runs first.
        self.callback(refill, items)
        self.callback(container.clear)
        for part in list(parts):
            self.keep(part)


def _fill(tensor: Tensor, data: Tensor) -> None:
    with torch.no_grad():
        tensor.detach().copy_(data)
