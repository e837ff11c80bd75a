"""Build a network only if it is as large as the tensors that it will hold."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.nn.parameter import is_lazy

from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.messages import name_some

Model = TypeVar("Model", bound=nn.Module)
Shapes = Mapping[str, tuple[int, ...]]

_PARTS_PER_TENSOR, _SPARE_PARTS, _SPARE_BYTES = 20, 2_000, 1 << 26
# Weights of half the bits, and a head of more classes, which the caller may ask for.
_TIMES_THE_BYTES, _SPARE_OF_A_STATE = 10, 1 << 28


def build_sized(build: Callable[[], Model], shapes: Shapes, *, trusted: bool = False) -> Model:
    """Build a module whose state dict has tensors of the given shapes, by name.

    It is built without memory first, so that what a file asks for is never larger than the file
    itself. A network that cannot be built so is refused, unless it is ``trusted``. Raise
    `ConfigurationError` if there are other tensors, or the module is refused.
    """
    try:
        with _bounded_parts(_PARTS_PER_TENSOR * len(shapes) + _SPARE_PARTS), torch.device("meta"):
            empty = build()
    except NotImplementedError as error:
        if trusted:
            return build()
        raise ConfigurationError(
            f"the network cannot be built without memory first ({error}), which bounds what a file"
            " may ask for. If you know the file, trust it: `--trust MODULE` with the module of the"
            " network, or `trust=[...]` in Python."
        ) from error
    found = {name: tuple(tensor.shape) for name, tensor in empty.state_dict().items()}
    odd = [name for name in {**found, **shapes} if found.get(name) != shapes.get(name)]
    if odd:
        raise ConfigurationError(
            f"the weights must fit the network, but {name_some(odd[:3])} of {len(odd)} tensors do"
            f" not: the file has {shapes.get(odd[0])}, the network {found.get(odd[0])}."
        )
    spare = sum(item.nbytes for name, item in empty.named_buffers() if name not in found)
    if spare > _SPARE_BYTES:
        raise ConfigurationError(
            f"the network must need little memory besides its weights, but needs {spare:,} bytes."
        )
    return build()


@contextmanager
def bounded_by(state: Mapping[str, Any]) -> Iterator[None]:
    """Refuse to build modules of far more parts or memory than the state dict for them.

    A part is counted before it is written to, so that its memory is not taken yet. Raise
    `ConfigurationError`.
    """
    tensors = [value for value in state.values() if isinstance(value, torch.Tensor)]
    num_bytes = _TIMES_THE_BYTES * sum(tensor.nbytes for tensor in tensors) + _SPARE_OF_A_STATE
    with _bounded_parts(_PARTS_PER_TENSOR * len(tensors) + _SPARE_PARTS, num_bytes):
        yield


def _bounded_parts(most: int, most_bytes: float = math.inf) -> ExitStack:
    """Refuse to register more parts, so that a network of endless layers is not built."""
    parts, num_bytes = 0, 0

    def count(module: nn.Module, name: str, part: Any) -> None:
        nonlocal parts, num_bytes
        parts += 1
        if isinstance(part, torch.Tensor) and not part.is_meta and not is_lazy(part):
            num_bytes += part.nbytes
        if num_bytes > most_bytes:
            raise ConfigurationError(
                "the network must not be far larger than the weights of the file, but takes over"
                f" {most_bytes:,} bytes."
            )
        if parts > most:
            raise ConfigurationError(
                f"the network must not have many more parts than the file has tensors, but has over"
                f" {most:,}."
            )

    stack = ExitStack()
    for register in (
        register_module_parameter_registration_hook,
        register_module_buffer_registration_hook,
        register_module_module_registration_hook,
    ):
        stack.callback(register(count).remove)
    return stack
