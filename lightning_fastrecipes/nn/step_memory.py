"""How much memory one training step of a network takes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class StepMemory:
    """Bytes of one training step, by what they are for.

    Args:
        weights: Parameters and buffers.
        gradients: Of the parameters that are trained.
        optimizer: What the optimizer keeps for them, 0 without one.
        activations: What the forward pass of the batch keeps for the backward pass. On top come the
            temporary values of single operations.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """Return all of them together."""
        return self.weights + self.gradients + self.optimizer + self.activations


def step_memory(
    model: nn.Module, forward: Callable[[], Any], optimizer: torch.optim.Optimizer | None
) -> StepMemory:
    """Count the bytes of one step, running the forward pass once with gradients.

    >>> layer = nn.Linear(4, 2)
    >>> adam = torch.optim.AdamW(layer.parameters())
    >>> step_memory(layer, lambda: layer(torch.zeros(8, 4)), adam)
    StepMemory(weights=40, gradients=40, optimizer=88, activations=128)
    """
    parameters = {id(item): item for item in model.parameters()}
    trained = [item for item in parameters.values() if item.requires_grad]
    tensors = [*parameters.values(), *{id(item): item for item in model.buffers()}.values()]
    held = {item.untyped_storage().data_ptr() for item in tensors}
    kept = dict[int, int]()

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in held:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = forward()
    del output
    return StepMemory(
        weights=_bytes(tensors),
        gradients=_bytes(trained),
        optimizer=0 if optimizer is None else sum(map(_optimizer_state(optimizer), trained)),
        activations=sum(kept.values()),
    )


def _optimizer_state(optimizer: torch.optim.Optimizer) -> Callable[[Tensor], int]:
    """Return what an optimizer keeps for a parameter, in bytes, tried on one of 2 x 3 numbers."""
    tried = nn.Parameter(torch.zeros(2, 3))
    group = {key: value for key, value in optimizer.param_groups[0].items() if key != "params"}
    twin = type(optimizer)([{"params": [tried], **group, "lr": 1e-3}], **_needed(optimizer))
    tried.grad = torch.ones_like(tried)
    twin.step(lambda: 0.0)
    values = [item for item in twin.state[tried].values() if isinstance(item, Tensor)]
    alike, single = [v for v in values if v.shape == (2, 3)], [v for v in values if v.numel() == 1]
    return lambda item: len(alike) * _bytes([item]) + _bytes(single)


def _needed(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return {"lr": 1e-3} if "lr" in optimizer.defaults else {}


def _bytes(tensors: Sequence[Tensor]) -> int:
    return sum(item.numel() * item.element_size() for item in tensors)
