"""Backbones: any network on images, as pooled features and ordered layer groups."""

import difflib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import timm
from timm.data.config import resolve_model_data_config
from timm.models import group_parameters
from torch import Tensor, nn

from lightning_fastrecipes._lightning import rank_zero_warn
from lightning_fastrecipes.errors import DataNotFoundError
from lightning_fastrecipes.functional.images.resizing import nearest_multiple
from lightning_fastrecipes.functional.training.group_merging import groups_by_prefix, merge_groups
from lightning_fastrecipes.nn.hub import prompt_hub
from lightning_fastrecipes.nn.pooling import Pooling, choose_pooling, pool
from lightning_fastrecipes.nn.probing import (
    Forward,
    Probe,
    check_network,
    num_channels,
    own_classifier,
    reached_parameters,
    size_rule,
    small_size,
)
from lightning_fastrecipes.nn.weights import PACKAGED_MODEL, PACKAGED_WEIGHTS, load_weights
from lightning_fastrecipes.protocols import HasInputSpec, HasLayerGroups, InputSpec, LayerGroup

_UNMATCHED = "no group matches this name"
_NUM_USUAL_GROUPS = 6  # of most timm models: stem, four stages, head


def create_backbone(
    model: str | nn.Module,
    *,
    pretrained: bool = False,
    weights: str | None = None,
    in_channels: int | None = None,
) -> "Backbone":
    """Build a backbone without a classifier from a timm name, or wrap a network of your own.

    A module goes from images to a map ``(batch, channels, height, width)``, tokens
    ``(batch, tokens, channels)`` or vectors ``(batch, features)``; a timm model that is passed in
    loses its classifier. ``pretrained`` says with a name whether to fetch timm's weights, with a
    module whether it holds pretrained weights already. ``weights`` is a file, or
    ``package:efficientnet-lite0``. ``in_channels``, of a name alone, is how many channels images
    have; pretrained weights of three are adapted as timm does. Raise `ValueError` if there is no
    such model, it is no image classifier, or both ``pretrained`` and ``weights`` are given,
    `DataNotFoundError` if weights cannot be found or fetched.

    >>> backbone = create_backbone("resnet18")
    >>> backbone.num_features, [group.name for group in backbone.layer_groups(2)]
    (1024, ['early', 'late'])
    """
    if pretrained and weights is not None:
        raise ValueError(
            f"`pretrained` and `weights` must not be given together, got weights={weights!r}. Drop"
            " `pretrained` to load the file, or `weights` to fetch timm's."
        )
    if isinstance(model, str):
        channels = 3 if in_channels is None else in_channels
        name, network = model, _timm_model(model, pretrained=pretrained, channels=channels)
    else:
        check_network(model)
        name, network = type(model).__name__, model
        if _is_timm(network):
            name = getattr(network, "pretrained_cfg", {}).get("architecture") or name
            network.reset_classifier(0)  # type: ignore[operator]
    is_trained = pretrained or weights is not None
    backbone = Backbone(network, name=name, pretrained=is_trained, channels=in_channels)
    if weights is not None:
        load_weights(network, weights, model_name=name)
    if not isinstance(model, str) and (own := own_classifier(network)) is not None:
        rank_zero_warn(
            f"{name!r} ends in a classifier of its own, `{own}`, on whose {backbone.num_features:,}"
            f" outputs the head is built. Set `network.{own} = torch.nn.Identity()` before, so that"
            " it is built on the features."
        )
    return backbone


