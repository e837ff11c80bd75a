"""Which part of an image a model sees, and how an image is kept for it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from PIL import ImageColor
from torch import Tensor
from torch.nn import functional

from lightning_fastrecipes.data.images.decoding import (
    DEFAULT_DECODING,
    MAX_MEGAPIXELS,
    WHITE,
    Decoding,
    load_image,
)
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.functional.images.normalisation import Normalize, check_normalize
from lightning_fastrecipes.messages import shown
from lightning_fastrecipes.protocols import InputSpec
from lightning_fastrecipes.typed import check_types

Resize = Literal["crop", "squish"]
"""``crop``: resize the shorter side and crop; ``squish``: resize both sides, keeping no ratio."""

Place = Callable[[int], int]
"""Where a square begins along an edge, by the length of that edge."""

MAX_CHANNELS = 1000
MAX_SIDE = 16_384
_LONGEST = 32  # squares beside one another
_MARGIN = 2  # pixels that interpolation looks beyond
_MODES = {"nearest": "nearest-exact", "bilinear": "bilinear", "bicubic": "bicubic"}


@dataclass(frozen=True)
class Geometry:
    """How images of any size become square ones, and how their pixels are normalised.

    Args:
        resize: ``crop`` keeps the aspect ratio and loses the margins; ``squish`` keeps everything.
        interpolation: ``nearest``, ``bilinear`` or ``bicubic``; from the model if not given.
        crop_fraction: For evaluation, side of the centre crop over the resized shorter side, in
            (0, 1]; from the model if not given. Not used by ``squish``.
        background: Colour behind transparent pixels, a name or ``#rrggbb``.
        max_megapixels: Millions of pixels that an image may have; larger ones are no good images.
        white_level: Value of white in 16-bit grey, 1 to 65535; what is above it is white, too. Data
            of 12 bits have 4095. ``auto`` is 65535, and a warning names another level where no
            training image is brighter.
        normalize: ``weights``: as the model's weights expect. ``dataset``: by mean and deviation
            per channel of the training images; ``mean_image``: minus their mean image, over the
            deviation of what is left; measured at ``image_size`` before the first fit, and kept
            with the model. Or ``{"mean": [...], "std": [...]}`` of pixels in [0, 1].
        channels: What images are read as: 1 is grey, 3 RGB, 4 RGBA, whose alpha is then kept. Of
            arrays, how many they have, any number. 3 if not given. The model must take as many.

    Raises:
        ValueError: If a value is out of its range.
    """

    resize: Resize = "crop"
    interpolation: str | None = None
    crop_fraction: float | None = None
    background: str = "white"
    max_megapixels: float = MAX_MEGAPIXELS
    normalize: Normalize = "weights"
    white_level: int | Literal["auto"] = "auto"
    channels: int | None = None

    def __post_init__(self) -> None:
        level = self.white_level
        is_whole = isinstance(level, int) and not isinstance(level, bool)
        if str(level) != "auto" and not (is_whole and 1 <= int(level) <= WHITE):
            raise ValueError(
                f"`white_level` must be 'auto' or a whole number in 1 to {WHITE}, got"
                f" {shown(level)}."
            )
        object.__setattr__(self, "normalize", check_normalize(self.normalize))
        check_types(self)
        if self.interpolation is not None and self.interpolation not in _MODES:
            raise ValueError(
                f"`interpolation` must be one of {', '.join(_MODES)}, got"
                f" {shown(self.interpolation)}."
            )
        if self.crop_fraction is not None and not 0 < self.crop_fraction <= 1:
            raise ValueError(f"`crop_fraction` must lie in (0, 1], got {self.crop_fraction}.")
        try:
            ImageColor.getrgb(self.background)
        except ValueError as error:
            raise ValueError(
                f"`background` must be a colour such as 'white' or '#ff8000', got"
                f" {shown(self.background)}."
            ) from error
        if not self.max_megapixels > 0:
            raise ValueError(f"`max_megapixels` must be above 0, got {self.max_megapixels}.")
        count = self.channels
        if count is not None and (isinstance(count, bool) or not 1 <= count <= MAX_CHANNELS):
            raise ValueError(
                f"`channels` must be a whole number in 1 to {MAX_CHANNELS}, got {shown(count)}."
            )
        if isinstance(self.normalize, dict) and len(self.normalize["mean"]) not in (1, count or 3):
            raise ConfigurationError(
                f"`normalize` must have one mean and deviation for each of {count or 3} channels,"
                f" got {len(self.normalize['mean'])}. Give as many, or set `channels`."
            )

    @property
    def decoding(self) -> Decoding:
        """How files become the pixels that are resized."""
        level = WHITE if self.white_level == "auto" else self.white_level
        return Decoding(self.background, self.max_megapixels, level, self.channels or 3)

    def cropped(self, crop_fraction: float | None) -> "Geometry":
        """Return the geometry of an evaluation that crops by a fraction of its own, if any."""
        if crop_fraction is None:
            return self
        if self.resize == "squish":
            raise ValueError(
                "`crop_fraction` must be left out where images are squished, got"
                f" {crop_fraction}: they are not cropped. Leave it out, or set"
                " `data.images.geometry.resize` to 'crop'."
            )
        return replace(self, crop_fraction=crop_fraction)


@dataclass(frozen=True)
class CachedSize:
    """The size at which decoded images are kept in a cache.

    ``side`` is the length in pixels of the shorter side, or with ``squish`` of both sides. Images
    that are smaller stay as they are.
    """

    side: int
    resize: Resize
    interpolation: str
    decoding: Decoding = DEFAULT_DECODING

    def shrink(self, image: Tensor) -> Tensor:
        """Make an image smaller if it is larger. Shape ``(channels, height, width)``."""
        shape = self.shape(*image.shape[-2:])
        return _interpolate(image[None], shape, self.interpolation)[0]

    def load(self, file: str, digest: str | None) -> Tensor:
        """Decode an image to what a cache keeps of it, so that it is the same without a cache.

        Shape ``(channels, height, width)``. Raise `DataError` as ``load_image`` does.
        """
        return self.shrink(load_image(file, self.decoding, self.side, digest))

    def shape(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width at which an image of this height and width is kept."""
        is_small = (
            height * width <= self.side**2
            if self.resize == "squish"
            else min(height, width) <= self.side
        )
        return (height, width) if is_small else _shape(height, width, self.side, self.resize)

    def key(self) -> dict[str, str | int | float]:
        """Describe the size with plain names and values; equal keys mean equal pixels."""
        plain = {name: value for name, value in vars(self).items() if name != "decoding"}
        return {**plain, **replace(self.decoding, max_megapixels=MAX_MEGAPIXELS).key()}


