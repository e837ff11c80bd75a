"""The frozen layers of a model whose outputs can be computed once, and where they end."""

from dataclasses import dataclass
from functools import partial
from typing import Any, cast
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_fastrecipes.batches import EarlyOutputs
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.nn.backbones import Backbone
from lightning_fastrecipes.nn.cutting import Cut, find_cut, run_early
from lightning_fastrecipes.nn.weights import tensors_digest, weights_digest
from lightning_fastrecipes.protocols import HasHead, HasInputSpec

_Found = tuple[frozenset[str], int, Cut]
_cuts: WeakKeyDictionary[Backbone, _Found] = WeakKeyDictionary()
"""The last cut of each backbone, with the frozen parameters and the image size it is for."""


@dataclass(frozen=True)
class FrozenPart:
    """The frozen layers of a model: the whole backbone, or those before a cut.

    ``place`` is the cut, and ``image_size`` the side of the images in pixels.
    """

    model: HasHead
    backbone: Backbone
    place: Cut | None
    image_size: int

    @property
    def cut(self) -> str | None:
        """The module whose outputs are kept; ``None`` if they are pooled features."""
        return None if self.place is None else self.place.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the output for one image."""
        return (self.backbone.num_features,) if self.place is None else self.place.shape

    @property
    def channel_axis(self) -> int:
        """Axis of that shape on which the channels are."""
        return 0 if self.place is None else self.place.channel_axis

    def digest(self) -> str:
        """Hash the weights and statistics that the outputs depend on."""
        if self.place is None:
            return weights_digest(self.backbone)
        return tensors_digest(self.place.early_tensors(self.backbone))

    def run(self, images: Tensor) -> Tensor:
        """Return the outputs for ``uint8`` images. Shape ``(batch, ...)``."""
        run = partial(self.model.forward_features, images)
        return run() if self.cut is None else run_early(self.backbone, self.cut, run)

    @property
    def wrap(self) -> Any:
        """What makes inputs of the model from outputs; ``None`` for pooled features."""
        if self.cut is None:
            return None
        return partial(EarlyOutputs, cut=self.cut, image_size=self.image_size)


def frozen_part(model: Any, image_size: int) -> FrozenPart:
    """Find the frozen part of a model; a `ConfigurationError` if its outputs cannot be kept."""
    backbone = getattr(model, "backbone", None)
    is_known = isinstance(model, HasHead) and isinstance(model, HasInputSpec)
    if not is_known or not isinstance(backbone, Backbone):
        raise ConfigurationError(
            "Precomputed features need a model with a `backbone`, `forward_features` and"
            f" `forward_head`, but got {type(model).__name__}. Use `ImageClassifier`."
        )
    trains = [item.requires_grad for item in backbone.parameters()]
    place = None
    if any(trains):
        if all(trains):
            raise ConfigurationError(
                "Precomputed outputs need layers that are frozen, but all of the backbone is to be"
                " trained. Call `model.freeze()` to train the head alone, `model.freeze_to(1)` for"
                " the late layers, or train on images; in a recipe `freeze_to: -1`, `freeze_to: 1`,"
                " or no `precompute`."
            )
        place = _cut(model, backbone, image_size)
    return FrozenPart(cast(HasHead, model), backbone, place, image_size)


def _cut(model: nn.Module, backbone: Backbone, image_size: int) -> Cut:
    policy = getattr(model, "norm_policy", None)
    if policy == "train" and any(isinstance(m, _BatchNorm) for m in backbone.modules()):
        raise _moving_norms("they train in frozen layers too", policy)
    parameters = backbone.named_parameters()
    frozen = frozenset(name for name, item in parameters if not item.requires_grad)
    found = _cuts.get(backbone)
    if found is None or found[:2] != (frozen, image_size):
        try:
            found = frozen, image_size, find_cut(backbone, image_size)
        except ValueError as error:
            raise ConfigurationError(f"Precomputed outputs cannot be kept: {error}") from error
        _cuts[backbone] = found
    cut, modes = found[2], [(module, module.training) for module in model.modules()]
    model.train()
    norms = cut.early_norms(backbone)
    odd = [name for name, norm in norms if norm.training or norm.running_mean is None]
    for module, mode in modes:
        module.training = mode
    if odd:
        raise _moving_norms(f"that of `{odd[0]}` would follow the batches", policy)
    return cut


def _moving_norms(reason: str, policy: str | None) -> ConfigurationError:
    return ConfigurationError(
        "Precomputed outputs need the stored statistics in every frozen batch norm, but"
        f" {reason} with `norm_policy={policy!r}`. Use `norm_policy='eval_if_frozen'`,"
        " `'calibrated'` or `'eval'`, or leave `precompute` out."
    )
