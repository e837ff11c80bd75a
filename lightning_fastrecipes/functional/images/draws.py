"""What is drawn for each image of a batch, by a preset and by a list of transforms."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from lightning_fastrecipes.functional.images.pixels import Step
from lightning_fastrecipes.functional.images.transforms import (
    Flip,
    FlipVertical,
    PixelTransform,
    Rotate,
    Transform,
    Zoom,
)


@dataclass(frozen=True)
class AugmentationParameters:
    """What happens to each image of a batch; every tensor has shape ``(batch,)``.

    Args:
        zoom: The shorter side is resized to this many times the crop; below 1 borders reflect.
        crop_top: Where the crop starts, as a fraction in [0, 1) of the rows to spare.
        crop_left: The same for the columns to spare.
        angle: Rotation in degrees, anticlockwise.
        brightness: What is added to pixels in [0, 1].
        contrast: Factor on the distance of a pixel from the image's mean.
        dihedral: Symmetry of the square, 0 to 7, as in :func:`pixels.dihedral`.
    """

    zoom: Tensor
    crop_top: Tensor
    crop_left: Tensor
    angle: Tensor
    brightness: Tensor
    contrast: Tensor
    dihedral: Tensor

    def rows(self, positions: Tensor) -> "AugmentationParameters":
        """Return the parameters of the images at some positions."""
        return replace(self, **{f.name: getattr(self, f.name)[positions] for f in fields(self)})


@dataclass(frozen=True)
class ListedParameters(AugmentationParameters):
    """What happens to each image where a list of transforms draws as well.

    ``listed`` ``(batch, numbers)`` holds for each of them 1 if it happens, else 0, and its values.
    """

    listed: Tensor


def draw_listed(
    drawn: AugmentationParameters, transforms: Sequence[Transform], generator: torch.Generator
) -> AugmentationParameters:
    """Draw for a list of transforms, after a preset; an empty list draws nothing."""
    shapes = [(len(drawn.zoom), 1 + transform.num_draws) for transform in transforms]
    uniform = [torch.rand(shape, generator=generator) for shape in shapes]
    return apply_listed(drawn, transforms, uniform)


def apply_listed(
    parameters: AugmentationParameters, transforms: Sequence[Transform], uniform: Sequence[Tensor]
) -> AugmentationParameters:
    """Add what a list of transforms does, from uniform numbers in [0, 1].

    ``uniform`` holds for each transform whether it happens, below ``p``, and its draws: shape
    ``(batch, 1 + num_draws)``.

    >>> zero = torch.zeros(1)
    >>> plain = AugmentationParameters(zero + 1, zero, zero, zero, zero, zero + 1, zero.long())
    >>> apply_listed(plain, [Rotate(10.0)], [torch.tensor([[0.0, 1.0]])]).angle
    tensor([10.])
    """
    if not transforms:
        return parameters
    columns = []
    for transform, numbers in zip(transforms, uniform, strict=True):
        happens, values = numbers[:, 0] < transform.p, transform.values(numbers[:, 1:])
        columns += [happens[:, None].float(), values]
        if isinstance(transform, Zoom):
            zoom = torch.where(happens, values[:, 0], 1.0)
            parameters = replace(parameters, zoom=parameters.zoom * zoom)
        elif isinstance(transform, Rotate):
            angle = torch.where(happens, values[:, 0], 0.0)
            parameters = replace(parameters, angle=parameters.angle + angle)
        elif isinstance(transform, (Flip, FlipVertical)):
            turned = 2 if isinstance(transform, FlipVertical) else 0
            element = parameters.dihedral
            flipped = (element + turned) % 4 + torch.where(element < 4, 4, 0)
            parameters = replace(parameters, dihedral=torch.where(happens, flipped, element))
    return ListedParameters(**vars(parameters), listed=torch.cat(columns, dim=1))


def listed(
    parameters: AugmentationParameters, transforms: Sequence[Transform]
) -> Iterator[tuple[Transform, Tensor, Tensor]]:
    """Return each transform with what was drawn for it: whether it happens, and its values."""
    if not transforms:
        return
    if not isinstance(parameters, ListedParameters):
        raise TypeError("`parameters` must be drawn for the same `transforms`.")
    widths = [width for transform in transforms for width in (1, transform.num_draws)]
    columns = torch.split(parameters.listed, widths, dim=1)
    for place, transform in enumerate(transforms):
        yield transform, columns[2 * place][:, 0] > 0, columns[2 * place + 1]


def pixel_steps(parameters: AugmentationParameters, transforms: Sequence[Transform]) -> list[Step]:
    """Return the changes of pixels that a list makes, for :func:`pixels.change_pixels`."""
    return [
        (transform.apply, happens, values)
        for transform, happens, values in listed(parameters, transforms)
        if isinstance(transform, PixelTransform)
    ]
