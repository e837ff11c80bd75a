"""How a picture of any size becomes a square one: for evaluation, and at random for training."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from PIL import ImageColor
from torch import Tensor
from torch.nn import functional

from lightning_fastrecipes.functional.augment import (
    Augmentation,
    augment,
    draw_parameters,
    seeded_generator,
)
from lightning_fastrecipes.protocols import InputSpec

Resize = Literal["crop", "squish"]
"""``crop``: resize the shorter side and crop; ``squish``: resize both sides, keeping no ratio."""

_MODES = {"nearest": "nearest-exact", "bilinear": "bilinear", "bicubic": "bicubic"}


@dataclass(frozen=True)
class Geometry:
    """How pictures are brought to the image size.

    Args:
        resize: ``crop`` keeps the aspect ratio and loses the margins; ``squish`` keeps everything.
        interpolation: ``nearest``, ``bilinear`` or ``bicubic``; from the model if not given.
        crop_fraction: For evaluation, side of the centre crop over the resized shorter side, in
            (0, 1]; from the model if not given. Not used by ``squish``.
        max_zoom: For training with augmentation, the largest zoom, at least 1.
        max_angle: For training with augmentation, the largest turn in degrees, at least 0.
        background: Colour behind transparent pixels, a name or ``#rrggbb``.

    Raises:
        ValueError: If a value is out of its range.
    """

    resize: Resize = "crop"
    interpolation: str | None = None
    crop_fraction: float | None = None
    max_zoom: float = 1.1
    max_angle: float = 10.0
    background: str = "white"

    def __post_init__(self) -> None:
        if self.resize not in get_args(Resize):
            raise ValueError(f"`resize` must be 'crop' or 'squish', got {self.resize!r}.")
        if self.interpolation is not None and self.interpolation not in _MODES:
            raise ValueError(
                f"`interpolation` must be one of {', '.join(_MODES)}, got {self.interpolation!r}."
            )
        if self.crop_fraction is not None and not 0 < self.crop_fraction <= 1:
            raise ValueError(f"`crop_fraction` must lie in (0, 1], got {self.crop_fraction}.")
        if self.max_zoom < 1:
            raise ValueError(f"`max_zoom` must be at least 1, got {self.max_zoom}.")
        if self.max_angle < 0:
            raise ValueError(f"`max_angle` must be at least 0 degrees, got {self.max_angle}.")
        try:
            ImageColor.getrgb(self.background)
        except ValueError as error:
            raise ValueError(
                f"`background` must be a colour such as 'white' or '#ff8000', got"
                f" {self.background!r}."
            ) from error


class EvalTransform:
    """Resize the shorter side and take the centre, the same in every epoch.

    Args:
        image_size: Side of the result in pixels, at least 1.
        geometry: What is asked for.
        input_spec: What the model's weights expect, for all that ``geometry`` leaves open.
    """

    def __init__(self, image_size: int, geometry: Geometry, input_spec: InputSpec) -> None:
        self.image_size = image_size
        self.resize = geometry.resize
        self.interpolation = geometry.interpolation or input_spec.interpolation
        self.crop_fraction = geometry.crop_fraction or input_spec.crop_fraction
        self.background = geometry.background

    def __call__(self, image: Tensor, epoch: int, index: int) -> Tensor:
        """Bring a picture to the image size.

        Args:
            image: Shape ``(3, height, width)``, ``uint8``.
            epoch: Epoch from 0, for transforms that are random.
            index: Position of the picture in its data set, for transforms that are random.

        Returns:
            Shape ``(3, image_size, image_size)``, ``uint8``.
        """
        whole = self.resize == "squish"
        side = self.image_size if whole else math.floor(self.image_size / self.crop_fraction)
        image = self._resize(image, side)
        top, left = (round((edge - self.image_size) / 2) for edge in image.shape[-2:])
        return self._crop(image, top, left)

    def key(self) -> dict[str, str | int | float]:
        """Describe everything that the result depends on, for the key of a cache.

        Returns:
            Plain names and values; equal keys mean equal pixels.
        """
        return {
            "image_size": self.image_size,
            "resize": self.resize,
            "interpolation": self.interpolation,
            "crop_fraction": 1.0 if self.resize == "squish" else self.crop_fraction,
            "background": self.background,
        }

    def _resize(self, image: Tensor, side: int) -> Tensor:
        """Bring the shorter side, or both sides of a squished picture, to a length."""
        height, width = image.shape[-2:]
        size = (side, side)
        if self.resize == "crop":
            shorter = min(height, width)
            size = (side * height // shorter, side * width // shorter)
        if size == (height, width):
            return image
        return functional.interpolate(
            image[None],
            size,
            mode=_MODES[self.interpolation],
            antialias=self.interpolation != "nearest",
        )[0]

    def _crop(self, image: Tensor, top: int, left: int) -> Tensor:
        size = self.image_size
        return image[:, top : top + size, left : left + size].contiguous()


class TrainTransform(EvalTransform):
    """Zoom, crop at random, turn, light and mirror, by draws of seed, epoch and index alone.

    Args:
        image_size: Side of the result in pixels, at least 1.
        geometry: What is asked for.
        input_spec: What the model's weights expect, for all that ``geometry`` leaves open.
        augmentation: Name of the preset, not ``none``.
        seed: At least 0; another seed gives other draws.
    """

    def __init__(
        self,
        image_size: int,
        geometry: Geometry,
        input_spec: InputSpec,
        *,
        augmentation: Augmentation,
        seed: int,
    ) -> None:
        super().__init__(image_size, geometry, input_spec)
        self.augmentation = augmentation
        self.max_zoom = geometry.max_zoom
        self.max_angle = geometry.max_angle
        self.seed = seed

    def __call__(self, image: Tensor, epoch: int, index: int) -> Tensor:
        """Make this epoch's version of a picture.

        Args:
            image: Shape ``(3, height, width)``, ``uint8``.
            epoch: Epoch from 0.
            index: Position of the picture in its data set.

        Returns:
            Shape ``(3, image_size, image_size)``, ``uint8``.
        """
        generator = seeded_generator(self.seed, epoch, index)
        drawn = draw_parameters(1, self.augmentation, self.max_zoom, generator, self.max_angle)
        image = self._resize(image, round(self.image_size * drawn.zoom.item()))
        top, left = (
            int(share.item() * (edge - self.image_size + 1))
            for share, edge in zip((drawn.crop_top, drawn.crop_left), image.shape[-2:], strict=True)
        )
        return augment(self._crop(image, top, left)[None], drawn)[0]