class Backbone(nn.Module):
    """A network without a classifier, from normalised images to pooled feature vectors.

    How it pools depends on the network's output, which is tried once on the meta device:

    - a map: the average and then the maximum over all places, ``2 * channels`` wide;
    - tokens: timm's own pooled vector (the class token, or the mean where there is none), then the
      mean of the patch tokens beside a class token, or their maximum beside a mean;
    - several maps or token sequences, or pretrained layers between the map and the classifier
      (the last convolution of MobileNetV3, the norm of ConvNeXt): timm's own pooled vector, so that
      every pretrained layer is used;
    - a vector: as it is.

    ``pretrained`` says whether the network holds, or will hold, pretrained weights. Raise
    `ValueError` if it does not take images of its own image size, or its output cannot be pooled.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        name: str,
        pretrained: bool = False,
        channels: int | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.name = name
        self.pretrained = pretrained
        self.num_channels = channels or num_channels(model)
        self.input_spec = _input_spec(model).for_channels(self.num_channels)
        self._pooling: Pooling = "output"
        self.num_features = self._try_out_timm() if _is_timm(model) else self._try_out()

    def forward(self, images: Tensor) -> Tensor:
        """Compute pooled features of normalised float images. Shape ``(batch, num_features)``."""
        return self.pooled(self.model, images)

    def pooled(self, network: nn.Module, images: Tensor) -> Tensor:
        """Run a copy of the network, and pool its output as that of the network."""
        return pool(network, images, self._pooling)

    def layer_groups(self, num_groups: int) -> list[LayerGroup]:
        """Divide the parameters into ordered groups of names, from the input side.

        Each parameter is in one group. Layers that no stage claims, such as a last norm, belong to
        the last group; a network without parameters has no groups. Raises ValueError if the network
        does not divide into so many.
        """
        parameters = dict(self.model.named_parameters())
        if not parameters:
            return []
        fine = _fine_groups(self.model, num_groups)
        covered = sorted(name for group in fine for name in group)
        if covered != sorted(parameters):
            odd = set(covered) ^ set(parameters) or {n for n in covered if covered.count(n) > 1}
            raise ValueError(
                f"The layer groups of {self.name!r} must hold every parameter once, which"
                f" {sorted(odd)[0]!r} is not. Correct its `layer_groups`."
            )
        return [
            LayerGroup(group.name, tuple(f"model.{name}" for name in group.parameters))
            for group in merge_groups(fine, parameters, num_groups)
        ]

    def no_weight_decay(self) -> set[str]:
        """Name the parameters that the network's authors train without weight decay."""
        named = getattr(self.model, "no_weight_decay", None)
        names = set(named()) if callable(named) else set()
        return {f"model.{name}" for name, _ in self.model.named_parameters() if name in names}

    def check_image_size(self, size: int) -> None:
        """Raise a ValueError if the network does not take images of this side in pixels."""
        spec = self.input_spec
        if spec.fixed_size and size != spec.image_size:
            raise ValueError(
                f"`image_size` must be {spec.image_size} for {self.name!r}, which takes no other,"
                f" got {size}. Use {spec.image_size}, or a backbone that takes any size."
            )
        if size < 1 or size % spec.size_multiple:
            nearest = nearest_multiple(size, spec.size_multiple)
            raise ValueError(
                f"`image_size` must be a multiple of {spec.size_multiple} pixels for {self.name!r},"
                f" got {size}. Use {nearest}."
            )
        sizes = range(spec.size_multiple, spec.image_size + 1, spec.size_multiple)
        self.probe(self.pooled).check_least(self.name, sizes, size)

    def check_channels(self, channels: int) -> None:
        """Raise a ValueError if the network does not take images of so many channels."""
        if channels != self.num_channels:
            self.probe(self.pooled, channels).run(self.input_spec.image_size)

    def nearest_image_size(self, size: int) -> int:
        """Round an image size in pixels to one that the network takes, and try it.

        Raises ValueError if the network takes no such size, or only another one.
        """
        spec = self.input_spec
        nearest = size if spec.fixed_size else nearest_multiple(size, spec.size_multiple)
        self.check_image_size(nearest)
        return nearest

    def _try_out(self) -> int:
        """Return the width, and refuse parameters that would stay without a gradient."""
        output, twin = self.probe(self.pooled).run(self.input_spec.image_size, gradients=True)
        unused = _unreached(output, twin)
        if unused:
            raise ValueError(
                "Every parameter of `backbone` must take part in its output, but"
                f" {', '.join(unused[:3])} of {len(unused)} do not. Remove the layers that are not"
                " used: they would stop training on several devices."
            )
        return int(output.shape[1])

    def _try_out_timm(self) -> int:
        """Choose the pooling, find the sizes that are taken, and return the width."""
        probe = Probe(self.model, choose_pooling, self.num_channels)
        stride = _stride(self.model)
        spec = self.input_spec
        try:  # the small size is quick, and what is pooled does not depend on it
            found, twin = probe.run(small_size(stride), gradients=True)
        except ValueError:
            found, twin = probe.run(spec.image_size, gradients=True)
        self._pooling, output = found
        for name in _unreached(output, twin):
            _make_buffer(self.model, name)
        multiple, fixed = size_rule(probe, spec.image_size, stride)
        self.input_spec = replace(spec, size_multiple=multiple, fixed_size=fixed)
        return int(output.shape[1])

    def probe(self, forward: Forward, channels: int | None = None) -> Probe:
        """Return what runs copies of the network on empty images by a function of both."""
        real = not _is_timm(self.model)
        return Probe(self.model, forward, channels or self.num_channels, real=real)


