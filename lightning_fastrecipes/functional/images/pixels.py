"""Move, resample and brighten the pixels of a batch of images."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from lightning_fastrecipes.protocols import InputSpec

# Floats: with what is made of them about as much as stays in a core's own cache.
_AT_ONCE = 1 << 18


def dihedral(images: Tensor, element: int) -> Tensor:
    """Move pixels by one of the 8 symmetries of the square, exactly.

    The last two axes are height and width, which are swapped where ``element`` is odd: 0 to 3
    rotate anticlockwise by that many quarter turns; 4 to 7 rotate by ``element - 4`` of them and
    then flip left and right. So 0 changes nothing, and 4 is a flip. Raise `ValueError` for any
    other element.

    >>> dihedral(torch.tensor([[1, 2], [3, 4]]), 4)
    tensor([[2, 1],
            [4, 3]])
    """
    if not 0 <= element <= 7:
        raise ValueError(f"`element` must be in 0 to 7, got {element}.")
    images = images.rot90(element % 4, dims=(-2, -1))
    return images.flip(-1) if element >= 4 else images


def dihedral_batch(images: Tensor, elements: Tensor) -> Tensor:
    """Move the pixels of each image in place, by its element as in :func:`dihedral`."""
    for element in sorted(set(elements.tolist()) - {0}):
        chosen = (elements == element).to(images.device)
        images[chosen] = dihedral(images[chosen], element)
    return images


def crop_matrix(
    degrees: Tensor,
    crop_top: Tensor,
    crop_left: Tensor,
    tall: Tensor,
    wide: Tensor,
    aspect: float = 1.0,
    elements: Tensor | None = None,
) -> Tensor:
    """Compute where the pixels of zoomed, cropped and rotated images come from.

    All tensors have the shape ``(batch,)``. Rotations are anticlockwise. ``crop_top`` and
    ``crop_left`` say where the crop starts, as a fraction of the rows and columns to spare;
    ``tall`` and ``wide`` are height and width of the zoomed image as multiples of the crop's.
    ``aspect`` is height over width of the crop: in the grid both are 2 long. ``elements`` are the
    last change, as in :func:`dihedral`. The result, ``(batch, 2, 3)``, is for :func:`resample`.
    """
    if elements is not None:
        degrees = degrees + 90.0 * (elements % 4)
    radians = degrees * (math.pi / 180)
    cosine, sine = radians.cos(), radians.sin()
    right = (2 * crop_left - 1) * (wide - 1) / wide
    down = (2 * crop_top - 1) * (tall - 1) / tall
    flip = 1.0 if elements is None else torch.where(elements < 4, 1.0, -1.0)
    across = [cosine / wide * flip, -sine * aspect / wide, right]
    along = [sine / aspect / tall * flip, cosine / tall, down]
    return torch.stack(across + along, dim=1).view(-1, 2, 3)


def resample(pixels: Tensor, matrix: Tensor, height: int, width: int) -> Tensor:
    """Take float pixels from where ``matrix`` says, bilinear and with reflected borders."""
    rows, columns = (
        (2 * torch.arange(n, device=pixels.device) + 1) / n - 1 for n in (height, width)
    )
    across, along, start = matrix[..., None, None].unbind(2)
    # Plane by plane, unlike `affine_grid`, which takes as long as the resample itself.
    grid = (across * columns + start) + along * rows[:, None]
    return functional.grid_sample(
        pixels,
        grid.permute(0, 2, 3, 1),
        mode="bilinear",
        padding_mode="reflection",
        align_corners=False,
    )


def adjust_brightness_contrast(
    pixels: Tensor, brightness: Tensor, contrast: Tensor, white: float = 1.0
) -> Tensor:
    """Change the contrast about each image's mean, then its brightness, in place.

    ``pixels`` are floats in [0, ``white``] of shape ``(batch, channels, height, width)``.
    ``brightness`` ``(batch,)`` is added, as a fraction of ``white``; ``contrast`` ``(batch,)`` is a
    factor on the distance from the mean. Return the same tensor.
    """
    brightness, contrast = brightness.view(-1, 1, 1, 1), contrast.view(-1, 1, 1, 1)
    added = pixels.mean(dim=(1, 2, 3), keepdim=True) * (1 - contrast) + white * brightness
    return pixels.mul_(contrast).add_(added).clamp_(0, white)


def change_pixels(
    images: Tensor,
    result: Tensor,
    matrix: Tensor,
    moved: Tensor,
    brightness: Tensor,
    contrast: Tensor,
    input_spec: InputSpec | None = None,
) -> Tensor:
    """Resample some images of a batch, and adjust brightness and contrast, a few at a time.

    ``images`` are ``uint8`` or normalised floats, on any device, of shape
    ``(batch, channels, height, width)``. The changed ones are written to ``result``, which is
    returned: ``images`` itself, or images of another size if all are moved. ``matrix`` is for
    :func:`resample`; ``moved`` ``(batch,)`` says which images are resampled. These and what
    :func:`adjust_brightness_contrast` takes are on the CPU. ``input_spec`` says how floats were
    normalised; without it, they are only moved.
    """
    is_known = images.dtype == torch.uint8 or input_spec is not None
    changed = moved | (((brightness != 0) | (contrast != 1)) & is_known)
    drawn = [values.to(images.device) for values in (matrix, brightness, contrast)]
    for rows in _chunks(changed, num_at_once(images, result)):
        where, added, factor = (values[rows] for values in drawn)
        pixels, white = _as_floats(images[rows], input_spec)
        if moved[rows].all():
            pixels = resample(pixels, where, *result.shape[-2:])
        elif moved[rows].any():
            chosen = moved[rows].to(images.device)
            pixels[chosen] = resample(pixels[chosen], where[chosen], *result.shape[-2:])
        if is_known:
            pixels = adjust_brightness_contrast(pixels, added, factor, white)
        result[rows] = _from_floats(pixels, images.dtype, input_spec)
    return result


def num_at_once(*images: Tensor) -> int:
    """Return how many images of a batch to work on together.

    A few at a time stay in a CPU's cache, and need no memory for a whole batch of floats; a GPU
    takes them all at once.
    """
    if images[0].device.type != "cpu":
        return max(len(images[0]), 1)
    largest = max(math.prod(batch.shape[1:]) for batch in images)
    return max(_AT_ONCE // max(largest, 1), 1) * torch.get_num_threads()


def _chunks(changed: Tensor, at_once: int) -> Iterator[slice | Tensor]:
    """Return the rows to change, as slices where all of them are, which copy nothing."""
    if bool(changed.all()):
        for start in range(0, len(changed), at_once):
            yield slice(start, start + at_once)
    else:
        yield from torch.split(changed.nonzero().flatten(), at_once)


def _as_floats(images: Tensor, input_spec: InputSpec | None) -> tuple[Tensor, float]:
    """Undo the normalisation, where it is known; return the largest value of a pixel as well."""
    pixels = images.float()
    if images.dtype == torch.uint8:
        return pixels, 255.0
    if input_spec is None:
        return pixels, 1.0
    mean, std = _as_tensors(input_spec, pixels)
    return pixels * std + mean, 1.0


def _from_floats(pixels: Tensor, dtype: torch.dtype, input_spec: InputSpec | None) -> Tensor:
    if dtype == torch.uint8:
        return pixels.round_().to(dtype)
    if input_spec is None:
        return pixels.to(dtype)
    mean, std = _as_tensors(input_spec, pixels)
    return ((pixels - mean) / std).to(dtype)


def _as_tensors(input_spec: InputSpec, like: Tensor) -> tuple[Tensor, Tensor]:
    mean, std = (
        torch.tensor(values, dtype=like.dtype, device=like.device).view(-1, 1, 1)
        for values in (input_spec.mean, input_spec.std)
    )
    return mean, std
