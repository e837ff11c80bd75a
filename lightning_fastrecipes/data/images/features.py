"""Precomputed features as a datamodule: the frozen backbone runs once per image."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from typing_extensions import override

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes.batches import FeatureBatch, WeightedFeatures
from lightning_fastrecipes.data.common.cache_choice import cached_if_possible
from lightning_fastrecipes.data.common.epoch_place import ResumableLoader
from lightning_fastrecipes.data.common.samplers import drops_last_batch, upcoming_epoch
from lightning_fastrecipes.data.images.dataset import identity_collate
from lightning_fastrecipes.data.images.feature_cache import FloatMatrix, cached_features
from lightning_fastrecipes.data.images.listing import ImageSplit
from lightning_fastrecipes.data.images.module import ImageDataModule
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.functional.labels.numbers import NumberTarget
from lightning_fastrecipes.nn.backbones import Backbone
from lightning_fastrecipes.nn.weights import weights_digest
from lightning_fastrecipes.protocols import HasHead, HasInputSpec, InputSpec, LabelKind

Features = FeatureBatch | WeightedFeatures
_SPLITS: tuple[ImageSplit, ...] = ("train", "val")
_PACKAGES = ("lightning-fastrecipes", "torch", "torchvision", "timm")


class FeatureDataset(Dataset[Features]):
    """Rows of features ``(rows, num_features)`` with their targets, served batch by batch.

    With ``weights`` ``(rows,)``, rows count differently.
    """

    def __init__(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> None:
        self.features = features
        self.targets = targets
        self.weights = weights

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: int) -> Features:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Features:
        """Return one batch; the sampler's indices may carry an epoch above the row."""
        rows = torch.as_tensor(indices) % len(self)
        if self.weights is not None:
            return WeightedFeatures(self.features[rows], self.targets[rows], self.weights[rows])
        return FeatureBatch(self.features[rows], self.targets[rows])


