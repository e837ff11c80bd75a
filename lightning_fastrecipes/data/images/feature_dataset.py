"""Precomputed outputs of frozen layers by index, one batch at a time."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from lightning_fastrecipes.batches import EarlyOutputs, FeatureBatch, WeightedFeatures
from lightning_fastrecipes.data.images.feature_files import StoredOutputs
from lightning_fastrecipes.data.images.feature_views import views_of_epoch

Features = FeatureBatch | WeightedFeatures | list[Any]


class FeatureDataset(Dataset[Features]):
    """Precomputed outputs of images with their targets, served batch by batch.

    With ``weights`` ``(images,)``, images count differently. In training each epoch draws one of
    the views of every image, by the ``seed``; without a seed, the plain image is served. ``wrap``
    makes the inputs of a batch from the outputs; without, they are pooled features.
    """

    def __init__(
        self,
        outputs: StoredOutputs,
        targets: Tensor,
        weights: Tensor | None = None,
        *,
        views: range = range(1),
        seed: int | None = None,
        wrap: Callable[[Tensor], EarlyOutputs] | None = None,
    ) -> None:
        self.outputs = outputs
        self.targets = targets
        self.weights = weights
        self.views = views
        self.seed = seed
        self.wrap = wrap

    def __len__(self) -> int:
        return len(self.outputs)

    def __getitem__(self, index: int) -> Features:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Features:
        """Return one batch, of one epoch; the sampler's indices carry it above the position."""
        found = torch.as_tensor(indices)
        rows = found % len(self)
        views = torch.zeros_like(rows)
        if self.seed is not None:
            epoch = int(found[0]) // len(self)
            views = views_of_epoch(self.views, len(self), self.seed, epoch)[rows]
        values = self.outputs.take(rows, views)
        labels = [self.targets[rows], *([] if self.weights is None else [self.weights[rows]])]
        if self.wrap is not None:
            return [self.wrap(values), *labels]
        return (FeatureBatch if self.weights is None else WeightedFeatures)(values, *labels)
