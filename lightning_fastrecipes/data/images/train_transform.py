"""Random crops and augmentation of training images."""

import math

import torch
from torch import Tensor
from typing_extensions import override

from lightning_fastrecipes.data.images.geometry import EvalTransform, Geometry, Place
from lightning_fastrecipes.data.images.options import Augmentation
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.functional.images.augment import (
    augment,
    augment_batch,
    draw_parameters,
    largest_zoom,
)
from lightning_fastrecipes.functional.images.draws import AugmentationParameters
from lightning_fastrecipes.functional.images.transform_list import name_of
from lightning_fastrecipes.functional.images.views import Views
from lightning_fastrecipes.functional.random import seeded_generator
from lightning_fastrecipes.messages import name_some
from lightning_fastrecipes.protocols import InputSpec

# Beyond this, bilinear resampling skips pixels, and detail turns to noise.
_MAX_SHRINK = 1.25
# A second resize blurs a little; a side that is larger by this factor makes up for it.
_AGAINST_BLUR = 1.12


def view_transforms(
    image_size: int, geometry: Geometry, input_spec: InputSpec, views: Views
) -> list[EvalTransform]:
    """Return what makes each view of ``training``: the transform of training, in the view's epoch.

    It is called with the number of the view as the epoch, so that a view keeps its draws.
    """
    drawn = Augmentation(views.augmentation, views.max_zoom, views.max_angle, views.transforms)
    if drawn.is_none:
        return [EvalTransform(image_size, geometry, input_spec)] * views.num_views
    return [
        TrainTransform(image_size, geometry, input_spec, augmentation=drawn, seed=views.seed)
        for _ in range(views.num_views)
    ]


class TrainTransform(EvalTransform):
    """Zoom, crop, rotate, adjust and flip at random, by draws of seed, epoch and index alone.

    The augmentation changes something.
    """

    def __init__(
        self,
        image_size: int,
        geometry: Geometry,
        input_spec: InputSpec,
        *,
        augmentation: Augmentation,
        seed: int,
    ) -> None:
        super().__init__(image_size, geometry, input_spec)
        self.augmentation = augmentation
        self.transforms = augmentation.listed
        _check_colours(augmentation, geometry.decoding.channels)
        zoom = largest_zoom(augmentation.preset, augmentation.max_zoom, self.transforms)
        # Images are kept for the preset of a later stage as well.
        self.max_zoom = max(zoom, augmentation.max_zoom)
        self.seed = seed
        self._drawn: tuple[tuple[int, int], AugmentationParameters] | None = None

    @property
    @override
    def side(self) -> int:
        return max(super().side, math.ceil(self.image_size * self.max_zoom))

    @override
    def __call__(self, image: Tensor, epoch: int, index: int) -> Tensor:
        drawn = self._draw(1, seeded_generator(self.seed, epoch, index))
        side = round(self.image_size * max(drawn.zoom.item(), 1.0))
        crop = self._random_crop(image, side, self.image_size, drawn, 0)
        return augment(crop, drawn, self.transforms)[0]

    def window(self, image: Tensor, epoch: int, position: int, num_images: int) -> Tensor:
        """Cut out the square ``(3, side, side)`` that :meth:`batch` augments in this epoch.

        The square has the whole shorter side; along the longer side it is placed as the crop is.
        """
        drawn = self._drawn_for(epoch, num_images)
        return self._random_crop(image, self.side, self.side, drawn, position)[0]

    @override
    def batch(self, images: Tensor, epoch: int, positions: Tensor, num_images: int) -> Tensor:
        """Make this epoch's version of images of one shape, in one resample.

        The draws for all images of an epoch are made at once, so that the result does not depend
        on which images share a batch. Images that are zoomed much less than the largest zoom are
        made smaller first, so that no detail turns to noise.
        """
        drawn = self._drawn_for(epoch, num_images).rows(positions)
        if len(images) and images.shape[1] == 1 and any(t.needs_rgb for t in self.transforms):
            images = images.expand(-1, self.decoding.channels, -1, -1)
        zooms = self._band_zooms()
        if len(zooms) == 1:
            return self._zoomed(images, drawn, self.max_zoom)
        # By comparisons, which are exact: an image's band is the same in every batch.
        bands = torch.stack([drawn.zoom <= zoom for zoom in zooms[1:]]).sum(0)
        size = self.image_size
        result = images.new_empty(len(images), images.shape[1], size, size)
        for band, zoom in enumerate(zooms):
            chosen = (bands == band).nonzero().flatten()
            if len(chosen):
                rows = chosen.to(images.device)
                result[rows] = self._zoomed(images[rows], drawn.rows(chosen), zoom)
        return result

    def _band_zooms(self) -> list[float]:
        """Return the largest zoom of each band: images of one are shrunk by much the same."""
        num_bands = 1
        while self.max_zoom > _MAX_SHRINK**num_bands:
            num_bands += 1
        return [self.max_zoom / _MAX_SHRINK**band for band in range(num_bands)]

    def _zoomed(self, images: Tensor, drawn: AugmentationParameters, max_zoom: float) -> Tensor:
        """Augment images that are zoomed by up to ``max_zoom``, made smaller for it if large."""
        if max_zoom == self.max_zoom:
            side = math.ceil(self.image_size * max_zoom)
            most: float = _MAX_SHRINK * side
        else:
            most = side = math.ceil(self.image_size * max_zoom * _AGAINST_BLUR)
        if min(images.shape[-2:]) > most:
            images = self._resize(images, side)
        is_squished = self.resize == "squish"
        return augment_batch(
            images, drawn, self.image_size, squish=is_squished, transforms=self.transforms
        )

    def _random_crop(
        self, image: Tensor, side: int, size: int, drawn: AugmentationParameters, row: int
    ) -> Tensor:
        """Resize an image to ``side`` and cut out a square of ``size``, as a batch of one."""

        def place(share: float) -> Place:
            return lambda edge: int(share * (edge - size + 1))

        shares = drawn.crop_top[row].item(), drawn.crop_left[row].item()
        return self._square(image[None], side, size, [place(share) for share in shares])

    def _draw(self, num_images: int, generator: torch.Generator) -> AugmentationParameters:
        asked = self.augmentation
        return draw_parameters(
            num_images, asked.preset, asked.max_zoom, generator, asked.max_angle, self.transforms
        )

    def _drawn_for(self, epoch: int, num_images: int) -> AugmentationParameters:
        """Draw for all images of an epoch, and keep that for its other batches."""
        if self._drawn is None or self._drawn[0] != (epoch, num_images):
            drawn = self._draw(num_images, seeded_generator(self.seed, epoch))
            self._drawn = (epoch, num_images), drawn
        return self._drawn[1]


def _check_colours(augmentation: Augmentation, channels: int) -> None:
    """Refuse transforms of colours for images that have none, or other channels beside."""
    names = [
        name_of(spec)
        for spec, transform in zip(augmentation.transforms, augmentation.listed, strict=True)
        if transform.needs_colours and channels != 3
    ]
    if names:
        raise ConfigurationError(
            f"`augmentation`: {name_some(names)} needs images of 3 channels, but they have"
            f" {channels}. Leave it out."
        )
