"""What every task on images shares: backbone, head, normalisation and layer groups."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from lightning_fastrecipes import plain
from lightning_fastrecipes._lightning import given_class_path, rank_zero_info
from lightning_fastrecipes.batches import EarlyOutputs
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.functional.training.layer_groups import NormPolicy
from lightning_fastrecipes.nn.backbones import Backbone, create_backbone
from lightning_fastrecipes.nn.cutting import run_late
from lightning_fastrecipes.nn.heads import Layout, check_head, create_head
from lightning_fastrecipes.nn.input_types import as_floats
from lightning_fastrecipes.protocols import (
    HasImageSize,
    HasNormalisation,
    InputSpec,
    LayerGroup,
    resized_image,
)
from lightning_fastrecipes.tasks.base import CHECKPOINT_KEY, LayerGroupTask
from lightning_fastrecipes.tasks.building import plain_values, read_backbone
from lightning_fastrecipes.tasks.saved_arguments import save_arguments
from lightning_fastrecipes.typed import from_mapping

_IMAGES = (
    "Images must be `uint8`, as `images.to(torch.uint8)` of pixels of 0 to 255, or floats that are"
    " normalised as the weights expect"
)


@dataclass(frozen=True)
class Head:
    """Layers after the backbone.

    Args:
        layout: ``course`` (batch norm, dropout, linear, ReLU, batch norm, dropout, linear) or
            ``linear``.
        hidden: Width of the hidden layer of ``course``, at least 1.
        dropout: Probability before the last layer, in [0, 1); the first of ``course`` is half.

    Raises:
        ValueError: If there is no such layout, or a number is out of range.
    """

    layout: Layout = "course"
    hidden: int = 512
    dropout: float = 0.5

    def __post_init__(self) -> None:
        check_head(self.layout, self.hidden, self.dropout)


class ImageTask(LayerGroupTask):
    """Train a backbone on images, and a head on its features.

    The constructor of a task ends with ``finish``, before which the head is an identity: it is
    built once it is known how many outputs it has. Arguments are those of ``ImageClassifier``;
    ``options`` are of the class that is next in line.
    """

    backbone: Backbone
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        backbone: str | Mapping[str, Any] | nn.Module,
        *,
        weights: str | None,
        pretrained: bool,
        head: Layout | Head | Mapping[str, Any],
        num_groups: int,
        norm_policy: NormPolicy | None,
        **options: Any,
    ) -> None:
        if num_groups < 2:
            raise ValueError(
                f"`num_groups` must be at least 2 (a backbone and a head), got {num_groups}."
            )
        network, channels = read_backbone(backbone)
        built = create_backbone(
            network, pretrained=pretrained, weights=weights, in_channels=channels
        )
        if norm_policy is None:
            norm_policy = "calibrated" if built.pretrained else "eval_if_frozen"
        if isinstance(head, Mapping):
            layers = from_mapping(Head, head, "head")
        else:
            layers = head if isinstance(head, Head) else Head(head)
        super().__init__(norm_policy=norm_policy, **options)
        self.backbone = built
        self.head = nn.Identity()
        self.input_spec: InputSpec = built.input_spec
        self.num_groups = num_groups
        self._head_options = layers
        self._backbone_groups = built.layer_groups(num_groups - 1)
        self._register_normalisation()
        # Plain values alone, so that a checkpoint loads with `weights_only`. `weights` is left out:
        # they come from the checkpoint then.
        self.architecture: dict[str, Any] = {
            "backbone": plain_values(backbone) if isinstance(backbone, Mapping) else built.name,
            "head": asdict(layers),
            "num_groups": num_groups,
            "norm_policy": norm_policy,
        }
        self.has_own_network = isinstance(backbone, nn.Module)

    def finish(self, **arguments: Any) -> None:
        """Save the arguments of a constructor for checkpoints, and freeze a trained backbone.

        ``arguments`` are plain values of arguments that say how to train.
        """
        hparams = plain_values(self.architecture | {"optim": asdict(self.optim)} | arguments)
        if self.has_own_network:
            del hparams["backbone"]
        save_arguments(self, hparams | given_class_path())
        self._is_frozen_unasked = self.backbone.pretrained
        self._set_num_frozen(self.num_groups - 1 if self.backbone.pretrained else 0)

    def set_head(self, num_outputs: int) -> None:
        """Build the head anew, on the device of the model."""
        options = self._head_options
        self.head = create_head(
            options.layout,
            self.backbone.num_features,
            num_outputs,
            hidden=options.hidden,
            dropout=options.dropout,
        ).to(self.part_device())
        self._set_num_frozen(self.num_frozen)

    @override
    def freeze_to(self, n: int) -> None:
        super().freeze_to(n)
        self._is_frozen_unasked = False

    @override
    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self._is_frozen_unasked:
            self._is_frozen_unasked = False
            rank_zero_info(
                f"{type(self).__name__}: the head alone is trained, since the backbone's weights"
                " are pretrained. Call `unfreeze()` before a fit to train all layers, with"
                " `lr_ratio` or smaller rates for the earlier ones."
            )

    @override
    def setup(self, stage: str) -> None:
        super().setup(stage)
        datamodule = getattr(self.trainer, "datamodule", None)
        if stage == "fit" and isinstance(datamodule, HasNormalisation):
            self.set_input_spec(datamodule.normalised_spec(self.input_spec))
        self.check_channels(datamodule)
        if not isinstance(datamodule, HasImageSize):
            return
        sizes = {datamodule.eval_image_size or datamodule.image_size}
        if stage == "fit":
            sizes.add(datamodule.image_size)
        for size in sorted(sizes):
            try:
                self.backbone.check_image_size(size)
            except ValueError as error:
                raise ConfigurationError(
                    f"The backbone must take the images of {type(datamodule).__name__}, but"
                    f" does not: {error}"
                ) from error

    def check_channels(self, datamodule: Any) -> None:
        """Raise a ConfigurationError if the backbone does not take images of these channels."""
        count = getattr(datamodule, "num_channels", None)
        if count is None:
            return
        try:
            self.backbone.check_channels(count)
        except ValueError as error:
            own = self.backbone.num_channels
            raise ConfigurationError(
                f"The images have {count} channels, but the backbone takes {own}. Read them so:"
                f" `geometry=Geometry(channels={own})`, `data.geometry.channels={own}` of a recipe;"
                f" or build the model for them: `backbone={{'name': ..., 'in_channels': {count}}}`."
            ) from error

    @override
    def layer_groups(self) -> list[LayerGroup]:
        return _joined_groups(self._backbone_groups, self.head)

    @override
    def no_weight_decay(self) -> set[str]:
        return {f"backbone.{name}" for name in self.backbone.no_weight_decay()}

    @override
    def forward_features(self, images: Tensor | EarlyOutputs) -> Tensor:
        """Compute pooled features of ``uint8`` images, or of float images that are normalised.

        In place of images there may be what the frozen early layers gave for them.
        """
        if isinstance(images, EarlyOutputs):
            return run_late(self.backbone, images)
        if images.dtype == torch.uint8:
            mean = (
                resized_image(self.pixel_mean, images) if self.has_mean_image else self.pixel_mean
            )
            images = (images.float() - mean).div_(self.pixel_std)
        return cast(Tensor, self.backbone(as_floats(self, images, self.pixel_std.dtype, _IMAGES)))

    def as_weights(self, values: Tensor) -> Tensor:
        """Return values in the type of the weights, where `Trainer(precision=)` has changed it."""
        dtype = self.pixel_std.dtype
        return values if dtype == torch.float32 else values.to(dtype)

    def nearest_image_size(self, size: int) -> int:
        """Round an image size to one that the backbone takes; a ValueError if it takes none."""
        return self.backbone.nearest_image_size(size)

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint[CHECKPOINT_KEY] |= {"input_spec": self.input_spec.plain_values()}

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        saved = checkpoint.get(CHECKPOINT_KEY)
        if saved is None:
            return
        plain.keys({"input_spec": plain.built(InputSpec)})(saved, CHECKPOINT_KEY)
        self.set_input_spec(InputSpec.from_plain(saved["input_spec"]))

    def set_input_spec(self, spec: InputSpec) -> None:
        """Normalise as ``spec`` says, for weights whose file does not state what they expect."""
        self.input_spec = spec
        self._register_normalisation()

    @property
    def has_mean_image(self) -> bool:
        """Whether a mean image is subtracted, which is then in the state dict."""
        return self.input_spec.mean_image is not None

    def _register_normalisation(self) -> None:
        """Keep mean and deviation in units of ``uint8`` pixels."""
        spec, current = self.input_spec, getattr(self, "pixel_mean", None)
        device = current.device if isinstance(current, Tensor) else None
        like = torch.empty(()) if spec.mean_image is None else spec.mean_image
        mean, std = spec.centre_and_scale(like)
        self.register_buffer(
            "pixel_mean", (255 * mean)[None].to(device), persistent=self.has_mean_image
        )
        self.register_buffer("pixel_std", (255 * std)[None].to(device), persistent=False)


def _joined_groups(backbone_groups: Sequence[LayerGroup], head: nn.Module) -> list[LayerGroup]:
    groups = [
        LayerGroup(group.name, tuple(f"backbone.{name}" for name in group.parameters))
        for group in backbone_groups
    ]
    names = tuple(f"head.{name}" for name, _ in head.named_parameters())
    return [*groups, LayerGroup("head", names)]