class FeatureDataModule(pl.OwnDataModule):
    """Serve a frozen backbone's outputs in place of images.

    The backbone sees every image once, with the validation transforms and without augmentation;
    the outputs are kept in a memory-mapped cache, so that an epoch over them takes a moment.

    Args:
        images: The images; its splits, targets and transforms are used.
        model: A module with a ``backbone`` that is frozen as a whole, and a ``head``.

    Raises:
        ConfigurationError: If a part of the backbone is to be trained.

    References:
        fast.ai course (2018), lesson 1: ``precompute=True``.
    """

    def __init__(self, images: ImageDataModule, model: pl.LightningModule) -> None:
        super().__init__()
        backbone = getattr(model, "backbone", None)
        if not (
            isinstance(model, HasHead)
            and isinstance(model, HasInputSpec)
            and isinstance(backbone, Backbone)
        ):
            raise ConfigurationError(
                "Precomputed features need a model with a `backbone`, `forward_features` and"
                f" `forward_head`, but got {type(model).__name__}. Use `ImageClassifier`."
            )
        if any(parameter.requires_grad for parameter in backbone.parameters()):
            raise ConfigurationError(
                "Precomputed features need a backbone that is frozen as a whole, but a part of it"
                " is to be trained. Use `freeze_to=-1`, or leave `precompute` out."
            )
        check_channels: Any = getattr(model, "check_channels", None)
        if check_channels is not None:
            check_channels(images)
        self.images = images
        self.model = model
        self._normalising: HasInputSpec = model
        self.backbone = backbone
        self._datasets: dict[ImageSplit, FeatureDataset] = {}
        self._without_cache: dict[str, FloatMatrix] = {}

    @override
    def __repr__(self) -> str:
        return f"FeatureDataModule({self.images!r})"

    @property
    def input_spec(self) -> InputSpec:
        """As the model has it."""
        return self._normalising.input_spec

    @property
    def classes(self) -> list[str]:
        """As the images' datamodule has them."""
        return self.images.classes

    @property
    def label_kind(self) -> LabelKind:
        """As the images' datamodule has it."""
        return self.images.label_kind

    @property
    def number_targets(self) -> tuple[NumberTarget, ...]:
        """As the images' datamodule has them."""
        return self.images.number_targets

    @property
    def train_targets(self) -> Tensor:
        """As the images' datamodule has them."""
        return self.images.train_targets

    @override
    def prepare_data(self) -> None:
        """Run the backbone over every image, once per node, unless the cache has them."""
        self.images.trainer = self.trainer
        self.images.prepare_data()
        self.images.setup("fit")
        self._adopt_normalisation()
        if not pl.is_fast_dev_run(self.trainer):
            for split in _SPLITS:
                self._features(split)

    @override
    def setup(self, stage: str) -> None:
        """Open the caches that ``prepare_data`` wrote."""
        self.images.trainer = self.trainer
        self.images.setup(stage)
        self._adopt_normalisation()
        for split in _SPLITS:
            dataset = self.images.eval_dataset(split)
            features, targets = self._features(split), dataset.targets
            if features is not None:
                rows = torch.from_numpy(np.array(features))
                self._datasets[split] = FeatureDataset(rows, targets[: len(rows)])

    @override
    def train_dataloader(self) -> DataLoader[Features]:
        dataset, batch_size = self._datasets["train"], self.images.batch_size
        if (weights := self.images.train_weights) is not None:
            dataset = FeatureDataset(dataset.features, dataset.targets, weights[: len(dataset)])
        sampler = self.images.train_sampler(dataset)
        if self.trainer is not None:
            sampler.set_epoch(upcoming_epoch(self.trainer))
        return ResumableLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            collate_fn=identity_collate,
            drop_last=drops_last_batch(len(sampler), batch_size),
        )

    @override
    def val_dataloader(self) -> Any:
        return self.eval_dataloader("val") if "val" in self._datasets else []

    def eval_dataloader(self, split: ImageSplit) -> DataLoader[Features]:
        """Return the features of ``train`` or ``val`` in order; they are never augmented."""
        dataset, size = self._datasets[split], self.images.batch_size
        return DataLoader(dataset, batch_size=size, collate_fn=identity_collate)

    @override
    def state_dict(self) -> dict[str, Any]:
        return self.images.state_dict()

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.images.load_state_dict(state_dict)

    def _adopt_normalisation(self) -> None:
        """Let the model normalise as the images are to be, before any feature is computed."""
        spec = self.images.normalised_spec(self.input_spec)
        adopt: Any = getattr(self.model, "set_input_spec", None)
        if spec != self.input_spec and adopt is not None:
            adopt(spec)

    def _features(self, split: ImageSplit) -> FloatMatrix | None:
        dataset = self.images.eval_dataset(split)
        if len(dataset) == 0:
            return None
        if pl.is_fast_dev_run(self.trainer):
            return np.concatenate(list(self._run(split, max_batches=1)))
        shape, key = (len(dataset), self.backbone.num_features), self._cache_key(split)
        name = json.dumps([split, key], sort_keys=True)
        if name in self._without_cache:
            return self._without_cache[name]
        found = cached_if_possible(
            "auto",
            "features",
            lambda folder: cached_features(folder, key, lambda: self._run(split), shape),
            otherwise="features are computed at every start",
        )
        if found is None:
            found = self._without_cache[name] = np.concatenate(list(self._run(split)))
        return found

    def _cache_key(self, split: ImageSplit) -> dict[str, Any]:
        """Name all that the features depend on."""
        dataset = self.images.eval_dataset(split)
        precision = "32-true" if self.trainer is None else str(self.trainer.precision)
        return {
            "weights": weights_digest(self.backbone),
            "model": self.backbone.name,
            "cut": "pooled output of the backbone",
            "image_size": self.images.image_size,
            "transform": self.images.eval_transform_key(),
            "kept": dataset.kept.key(),
            "normalisation": self._normalisation_key(),
            "files": dataset.digest(),
            "dtype": "float32",
            "precision": precision,
            "versions": [version(name) for name in _PACKAGES],
        }

    def _normalisation_key(self) -> list[Any]:
        spec = self.input_spec
        key: list[Any] = [list(spec.mean), list(spec.std)]
        if spec.mean_image is not None:
            key.append(hashlib.sha256(spec.mean_image.numpy().tobytes()).hexdigest())
        return key

    def _run(self, split: ImageSplit, max_batches: int | None = None) -> Iterator[FloatMatrix]:
        """Return the backbone's outputs batch by batch, in the order of the files."""
        loader = self.images.eval_dataloader(split)
        before, was_training = next(self.model.parameters()).device, self.model.training
        device, context = before, cast(Callable[[], Any], torch.inference_mode)
        if self.trainer is not None:
            device = self.trainer.strategy.root_device
            context = self.trainer.precision_plugin.forward_context
        self.model.to(device).eval()
        try:
            for index, (images, _) in enumerate(loader):
                if index == max_batches:
                    break
                with torch.inference_mode(), context():
                    features = self.model.forward_features(images.to(device, non_blocking=True))
                yield features.float().cpu().numpy()
        finally:
            self.model.to(before).train(was_training)
