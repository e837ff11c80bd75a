"""Sizes of a training on images: side, batches, and stages, by rules of the images and classes."""

import math
from dataclasses import dataclass

_USUAL_SIDE, _LEAST_SIDE, _UNIT = 224, 64, 32
_LEAST_HEAD_STEPS, _HEAD_BATCH = 300, 32
_LEAST_STEPS = 200
_FEW_PER_CLASS = 10


@dataclass(frozen=True)
class ImageSizes:
    """Side in pixels, images a batch, and epochs and rates of the stages.

    ``tuned_epochs`` is 0 where training more than the head would only learn the images by heart.
    """

    image_size: int
    batch_size: int
    head_epochs: int
    head_lr: float
    tuned_epochs: int
    tuned_lr: float
    lr_ratio: float


def image_size(shorter_side: float) -> int:
    """Return the side to train at for images of a median shorter side, in pixels.

    A multiple of 32 that does not enlarge images by more than half, from 64 to 224.

    >>> [image_size(side) for side in (28, 100, 150, 375)]
    [64, 128, 160, 224]
    """
    side = _UNIT * math.ceil(shorter_side / _UNIT)
    return min(max(side, _LEAST_SIDE), _USUAL_SIDE)


def image_sizes(num_train: int, shorter_side: float, num_classes: int) -> ImageSizes:
    """Return sizes for training images of a median shorter side, in pixels, and their classes.

    The head trains on features, which are cheap, for 300 steps at least; everything then for 4
    epochs, more where these are fewer than 200 steps, unless there are under 10 images a class.

    >>> sizes = image_sizes(1_600, 375, 2)
    >>> sizes.head_epochs, sizes.tuned_epochs, sizes.lr_ratio
    (8, 4, 3.0)
    """
    batch_size = _HEAD_BATCH if num_train >= 8 * _HEAD_BATCH else 16
    steps = max(math.ceil(num_train / batch_size), 1)
    head_epochs = min(max(math.ceil(_LEAST_HEAD_STEPS / steps), 8), 60)
    tuned = min(max(math.ceil(_LEAST_STEPS / steps), 4), 12)
    if num_train < _FEW_PER_CLASS * max(num_classes, 1):
        tuned = 0
    return ImageSizes(image_size(shorter_side), batch_size, head_epochs, 1e-3, tuned, 2e-4, 3.0)
