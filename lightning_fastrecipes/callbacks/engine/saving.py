"""Keep what modules and data sets hold, to put it back later."""

import copy
import random
from collections.abc import Callable, MutableSequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_MODULE_INTERNALS = frozenset(vars(nn.Module())) - {"training"}
_LINKS = ("dataset", "transform", "sampler", "batch_sampler")


class StateSnapshot:
    """A store of contents: what is kept in it is put back, each thing once, by ``restore``."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []
        # Holds what it has seen, so that no other object takes the same identity meanwhile.
        self._seen: dict[int, Any] = {}

    def restore(self) -> None:
        """Put everything back, containers before what they hold."""
        for undo in self._undo:
            undo()

    def keep_modules(self, root: nn.Module) -> None:
        """Keep modes, counters, lists, metric states and buffers of a module and its parts.

        Args:
            root: The module; contents of its parameters and buffers are left to the caller.
        """
        modules = list(root.modules())
        self._seen |= {id(module): module for module in modules}
        for module in modules:
            self._keep_module(module)

    def keep_generators(self, owner: Any, depth: int = 4) -> None:
        """Keep the random generators that a loader, sampler, data set or transform holds.

        Args:
            owner: Where to look, and in the data set, samplers and transform that it names.
            depth: How many such links to follow.
        """
        try:
            attributes = vars(owner)
        except TypeError:
            return
        for value in list(attributes.values()):
            if isinstance(value, _GENERATORS):
                self.keep(value)
        for name in _LINKS if depth else ():
            if attributes.get(name) is not None:
                self.keep_generators(attributes[name], depth - 1)

    def keep(self, value: Any) -> None:
        """Keep what one object holds, and that of what it holds.

        Args:
            value: A tensor, array, generator, module or container; anything else is left alone.
        """
        if isinstance(value, _PLAIN) or id(value) in self._seen:
            return
        self._seen[id(value)] = value
        if isinstance(value, Tensor):
            data = value.detach().clone()
            self._undo.append(lambda: _copy_into(value, data))
        elif isinstance(value, np.ndarray):
            array = value.copy()
            self._undo.append(lambda: np.copyto(value, array))
        elif isinstance(value, _GENERATORS):
            self._undo.append(_saved_generator(value))
        elif isinstance(value, nn.Module):
            self.keep_modules(value)
            for tensor in (*value.parameters(), *value.buffers()):
                self.keep(tensor)
        elif isinstance(value, MutableSequence):
            self._keep_container(value, list(value), list(value), value.extend)
        elif isinstance(value, dict):
            self._keep_container(value, dict(value), list(value.values()), value.update)
        elif isinstance(value, set):
            self._keep_container(value, set(value), [], value.update)
        elif isinstance(value, tuple):
            for part in value:
                self.keep(part)

    def _keep_module(self, module: nn.Module) -> None:
        attributes = {k: v for k, v in vars(module).items() if k not in _MODULE_INTERNALS}
        # A buffer may be replaced by another tensor, not only filled with other numbers.
        buffers = dict(module._buffers)

        def restore() -> None:
            for name in set(vars(module)) - _MODULE_INTERNALS - set(attributes):
                del vars(module)[name]
            vars(module).update(attributes)
            module._buffers.update(buffers)

        self._undo.append(restore)
        for value in attributes.values():
            self.keep(value)

    def _keep_container(
        self, container: Any, items: Any, parts: list[Any], refill: Callable[[Any], None]
    ) -> None:
        def restore() -> None:
            container.clear()
            refill(items)

        self._undo.append(restore)
        for part in parts:
            self.keep(part)


_GENERATORS = (torch.Generator, np.random.RandomState, np.random.Generator, random.Random)


def _saved_generator(generator: Any) -> Callable[[], None]:
    if isinstance(generator, np.random.Generator):
        bits = generator.bit_generator
        numbers = copy.deepcopy(bits.state)
        return lambda: setattr(bits, "state", numbers)
    if isinstance(generator, random.Random):
        kept = generator.getstate()
        return lambda: generator.setstate(kept)
    state = generator.get_state()
    return lambda: generator.set_state(state) and None


def _copy_into(tensor: Tensor, data: Tensor) -> None:
    with torch.no_grad():
        tensor.detach().copy_(data)
