"""The options that every datamodule of images takes."""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property
from inspect import signature
from typing import Any, Literal, TypedDict, get_args

from lightning_fastrecipes.data.common.cache_choice import Cache
from lightning_fastrecipes.data.common.row_splits import FoldSplit, RowSplit
from lightning_fastrecipes.data.common.split_choice import (
    ColumnSplit,
    FractionSplit,
    GroupSplit,
    Split,
    SplitChoice,
    as_split,
)
from lightning_fastrecipes.data.images.geometry import Geometry
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.functional.images.augment import MAX_ANGLE, Preset, draw_parameters
from lightning_fastrecipes.functional.images.transform_list import (
    TransformSpec,
    name_of,
    read_transforms,
)
from lightning_fastrecipes.functional.images.transforms import Transform
from lightning_fastrecipes.functional.random import seeded_generator
from lightning_fastrecipes.messages import shown, suggestion
from lightning_fastrecipes.typed import check_mapping, check_types

OnBadFile = Literal["raise", "skip"]


@dataclass(frozen=True)
class Augmentation:
    """How training images are changed at random.

    Args:
        preset: ``none`` serves the images of the evaluation; ``basic`` rotates them and changes
            brightness and contrast a little; ``side_on`` (photos) mirrors them too; ``top_down``
            (images from above) also flips them and rotates by 90 degrees.
        max_zoom: Largest zoom of a preset, at least 1.
        max_angle: Largest rotation of a preset in degrees, at least 0.
        transforms: What else changes images, after the preset: a list of the transforms below, as
            ``"flip"``, ``{"rotate": 10}`` (the first value of the table) or ``{"rotate":
            {"degrees": 10, "p": 0.75}}``; or by class path, ``{"class_path":
            "torchvision.transforms.v2.RandomSolarize", "init_args": {"threshold": 128}, "p": 0.5}``
            or as an object: anything that takes and returns a ``uint8`` image of one shape.
        on_device: Augment whole batches on the device, after the transfer by a trainer, instead of
            image by image in the loader: faster; same distribution, different random draws.

    Raises:
        ValueError: If a value is out of its range, or a transform is unknown.

    Example:
        >>> chosen = Augmentation("side_on", transforms=[{"hue": 0.1}, "erase"])
        >>> chosen.listed[0]
        Hue(p=0.75, turn=0.1)

    Note:
        Every transform happens with probability ``p``, and draws anew for each image. An image is
        cropped at random and moved by one resample, in the order of the first six rows; then its
        pixels are changed, in the order of the list. Each image's draws follow from the seed, the
        epoch and its place in the data alone. ``fastrecipes show-batch`` and ``show_transforms``
        draw each at its extremes.

        ================== ============================================================ ===========
        transform          strength, its range and default                               ``p``
        ================== ============================================================ ===========
        ``zoom``           ``max_zoom`` 1.1, ``min_zoom`` 1.0: factor, 0.5 to 10         0.75
        ``rotate``         ``degrees`` 10: either way, 0 to 180                          0.75
        ``shift``          ``fraction`` 0.1: share of each side, either way, 0 to 1      0.75
        ``warp``           ``distortion`` 0.2: corners inwards, share of half a side,    0.5
                           0 to 0.9
        ``flip``           left and right                                                0.5
        ``flip_vertical``  upside down                                                   0.5
        ``brightness``     ``strength`` 0.2: factor within 1 +- strength, at least 0     0.75
        ``contrast``       ``strength`` 0.2: the same about the image's mean grey        0.75
        ``saturation``     ``strength`` 0.2: the same about each pixel's grey            0.75
        ``hue``            ``turn`` 0.05: share of the circle, either way, 0 to 0.5      0.75
        ``grey``           no colour                                                     0.1
        ``blur``           ``max_sigma`` 2, ``min_sigma`` 0.1: pixels, 0.01 to 100       0.2
        ``erase``          ``max_area`` 0.33, ``min_area`` 0.02: share of the image, 0   0.5
                           to 1; ``max_ratio`` 3.3 of the sides; ``value`` 0, black,
                           to 1, white
        ``channel_jitter`` ``strength`` 0.1: a factor of its own for each channel        0.75
        ================== ============================================================ ===========

        The laws are those of torchvision's ``RandomAffine``, ``RandomPerspective``, ``ColorJitter``
        (in the order of the list), ``GaussianBlur`` and ``RandomErasing``; borders are reflected.
        The brightness and contrast of the presets are the course's, which are added and gentler.
    """

    preset: Preset = "none"
    max_zoom: float = 1.1
    max_angle: float = MAX_ANGLE
    transforms: Sequence[TransformSpec] = ()
    _: KW_ONLY
    on_device: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        draw_parameters(0, self.preset, self.max_zoom, seeded_generator(0), self.max_angle)
        _ = self.listed  # refuses what is wrong
        object.__setattr__(self, "transforms", tuple(self.transforms))

    @cached_property
    def listed(self) -> tuple[Transform, ...]:
        """The transforms of the list, built."""
        return read_transforms(self.transforms)

    def __str__(self) -> str:
        """Return the preset and the names of the transforms."""
        names = [name_of(spec) for spec in self.transforms]
        return ", ".join(names if names and self.preset == "none" else [self.preset, *names])

    @property
    def is_none(self) -> bool:
        """Whether training images are those of the evaluation."""
        return self.preset == "none" and not self.transforms


