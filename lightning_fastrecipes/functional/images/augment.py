"""The course's augmentation presets: parameters drawn per image, applied to a whole batch."""

from dataclasses import dataclass, fields
from typing import Literal, get_args

import torch
from torch import Tensor

from lightning_fastrecipes.functional.images.pixels import (
    adjust_brightness_contrast,
    crop_matrix,
    dihedral_batch,
    num_at_once,
    resample,
)

Preset = Literal["none", "basic", "side_on", "top_down"]
"""``basic``: small turns and lighting; ``side_on``: and mirrored; ``top_down``: and all 8 poses."""

MAX_ANGLE = 10.0
ROTATE_PROBABILITY = 0.75
ZOOM_PROBABILITY = 0.75
MAX_BALANCE = 0.05
MAX_CONTRAST = 0.05


@dataclass(frozen=True)
class AugmentationParameters:
    """What happens to each image of a batch; every tensor has shape ``(batch,)``.

    Args:
        zoom: The shorter side is resized to this many times the crop, at least 1.
        crop_top: Where the crop starts, as a fraction in [0, 1) of the rows to spare.
        crop_left: The same for the columns to spare.
        angle: Turn in degrees, anticlockwise.
        balance: Brightness added, on pixels in [0, 1].
        contrast: Factor on the distance of a pixel from the image's mean.
        pose: Element of the dihedral group in 0 to 7, see :func:`dihedral`.
    """

    zoom: Tensor
    crop_top: Tensor
    crop_left: Tensor
    angle: Tensor
    balance: Tensor
    contrast: Tensor
    pose: Tensor

    def rows(self, positions: Tensor) -> "AugmentationParameters":
        """Return the parameters of some of the images.

        Args:
            positions: Which ones. Shape ``(chosen,)``.

        Returns:
            Parameters with tensors of shape ``(chosen,)``.
        """
        chosen = {field.name: getattr(self, field.name)[positions] for field in fields(self)}
        return AugmentationParameters(**chosen)


