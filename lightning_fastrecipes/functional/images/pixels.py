"""How pixels of a batch of images are moved, resampled and lit."""

import math

import torch
from torch import Tensor
from torch.nn import functional

# Floats: with what is made of them about as much as stays in a core's own cache.
_AT_ONCE = 1 << 18


def dihedral(images: Tensor, element: int) -> Tensor:
    """Move pixels by one of the 8 symmetries of the square, exactly.

    Args:
        images: Images in any layout whose last two axes are height and width.
        element: 0 to 3 turn anticlockwise by that many quarters; 4 to 7 turn by ``element - 4``
            quarters and then mirror left and right. 0 changes nothing, 4 is a plain mirror.

    Returns:
        The moved images; height and width are swapped where ``element`` is odd.

    Raises:
        ValueError: If ``element`` is not in 0 to 7.

    Example:
        >>> dihedral(torch.tensor([[1, 2], [3, 4]]), 4)
        tensor([[2, 1],
                [4, 3]])
    """
    if not 0 <= element <= 7:
        raise ValueError(f"`element` must be in 0 to 7, got {element}.")
    images = images.rot90(element % 4, dims=(-2, -1))
    return images.flip(-1) if element >= 4 else images


def dihedral_batch(images: Tensor, pose: Tensor) -> Tensor:
    """Move the pixels of each image in place, by its element as in :func:`dihedral`."""
    for element in sorted(set(pose.tolist()) - {0}):
        chosen = (pose == element).to(images.device)
        images[chosen] = dihedral(images[chosen], element)
    return images


def crop_matrix(
    degrees: Tensor,
    crop_top: Tensor,
    crop_left: Tensor,
    tall: Tensor,
    wide: Tensor,
    aspect: float = 1.0,
    pose: Tensor | None = None,
) -> Tensor:
    """Say where the pixels of zoomed, cropped and turned images come from, for :func:`resample`.

    Args:
        degrees: Turns, anticlockwise. Shape ``(batch,)``, as all others.
        crop_top: Where the crop starts, as a fraction of the rows to spare.
        crop_left: The same for the columns to spare.
        tall: Height of the zoomed image as a multiple of the crop's.
        wide: The same for its width.
        aspect: Height over width of the crop: in the grid both are 2 long.
        pose: What is done last, an element as in :func:`dihedral`, if anything.

    Returns:
        Shape ``(batch, 2, 3)``.
    """
    if pose is not None:
        degrees = degrees + 90.0 * (pose % 4)
    radians = degrees * (math.pi / 180)
    cosine, sine = radians.cos(), radians.sin()
    right = (2 * crop_left - 1) * (wide - 1) / wide
    down = (2 * crop_top - 1) * (tall - 1) / tall
    mirror = 1.0 if pose is None else torch.where(pose < 4, 1.0, -1.0)
    across = [cosine / wide * mirror, -sine * aspect / wide, right]
    along = [sine / aspect / tall * mirror, cosine / tall, down]
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
    pixels: Tensor, balance: Tensor, contrast: Tensor, white: float = 1.0
) -> Tensor:
    """Change the contrast about each image's mean, then its brightness, in place.

    Args:
        pixels: Floats in [0, ``white``]. Shape ``(batch, channels, height, width)``.
        balance: Brightness added, as a part of ``white``. Shape ``(batch,)``.
        contrast: Factor on the distance from the mean. Shape ``(batch,)``.
        white: Largest value of a pixel.

    Returns:
        The same tensor.
    """
    balance, contrast = balance.view(-1, 1, 1, 1), contrast.view(-1, 1, 1, 1)
    added = pixels.mean(dim=(1, 2, 3), keepdim=True) * (1 - contrast) + white * balance
    return pixels.mul_(contrast).add_(added).clamp_(0, white)


def num_at_once(*images: Tensor) -> int:
    """Return how many images of a batch to work on together.

    A few at a time stay in a CPU's cache, and take no memory for a whole batch of floats; a
    card takes them all at once.
    """
    if images[0].device.type != "cpu":
        return max(len(images[0]), 1)
    largest = max(math.prod(photos.shape[1:]) for photos in images)
    return max(_AT_ONCE // max(largest, 1), 1) * torch.get_num_threads()