AugmentationChoice = Preset | Augmentation | Sequence[TransformSpec]
"""A preset, all settings, or a list of transforms alone."""


def as_augmentation(
    choice: AugmentationChoice | Mapping[str, Any], before: Augmentation | None = None
) -> Augmentation:
    """Return the augmentation that is meant, other settings as ``before``; ``none`` has no list."""
    if isinstance(choice, Augmentation):
        return choice
    before = before or Augmentation()
    if choice == "none":
        return replace(before, preset="none", transforms=())
    if isinstance(choice, Mapping):
        check_mapping(Augmentation, choice, "augmentation")
        return replace(before, **choice)
    is_list = isinstance(choice, Sequence) and not isinstance(choice, str)
    if isinstance(choice, str) and choice not in get_args(Preset):
        raise ConfigurationError(
            f"`augmentation` must be one of {', '.join(get_args(Preset))}, got {shown(choice)}."
        )
    changes: Any = {"preset": "none", "transforms": choice} if is_list else {"preset": choice}
    return replace(before, **changes)


class ImageOptions(TypedDict, total=False):
    """Options of every datamodule of images.

    Args:
        image_size: Side of the square images in pixels, at least 1; 224 if not given.
        batch_size: Images per step and process, at least 1; 32 if not given.
        split: Which image is of which split. A share to validate on (0.2 if not given), a
            ``FractionSplit`` or ``FoldSplit``, or for a table of labels also a ``ColumnSplit`` or
            its column's name, a ``GroupSplit``, or lists of rows (``RowSplit``). Splits that the
            data bring along are kept.
        augmentation: Preset for training images, a list of transforms, or an ``Augmentation``;
            ``none`` if not given.
        geometry: How images are resized, cropped and normalised; the defaults of ``Geometry`` if
            not given.
        class_balanced: Draw training images, with replacement, in proportion to ``1 / count`` of
            their (rarest) label, so that rare labels are seen as often as common ones.
        seed: Of shuffling and augmentation, at least 0; 0 if not given.
        on_bad_file: ``raise``, if not given, refuses to start with unreadable files; ``skip``
            leaves them out.
        num_workers: Loader processes, at least 0; from the machine and the data if not given.
        cache: Where decoded images are kept: ``auto``, if not given, or true in the cache folder
            if there is room, ``off`` or false nowhere, or a folder.
    """

    image_size: int
    batch_size: int
    split: SplitChoice
    augmentation: AugmentationChoice
    geometry: Geometry | None
    class_balanced: bool
    seed: int
    on_bad_file: OnBadFile
    num_workers: int | None
    cache: Cache


DEFAULTS = ImageOptions(
    image_size=224,
    batch_size=32,
    split=None,
    augmentation="none",
    geometry=None,
    class_balanced=False,
    seed=0,
    on_bad_file="raise",
    num_workers=None,
    cache="auto",
)


def with_defaults(options: ImageOptions, owner: type) -> ImageOptions:
    """Fill in what was not given; a TypeError names an option that ``owner`` does not have."""
    for name in options:
        if name not in DEFAULTS:
            inner = [part for part in (Geometry, Augmentation) if name in part.__annotations__]
            cure = suggestion(name, [*DEFAULTS, *signature(owner).parameters])
            if inner:
                home = inner[0].__name__
                cure = f" `{name}` belongs to `{home}`: give `{home.lower()}={home}({name}=...)`."
            only = ", ".join(DEFAULTS)
            raise TypeError(f"`{owner.__name__}` has no option `{name}`, only {only}.{cure}")
    return {**DEFAULTS, **options}


def image_split(choice: SplitChoice, owner: str, *, has_columns: bool) -> Split:
    """Return the split that is meant; a ValueError refuses one that ``owner`` cannot make."""
    split = as_split(choice)
    ways: tuple[type[Split], ...] = (FractionSplit, FoldSplit)
    if has_columns:
        ways = (*ways, ColumnSplit, GroupSplit, RowSplit)
    needs_column = isinstance(split, FoldSplit) and split.column is not None and not has_columns
    if not isinstance(split, ways) or needs_column:
        raise ConfigurationError(
            f"`split` of `{owner}` must be {' or '.join(way.__name__ for way in ways)}, got"
            f" {split}. Give one; for a column use `ImageCSVDataModule` with a table of labels."
        )
    return split
