"""Precomputed outputs of frozen layers as a datamodule: they run once per image or view."""

import hashlib
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from typing_extensions import override

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes.data.common.cache_choice import cached_if_possible
from lightning_fastrecipes.data.common.epoch_place import QuietLoader, ResumableLoader
from lightning_fastrecipes.data.common.row_splits import FoldSplit
from lightning_fastrecipes.data.common.samplers import drops_last_batch, upcoming_epoch
from lightning_fastrecipes.data.images.dataset import (
    ImageDataset,
    identity_collate,
    shared_dataset,
)
from lightning_fastrecipes.data.images.feature_cache import cached_outputs, held_outputs
from lightning_fastrecipes.data.images.feature_dataset import FeatureDataset, Features
from lightning_fastrecipes.data.images.feature_files import (
    FloatArray,
    OutputShape,
    Storage,
    StoredOutputs,
)
from lightning_fastrecipes.data.images.feature_views import FixedViews, ViewChoice, fixed_views
from lightning_fastrecipes.data.images.frozen_part import FrozenPart, frozen_part
from lightning_fastrecipes.data.images.listing import ImageSplit
from lightning_fastrecipes.data.images.module import ImageDataModule
from lightning_fastrecipes.data.images.train_transform import view_transforms
from lightning_fastrecipes.errors import ConfigurationError, check_choice
from lightning_fastrecipes.functional.labels.numbers import NumberTarget
from lightning_fastrecipes.protocols import HasInputSpec, InputSpec, LabelKind

_SPLITS: tuple[ImageSplit, ...] = ("train", "val")
_PACKAGES = ("lightning-fastrecipes", "torch", "torchvision", "timm")


