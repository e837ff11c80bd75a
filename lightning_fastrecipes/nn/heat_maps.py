"""What a network looked at: Grad-CAM, for convolutions and for transformers."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

_MOST_PREFIX = 8  # class and register tokens before those of the patches
_MOST_CANDIDATES = 64
_INPUT_SIDE = 14


class _Spatial(NamedTuple):
    """Activations of shape ``(batch, channels, height, width)`` and how to see gradients so."""

    values: Tensor
    shaped: Callable[[Tensor], Tensor]


def heat_maps(
    network: nn.Module, run: Callable[[], Tensor], score: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return where the score of each image of a batch comes from, in [0, 1].

    ``run`` runs images through ``network``, and what is behind it, once, and returns the outputs;
    ``score`` returns from these one number for each image. Channels of the last layer that still
    has places are weighed by the mean of their gradients, summed, and what lowers the score is left
    out. Layers with places are maps ``(batch, channels, height, width)``, in either order of
    channels, and tokens ``(batch, tokens, channels)`` of square images. A network without any, such
    as one of linear layers, is asked for the gradients of its input. The result has the shape
    ``(batch, height, width)`` of that layer, and each map has a maximum of 1, or is 0 everywhere.
    From Selvaraju et al., *Grad-CAM* (2017).

    >>> _ = torch.manual_seed(0)
    >>> layer = nn.Conv2d(3, 4, 3)
    >>> images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> heat_maps(layer, lambda: layer(images), lambda out: out.mean((1, 2, 3))).shape
    torch.Size([2, 6, 6])
    """
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []

    def enter(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        images = arguments[0].detach().requires_grad_()
        inputs.append(images)
        return (images, *arguments[1:])

    def leave(_: nn.Module, __: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim in (3, 4) and output.requires_grad:
            outputs.append(output)

    hooks = [network.register_forward_pre_hook(enter)]
    hooks += [module.register_forward_hook(leave) for module in network.modules()]
    try:
        with torch.enable_grad():
            scores = score(run())
            candidates = [found for output in outputs if (found := _spatial(output)) is not None]
            candidates = candidates[-_MOST_CANDIDATES:]
            values = [candidate.values for candidate in candidates]
            wanted = [*values, *inputs]
            grads: Sequence[Tensor | None] = torch.autograd.grad(
                scores.sum(), wanted, allow_unused=True
            )
    finally:
        for hook in hooks:
            hook.remove()
    for candidate, grad in zip(reversed(candidates), reversed(grads[: len(values)]), strict=True):
        # Patch tokens behind the last exchange with the class token have none.
        if grad is None:
            continue
        weights = candidate.shaped(grad).mean((2, 3), keepdim=True)
        maps = (weights * candidate.shaped(candidate.values.detach())).sum(1).relu()
        if bool(maps.any()):
            return _scaled(maps)
    if not inputs or grads[-1] is None:
        return torch.zeros(len(scores), 1, 1)
    products = (grads[-1] * inputs[-1].detach()).abs().sum(1, keepdim=True)
    side = min(_INPUT_SIDE, *products.shape[2:])
    return _scaled(nn.functional.adaptive_avg_pool2d(products, side)[:, 0])


def as_maps(output: Tensor) -> Tensor | None:
    """Return activations as ``(batch, channels, height, width)``; ``None`` if without places.

    >>> as_maps(torch.zeros(1, 1 + 4 * 4, 8)).shape  # a class token and a square of patches
    torch.Size([1, 8, 4, 4])
    """
    found = _spatial(output) if output.ndim in (3, 4) else None
    return None if found is None else found.shaped(found.values)


def _scaled(maps: Tensor) -> Tensor:
    return (maps / maps.amax((1, 2), keepdim=True).clamp_min(1e-12)).cpu()


def _spatial(output: Tensor) -> _Spatial | None:
    """Return activations as maps; ``None`` if they have no places, or one alone."""
    if output.ndim == 4:
        if output.shape[2] == output.shape[3]:
            return _Spatial(output, lambda x: x) if output.shape[2] > 1 else None
        # Channels last, as in a Swin transformer.
        if output.shape[1] == output.shape[2] and output.shape[1] > 1:
            return _Spatial(output, lambda x: x.permute(0, 3, 1, 2))
        return None
    num_tokens = output.shape[1]
    side = math.isqrt(num_tokens)
    prefix = num_tokens - side * side
    if side < 2 or prefix > _MOST_PREFIX:
        return None
    return _Spatial(
        output,
        lambda x: x[:, prefix:].reshape(len(x), side, side, -1).permute(0, 3, 1, 2),
    )
