"""Transforms of a list of augmentations: what each draws per image, and how it moves pixels.

Each draws uniform numbers, from which its parameters follow. The laws are those of the torchvision
transforms of the same name, with one draw per image of a batch. Geometric transforms say how an
image is moved, so that all of them are one resample; the others change pixels, one after the other.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor
from typing_extensions import override


@dataclass(frozen=True)
class Transform:
    """A random change of an image; ``p``, in [0, 1], is the probability that it happens.

    >>> Rotate(10).values(Tensor([[0.0], [0.5], [1.0]])).flatten()
    tensor([-10.,   0.,  10.])
    """

    p: float = field(default=1.0, kw_only=True)

    num_draws: ClassVar[int] = 0
    """How many uniform numbers it draws for an image, beside whether it happens."""
    needs_colours: ClassVar[bool] = False
    """Whether it is of the colours of three channels."""
    needs_rgb: ClassVar[bool] = False
    """Whether a grey image must be given three channels first."""

    def __post_init__(self) -> None:
        for name, value in list(vars(self).items()):
            if isinstance(value, int) and not isinstance(value, bool):
                object.__setattr__(self, name, float(value))
        self._in_range("p", 0, 1)

    def _in_range(self, name: str, low: float, high: float = math.inf) -> None:
        value = getattr(self, name)
        if not isinstance(value, float) or not low <= value <= high:
            allowed = f"at least {low}" if high == math.inf else f"in [{low}, {high}]"
            raise ValueError(f"`{name}` must be {allowed}, got {value!r}.")

    def _ordered(self, low: str, high: str) -> None:
        if getattr(self, low) > getattr(self, high):
            raise ValueError(
                f"`{low}` must be at most `{high}`, got {getattr(self, low)} and"
                f" {getattr(self, high)}."
            )

    def values(self, uniform: Tensor) -> Tensor:
        """Turn uniform numbers ``(batch, num_draws)`` in [0, 1] into parameters of this shape."""
        return uniform

    def extremes(self) -> list[tuple[str, list[float]]]:
        """Return what it does at most, in words, and the uniform numbers that make it so."""
        if not self.num_draws:
            return [("", [])]
        ends = [[0.0] * self.num_draws, [1.0] * self.num_draws]
        values = [self.values(Tensor([numbers]))[0, 0].item() for numbers in ends]
        return [(f"{value:.3g}", numbers) for value, numbers in zip(values, ends, strict=True)]


@dataclass(frozen=True)
class Move(Transform):
    """A geometric transform. Moves are made in the order of the table in ``Augmentation``."""

    largest_zoom: ClassVar[float] = 1.0


@dataclass(frozen=True)
class PixelTransform(Transform, ABC):
    """A transform that changes pixels where they are."""

    @abstractmethod
    def apply(self, pixels: Tensor, values: Tensor, white: float) -> Tensor:
        """Change float images ``(batch, channels, height, width)`` in [0, ``white``].

        ``values`` are of :meth:`values`, ``(batch, num_draws)``, on the device of the images.
        """


@dataclass(frozen=True)
class Flip(Move):
    """Flip left and right."""

    p: float = field(default=0.5, kw_only=True)


@dataclass(frozen=True)
class FlipVertical(Move):
    """Flip upside down."""

    p: float = field(default=0.5, kw_only=True)


@dataclass(frozen=True)
class Rotate(Move):
    """Rotate by an angle that is uniform in ``-degrees`` to ``degrees``."""

    degrees: float = 10.0
    p: float = field(default=0.75, kw_only=True)
    num_draws = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._in_range("degrees", 0, 180)

    @override
    def values(self, uniform: Tensor) -> Tensor:
        return around_zero(self.degrees, uniform)


@dataclass(frozen=True)
class Zoom(Move):
    """Zoom by a factor that is uniform in ``min_zoom`` to ``max_zoom``; below 1 borders reflect."""

    max_zoom: float = 1.1
    min_zoom: float = 1.0
    p: float = field(default=0.75, kw_only=True)
    num_draws = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._in_range("min_zoom", 0.5)
        self._in_range("max_zoom", 0.5, 10)
        self._ordered("min_zoom", "max_zoom")

    @property
    @override
    def largest_zoom(self) -> float:  # type: ignore[override]
        return max(self.max_zoom, 1.0)

    @override
    def values(self, uniform: Tensor) -> Tensor:
        return self.min_zoom + (self.max_zoom - self.min_zoom) * uniform


@dataclass(frozen=True)
class Shift(Move):
    """Shift down and right, each by up to ``fraction`` of the side either way; borders reflect."""

    fraction: float = 0.1
    p: float = field(default=0.75, kw_only=True)
    num_draws = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self._in_range("fraction", 0, 1)

    @override
    def values(self, uniform: Tensor) -> Tensor:
        return around_zero(self.fraction, uniform)


@dataclass(frozen=True)
class Warp(Move):
    """Move the corners inwards, each by up to ``distortion`` of half the side: perspective."""

    distortion: float = 0.2
    p: float = field(default=0.5, kw_only=True)
    num_draws = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        self._in_range("distortion", 0, 0.9)

    @override
    def values(self, uniform: Tensor) -> Tensor:
        return self.distortion * uniform

    @override
    def extremes(self) -> list[tuple[str, list[float]]]:
        left, top = [1.0, 1, 0, 0, 0, 0, 1, 1], [1.0, 1, 1, 1, 0, 0, 0, 0]
        return [(f"{self.distortion:g}, left", left), (f"{self.distortion:g}, top", top)]


def around_zero(reach: float, uniform: Tensor) -> Tensor:
    """Turn uniform numbers in [0, 1] into such in ``-reach`` to ``reach``."""
    return reach * (2 * uniform - 1)