class FeatureDataModule(pl.OwnDataModule):
    """Serve the outputs of a model's frozen layers in place of images.

    They are computed once, in eval mode, and kept in a memory-mapped cache, so that an epoch costs
    what the trained layers cost: next to nothing for a head, a fraction for the late layer groups.
    Which layers are frozen is read when a fit begins. Where several views of each training image
    are kept, every epoch draws one of them for each image. Validation sees the plain image.

    Args:
        images: The images; its splits, targets, transforms and augmentation are used.
        model: A module with a ``backbone`` whose first layer groups are frozen, or all of them, and
            a ``head``.
        views: ``poses``: the image in all flips and turns that the augmentation makes, 8 of
            ``top_down``, 2 of ``side_on``, and nothing else of it; a number of at least 1: so many
            draws of the whole augmentation, beside the plain image. If ``None``, the plain image.
        storage: ``float16``: two bytes for each number, which change it by at most 1/2048 of
            itself; ``uint8``: one, by at most 1/510 of the range of its channel in its image;
            ``float32``. If ``None``, ``float16``, and ``float32`` of a backbone frozen as a whole,
            whose outputs are small.

    Raises:
        ConfigurationError: If nothing is frozen, a frozen batch norm would not keep its
            statistics, the frozen layers do not end at one place, or an argument is out of its
            range.

    Example:
        >>> from lightning_fastrecipes import ImageArrayDataModule, ImageClassifier
        >>> pixels = np.zeros((4, 32, 32), np.uint8)
        >>> arrays = {"x_train": pixels, "y_train": np.arange(4) % 2}
        >>> images = ImageArrayDataModule(arrays, image_size=32)
        >>> model = ImageClassifier("test_resnet.r160_in1k", 2)
        >>> model.freeze_to(1)
        >>> FeatureDataModule(images, model).cut
        'layer2'

    References:
        fast.ai course (2018), lesson 1: ``precompute=True``.
    """

    def __init__(
        self,
        images: ImageDataModule,
        model: pl.LightningModule,
        *,
        views: ViewChoice = None,
        storage: Storage | None = None,
    ) -> None:
        super().__init__()
        if storage is not None:
            check_choice("storage", storage, get_args(Storage))
        self.images = images
        self.model = model
        self.asked_views: ViewChoice = views
        self.storage = storage
        self._find_part()
        fixed_views(views, images.augmentation, images.seed)
        check_channels: Any = getattr(model, "check_channels", None)
        if check_channels is not None:
            check_channels(images)
        self._normalising = cast(HasInputSpec, model)
        self._datasets: dict[ImageSplit, FeatureDataset] = {}
        self._keys: dict[ImageSplit, dict[str, Any] | None] = {}

    @property
    def cut(self) -> str | None:
        """The module whose outputs are served; ``None`` if they are pooled features."""
        return self._find_part().cut

    @override
    def __repr__(self) -> str:
        return f"FeatureDataModule({self.images!r})"

    @override
    def __str__(self) -> str:
        return repr(self)

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
        """Run the frozen layers over every image, once per node, unless the cache has them."""
        self.images.trainer = self.trainer
        self.images.prepare_data()
        self.images.setup("fit")
        self._adopt_normalisation()
        if not pl.is_fast_dev_run(self.trainer):
            for split in _SPLITS:
                self._dataset(split)

    @override
    def setup(self, stage: str) -> None:
        """Open the caches that ``prepare_data`` wrote."""
        self.images.trainer = self.trainer
        self.images.setup(stage)
        self._adopt_normalisation()
        for split in _SPLITS:
            self._dataset(split)

    @override
    def train_dataloader(self) -> DataLoader[Features]:
        plain, batch_size = self._dataset("train"), self.images.batch_size
        assert plain is not None
        weights = self.images.train_weights
        dataset = FeatureDataset(
            plain.outputs,
            plain.targets,
            None if weights is None else weights[: len(plain)],
            views=self._views("train").trained,
            seed=self.images.seed,
            wrap=plain.wrap,
        )
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
        return self.eval_dataloader("val") if self._dataset("val") is not None else []

    def eval_dataloader(self, split: ImageSplit) -> DataLoader[Features]:
        """Return the outputs for ``train`` or ``val`` in order, of the plain images."""
        dataset, size = self._dataset(split), self.images.batch_size
        assert dataset is not None
        return QuietLoader(dataset, batch_size=size, collate_fn=identity_collate)

    @override
    def state_dict(self) -> dict[str, Any]:
        return self.images.state_dict()

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.images.load_state_dict(state_dict)

    @property
    def num_views(self) -> int:
        """How many views of each training image are kept."""
        return self._views("train").count

    def describe(self) -> str:
        """Return what is kept of the training images, in words, with its size."""
        part = self._find_part()
        where = f"outputs of `{part.cut}`" if part.cut else "pooled features"
        return f"{where}, {self._shape('train', part)}"

    def _find_part(self) -> FrozenPart:
        """Return which layers are frozen now, and where they end."""
        part = frozen_part(self.model, self.images.eval_image_size or self.images.image_size)
        if part.cut is None and self.storage == "uint8":
            raise ConfigurationError(
                "`storage='uint8'` is for outputs of early layers, whose channels have many"
                " numbers, but the backbone is frozen as a whole. Use 'float16', or leave it out."
            )
        return part

    def _views(self, split: ImageSplit) -> FixedViews:
        if split != "train":
            return FixedViews()
        return fixed_views(self.asked_views, self.images.augmentation, self.images.seed)

    def _shape(self, split: ImageSplit, part: FrozenPart) -> OutputShape:
        return OutputShape(
            len(self._computed(split)[0]),
            self._views(split).count,
            part.shape,
            part.channel_axis,
            self.storage or ("float16" if part.cut else "float32"),
        )

    def _adopt_normalisation(self) -> None:
        """Let the model normalise as the images are to be, before any output is computed."""
        spec = self.images.normalised_spec(self.input_spec)
        adopt: Any = getattr(self.model, "set_input_spec", None)
        if spec != self.input_spec and adopt is not None:
            adopt(spec)

    def _dataset(self, split: ImageSplit) -> FeatureDataset | None:
        """Return a split's plain outputs, opened anew if the frozen layers have changed since.

        That is so where a fit goes on from a checkpoint, whose weights Lightning loads after
        ``setup``.
        """
        dataset = self.images.eval_dataset(split)
        if len(dataset) == 0:
            return None
        part, is_trial = self._find_part(), pl.is_fast_dev_run(self.trainer)
        key = None if is_trial else self._cache_key(split, part)
        if split in self._datasets and self._keys[split] == key:
            return self._datasets[split]
        if key is None:
            outputs = StoredOutputs(np.concatenate(list(self.compute(split, max_batches=1))))
        else:
            shape, places = self._shape(split, part), self._computed(split)[1]

            def run(start: int) -> Iterator[FloatArray]:
                return self.compute(split, start)

            kept = cached_if_possible(
                "auto",
                "features",
                lambda folder: cached_outputs(folder, key, run, shape),
                otherwise="features are computed at every start",
            )
            outputs = (held_outputs(run(0), shape) if kept is None else kept).select(places)
        targets = dataset.targets[: len(outputs)]
        self._datasets[split] = FeatureDataset(outputs, targets, wrap=part.wrap)
        self._keys[split] = key
        return self._datasets[split]

    def _cache_key(self, split: ImageSplit, part: FrozenPart) -> dict[str, Any]:
        """Name all that the outputs depend on."""
        dataset, _ = self._computed(split)
        precision = "32-true" if self.trainer is None else str(self.trainer.precision)
        return {
            "weights": part.digest(),
            "model": part.backbone.name,
            "cut": part.cut or "pooled output of the backbone",
            "image_size": self.images.image_size,
            "transform": self.images.eval_transform_key(),
            "kept": dataset.kept.key(),
            "normalisation": self._normalisation_key(),
            "files": dataset.digest(),
            "views": self._views(split).key(),
            "precision": precision,
            "versions": [version(name) for name in _PACKAGES],
        }

    def _normalisation_key(self) -> list[Any]:
        spec = self.input_spec
        key: list[Any] = [list(spec.mean), list(spec.std)]
        if spec.mean_image is not None:
            key.append(hashlib.sha256(spec.mean_image.numpy().tobytes()).hexdigest())
        return key

    def _computed(self, split: ImageSplit) -> tuple[ImageDataset, NDArray[np.int64] | None]:
        """Return what is computed for a split, and the places of its images in it, or ``None``.

        Of folds these are the images of all folds, once for all of them.
        """
        images, is_trial = self.images, pl.is_fast_dev_run(self.trainer)
        if is_trial or not isinstance(images.split, FoldSplit):
            return images.eval_dataset(split), None
        both = images.eval_dataset("train"), images.eval_dataset("val")
        return shared_dataset(*both, as_val=split == "val")

    def compute(
        self, split: ImageSplit, start: int = 0, max_batches: int | None = None
    ) -> Iterator[FloatArray]:
        """Compute outputs ``(images, views, ...)`` batch by batch, from a place in the order on."""
        part, (computed, _) = self._find_part(), self._computed(split)
        rest = range(start, len(computed)) if start else None
        loader, views = self.images.loader(computed, rest), self._views(split)
        before, was_training = next(self.model.parameters()).device, self.model.training
        device, context = before, cast(Callable[[], Any], torch.inference_mode)
        if self.trainer is not None:
            device = self.trainer.strategy.root_device
            context = self.trainer.precision_plugin.forward_context
        if views.drawn is not None:
            dataset: Any = loader.dataset
            size, geometry = self.images.image_size, self.images.geometry
            dataset.views = view_transforms(size, geometry, self.input_spec, views.drawn)
        self.model.to(device).eval()
        try:
            for index, (images, _, *drawn) in enumerate(loader):
                if index == max_batches:
                    break
                outputs = []
                for view in views.of_batch(images, drawn):
                    with torch.inference_mode(), context():
                        found = part.run(view.to(device, non_blocking=True))
                    outputs.append(found.float().cpu())
                yield torch.stack(outputs, dim=1).numpy()
        finally:
            self.model.to(before).train(was_training)
