"""Each part of an augmentation alone, at its extremes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lightning_fastrecipes.functional.images.augment import (
    MAX_BRIGHTNESS,
    MAX_CONTRAST,
    Preset,
    draw_parameters,
    make_view,
)
from lightning_fastrecipes.functional.images.draws import AugmentationParameters, apply_listed
from lightning_fastrecipes.functional.images.transforms import Transform

_TURNS = ("", "90", "180", "270", "flip", "90, flip", "180, flip", "270, flip")


@dataclass(frozen=True)
class Extreme:
    """One transform at one of its extremes, named in words."""

    transform: str
    label: str
    parameters: AugmentationParameters
    transforms: tuple[Transform, ...] = ()

    def apply(self, image: Tensor) -> Tensor:
        """Change a square image ``(3, height, width)``, ``uint8``."""
        return make_view(image[None], self.parameters, transforms=self.transforms)[0]


def extremes(
    preset: Preset,
    max_zoom: float,
    max_angle: float,
    transforms: Sequence[Transform],
    names: Sequence[str],
) -> list[Extreme]:
    """Return each part of a preset and each transform of a list, called ``names``, alone.

    >>> [found.label for found in extremes("side_on", 1.1, 10, [], [])][:4]
    ['-10', '10', '1.1, top left', '1.1, bottom right']
    """
    plain = draw_parameters(1, "none", 1.0, torch.Generator())
    found = list(_of_preset(plain, preset, max_zoom, max_angle))
    for name, transform in zip(names, transforms, strict=True):
        for label, uniform in transform.extremes():
            always = replace(transform, p=1.0)
            drawn = apply_listed(plain, [always], [torch.tensor([[0.0, *uniform]])])
            found.append(Extreme(name, label, drawn, (always,)))
    return found


def _of_preset(
    plain: AugmentationParameters, preset: Preset, max_zoom: float, max_angle: float
) -> Iterator[Extreme]:
    if preset == "none":
        return

    def at(name: str, label: str, **values: float) -> Extreme:
        changes = {key: torch.full_like(getattr(plain, key), v) for key, v in values.items()}
        return Extreme(name, label, replace(plain, **changes))

    if max_angle:
        yield at("rotate", f"{-max_angle:g}", angle=-max_angle)
        yield at("rotate", f"{max_angle:g}", angle=max_angle)
    if max_zoom > 1:
        yield at("zoom", f"{max_zoom:g}, top left", zoom=max_zoom, crop_top=0, crop_left=0)
        yield at("zoom", f"{max_zoom:g}, bottom right", zoom=max_zoom, crop_top=1, crop_left=1)
    for sign in (-1, 1):
        yield at("brightness", f"{sign * MAX_BRIGHTNESS:+g}", brightness=sign * MAX_BRIGHTNESS)
    yield at("contrast", f"{1 / (1 + MAX_CONTRAST):.3g}", contrast=1 / (1 + MAX_CONTRAST))
    yield at("contrast", f"{1 + MAX_CONTRAST:g}", contrast=1 + MAX_CONTRAST)
    elements = {"basic": [], "side_on": [4], "top_down": list(range(1, 8))}[preset]
    for element in elements:
        yield at("flip and turn", _TURNS[element], dihedral=element)
