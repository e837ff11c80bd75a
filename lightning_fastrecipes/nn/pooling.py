"""Pooling: from the output of any network for an image to one vector."""

from typing import Any, Literal

import torch
from torch import Tensor

from lightning_fastrecipes.nn.probing import reached_parameters

Pooling = Literal["own", "map", "map_last", "tokens", "output"]
"""``own``: timm's pooled vector; ``map``, ``map_last``: a map with channels first or last;
``tokens``: a sequence; ``output``: the output of a module that is not timm's."""


def choose_pooling(model: Any, images: Tensor) -> tuple[Pooling, Tensor]:
    """Choose how to pool a timm model's features, and pool those of normalised images.

    timm's own pooling is used where it has layers that the features lack. Raises TypeError if the
    model has no pooled features, of shape ``(batch, num_features)``.
    """
    features = model.forward_features(images)
    own = model.forward_head(features, pre_logits=True)
    if not isinstance(own, Tensor):
        raise TypeError("it gives no pooled features")
    pooling: Pooling = "own"
    if isinstance(features, Tensor):
        missing = reached_parameters(own, model) - reached_parameters(features, model)
        if not missing and features.ndim == 4:
            pooling = "map_last" if getattr(model, "output_fmt", None) == "NHWC" else "map"
        elif not missing and features.ndim == 3 and features.shape[1] > _num_prefix(model):
            pooling = "tokens"
    return pooling, _pool_features(model, features, pooling)


def pool(model: Any, images: Tensor, pooling: Pooling) -> Tensor:
    """Run a network on normalised images and pool its output to ``(batch, num_features)``.

    Raises TypeError if the network gives no map, tokens or vectors.
    """
    if pooling == "output":
        return _pool_output(model(images))
    return _pool_features(model, model.forward_features(images), pooling)


def _pool_features(model: Any, features: Any, pooling: Pooling) -> Tensor:
    if pooling == "map":
        return _average_and_maximum(features, (2, 3))
    if pooling == "map_last":
        return _average_and_maximum(features, (1, 2))
    own: Tensor = model.forward_head(features, pre_logits=True).flatten(1)
    if pooling == "own":
        return own
    patches = features[:, _num_prefix(model) :]
    other = patches.mean(1) if _pools_class_token(model) else patches.amax(1)
    return torch.cat([own, other], dim=1)


def _pool_output(output: Any) -> Tensor:
    if not isinstance(output, Tensor) or output.ndim not in (2, 3, 4):
        came = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise TypeError(f"it must give a map, tokens or vectors, but gave {came}")
    if output.ndim == 2:
        return output
    return _average_and_maximum(output, (2, 3) if output.ndim == 4 else (1,))


def _average_and_maximum(features: Tensor, places: tuple[int, ...]) -> Tensor:
    return torch.cat([features.mean(places), features.amax(places)], dim=1)


def _pools_class_token(model: Any) -> bool:
    return str(getattr(model, "global_pool", "")) == "token"


def _num_prefix(model: Any) -> int:
    if hasattr(model, "num_prefix_tokens"):
        return int(model.num_prefix_tokens)
    if not _pools_class_token(model):
        return 0
    token = getattr(model, "cls_token", None)  # PiT keeps the distillation token in it as well
    return int(token.shape[1]) if isinstance(token, Tensor) else 1
