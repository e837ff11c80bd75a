"""Move, resample and brighten the pixels of a batch of images."""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from lightning_fastrecipes.protocols import InputSpec

Step = tuple[Callable[[Tensor, Tensor, float], Tensor], Tensor, Tensor]
"""A change of pixels ``(images, values, white)``, for which images it is made, and its values."""

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


def shift_matrix(shares: Tensor) -> Tensor:
    """Compute where pixels come from that are shifted down and right by shares of the sides.

    ``shares`` has the shape ``(batch, 2)``, the result ``(batch, 3, 3)``.
    """
    matrix = torch.eye(3).repeat(len(shares), 1, 1)
    matrix[:, 0, 2], matrix[:, 1, 2] = -2 * shares[:, 1], -2 * shares[:, 0]
    return matrix


def perspective_matrix(inward: Tensor) -> Tensor:
    """Compute where pixels come from when the corners of an image are moved inwards.

    ``inward`` ``(batch, 8)`` says how far, across and down, as shares of half the side, for the
    corners from the top left one clockwise. The result has the shape ``(batch, 3, 3)``.
    """
    corners = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    first, second, third, fourth = (corners * (1 - inward.view(-1, 4, 2))).unbind(1)
    # The map of the unit square to these corners (Heckbert, 1989), and its inverse up to a factor.
    right, left, skew = second - third, fourth - third, first - second + third - fourth
    area = right[:, :1] * left[:, 1:] - left[:, :1] * right[:, 1:]
    across = (skew[:, :1] * left[:, 1:] - left[:, :1] * skew[:, 1:]) / area
    along = (right[:, :1] * skew[:, 1:] - skew[:, :1] * right[:, 1:]) / area
    one = torch.ones_like(across)
    columns = (
        torch.cat([second - first + across * second, across], dim=1),
        torch.cat([fourth - first + along * fourth, along], dim=1),
        torch.cat([first, one], dim=1),
    )
    inverse = torch.stack(
        [torch.linalg.cross(columns[(i + 1) % 3], columns[(i + 2) % 3]) for i in range(3)], dim=1
    )
    inverse = inverse / inverse.abs().amax(dim=(1, 2), keepdim=True)
    # From the unit square to [-1, 1].
    return torch.cat([2 * inverse[:, :2] - inverse[:, 2:], inverse[:, 2:]], dim=1)


def compose(first: Tensor, second: Tensor) -> Tensor:
    """Multiply the matrices ``(batch, 2 or 3, 3)`` of each image; the result is ``(..., 3, 3)``."""
    if first.shape[1] == 2:
        last = torch.tensor([[[0.0, 0.0, 1.0]]]).expand(len(first), -1, -1)
        return compose(torch.cat([first, last], dim=1), second)
    if second.shape[1] == 2:
        return compose(first, compose(second, torch.eye(3).repeat(len(second), 1, 1)))
    return (first[..., None] * second[:, None]).sum(dim=2)


def resample(pixels: Tensor, matrix: Tensor, height: int, width: int) -> Tensor:
    """Take float pixels from where ``matrix`` says, bilinear and with reflected borders.

    ``matrix`` has the shape ``(batch, 2, 3)``, or ``(batch, 3, 3)`` with perspective.
    """
    rows, columns = (
        (2 * torch.arange(n, device=pixels.device) + 1) / n - 1 for n in (height, width)
    )
    across, along, start = matrix[..., None, None].unbind(2)
    # Plane by plane, unlike `affine_grid`, which takes as long as the resample itself.
    grid = (across * columns + start) + along * rows[:, None]
    if grid.shape[1] == 3:
        grid = grid[:, :2] / grid[:, 2:]
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
    steps: Sequence[Step] = (),
) -> Tensor:
    """Resample some images of a batch, and adjust brightness and contrast, a few at a time.

    ``images`` are ``uint8`` or normalised floats, on any device, of shape
    ``(batch, channels, height, width)``. The changed ones are written to ``result``, which is
    returned: ``images`` itself, or images of another size if all are moved. ``matrix`` is for
    :func:`resample`; ``moved`` ``(batch,)`` says which images are resampled. These and what
    :func:`adjust_brightness_contrast` takes are on the CPU. ``input_spec`` says how floats were
    normalised; without it, they are only moved. ``steps`` are made afterwards, in their order.
    """
    is_known = images.dtype == torch.uint8 or input_spec is not None
    if steps and not is_known:
        raise ValueError(
            "Images must be `uint8`, or it must be known how they were normalised, to change their"
            " pixels. Give the module an `input_spec`, or use transforms that move pixels alone."
        )
    changed = moved | (((brightness != 0) | (contrast != 1)) & is_known)
    for _, happens, _ in steps:
        changed = changed | happens
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
        for apply, happens, values in steps:
            chosen = happens[rows].nonzero().flatten()
            if len(chosen):
                found = values[rows][chosen].to(images.device)
                chosen = chosen.to(images.device)
                pixels[chosen] = apply(pixels[chosen], found, white)
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
    mean, std = input_spec.centre_and_scale(pixels)
    return pixels * std + mean, 1.0


def _from_floats(pixels: Tensor, dtype: torch.dtype, input_spec: InputSpec | None) -> Tensor:
    if dtype == torch.uint8:
        return pixels.round_().to(dtype)
    if input_spec is None:
        return pixels.to(dtype)
    mean, std = input_spec.centre_and_scale(pixels)
    return ((pixels - mean) / std).to(dtype)
