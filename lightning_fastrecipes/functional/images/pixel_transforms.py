"""Transforms of a list of augmentations that change pixels where they are."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from lightning_fastrecipes.errors import check_at_least
from lightning_fastrecipes.functional.images.transforms import PixelTransform, around_zero

_LUMA = (0.2989, 0.587, 0.114)
_ERASE_TRIALS = 10


@dataclass(frozen=True)
class _Factor(PixelTransform):
    """A factor that is uniform in ``1 - strength``, at least 0, to ``1 + strength``."""

    strength: float = 0.2
    p: float = field(default=0.75, kw_only=True)
    num_draws = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._in_range("strength", 0)

    @override
    def values(self, uniform: Tensor) -> Tensor:
        low = max(1 - self.strength, 0.0)
        return low + (1 + self.strength - low) * uniform


@dataclass(frozen=True)
class Brightness(_Factor):
    """Multiply pixels by the factor.

    >>> Brightness(0.2).apply(torch.full((1, 1, 1, 1), 100.0), torch.tensor([[1.5]]), 255.0).item()
    150.0
    """

    @override
    def apply(self, pixels: Tensor, values: Tensor, white: float) -> Tensor:
        return (pixels * _per_image(values)).clamp_(0, white)


@dataclass(frozen=True)
class Contrast(_Factor):
    """Multiply the distance from the mean grey of the image by the factor."""

    @override
    def apply(self, pixels: Tensor, values: Tensor, white: float) -> Tensor:
        mean = _luma(pixels).mean(dim=(1, 2, 3), keepdim=True)
        return _blend(pixels, mean, values, white)


@dataclass(frozen=True)
class Saturation(_Factor):
    """Multiply the distance of each pixel from its grey by the factor; grey images stay."""

    needs_colours = True

    @override
    def apply(self, pixels: Tensor, values: Tensor, white: float) -> Tensor:
        return _blend(pixels, _luma(pixels), values, white)


@dataclass(frozen=True)
class ChannelJitter(_Factor):
    """Multiply each channel by a factor of its own."""

    strength: float = 0.1
    num_draws = 3
    needs_rgb = True
    needs_colours = True

    @override
    def apply(self, pixels: Tensor, values: Tensor, white: float) -> Tensor:
        _check_rgb(pixels, "channel_jitter")
        return (pixels * values[:, :, None, None]).clamp_(0, white)

    @override
    def extremes(self) -> list[tuple[str, list[float]]]:
        return [("more red", [1.0, 0, 0]), ("more green", [0.0, 1, 0]), ("more blue", [0.0, 0, 1])]


@dataclass(frozen=True)
class Hue(PixelTransform):
    """Turn the circle of colours by up to ``turn`` of a full turn either way."""

    needs_colours = True
    turn: float = 0.05
    p: float = field(default=0.75, kw_only=True)
    num_draws = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._in_range("turn", 0, 0.5)

    @override
    def values(self, uniform: Tensor) -> Tensor:
        return around_zero(self.turn, uniform)

    @override
    def apply(self, pixels: Tensor, values: Tensor, white: float) -> Tensor:
        if pixels.shape[1] == 1:  # grey has no hue
            return pixels
        _check_rgb(pixels, "hue")
        top, index = pixels.max(dim=1, keepdim=True)
        span = top - pixels.min(dim=1, keepdim=True).values
        # The hue in sixths of a turn, from the two channels that are not the largest.
        after, before = (pixels.gather(1, (index + step) % 3) for step in (1, 2))
        sixths = 2 * index + (after - before) / torch.where(span == 0, 1.0, span)
        sixths = sixths + 6 * _per_image(values)
        steps = torch.tensor([5.0, 3.0, 1.0], device=pixels.device).view(1, 3, 1, 1)
        place = (steps + sixths).remainder(6)
        return top - span * torch.minimum(place, 4 - place).clamp_(0, 1)


@dataclass(frozen=True)
class Grey(PixelTransform):
    """Take the colour away."""

    needs_colours = True
    p: float = field(default=0.1, kw_only=True)

    @override
    def apply(self, pixels: Tensor, values: Tensor, white: float) -> Tensor:
        return _luma(pixels).expand_as(pixels)


@dataclass(frozen=True)
class Blur(PixelTransform):
    """Blur by a Gaussian whose deviation is uniform in ``min_sigma`` to ``max_sigma`` pixels."""

    max_sigma: float = 2.0
    min_sigma: float = 0.1
    p: float = field(default=0.2, kw_only=True)
    num_draws = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._in_range("min_sigma", 0.01)
        self._in_range("max_sigma", 0.01, 100)
        self._ordered("min_sigma", "max_sigma")

    @override
    def values(self, uniform: Tensor) -> Tensor:
        return self.min_sigma + (self.max_sigma - self.min_sigma) * uniform

    @override
    def apply(self, pixels: Tensor, values: Tensor, white: float) -> Tensor:
        batch, channels, height, width = pixels.shape
        for across, edge in ((True, width), (False, height)):
            radius = min(math.ceil(3 * self.max_sigma), edge - 1)
            spots = torch.arange(-radius, radius + 1, device=pixels.device)
            weights = (-0.5 * (spots / values) ** 2).exp()
            weights = (weights / weights.sum(1, keepdim=True)).repeat_interleave(channels, 0)
            kernel = weights[:, None, None, :] if across else weights[:, None, :, None]
            sides = (radius, radius, 0, 0) if across else (0, 0, radius, radius)
            padded = functional.pad(pixels, sides, mode="reflect")
            # Each channel of each image is a channel of its own, so that each has its kernel.
            flat = padded.reshape(1, batch * channels, *padded.shape[-2:])
            blurred = functional.conv2d(flat, kernel, groups=batch * channels)
            pixels = blurred.view(batch, channels, height, width)
        return pixels


@dataclass(frozen=True)
class Erase(PixelTransform):
    """Fill a rectangle with ``value``, a share of white.

    Its area is uniform in ``min_area`` to ``max_area`` of the image's, the logarithm of height over
    width uniform in that of ``1 / max_ratio`` to ``max_ratio``. What does not fit is drawn again,
    ten times at most.
    """

    max_area: float = 0.33
    min_area: float = 0.02
    max_ratio: float = 3.3
    value: float = 0.0
    p: float = field(default=0.5, kw_only=True)
    num_draws = 2 * _ERASE_TRIALS + 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self._in_range("min_area", 0, 1)
        self._in_range("max_area", 0, 1)
        self._ordered("min_area", "max_area")
        self._in_range("value", 0, 1)
        check_at_least("max_ratio", self.max_ratio, 1)

    @override
    def values(self, uniform: Tensor) -> Tensor:
        area, ratio = uniform[:, :_ERASE_TRIALS], uniform[:, _ERASE_TRIALS:-2]
        area = self.min_area + (self.max_area - self.min_area) * area
        ratio = around_zero(math.log(self.max_ratio), ratio).exp()
        return torch.cat([area, ratio, uniform[:, -2:]], dim=1)

    @override
    def extremes(self) -> list[tuple[str, list[float]]]:
        # Squares in the middle, which always fit.
        rest = [0.5] * (_ERASE_TRIALS + 2)
        areas = ((self.min_area, 0.0), (self.max_area, 1.0))
        return [(f"{area:g}", [end] * _ERASE_TRIALS + rest) for area, end in areas]

    @override
    def apply(self, pixels: Tensor, values: Tensor, white: float) -> Tensor:
        height, width = pixels.shape[-2:]
        area, ratio = values[:, :_ERASE_TRIALS] * (height * width), values[:, _ERASE_TRIALS:-2]
        tall, wide = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
        fits = (tall < height) & (wide < width)
        chosen = fits.int().argmax(dim=1, keepdim=True)
        inside = fits.any(dim=1).view(-1, 1, 1, 1)
        for edge, sizes, share in ((height, tall, -2), (width, wide, -1)):
            size = sizes.gather(1, chosen)
            start = ((edge - size + 1) * values[:, share, None]).floor()
            start = torch.minimum(start, edge - size)
            spots = torch.arange(edge, device=pixels.device)
            within = (spots >= start) & (spots < start + size)
            inside = inside & (within[:, None, :, None] if share == -2 else within[:, None, None])
        return pixels.masked_fill(inside, self.value * white)


def _per_image(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def _luma(pixels: Tensor) -> Tensor:
    """Return the brightness of each pixel as an eye sees it, ``(batch, 1, height, width)``."""
    if pixels.shape[1] != 3:
        return pixels.mean(dim=1, keepdim=True)
    red, green, blue = (pixels[:, index : index + 1] for index in range(3))
    return red * _LUMA[0] + green * _LUMA[1] + blue * _LUMA[2]


def _blend(pixels: Tensor, other: Tensor, values: Tensor, white: float) -> Tensor:
    factor = _per_image(values)
    return (factor * pixels + (1 - factor) * other).clamp_(0, white)


def _check_rgb(pixels: Tensor, name: str) -> None:
    if pixels.shape[1] != 3:
        raise ValueError(
            f"`{name}` must have images of 3 channels, got {pixels.shape[1]}. Leave it out."
        )
