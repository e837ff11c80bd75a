"""What data, tasks and callbacks may ask of one another."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional

from lightning_fastrecipes import plain
from lightning_fastrecipes.errors import ConfigurationError

ClassKind = Literal["single", "soft", "multi"]
"""``single``: a class index per image; ``soft``: one probability per class, summing to 1;
``multi``: any number of labels per image, 0 or 1 for each, as float."""

LabelKind = Literal["single", "soft", "multi", "numbers"]
"""A kind of classes, or ``numbers``: one or several numbers per image, in 64 bits."""


@dataclass(frozen=True)
class InputSpec:
    """What a backbone's weights expect of an image.

    Args:
        mean: Mean per channel of the images the weights were trained on, in [0, 1].
        std: Standard deviation per channel, above 0.
        interpolation: ``bilinear``, ``bicubic`` or ``nearest``.
        crop_fraction: Side of the centre crop over the resized shorter side, in (0, 1].
        image_size: Side in pixels that the weights were trained at.
        size_multiple: An image size must be a multiple of this many pixels.
        fixed_size: Whether the backbone takes no other size than ``image_size``.
        mean_image: What is subtracted in place of ``mean``, in [0, 1], resized to the images. Shape
            ``(channels, height, width)``.
        normalize: Whose mean and deviation these are: of the ``weights``, of the training images
            (``dataset`` or ``mean_image``), or ``given``.

    Raises:
        ConfigurationError: If a value is out of its range.
    """

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"
    crop_fraction: float = 0.875
    image_size: int = 224
    size_multiple: int = 1
    fixed_size: bool = False
    mean_image: Tensor | None = field(default=None, compare=False, repr=False)
    normalize: str = "weights"

    def __post_init__(self) -> None:
        _check_input_spec(vars(self), "")
        if len(self.mean) != len(self.std):
            raise ConfigurationError(
                f"`mean` and `std` must have a number per channel each, but have {len(self.mean)}"
                f" and {len(self.std)}."
            )
        image = self.mean_image
        if image is not None and (
            not isinstance(image, Tensor) or image.ndim != 3 or len(image) != len(self.mean)
        ):
            raise ConfigurationError(
                f"`mean_image` must be a tensor ({len(self.mean)}, height, width), got {image!r}."
            )

    def for_channels(self, channels: int) -> "InputSpec":
        """Return the spec with a mean and deviation for each of other channels.

        Grey has the mean of the colours, more channels repeat them, as timm does with weights.

        >>> InputSpec(mean=(0.25, 0.5, 0.75), std=(0.2, 0.2, 0.2)).for_channels(4).mean
        (0.25, 0.5, 0.75, 0.25)
        """
        count = len(self.mean)
        if channels == count:
            return self

        def adapted(values: tuple[float, ...]) -> tuple[float, ...]:
            if channels == 1:
                return (sum(values) / count,)
            return tuple(values[place % count] for place in range(channels))

        return replace(self, mean=adapted(self.mean), std=adapted(self.std), mean_image=None)

    def normalised(self, images: Tensor) -> Tensor:
        """Normalise ``uint8`` images ``(..., channels, height, width)`` on their device."""
        mean, std = self.centre_and_scale(images)
        return images.to(torch.float32, copy=True).div_(255).sub_(mean).div_(std)

    def centre_and_scale(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is subtracted from images, and what they are divided by, on their device."""
        mean, std = (
            # Whole numbers, as files may have them, too.
            torch.tensor(values, dtype=torch.get_default_dtype(), device=images.device).view(
                -1, 1, 1
            )
            for values in (self.mean, self.std)
        )
        if self.mean_image is not None:
            mean = resized_image(self.mean_image.to(images.device), images)
        return mean, std

    @property
    def is_measured(self) -> bool:
        """Whether mean and deviation are those of training images, and not of the weights."""
        return self.normalize in ("dataset", "mean_image")

    def plain_values(self) -> dict[str, Any]:
        """Return plain values for files that earlier versions read too; a mean image stays one."""
        values = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }
        if self.normalize == "weights":
            del values["mean_image"], values["normalize"]
        return values

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> "InputSpec":
        """Return what :meth:`plain_values` describes."""
        known: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**known)


def resized_image(image: Tensor, images: Tensor) -> Tensor:
    """Resize a float image ``(..., channels, height, width)`` to the size of others."""
    size = images.shape[-2:]
    if image.shape[-2:] == size:
        return image
    flat = image.reshape(-1, *image.shape[-3:])
    resized = functional.interpolate(flat, size, mode="bilinear", antialias=True)
    return resized.view(*image.shape[:-2], *size)


_check_input_spec = plain.keys(
    {
        "mean": plain.items(plain.number(), 1, 1_000),
        "std": plain.items(plain.number(above=0), 1, 1_000),
        "interpolation": plain.choice("bilinear", "bicubic", "nearest"),
        "crop_fraction": plain.number(above=0, most=1),
        "image_size": plain.whole(1),
        "size_multiple": plain.whole(1),
        "fixed_size": plain.flag,
        "normalize": plain.choice("weights", "dataset", "mean_image", "given"),
    }
)


@dataclass(frozen=True)
class LayerGroup:
    """An ordered part of a model that shares one learning rate and one frozen flag.

    Args:
        name: Unique within the model, such as ``early``, ``late`` or ``head``.
        parameters: Qualified parameter names, as ``named_parameters`` of the model gives them.
    """

    name: str
    parameters: tuple[str, ...]


