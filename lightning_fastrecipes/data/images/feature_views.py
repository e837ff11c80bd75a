"""Which views of each training image are precomputed, and which of them an epoch sees."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_fastrecipes._lightning import rank_zero_info
from lightning_fastrecipes.data.images.options import Augmentation
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.functional.images.pixels import dihedral_batch
from lightning_fastrecipes.functional.images.transform_list import name_of
from lightning_fastrecipes.functional.images.transforms import Flip, FlipVertical
from lightning_fastrecipes.functional.images.views import Views
from lightning_fastrecipes.functional.random import seeded_generator
from lightning_fastrecipes.messages import name_some

ViewChoice = int | Literal["poses"] | None
"""How many views are drawn; or all flips and turns that the augmentation makes; or none."""

_SYMMETRIES = {"none": [0], "basic": [0], "side_on": [0, 4], "top_down": list(range(8))}
_VIEW_OF_AN_EPOCH = 1  # apart from the shuffling, whose key is seed and epoch


@dataclass(frozen=True)
class FixedViews:
    """Views that every training image has: the plain one, poses, or draws of the augmentation.

    ``poses`` are symmetries of the square, as of ``dihedral``, the first of them the plain image.
    ``drawn`` views come behind them, and are then the ones that are trained on.
    """

    poses: tuple[int, ...] = (0,)
    drawn: Views | None = None

    @property
    def count(self) -> int:
        """How many views there are."""
        return len(self.poses) + (self.drawn.num_views if self.drawn else 0)

    @property
    def trained(self) -> range:
        """The views that epochs draw from."""
        return range(len(self.poses) if self.drawn else 0, self.count)

    def key(self) -> dict[str, Any]:
        """Describe with plain values all that the views depend on."""
        if self.drawn is None:
            return {"poses": list(self.poses)}
        names = ("n", "augmentation", "max_zoom", "max_angle", "seed")
        drawn = {name: getattr(self.drawn, name) for name in names}
        return {"drawn_by_pixels": drawn | {"transforms": [repr(one) for one in self.drawn.listed]}}

    def of_batch(self, images: Tensor, drawn: Sequence[Tensor]) -> list[Tensor]:
        """Return each view of a batch of plain images, after which come those that are drawn.

        Images have the shape ``(batch, channels, size, size)``, drawn views one axis more behind
        the first.
        """
        if self.drawn is not None:
            return [images, *drawn[0].unbind(1)]
        elements = [torch.full((len(images),), pose) for pose in self.poses]
        return [dihedral_batch(images.clone(), element) for element in elements]


def fixed_views(asked: ViewChoice, augmentation: Augmentation, seed: int) -> FixedViews:
    """Return the views that are meant; a `ConfigurationError` where the augmentation has none."""
    if asked is None:
        return FixedViews()
    if asked == "poses":
        return FixedViews(_poses(augmentation))
    if isinstance(asked, bool) or not isinstance(asked, int) or asked < 1:
        raise ConfigurationError(
            f"`views` must be 'poses' or a number of at least 1, got {asked!r}. Leave it out for"
            " the plain image alone."
        )
    if augmentation.is_none:
        raise ConfigurationError(
            f"`views={asked}` draws views of the augmentation, but images are not augmented. Set"
            " `augmentation`, or leave `views` out."
        )
    return FixedViews(
        drawn=Views(
            "training",
            asked,
            augmentation=augmentation.preset,
            max_zoom=augmentation.max_zoom,
            max_angle=augmentation.max_angle,
            transforms=augmentation.transforms,
            seed=seed,
        )
    )


def views_of_epoch(views: range, num_images: int, seed: int, epoch: int) -> Tensor:
    """Draw one view for each image, by seed and epoch alone. Shape ``(images,)``.

    >>> views_of_epoch(range(2, 3), 4, seed=0, epoch=1)
    tensor([2, 2, 2, 2])
    """
    generator = seeded_generator(seed, epoch, _VIEW_OF_AN_EPOCH, 0)
    return torch.randint(views.start, views.stop, (num_images,), generator=generator)


def _poses(augmentation: Augmentation) -> tuple[int, ...]:
    """Return all flips and turns that an augmentation makes, and say what is left out."""
    elements = set(_SYMMETRIES[augmentation.preset])
    left_out = [] if augmentation.preset == "none" else ["zoom, rotation, light"]
    for spec, transform in zip(augmentation.transforms, augmentation.listed, strict=True):
        if not isinstance(transform, (Flip, FlipVertical)):
            left_out.append(name_of(spec))
            continue
        if transform.p != 0.5:
            raise ConfigurationError(
                f"`views='poses'` has every pose equally often, but {name_of(spec)} has `p` of"
                f" {transform.p}. Leave `p` out, or draw views: `views=8`."
            )
        # As `apply_listed` composes them.
        turned = 2 if isinstance(transform, FlipVertical) else 0
        elements |= {(one + turned) % 4 + (4 if one < 4 else 0) for one in elements}
    if elements == {0}:
        raise ConfigurationError(
            f"`views='poses'` needs an augmentation that flips or turns images, but got"
            f" {augmentation}. Use `top_down` or `side_on`, or draw views: `views=8`."
        )
    if left_out:
        rank_zero_info(f"Precomputed poses flip and turn alone; left out: {name_some(left_out)}.")
    return tuple(sorted(elements))
