"""How a picture of any size becomes a square one: for evaluation, and at random for training."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from PIL import ImageColor
from torch import Tensor
from torch.nn import functional

from lightning_fastrecipes.functional.augment import (
    Augmentation,
    AugmentationParameters,
    augment,
    augment_batch,
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
        return self._centre(image[None])[0]

    def batch(self, images: Tensor, epoch: int, positions: Tensor, num_pictures: int) -> Tensor:
        """Bring pictures of one shape to the image size.

        Args:
            images: Shape ``(batch, channels, height, width)``, ``uint8``.
            epoch: Epoch from 0, for transforms that are random.
            positions: Where the pictures are in their data set, for transforms that are random.
            num_pictures: Length of that data set.

        Returns:
            Shape ``(batch, channels, image_size, image_size)``, ``uint8``.
        """
        return self._centre(images)

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

    def _centre(self, images: Tensor) -> Tensor:
        whole = self.resize == "squish"
        side = self.image_size if whole else math.floor(self.image_size / self.crop_fraction)
        images = self._resize(images, side)
        top, left = (round((edge - self.image_size) / 2) for edge in images.shape[-2:])
        return self._crop(images, top, left)

    def _resize(self, images: Tensor, side: int) -> Tensor:
        """Bring the shorter side, or both sides of squished pictures, to a length."""
        height, width = images.shape[-2:]
        size = (side, side)
        if self.resize == "crop":
            shorter = min(height, width)
            size = (side * height // shorter, side * width // shorter)
        if size == (height, width):
            return images
        return functional.interpolate(
            images,
            size,
            mode=_MODES[self.interpolation],
            antialias=self.interpolation != "nearest",
        )

    def _crop(self, images: Tensor, top: int, left: int) -> Tensor:
        size = self.image_size
        return images[..., top : top + size, left : left + size].contiguous()


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
        self._drawn: tuple[tuple[int, int], AugmentationParameters] | None = None

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
        images = self._resize(image[None], round(self.image_size * drawn.zoom.item()))
        top, left = (
            int(share.item() * (edge - self.image_size + 1))
            for share, edge in zip(
                (drawn.crop_top, drawn.crop_left), images.shape[-2:], strict=True
            )
        )
        return augment(self._crop(images, top, left), drawn)[0]

    def batch(self, images: Tensor, epoch: int, positions: Tensor, num_pictures: int) -> Tensor:
        """Make this epoch's version of pictures of one shape, in one resample.

        What happens to a picture depends on seed, epoch and position alone, not on which others
        share its batch: all pictures of an epoch are drawn for at once.

        Args:
            images: Shape ``(batch, channels, height, width)``, ``uint8``.
            epoch: Epoch from 0.
            positions: Where the pictures are in their data set. Shape ``(batch,)``.
            num_pictures: Length of that data set.

        Returns:
            Shape ``(batch, channels, image_size, image_size)``, ``uint8``.
        """
        if self._drawn is None or self._drawn[0] != (epoch, num_pictures):
            generator = seeded_generator(self.seed, epoch)
            drawn = draw_parameters(
                num_pictures, self.augmentation, self.max_zoom, generator, self.max_angle
            )
            self._drawn = (epoch, num_pictures), drawn
        largest = math.ceil(self.image_size * self.max_zoom)
        if min(images.shape[-2:]) > largest:
            images = self._resize(images, largest)
        parameters = self._drawn[1].rows(positions)
        return augment_batch(images, parameters, self.image_size, squish=self.resize == "squish")
