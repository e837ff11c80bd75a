"""What batches are made of, besides inputs and targets."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor


class ViewedBatch(list[Tensor]):
    """A batch of images and targets with views of its images.

    Modules see a list of two; ``views`` has the shape ``(batch, num_views, 3, height, width)``.
    """

    views: Tensor


class FeatureBatch(NamedTuple):
    """A batch of precomputed backbone outputs in place of images.

    Args:
        features: Pooled outputs. Shape ``(batch, num_features)``.
        targets: Class indices ``(batch,)``, or probabilities, or 0 and 1, of shape
            ``(batch, num_classes)``.
    """

    features: Tensor
    targets: Tensor


class WeightedFeatures(NamedTuple):
    """A training batch of features whose rows count differently.

    Args:
        features: As of ``FeatureBatch``.
        targets: As of ``FeatureBatch``.
        weights: How much each row counts, 1 on average. Shape ``(batch,)``.
    """

    features: Tensor
    targets: Tensor
    weights: Tensor


class EarlyOutputs(NamedTuple):
    """What frozen early layers gave for a batch of images, in place of the images.

    Args:
        outputs: Shape ``(batch, ...)``, float.
        cut: The module of the backbone's network that gave them, by name.
        image_size: Side of the images in pixels.
    """

    outputs: Tensor
    cut: str
    image_size: int


FEATURES = (FeatureBatch, WeightedFeatures)


class TableInputs(NamedTuple):
    """The inputs of a batch of table rows.

    Args:
        codes: Category indices, 0 for unknown and missing. Shape ``(batch, num_categorical)``, any
            integer type.
        continuous: Scaled continuous columns, the flags of missing values (0 or 1) last. Shape
            ``(batch, num_continuous)``, ``float32``.
    """

    codes: Tensor
    continuous: Tensor


def inputs_of(batch: Any) -> Any:
    """Return the inputs of a batch that may hold targets beside them."""
    # Some inputs are a tuple themselves.
    is_alone = isinstance(batch, (TableInputs, EarlyOutputs)) or not isinstance(
        batch, (tuple, list)
    )
    return batch if is_alone else batch[0]


def num_rows(batch: Any) -> int:
    """Count the samples of a batch by its first tensor; 1 without any."""
    while isinstance(batch, (tuple, list, Mapping)) and batch:
        batch = next(iter(batch.values() if isinstance(batch, Mapping) else batch))
    return len(batch) if isinstance(batch, Tensor) and batch.ndim else 1
