"""The options that every datamodule of images takes."""

from dataclasses import KW_ONLY, dataclass
from typing import Literal, TypedDict

from lightning_fastrecipes.data.common.cache_choice import Cache
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
from lightning_fastrecipes.functional.random import seeded_generator
from lightning_fastrecipes.messages import suggestion

OnBadFile = Literal["raise", "skip"]


@dataclass(frozen=True)
class Augmentation:
    """How training images are changed at random.

    Args:
        preset: ``none`` serves the images of the evaluation; ``basic`` rotates them and changes
            brightness and contrast a little; ``side_on`` (photos) mirrors them too; ``top_down``
            (images from above) also flips them and rotates by 90 degrees.
        max_zoom: Largest zoom, at least 1.
        max_angle: Largest rotation in degrees, at least 0.
        on_device: Augment whole batches on the device, after the transfer by a trainer, instead of
            image by image in the loader: faster; same distribution, different random draws.

    Raises:
        ValueError: If a value is out of its range.
    """

    preset: Preset = "none"
    max_zoom: float = 1.1
    max_angle: float = MAX_ANGLE
    _: KW_ONLY
    on_device: bool = False

    def __post_init__(self) -> None:
        draw_parameters(0, self.preset, self.max_zoom, seeded_generator(0), self.max_angle)


def as_augmentation(choice: Preset | Augmentation) -> Augmentation:
    """Return what a preset stands for: the defaults of ``Augmentation``."""
    return choice if isinstance(choice, Augmentation) else Augmentation(choice)


class ImageOptions(TypedDict, total=False):
    """Options of every datamodule of images.

    Args:
        image_size: Side of the square images in pixels, at least 1; 224 if not given.
        batch_size: Images per step and process, at least 1; 32 if not given.
        split: Which image is of which split. A share to validate on (0.2 if not given), a
            ``FractionSplit``, or for a table of labels also a ``ColumnSplit`` or its column's name,
            or a ``GroupSplit``. Splits that the data bring along are kept.
        augmentation: Preset for training images, or an ``Augmentation``; ``none`` if not given.
        geometry: How images are resized and cropped; the defaults of ``Geometry`` if not given.
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
    augmentation: Preset | Augmentation
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


def with_defaults(options: ImageOptions, owner: str) -> ImageOptions:
    """Fill in what was not given; a TypeError names an option that ``owner`` does not have."""
    for name in options:
        if name not in DEFAULTS:
            raise TypeError(
                f"`{owner}` has no option `{name}`, only {', '.join(DEFAULTS)}."
                f"{suggestion(name, DEFAULTS)}"
            )
    return {**DEFAULTS, **options}


def image_split(choice: SplitChoice, owner: str, *, has_columns: bool) -> Split:
    """Return the split that is meant; a ValueError refuses one that ``owner`` cannot make."""
    split = as_split(choice)
    ways = (FractionSplit, ColumnSplit, GroupSplit) if has_columns else (FractionSplit,)
    if not isinstance(split, ways):
        raise ConfigurationError(
            f"`split` of `{owner}` must be {' or '.join(way.__name__ for way in ways)}, got"
            f" {split}. Give one; for a column use `ImageCSVDataModule` with a table of labels."
        )
    return split
