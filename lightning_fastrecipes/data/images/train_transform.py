"""How a image of any size becomes a square one at random, for training."""

import math

import torch
from torch import Tensor

from lightning_fastrecipes.data.images.geometry import EvalTransform, Geometry
from lightning_fastrecipes.functional.images.augment import (
    AugmentationParameters,
    Preset,
    augment,
    augment_batch,
    draw_parameters,
)
from lightning_fastrecipes.functional.random import seeded_generator
from lightning_fastrecipes.protocols import InputSpec

# A resample of four neighbours leaves out pixels beyond this, and their detail turns to noise.
_MAX_SHRINK = 1.25
# A second resize blurs a little, which this much larger a side makes up for.
_AGAINST_BLUR = 1.12


class TrainTransform(EvalTransform):
    """Zoom, crop at random, turn, light and mirror, by draws of seed, epoch and index alone.

    Args:
        image_size: Side of the result in pixels, at least 1.
        geometry: What is asked for.
        input_spec: What the model's weights expect, for all that ``geometry`` leaves open.
        augmentation: Name of the preset, not ``none``.
        seed: At least 0; another seed gives other draws.
    """

    def __init__(
        self,
        image_size: int,
        geometry: Geometry,
        input_spec: InputSpec,
        *,
        augmentation: Preset,
        seed: int,
    ) -> None:
        super().__init__(image_size, geometry, input_spec)
        self.augmentation = augmentation
        self.max_zoom = geometry.max_zoom
        self.max_angle = geometry.max_angle
        self.seed = seed
        self._drawn: tuple[tuple[int, int], AugmentationParameters] | None = None

    @property
    def side(self) -> int:
        """Pixels of the shorter side that a image needs so that nothing is enlarged."""
        return max(super().side, math.ceil(self.image_size * self.max_zoom))

    def __call__(self, image: Tensor, epoch: int, index: int) -> Tensor:
        """Make this epoch's version of a image.

        Args:
            image: Shape ``(3, height, width)``, ``uint8``.
            epoch: Epoch from 0.
            index: Position of the image in its data set.

        Returns:
            Shape ``(3, image_size, image_size)``, ``uint8``.
        """
        generator = seeded_generator(self.seed, epoch, index)
        drawn = draw_parameters(1, self.augmentation, self.max_zoom, generator, self.max_angle)
        images = self._resize(image[None], round(self.image_size * drawn.zoom.item()))
        top, left = (
            int(share.item() * (edge - self.image_size + 1))
            for share, edge in zip(
                (drawn.crop_top, drawn.crop_left), images.shape[-2:], strict=True
            )
        )
        return augment(self._crop(images, top, left), drawn)[0]

    def window(self, image: Tensor, epoch: int, position: int, num_images: int) -> Tensor:
        """Cut the square out of a image that :meth:`batch` makes this epoch's version from.

        The square has the whole shorter side and is placed along the longer one as the crop is.

        Args:
            image: Shape ``(3, height, width)``, ``uint8``.
            epoch: Epoch from 0.
            position: Position of the image in its data set.
            num_images: Length of that data set.

        Returns:
            Shape ``(3, side, side)``, ``uint8``.
        """
        side = self.side
        images = self._resize(image[None], side)
        drawn = self._drawn_for(epoch, num_images)
        top, left = (
            int(share[position].item() * (edge - side + 1))
            for share, edge in zip(
                (drawn.crop_top, drawn.crop_left), images.shape[-2:], strict=True
            )
        )
        return images[0, :, top : top + side, left : left + side].contiguous()

    def batch(self, images: Tensor, epoch: int, positions: Tensor, num_images: int) -> Tensor:
        """Make this epoch's version of images of one shape, in one resample.

        What happens to a image depends on seed, epoch and position alone, not on which others
        share its batch: all images of an epoch are drawn for at once. Images that are zoomed
        much less than the largest zoom are made smaller first, so that no detail turns to noise.

        Args:
            images: Shape ``(batch, channels, height, width)``, ``uint8``.
            epoch: Epoch from 0.
            positions: Where the images are in their data set. Shape ``(batch,)``.
            num_images: Length of that data set.

        Returns:
            Shape ``(batch, channels, image_size, image_size)``, ``uint8``.
        """
        drawn = self._drawn_for(epoch, num_images).rows(positions)
        zooms = self._band_zooms()
        if len(zooms) == 1:
            return self._zoomed(images, drawn, self.max_zoom)
        # By comparisons, which are exact: a image's band is the same in every batch.
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
            images = self._resize_anywhere(images, side)
        return augment_batch(images, drawn, self.image_size, squish=self.resize == "squish")

    def _resize_anywhere(self, images: Tensor, side: int) -> Tensor:
        """Resize ``uint8`` images on a card too, which averages floats alone."""
        if images.device.type == "cpu":
            return self._resize(images, side)
        return self._resize(images.float(), side).round_().clamp_(0, 255).byte()

    def _drawn_for(self, epoch: int, num_images: int) -> AugmentationParameters:
        """Draw for all images of an epoch at once, so that a batch's make-up does not matter."""
        if self._drawn is None or self._drawn[0] != (epoch, num_images):
            generator = seeded_generator(self.seed, epoch)
            drawn = draw_parameters(
                num_images, self.augmentation, self.max_zoom, generator, self.max_angle
            )
            self._drawn = (epoch, num_images), drawn
        return self._drawn[1]
