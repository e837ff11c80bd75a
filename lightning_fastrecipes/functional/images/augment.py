"""Presets and lists of augmentations: parameters drawn per image, applied to a whole batch."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor

from lightning_fastrecipes.errors import check_at_least
from lightning_fastrecipes.functional.images.draws import (
    AugmentationParameters,
    draw_listed,
    listed,
    pixel_steps,
)
from lightning_fastrecipes.functional.images.pixels import (
    change_pixels,
    compose,
    crop_matrix,
    dihedral_batch,
    perspective_matrix,
    shift_matrix,
)
from lightning_fastrecipes.functional.images.transforms import Move, Shift, Transform, Warp
from lightning_fastrecipes.protocols import InputSpec

Preset = Literal["none", "basic", "side_on", "top_down"]
"""``basic``: small rotations, brightness and contrast; ``side_on``: also flipped left and right;
``top_down``: all 8 symmetries of the square."""

MAX_ANGLE = 10.0
ROTATE_PROBABILITY = 0.75
ZOOM_PROBABILITY = 0.75
MAX_BRIGHTNESS = 0.05
MAX_CONTRAST = 0.05


def draw_parameters(
    num_images: int,
    augmentation: Preset,
    max_zoom: float,
    generator: torch.Generator,
    max_angle: float = MAX_ANGLE,
    transforms: Sequence[Transform] = (),
) -> AugmentationParameters:
    """Draw what happens to each image, by the distributions of the course's presets.

    ``basic`` rotates by up to ``max_angle`` degrees with probability 0.75 and changes brightness
    and contrast by up to 0.05; ``side_on`` also flips every second image; ``top_down`` instead
    applies each of the 8 symmetries of the square equally often; ``none`` changes nothing. All
    zoom, by up to ``max_zoom``, with probability 0.75 and crop at random. A list of transforms
    draws after the preset, whose draws it leaves as they are, and crops at random as well. All
    randomness comes from the generator, which is on the CPU. Raise `ValueError` if there is no such
    preset, ``max_zoom`` is below 1, or ``max_angle`` below 0.

    >>> generator = torch.Generator().manual_seed(0)
    >>> draw_parameters(4, "none", 1.1, generator).angle
    tensor([0., 0., 0., 0.])

    fast.ai 0.7 (``transforms_basic``, ``transforms_side_on`` and ``transforms_top_down``) rotates
    an image before it crops it; here it is cropped first, so that one resample of the small image
    is enough.
    """
    if augmentation not in get_args(Preset):
        raise ValueError(
            f"`augmentation` must be one of {', '.join(get_args(Preset))}, got {augmentation!r}."
        )
    check_at_least("max_zoom", max_zoom, 1)
    if max_angle < 0:
        raise ValueError(f"`max_angle` must be at least 0 degrees, got {max_angle}.")

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(num_images, generator=generator)

    def happens(probability: float) -> Tensor:
        return torch.rand(num_images, generator=generator) < probability

    if augmentation == "none":
        zeros, ones = torch.zeros(num_images), torch.ones(num_images)
        drawn = AugmentationParameters(
            zoom=ones,
            crop_top=uniform(0.0, 1.0) if transforms else ones / 2,
            crop_left=uniform(0.0, 1.0) if transforms else ones / 2,
            angle=zeros,
            brightness=zeros,
            contrast=ones,
            dihedral=zeros.long(),
        )
        return draw_listed(drawn, transforms, generator)
    elements = {"basic": 1, "side_on": 2, "top_down": 8}[augmentation]
    change = uniform(-MAX_CONTRAST, MAX_CONTRAST)
    drawn = AugmentationParameters(
        zoom=torch.where(happens(ZOOM_PROBABILITY), uniform(1.0, max_zoom), 1.0),
        crop_top=uniform(0.0, 1.0),
        crop_left=uniform(0.0, 1.0),
        angle=torch.where(happens(ROTATE_PROBABILITY), uniform(-max_angle, max_angle), 0.0),
        brightness=uniform(-MAX_BRIGHTNESS, MAX_BRIGHTNESS),
        contrast=torch.where(change < 0, 1 / (1 - change), 1 + change),
        dihedral=torch.randint(elements, (num_images,), generator=generator) * (8 // elements) % 8,
    )
    return draw_listed(drawn, transforms, generator)


def augment(
    images: Tensor, parameters: AugmentationParameters, transforms: Sequence[Transform] = ()
) -> Tensor:
    """Rotate and adjust each image of a batch, then flip it, for images that are cropped already.

    The images, on any device, have the shape ``(batch, 3, height, width)``, ``uint8``, square if
    some are to be turned by a quarter; so has the result. Crop and zoom of the parameters are not
    used, but for a zoom below 1. ``transforms`` are those that the parameters were drawn for.

    >>> images = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
    >>> unchanged = draw_parameters(2, "none", 1.0, torch.Generator())
    >>> torch.equal(augment(images, unchanged), images)
    True
    """
    _check_batch(images)
    _check_square(images, parameters)
    zoom = parameters.zoom.clamp(max=1.0)
    top, left = (
        torch.where(zoom < 1, share, 0.5) for share in (parameters.crop_top, parameters.crop_left)
    )
    cropped = replace(parameters, zoom=zoom, crop_top=top, crop_left=left)
    if transforms:
        return make_view(images, cropped, transforms=transforms)
    upright = replace(cropped, dihedral=torch.zeros_like(parameters.dihedral))
    return dihedral_batch(make_view(images, upright), parameters.dihedral)


def make_view(
    images: Tensor,
    parameters: AugmentationParameters,
    input_spec: InputSpec | None = None,
    transforms: Sequence[Transform] = (),
) -> Tensor:
    """Zoom, crop, rotate, flip and adjust each image of a batch, at the size it has.

    Pixels are resampled once, and not at all where an image is neither zoomed nor rotated. The
    images are ``uint8``, or normalised floats, on any device, of shape
    ``(batch, channels, height, width)``, square if some are to be turned by a quarter; so is the
    result. ``input_spec`` says how floats were normalised; without it, their brightness and
    contrast stay, and transforms of a list that change pixels raise `ValueError`. ``transforms``
    are those that the parameters were drawn for.

    >>> images = torch.tensor([[[[1, 2], [3, 4]]]], dtype=torch.uint8)
    >>> unchanged = draw_parameters(1, "none", 1.0, torch.Generator())
    >>> make_view(images, replace(unchanged, dihedral=torch.tensor([4])))
    tensor([[[[2, 1],
              [4, 3]]]], dtype=torch.uint8)
    """
    _check_square(images, parameters)
    moved = (parameters.zoom != 1) | (parameters.angle != 0)
    for transform, happens, _ in listed(parameters, transforms):
        if isinstance(transform, (Shift, Warp)):
            moved = moved | happens
    # The resample flips its images as well.
    result = dihedral_batch(images.clone(), parameters.dihedral.masked_fill(moved, 0))
    aspect = images.shape[-2] / images.shape[-1]
    matrix = _matrix(parameters, parameters.zoom, parameters.zoom, transforms, aspect)
    return change_pixels(
        result,
        result,
        matrix,
        moved,
        parameters.brightness,
        parameters.contrast,
        input_spec,
        pixel_steps(parameters, transforms),
    )


def augment_batch(
    images: Tensor,
    parameters: AugmentationParameters,
    image_size: int,
    *,
    squish: bool = False,
    transforms: Sequence[Transform] = (),
) -> Tensor:
    """Zoom, crop, rotate and flip each image of a batch in one bilinear resample, then adjust it.

    The distribution of the results is that of a resize, a crop and :func:`augment`, but sizes are
    not rounded to whole pixels, and the corners of rotated images show what lies outside of the
    crop instead of its reflection. Make images that are much larger than the result smaller first:
    a resample does not average.

    The images, on any device, have the shape ``(batch, channels, height, width)``, ``uint8``; the
    result has ``(batch, channels, image_size, image_size)``. With ``squish`` both sides are brought
    to the size, and not the shorter one alone.

    >>> images = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
    >>> unchanged = draw_parameters(2, "none", 1.0, torch.Generator())
    >>> torch.equal(augment_batch(images, unchanged, image_size=8), images)
    True
    """
    _check_batch(images)
    check_at_least("image_size", image_size, 1)
    # Sides of the zoomed image as multiples of the crop's.
    shorter = min(images.shape[-2:])
    tall, wide = (
        parameters.zoom * (1.0 if squish else edge / shorter) for edge in images.shape[-2:]
    )
    return change_pixels(
        images,
        images.new_empty(*images.shape[:2], image_size, image_size),
        _matrix(parameters, tall, wide, transforms),
        torch.ones(len(images), dtype=torch.bool),
        parameters.brightness,
        parameters.contrast,
        steps=pixel_steps(parameters, transforms),
    )


def largest_zoom(augmentation: Preset, max_zoom: float, transforms: Sequence[Transform]) -> float:
    """Return the largest zoom that a preset and a list of transforms make together."""
    zoom = 1.0 if augmentation == "none" else max_zoom
    for transform in transforms:
        if isinstance(transform, Move):
            zoom *= transform.largest_zoom
    return zoom


def _matrix(
    parameters: AugmentationParameters,
    tall: Tensor,
    wide: Tensor,
    transforms: Sequence[Transform],
    aspect: float = 1.0,
) -> Tensor:
    angle, top, left = parameters.angle, parameters.crop_top, parameters.crop_left
    moves = [
        drawn for drawn in listed(parameters, transforms) if isinstance(drawn[0], (Shift, Warp))
    ]
    if not moves:
        return crop_matrix(angle, top, left, tall, wide, aspect, parameters.dihedral)
    matrix = crop_matrix(angle, top, left, tall, wide, aspect)
    for transform, happens, values in sorted(moves, key=lambda move: isinstance(move[0], Warp)):
        values = values * happens[:, None]
        is_shift = isinstance(transform, Shift)
        matrix = compose(matrix, shift_matrix(values) if is_shift else perspective_matrix(values))
    zeros, ones = torch.zeros_like(angle), torch.ones_like(angle)
    turned = crop_matrix(zeros, zeros, zeros, ones, ones, aspect, parameters.dihedral)
    return compose(matrix, turned)


def _check_batch(images: Tensor) -> None:
    if images.ndim != 4 or images.dtype != torch.uint8:
        raise ValueError(
            "`images` must be `uint8` of shape (batch, 3, height, width), got"
            f" {images.dtype} of shape {tuple(images.shape)}. Augment before normalising."
        )


def _check_square(images: Tensor, parameters: AugmentationParameters) -> None:
    height, width = images.shape[-2:]
    if height != width and bool((parameters.dihedral % 2 == 1).any()):
        raise ValueError(
            f"`images` must be square to be turned by a quarter, but are {height} x {width}. Crop"
            " them, use the preset `side_on`, or take up to 3 views of `flips`."
        )