def draw_parameters(
    num_images: int,
    augmentation: Preset,
    max_zoom: float,
    generator: torch.Generator,
    max_angle: float = MAX_ANGLE,
) -> AugmentationParameters:
    """Draw what happens to each image, by the laws of the course's presets.

    ``basic`` turns by up to 10 degrees with probability 0.75 and changes balance and contrast by
    up to 0.05; ``side_on`` also mirrors every second image; ``top_down`` also takes each of the 8
    poses equally often. All three zoom with probability 0.75 and crop at random.

    Args:
        num_images: How many images to draw for, at least 0.
        augmentation: Name of the preset; ``none`` gives parameters that change nothing.
        max_zoom: Largest zoom, at least 1.
        generator: Where all randomness comes from, on the CPU.
        max_angle: Largest turn in degrees, at least 0.

    Returns:
        Parameters with tensors of shape ``(num_images,)``.

    Raises:
        ValueError: If ``augmentation`` is no preset, ``max_zoom`` is below 1, or ``max_angle``
            below 0.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> draw_parameters(4, "none", 1.1, generator).angle
        tensor([0., 0., 0., 0.])

    Note:
        As in fast.ai 0.7, where a image is turned before it is cropped; here it is cropped first,
        so that one resample of the small image is enough.

    References:
        fast.ai 0.7, ``transforms_basic``, ``transforms_side_on`` and ``transforms_top_down``.
    """
    if augmentation not in get_args(Preset):
        raise ValueError(
            f"`augmentation` must be one of {', '.join(get_args(Preset))}, got {augmentation!r}."
        )
    if max_zoom < 1:
        raise ValueError(f"`max_zoom` must be at least 1, got {max_zoom}.")
    if max_angle < 0:
        raise ValueError(f"`max_angle` must be at least 0 degrees, got {max_angle}.")

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(num_images, generator=generator)

    def happens(probability: float) -> Tensor:
        return torch.rand(num_images, generator=generator) < probability

    if augmentation == "none":
        zeros, ones = torch.zeros(num_images), torch.ones(num_images)
        return AugmentationParameters(
            zoom=ones,
            crop_top=ones / 2,
            crop_left=ones / 2,
            angle=zeros,
            balance=zeros,
            contrast=ones,
            pose=zeros.long(),
        )
    poses = {"basic": 1, "side_on": 2, "top_down": 8}[augmentation]
    change = uniform(-MAX_CONTRAST, MAX_CONTRAST)
    return AugmentationParameters(
        zoom=torch.where(happens(ZOOM_PROBABILITY), uniform(1.0, max_zoom), 1.0),
        crop_top=uniform(0.0, 1.0),
        crop_left=uniform(0.0, 1.0),
        angle=torch.where(happens(ROTATE_PROBABILITY), uniform(-max_angle, max_angle), 0.0),
        balance=uniform(-MAX_BALANCE, MAX_BALANCE),
        contrast=torch.where(change < 0, 1 / (1 - change), 1 + change),
        pose=torch.randint(poses, (num_images,), generator=generator) * (8 // poses) % 8,
    )


def augment(images: Tensor, parameters: AugmentationParameters) -> Tensor:
    """Turn, light and mirror each image of a batch by its own parameters.

    Zoom and crop are not applied here: they belong to the resize that makes the images square.
    A image that is not turned is not resampled, and poses move pixels without changing them.

    Args:
        images: Images, on any device. Shape ``(batch, 3, height, width)``, ``uint8``.
        parameters: As :func:`draw_parameters` gives them for as many images.

    Returns:
        New images of the same shape, dtype and device.

    Raises:
        ValueError: If ``images`` is not a batch of ``uint8`` images, or not square while a pose
            swaps rows and columns.

    Example:
        >>> images = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
        >>> unchanged = draw_parameters(2, "none", 1.0, torch.Generator())
        >>> torch.equal(augment(images, unchanged), images)
        True
    """
    _check_batch(images)
    pose = parameters.pose
    if bool((pose % 2 == 1).any()) and images.shape[-1] != images.shape[-2]:
        raise ValueError(
            f"`images` must be square for poses that swap rows and columns, got"
            f" {tuple(images.shape[-2:])}. Crop them, or use the preset `side_on`."
        )
    images = images.clone()
    turned = parameters.angle != 0
    lit = (parameters.balance != 0) | (parameters.contrast != 1)
    changed = (turned | lit).nonzero().flatten()
    for chosen in torch.split(changed, num_at_once(images)) if len(changed) else ():
        rows, is_turned = chosen.to(images.device), turned[chosen].to(images.device)
        angle, balance, contrast = (
            value[chosen].to(images.device)
            for value in (parameters.angle, parameters.balance, parameters.contrast)
        )
        pixels = images[rows].float()
        pixels[is_turned] = _rotate(pixels[is_turned], angle[is_turned])
        images[rows] = (
            adjust_brightness_contrast(pixels, balance, contrast, white=255).round_().byte()
        )
    return dihedral_batch(images, pose)


def augment_batch(
    images: Tensor, parameters: AugmentationParameters, image_size: int, *, squish: bool = False
) -> Tensor:
    """Zoom, crop and turn each image of a batch in one bilinear resample, then light and mirror.

    The same law as a resize, a crop and :func:`augment` one after the other, up to the rounding
    of sizes to whole pixels, and but for the corners of turned images: here they show what lies
    outside of the crop, there the crop reflected. Images much larger than the result should be
    made smaller first: a resample does not average.

    Args:
        images: Images, on any device. Shape ``(batch, channels, height, width)``, ``uint8``.
        parameters: As :func:`draw_parameters` gives them for as many images.
        image_size: Side of the result in pixels, at least 1.
        squish: Whether both sides are brought to the size, and not the shorter one alone.

    Returns:
        Shape ``(batch, channels, image_size, image_size)``, ``uint8``, on the same device.

    Raises:
        ValueError: If ``images`` is not a batch of ``uint8`` images, or ``image_size`` below 1.

    Example:
        >>> images = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
        >>> unchanged = draw_parameters(2, "none", 1.0, torch.Generator())
        >>> torch.equal(augment_batch(images, unchanged, image_size=8), images)
        True
    """
    _check_batch(images)
    if image_size < 1:
        raise ValueError(f"`image_size` must be at least 1, got {image_size}.")
    if not len(images):
        return images.new_empty(0, images.shape[1], image_size, image_size)
    # Sides of the zoomed image as multiples of the crop's.
    shorter = min(images.shape[-2:])
    tall, wide = (
        parameters.zoom * (1.0 if squish else edge / shorter) for edge in images.shape[-2:]
    )
    matrix = crop_matrix(
        parameters.angle,
        parameters.crop_top,
        parameters.crop_left,
        tall,
        wide,
        pose=parameters.pose,
    )
    result = images.new_empty(len(images), images.shape[1], image_size, image_size)
    drawn = (value.to(images.device) for value in (matrix, parameters.balance, parameters.contrast))
    at_once = num_at_once(images, result)
    parts = (torch.split(tensor, at_once) for tensor in (images, result, *drawn))
    for some, made, where, balance, contrast in zip(*parts, strict=True):
        pixels = resample(some.float(), where, image_size, image_size)
        made.copy_(adjust_brightness_contrast(pixels, balance, contrast, white=255).round_())
    return result


def _check_batch(images: Tensor) -> None:
    if images.ndim != 4 or images.dtype != torch.uint8:
        raise ValueError(
            "`images` must be `uint8` of shape (batch, 3, height, width), got"
            f" {images.dtype} of shape {tuple(images.shape)}. Augment before normalising."
        )


def _rotate(pixels: Tensor, degrees: Tensor) -> Tensor:
    """Turn anticlockwise about the centre with reflected borders, by one bilinear resample."""
    if not len(pixels):
        return pixels
    ones = torch.ones_like(degrees)
    aspect = pixels.shape[-2] / pixels.shape[-1]
    matrix = crop_matrix(degrees, ones / 2, ones / 2, ones, ones, aspect)
    return resample(pixels, matrix, *pixels.shape[-2:])
