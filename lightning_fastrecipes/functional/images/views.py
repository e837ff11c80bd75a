"""Test-time views of images: which there are, and how their predictions are weighted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Literal, get_args

import torch
from torch import Tensor

from lightning_fastrecipes.errors import check_at_least
from lightning_fastrecipes.functional.images.augment import Preset, draw_parameters, make_view
from lightning_fastrecipes.functional.images.draws import AugmentationParameters
from lightning_fastrecipes.functional.images.pixels import dihedral_batch
from lightning_fastrecipes.functional.images.transform_list import TransformSpec, read_transforms
from lightning_fastrecipes.functional.images.transforms import Rotate, Shift, Transform, Warp, Zoom
from lightning_fastrecipes.functional.labels.merging import running_mean
from lightning_fastrecipes.functional.random import seeded_generator
from lightning_fastrecipes.protocols import InputSpec

ViewPreset = Literal["augmentation", "flips", "five_crops", "scales", "training"]
"""Kinds of views, see :class:`Views`."""

DRAWN = ("training", "augmentation")
"""The kinds of views that are drawn at random."""

_USUAL = {"training": 4, "augmentation": 4, "flips": 1, "five_crops": 4, "scales": 2}
# Symmetries as of `dihedral`: left-right, upside down, both, and these after a quarter turn.
_FLIPS = (4, 6, 2, 1, 3, 5, 7)
# Top and left of the crop; as large a part of the image as 224 pixels are of 256.
_CORNERS = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))
_CORNER_ZOOM = 8 / 7
_MAX_SCALES = 8
_BITS = 12
_ODD = 6364136223846793005  # Knuth's, of MMIX: its high bits mix well

NUM_DRAWS = 1 << _BITS
"""How many draws a view has; which of them an image gets follows from its pixels."""


@dataclass(frozen=True)
class Views:
    """Which views of an image are predicted beside the plain one, and how they are weighted.

    All views have the size of the plain image, so that any network takes them, and a file is
    decoded once. The first kind is made where images are loaded, by the transforms of training; the
    others from the pixels that the plain prediction sees:

    - ``training``: draws of exactly the training augmentation, from the whole image and with its
      crop, as if each view were an epoch;
    - ``augmentation``: draws of the training augmentation within the plain image;
    - ``flips``: flipped left and right; then, for images that have no upright side, upside down,
      both, and these after a quarter turn: 7 views; with the plain one, all 8 symmetries;
    - ``five_crops``: the four corners, 7/8 of each side, enlarged; the plain image is the fifth;
    - ``scales``: the middle of the image enlarged by 9/8, 10/8, and so on; the plain image is
      the smallest scale.

    Args:
        preset: Which kind of views.
        n: How many, at least 1; if ``None``, 4 of ``training`` and ``augmentation``, 1 of
            ``flips``, 4 of ``five_crops``, 2 of ``scales``.
        augmentation: For ``training`` and ``augmentation``, the preset that is drawn.
        max_zoom: For them, its largest zoom, at least 1.
        max_angle: For them, its largest rotation in degrees, at least 0.
        plain_weight: Weight of the plain prediction in [0, 1]; the views share the rest equally;
            that of the course if ``None``.
        seed: For them, at least 0.
        transforms: For them, the list of transforms that is drawn after the preset, as of
            ``Augmentation``.

    Raises:
        ValueError: If a value is out of its range, or a transform is unknown.
        TypeError: If ``n`` is no whole number.

    Example:
        >>> Views("flips").num_views, Views("augmentation", 4).weight
        (1, 0.2)

    Note:
        The course (fast.ai 0.7) counts the plain prediction ``ceil(n / 4)`` times among
        ``n + ceil(n / 4)``: as much as one view if there are up to 4. fastai 2 weights it by 0.25
        whatever their number: ``plain_weight=0.25``. In both, views crop from the whole image, as
        ``training`` does.

    References:
        fast.ai course (2018), lesson 1: ``learn.TTA``; fastai 2, ``Learner.tta``.
    """

    preset: ViewPreset = "augmentation"
    n: int | None = None
    augmentation: Preset = "none"
    max_zoom: float = 1.1
    max_angle: float = 10.0
    plain_weight: float | None = None
    seed: int = 0
    transforms: Sequence[TransformSpec] = ()

    def __post_init__(self) -> None:
        if self.preset not in get_args(ViewPreset):
            choices = ", ".join(get_args(ViewPreset))
            raise ValueError(f"`preset` must be one of {choices}, got {self.preset!r}.")
        most = {"flips": len(_FLIPS), "five_crops": len(_CORNERS), "scales": _MAX_SCALES}
        limit = most.get(self.preset)
        if self.n is not None and (isinstance(self.n, bool) or not isinstance(self.n, int)):
            raise TypeError(f"`n` must be a whole number, got {self.n!r}.")
        if self.n is not None and (self.n < 1 or (limit is not None and self.n > limit)):
            allowed = "at least 1" if limit is None else f"in 1 to {limit}"
            raise ValueError(f"`n` must be {allowed} for the preset {self.preset!r}, got {self.n}.")
        if self.plain_weight is not None and not 0 <= self.plain_weight <= 1:
            raise ValueError(f"`plain_weight` must lie in [0, 1], got {self.plain_weight}.")
        check_at_least("seed", self.seed, 0)
        draw_parameters(0, self.augmentation, self.max_zoom, seeded_generator(0), self.max_angle)
        _ = self.listed  # refuses what is wrong

    @cached_property
    def listed(self) -> tuple[Transform, ...]:
        """The transforms of the list, built; none for kinds that are not drawn."""
        return read_transforms(self.transforms) if self.preset in DRAWN else ()

    @property
    def num_views(self) -> int:
        """How many views there are beside the plain image."""
        return _USUAL[self.preset] if self.n is None else self.n

    @property
    def is_undoable(self) -> bool:
        """Whether a map of an image can be turned back: views flip and turn, or keep all places."""
        moves = [one for one in self.listed if isinstance(one, (Rotate, Zoom, Shift, Warp))]
        stays = self.augmentation == "none" and not moves
        return self.preset == "flips" or (self.preset == "augmentation" and stays)

    @property
    def weight(self) -> float:
        """Weight of the plain prediction."""
        if self.plain_weight is not None:
            return self.plain_weight
        count = -(-self.num_views // 4)
        return count / (self.num_views + count)

    def parameters(self, view: int, numbers: Tensor) -> AugmentationParameters:
        """Return what one view does to each image.

        They depend on the seed, the view (from 0) and the ``image_numbers`` alone, so that an image
        has the same views alone and among others. Views of ``training`` are no change of the plain
        image, and raise `ValueError`.
        """
        if self.preset == "training":
            raise ValueError(
                "Views of the preset 'training' must come with the batch, from a datamodule of"
                " images of this package. Take the preset 'augmentation'."
            )
        if self.preset == "augmentation":
            asked = self.augmentation, self.max_zoom, self.max_angle, self.listed
            return _draw(*asked, (self.seed, view)).rows(numbers.cpu())
        zoom, element, (top, left) = 1.0, 0, (0.5, 0.5)
        if self.preset == "flips":
            element = _FLIPS[view]
        elif self.preset == "five_crops":
            zoom, (top, left) = _CORNER_ZOOM, _CORNERS[view]
        elif self.preset == "scales":
            zoom = 1 + (view + 1) / 8
        plain = draw_parameters(len(numbers), "none", 1.0, seeded_generator(0))
        return replace(
            plain,
            zoom=torch.full_like(plain.zoom, zoom),
            crop_top=torch.full_like(plain.crop_top, top),
            crop_left=torch.full_like(plain.crop_left, left),
            dihedral=torch.full_like(plain.dihedral, element),
        )


@lru_cache(maxsize=64)
def _draw(
    augmentation: Preset,
    max_zoom: float,
    max_angle: float,
    transforms: tuple[Transform, ...],
    key: tuple[int, int],
) -> AugmentationParameters:
    """Draw for many images at once, which is faster than a generator for each of them."""
    generator = seeded_generator(*key)
    return draw_parameters(NUM_DRAWS, augmentation, max_zoom, generator, max_angle, transforms)


def image_numbers(images: Tensor) -> Tensor:
    """Return a number below ``NUM_DRAWS`` for each image ``(batch, ...)``, by its pixels alone.

    It is the same in any batch, on any device, and in any number of processes.

    >>> images = torch.arange(24, dtype=torch.uint8).view(2, 3, 2, 2)
    >>> torch.equal(image_numbers(images)[1:], image_numbers(images[1:]))
    True
    """
    pixels = images.flatten(1)
    if pixels.is_floating_point():
        pixels = pixels.float().view(torch.int32)
    # Whole numbers overflow alike everywhere, and their sum has no order.
    factors = torch.arange(1, pixels.shape[1] + 1, device=images.device)
    sums = [(row * factors).sum() for row in pixels]
    mixed = torch.stack(sums) * _ODD if sums else factors.new_empty(0)
    return mixed >> (64 - _BITS) & (NUM_DRAWS - 1)


def mean_of_views(
    views: Views,
    predict: Callable[[Tensor], Tensor],
    images: Tensor,
    input_spec: InputSpec | None = None,
    loaded: Tensor | None = None,
    *,
    turn_back: bool = False,
) -> Tensor:
    """Return the mean ``(batch, ...)`` of the predictions of all views of a batch.

    ``predict`` goes from images to predictions. Views of ``training`` are ``loaded``, of shape
    ``(batch, num_views, channels, height, width)``; of others one is in memory at a time. With
    ``turn_back`` predictions are maps ``(batch, channels, height, width)`` or
    ``(batch, height, width)``, and views are undone on them; raise `ValueError` if they cannot be.
    """
    if turn_back and not views.is_undoable:
        raise ValueError(
            f"maps must be turned back with their images, but views of {views.preset!r} crop, zoom"
            " or rotate, which cannot be undone. Take the preset 'flips'."
        )
    if loaded is not None:
        return running_mean(predict(view) for view in loaded.unbind(1))

    is_drawn = views.preset in DRAWN
    numbers = image_numbers(images) if is_drawn else torch.zeros(len(images), dtype=torch.long)

    def one(view: int) -> Tensor:
        parameters = views.parameters(view, numbers)
        found = predict(make_view(images, parameters, input_spec, views.listed))
        return turned_back(found, parameters.dihedral) if turn_back else found

    return running_mean(one(view) for view in range(views.num_views))


def turned_back(maps: Tensor, elements: Tensor) -> Tensor:
    """Undo symmetries of the square, as of `dihedral`, on maps of turned images.

    >>> turned_back(torch.tensor([[[2, 1], [4, 3]]]), torch.tensor([4]))
    tensor([[[1, 2],
             [3, 4]]])
    """
    # Rotations are undone by the rest of a full turn, flips by themselves.
    undone = torch.where(elements < 4, -elements % 4, elements)
    return dihedral_batch(maps.clone(), undone)