@runtime_checkable
class HasLayerGroups(Protocol):
    """A module that can be frozen group by group; its groups are ordered from the input side."""

    def layer_groups(self) -> Sequence[LayerGroup]:
        """Return the layer groups from the input side to the head."""


@runtime_checkable
class HasInputSpec(Protocol):
    """A module that normalises ``uint8`` images by itself, on the device."""

    input_spec: InputSpec


@runtime_checkable
class HasNormalisation(Protocol):
    """A datamodule that may say how a model is to normalise its images."""

    def normalised_spec(self, spec: InputSpec) -> InputSpec:
        """Return what a model expects of an image, with the mean and deviation that are wanted."""


@runtime_checkable
class HasClasses(Protocol):
    """A datamodule that knows its class names, in the order of the target index."""

    @property
    def classes(self) -> list[str]:
        """Class names in the order of the target index."""

    @property
    def label_kind(self) -> LabelKind:
        """What a target is."""


@runtime_checkable
class FollowsClasses(Protocol):
    """A datamodule that can number its classes as a model that was trained on them does."""

    def follow_classes(self, classes: Sequence[str]) -> None:
        """Number the classes in this order; do nothing if their names are others."""


@runtime_checkable
class HasNumbers(Protocol):
    """A datamodule whose targets may be numbers; without any it is one of classes."""

    @property
    def number_targets(self) -> Sequence[Any]:
        """A ``NumberTarget`` for each number of a sample, in order; none of classes."""


@runtime_checkable
class HasTrainTargets(Protocol):
    """A datamodule that knows the targets of its training split, one row per sample."""

    @property
    def train_targets(self) -> Tensor:
        """One row per training sample."""


@runtime_checkable
class HasEvalDataLoader(Protocol):
    """A datamodule whose loader of a split has no augmentation, in order and to the last sample."""

    def eval_dataloader(self, split: Literal["train"]) -> Any:
        """Return the batches of a split, in order and to the last sample."""


@runtime_checkable
class HasImageSize(Protocol):
    """A datamodule whose next loaders serve images, and batches, of the size it is told.

    ``eval_image_size`` is for validation, test and prediction; ``None`` means ``image_size``.
    """

    image_size: int
    eval_image_size: int | None
    batch_size: int


@runtime_checkable
class GrowsImages(Protocol):
    """A callback that will change the image size during a fit."""

    @property
    def largest_image_size(self) -> int:
        """The largest side in pixels that it is asked for."""


@runtime_checkable
class TakesImageSizes(Protocol):
    """A module that rounds image sizes to those it takes; a ValueError if it takes no other."""

    def nearest_image_size(self, size: int) -> int:
        """Round a size to one that it takes; a ValueError if it takes none but its own."""


@runtime_checkable
class HasAugmentation(Protocol):
    """A datamodule that says how its training images are changed.

    ``augmentation`` has ``preset``, ``max_zoom``, ``max_angle``, ``transforms`` and ``is_none``.
    """

    @property
    def augmentation(self) -> Any:
        """How training images are changed."""


@runtime_checkable
class LoadsViews(Protocol):
    """A callback that asks the datamodule to load views beside each image of an evaluation."""

    def loaded_views(self, *, is_fitting: bool) -> Any:
        """Return the ``Views``, or ``None`` if there are none to load."""


@runtime_checkable
class HasProbabilities(Protocol):
    """A module that turns logits into probabilities, which its ``predict_step`` returns."""

    def probabilities(self, logits: Tensor) -> Tensor:
        """Turn logits into probabilities. Shape ``(batch, num_classes)``."""


@runtime_checkable
class HasInitialLoss(Protocol):
    """A module of numbers, which knows the loss of a head that has learned nothing."""

    def initial_loss(self, targets: Tensor) -> Tensor:
        """Return the loss of predicting the same mean for all samples of a batch."""


@runtime_checkable
class HasPhaseMetrics(Protocol):
    """A module with a collection of metrics for ``val_`` and ``test_``, of the same names."""

    phase_metrics: Any

    def metric_targets(self, targets: Tensor) -> Tensor:
        """Turn targets into what metrics compare with."""


@runtime_checkable
class HasHead(Protocol):
    """A module whose forward pass can be cut between pooled features and logits."""

    def forward_features(self, images: Tensor) -> Tensor:
        """Turn images into pooled features. Shape ``(batch, num_features)``."""

    def forward_head(self, features: Tensor) -> Tensor:
        """Turn pooled features into logits. Shape ``(batch, num_classes)``."""


@runtime_checkable
class HasDecisionHead(Protocol):
    """A module that computes logits, and lets others define what they mean.

    Its steps use these attributes, which its constructor sets for one label per image and
    ``MultiLabelSwitch`` replaces where images have several: ``self.loss(logits, targets)``,
    ``self.probabilities(logits)``, and in validation and test
    ``self.metrics.update(probabilities, targets)``. They may be functions, methods or modules.
    """

    num_classes: int
    loss: Any
    probabilities: Any
    metrics: Any


@runtime_checkable
class HasTableSpec(Protocol):
    """A datamodule that knows, after ``setup``, the ``TableSpec`` of its table."""

    spec: Any