def _timm_model(name: str, *, pretrained: bool, channels: int = 3) -> nn.Module:
    """Build a timm model without a classifier, free of a fixed size where timm allows it."""
    base = name.split(".")[0]
    if ":" not in name and not timm.is_model(base):
        close = difflib.get_close_matches(base, timm.list_models(), n=3)
        hint = f" Did you mean {', '.join(close)}?" if close else ""
        raise ValueError(
            f"`backbone` must be a name that timm {timm.__version__} knows, got {name!r}.{hint}"
            " `timm.list_models()` names them all."
        )
    given: dict[str, Any] = {} if channels == 3 else {"in_chans": channels}
    choices: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {})
    for options in choices:
        try:
            with prompt_hub(is_asked=pretrained or ":" in name):
                model: nn.Module = timm.create_model(
                    name, pretrained=pretrained, num_classes=0, **options, **given
                )
        except TypeError as error:
            if not options or "dynamic_img_size" not in str(error):
                raise
        except NotImplementedError as error:
            raise _no_classifier(name) from error
        except RuntimeError as error:
            raise ValueError(
                f"`backbone` must be one that timm can build, but {name!r} fails: {error}"
                " Correct the name, or what follows its dot."
            ) from error
        except Exception as error:  # each hub has errors of its own
            if not pretrained and ":" not in name:
                raise
            raise DataNotFoundError(
                f"The pretrained weights of {name!r} must come from timm's hub, which failed:"
                f" {_first_sentence(error)}. Without a network give a local file with"
                f" `weights='....safetensors'`, or `weights='{PACKAGED_WEIGHTS}'` with the model"
                f" {PACKAGED_MODEL!r}, or `pretrained=False`."
            ) from error
        else:
            break
    if not _is_timm(model):
        raise _no_classifier(name)
    return model


def _first_sentence(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0].rstrip(".")


def _no_classifier(name: str) -> ValueError:
    return ValueError(
        f"`backbone` must be an image classifier, which {name!r} is not: it gives no pooled"
        " features. Use another model of timm."
    )


def _is_timm(model: nn.Module) -> bool:
    wanted = ("pretrained_cfg", "forward_features", "forward_head", "reset_classifier")
    return all(hasattr(model, attribute) for attribute in wanted)


def _input_spec(model: nn.Module) -> InputSpec:
    if isinstance(model, HasInputSpec):
        return model.input_spec
    if not _is_timm(model):
        return InputSpec()
    config: dict[str, Any] = resolve_model_data_config(model)  # type: ignore[no-untyped-call]
    interpolation = config["interpolation"]
    return InputSpec(
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=interpolation if interpolation in ("bilinear", "nearest") else "bicubic",
        crop_fraction=float(config["crop_pct"]),
        image_size=int(config["input_size"][-1]),
    )


def _unreached(output: Tensor, twin: nn.Module) -> list[str]:
    reached = reached_parameters(output, twin)
    return [name for name, _ in twin.named_parameters() if name not in reached]


def _make_buffer(model: nn.Module, name: str) -> None:
    """Keep a parameter that nothing uses under its name, but do not train it."""
    owner, _, own_name = name.rpartition(".")
    part = model.get_submodule(owner)
    value = part.get_parameter(own_name).detach()
    delattr(part, own_name)
    part.register_buffer(own_name, value)


def _stride(model: Any) -> int:
    info = getattr(model, "feature_info", None)
    reductions = [int(item["reduction"]) for item in info or [] if "reduction" in item]
    return max(reductions, default=32)


def _fine_groups(model: nn.Module, num_groups: int) -> list[list[str]]:
    """Divide a network as finely as it says, input side first."""
    if isinstance(model, HasLayerGroups):
        return [list(group.parameters) for group in model.layer_groups()]
    for coarse in (True, False):
        try:
            matcher = model.group_matcher(coarse=coarse)  # type: ignore[operator]
        except (AttributeError, AssertionError):
            continue
        listed: Any = _Names([*(name for name, _ in model.named_parameters()), _UNMATCHED])
        found = group_parameters(listed, matcher)
        *groups, last, unmatched = [found[key] for key in sorted(found)]
        # Unmatched names come last; they are the pretrained layers nearest the head.
        return [*groups, [name for name in [*last, *unmatched] if name != _UNMATCHED]]
    at_least = max(num_groups, _NUM_USUAL_GROUPS) if _is_timm(model) else num_groups
    return groups_by_prefix(dict(model.named_parameters()), at_least)


class _Names:
    """Stands in for a network where timm reads the names of parameters alone."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def named_parameters(self) -> list[tuple[str, None]]:
        return [(name, None) for name in self._names]
