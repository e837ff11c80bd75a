"""How much arithmetic a backbone does for an image: forward, and in training as it is frozen."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lightning_fastrecipes.nn.probing import meta_twin

if TYPE_CHECKING:  # a run of tables loads no timm
    from lightning_fastrecipes.nn.backbones import Backbone


class Operations(NamedTuple):
    """Multiply-adds of an image: of the forward pass, and of both passes in training."""

    forward: float = 0.0
    training: float = 0.0


def count_operations(backbone: "Backbone", image_size: int) -> Operations:
    """Count the multiply-adds of a square image by torch's counter, without computing anything.

    The backward pass is that of the parameters that need a gradient. All counts are 0 of a network
    that cannot run on the meta device.

    >>> from lightning_fastrecipes.nn.backbones import create_backbone
    >>> backbone = create_backbone("test_resnet.r160_in1k").requires_grad_(False)
    >>> frozen = count_operations(backbone, 64)
    >>> whole = count_operations(backbone.requires_grad_(), 64)
    >>> frozen.training == frozen.forward, 2 < whole.training / whole.forward < 3
    (True, True)
    """
    trains = [item.requires_grad for item in backbone.model.parameters()]
    images = torch.zeros(1, backbone.num_channels, image_size, image_size, device="meta")
    try:
        twin = meta_twin(backbone.model).eval()
        for item, is_trained in zip(twin.parameters(), trains, strict=True):
            item.requires_grad_(is_trained)
        with FlopCounterMode(display=False) as counter, _layers_counted(twin, counter) as layers:
            output = backbone.pooled(twin, images)
            total = counter.get_total_flops()
    except Exception:  # of a network that looks at values, or cannot be copied while profiled
        return Operations()
    # Torch's own count of backward passes takes a depthwise convolution for a whole one.
    inside = sum(layer.forward for layer in layers)
    backward = sum(layer.backward for layer in layers)
    backward += 2 * (total - inside) if output.requires_grad else 0
    return Operations(total / 2, (total + backward) / 2)


class _Layer(NamedTuple):
    """Operations of a layer: those of its backward pass are once for weights, once for inputs."""

    forward: int
    backward: int


@contextmanager
def _layers_counted(network: nn.Module, counter: FlopCounterMode) -> Iterator[list[_Layer]]:
    """Note the operations of each layer without parts, each time that it runs."""
    found: list[_Layer] = []
    before: list[int] = []

    def start(_module: nn.Module, _inputs: Any) -> None:
        before.append(counter.get_total_flops())

    def end(module: nn.Module, inputs: Any, _output: Any) -> None:
        forward = counter.get_total_flops() - before.pop()
        is_trained = any(item.requires_grad for item in module.parameters())
        passes_on = any(isinstance(one, Tensor) and one.requires_grad for one in inputs)
        found.append(_Layer(forward, forward * (is_trained + passes_on)))

    layers = [module for module in network.modules() if not any(True for _ in module.children())]
    handles = [module.register_forward_pre_hook(start) for module in layers]
    handles += [module.register_forward_hook(end) for module in layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