class EvalTransform:
    """Resize the shorter side and take the centre, the same in every epoch.

    ``input_spec`` says what the model's weights expect, for all that ``geometry`` leaves open.
    """

    def __init__(self, image_size: int, geometry: Geometry, input_spec: InputSpec) -> None:
        self.image_size = image_size
        self.resize = geometry.resize
        self.interpolation = geometry.interpolation or input_spec.interpolation
        self.crop_fraction = geometry.crop_fraction or input_spec.crop_fraction
        self.decoding = geometry.decoding

    @property
    def side(self) -> int:
        """Pixels of the shorter side that an image needs so that nothing is enlarged."""
        if self.resize == "squish":
            return self.image_size
        return math.floor(self.image_size / self.crop_fraction)

    def cached_size(self) -> CachedSize:
        """Return the smallest size from which the result is the same, to the last bit."""
        return CachedSize(self.side, self.resize, self.interpolation, self.decoding)

    def __call__(self, image: Tensor, epoch: int, index: int) -> Tensor:
        """Make an image ``(3, height, width)``, ``uint8``, square, ``(3, image_size, image_size)``.

        Random transforms draw by the epoch, from 0, and the index of the image in its data set.
        """
        return self.batch(image[None], epoch, torch.tensor([index]), 1)[0]

    def batch(self, images: Tensor, epoch: int, positions: Tensor, num_images: int) -> Tensor:
        """Make images ``(batch, channels, height, width)``, ``uint8``, square.

        Random transforms draw by the epoch, from 0, and by the positions ``(batch,)`` of the images
        in their data set of ``num_images``. The result has the shape
        ``(batch, channels, image_size, image_size)``, ``uint8``.
        """
        size = self.image_size
        return self._square(images, self.side, size, [lambda edge: round((edge - size) / 2)] * 2)

    def key(self) -> dict[str, str | int | float]:
        """Describe with plain names and values all that the result depends on."""
        return {
            "image_size": self.image_size,
            "resize": self.resize,
            "interpolation": self.interpolation,
            "crop_fraction": 1.0 if self.resize == "squish" else self.crop_fraction,
            **self.decoding.key(),
        }

    def _resize(self, images: Tensor, side: int) -> Tensor:
        """Resize the shorter side, or both sides of squished images, to a length."""
        height, width = images.shape[-2:]
        return _interpolate(images, _shape(height, width, side, self.resize), self.interpolation)

    def _square(self, images: Tensor, side: int, size: int, places: Sequence[Place]) -> Tensor:
        """Resize to ``side`` and cut out a square of ``size``, placed by height and by width.

        Of a thin image that would grow very long, only what the square shows is resized.
        """
        height, width = images.shape[-2:]
        shape = list(_shape(height, width, side, self.resize))
        starts = [place(edge) for place, edge in zip(places, shape, strict=True)]
        shorter = min(height, width)
        for axis, edge in enumerate(shape):
            length = images.shape[axis - 2]
            if edge > max(length, _LONGEST * size):
                zoom = edge / length
                # At multiples of this, the pixels of both sizes begin at one place.
                step = shorter // math.gcd(shorter, side)
                first = max(math.floor(starts[axis] / zoom) - _MARGIN, 0) // step * step
                last = math.ceil((starts[axis] + size) / zoom) + _MARGIN
                last = min(-(-last // step) * step, length)
                images = images.narrow(axis - 2, first, last - first)
                shape[axis] = round((last - first) * zoom)
                starts[axis] -= round(first * zoom)
        top, left = starts
        images = _interpolate(images, (shape[0], shape[1]), self.interpolation)
        return images[..., top : top + size, left : left + size].contiguous()


def _shape(height: int, width: int, side: int, resize: Resize) -> tuple[int, int]:
    if resize == "squish":
        return side, side
    shorter = min(height, width)
    return side * height // shorter, side * width // shorter


def _interpolate(images: Tensor, shape: tuple[int, int], interpolation: str) -> Tensor:
    """Resize ``uint8`` images; on a GPU PyTorch averages floats alone."""
    if shape == tuple(images.shape[-2:]):
        return images
    on_cpu = images.device.type == "cpu"
    mode, antialias = _MODES[interpolation], interpolation != "nearest"
    pixels = images if on_cpu else images.float()
    resized = functional.interpolate(pixels, shape, mode=mode, antialias=antialias)
    return resized if on_cpu else resized.round_().clamp_(0, 255).byte()
