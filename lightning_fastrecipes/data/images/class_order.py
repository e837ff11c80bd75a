"""The order of classes, where a trained model has it from data that were ordered otherwise."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lightning_fastrecipes.data.images.assembly import Images
from lightning_fastrecipes.data.images.samples import Targets
from lightning_fastrecipes.functional.labels.classes import columns_by_name, refuse_other_classes
from lightning_fastrecipes.functional.labels.numbers import refuse_other_numbers


def in_order_of(images: Images, classes: Sequence[str]) -> Images:
    """Return images with their classes numbered as in ``classes``; as they are if names differ."""
    if list(classes) == images.classes or sorted(classes) != sorted(images.classes):
        return images
    places = np.array(columns_by_name(classes, images.classes))
    splits = {
        name: replace(samples, targets=_moved(samples.targets, places))
        for name, samples in images.splits.items()
    }
    return replace(images, splits=splits, classes=list(classes))


def as_stored(images: Images, classes: Sequence[str], numbers: Sequence[str]) -> Images:
    """Return images in the order of a checkpoint's classes; raise if it has other ones."""
    images = in_order_of(images, classes)
    refuse_other_classes(classes, images.classes)
    refuse_other_numbers(numbers, [target.name for target in images.number_targets])
    return images


def _moved(targets: Targets, places: np.ndarray) -> Targets:
    """Return targets whose classes come in the order of their old ``places``; -1 stays."""
    if targets.ndim == 2:
        return targets[:, places]
    numbers = np.append(np.argsort(places), -1)
    moved: Targets = numbers[targets]
    return moved
