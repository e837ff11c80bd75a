"""What every datamodule of images shares: options, data sets and loaders."""

from abc import abstractmethod
from collections.abc import Sequence, Sized
from typing import Any, Unpack, get_args

import torch
from torch import Tensor
from typing_extensions import override

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes.data.common import settings
from lightning_fastrecipes.data.common.samplers import ShuffleSampler
from lightning_fastrecipes.data.images import loaders
from lightning_fastrecipes.data.images.assembly import Images, assemble, say_what_was_decided
from lightning_fastrecipes.data.images.class_order import as_stored, in_order_of
from lightning_fastrecipes.data.images.dataset import ImageDataset, PixelDataset, WindowDataset
from lightning_fastrecipes.data.images.geometry import MAX_SIDE, CachedSize, EvalTransform, Geometry
from lightning_fastrecipes.data.images.known_images import KnownImages
from lightning_fastrecipes.data.images.listing import ImageSplit, Listing
from lightning_fastrecipes.data.images.loaders import Loader
from lightning_fastrecipes.data.images.normaliser import Normaliser
from lightning_fastrecipes.data.images.options import (
    Augmentation,
    AugmentationChoice,
    ImageOptions,
    OnBadFile,
    as_augmentation,
    image_split,
    with_defaults,
)
from lightning_fastrecipes.data.images.pixel_stores import PixelStores
from lightning_fastrecipes.data.images.train_transform import TrainTransform, view_transforms
from lightning_fastrecipes.data.images.trainer_facts import TrainerFacts, read_trainer
from lightning_fastrecipes.errors import ConfigurationError, DataError
from lightning_fastrecipes.functional.labels.numbers import has_doubles
from lightning_fastrecipes.protocols import InputSpec

Batch = list[Tensor]


class ImageDataModule(KnownImages, pl.OwnDataModule):
    """Serve images; subclasses say which images there are.

    Batches are ``[uint8 images (batch, 3, image_size, image_size), targets]`` for a module with
    an ``input_spec``, which normalises them itself; for any other module they are normalised after
    the transfer. ``image_size``, ``eval_image_size``, ``batch_size``, ``augmentation`` and ``seed``
    may be assigned between two fits: the next loaders use them. Assigning a preset to
    ``augmentation`` keeps its other settings, but ``none`` drops its list.

    Args:
        **options: Those of ``ImageOptions``.

    Raises:
        ValueError: If an option is out of its range.
        TypeError: If one is unknown, or of the wrong type.

    Attributes:
        options: The options as given, or else their defaults; the augmentation with all settings.
        eval_image_size: Side for validation, test and prediction; ``image_size`` if ``None``.
        largest_image_size: The largest that ``image_size`` will be, so that images of a fit are
            decoded once for all sizes; ``ProgressiveResizing`` is heeded as well.
        input_spec: What the model expects of an image; adopted from a trainer's module.
    """

    image_size = settings.WholeNumber(at_least=1, at_most=MAX_SIDE)
    eval_image_size = settings.MaybeWholeNumber(at_least=1, at_most=MAX_SIDE)
    batch_size = settings.WholeNumber(at_least=1)
    seed = settings.WholeNumber(at_least=0)
    num_workers = settings.MaybeWholeNumber(at_least=0)
    on_bad_file: settings.Choice[OnBadFile] = settings.Choice(get_args(OnBadFile))
    geometry = settings.Instance(Geometry)
    class_balanced = settings.Flag()

    _has_columns = False

    def __init__(self, **options: Unpack[ImageOptions]) -> None:
        super().__init__()
        self.options = with_defaults(options, type(self))
        self.image_size = self.options["image_size"]
        self.eval_image_size = None
        self.batch_size = self.options["batch_size"]
        self._augmentation = as_augmentation(self.options["augmentation"])
        self.options["augmentation"] = self._augmentation
        self.seed = self.options["seed"]
        self.split = image_split(
            self.options["split"], type(self).__name__, has_columns=self._has_columns
        )
        self.on_bad_file = self.options["on_bad_file"]
        self._normaliser = Normaliser()
        self.num_workers = self.options["num_workers"]
        self.geometry = self.options["geometry"] or Geometry()
        self.class_balanced = self.options["class_balanced"]
        self.largest_image_size = 0
        self.input_spec: InputSpec | None = None
        self._facts = TrainerFacts()
        self._stores = PixelStores(self.options["cache"])
        self._windows: WindowDataset | None = None
        self._images: Images | None = None
        self._prepared: tuple[Images, dict[str, Any]] | None = None
        self._stored_classes: list[str] | None = None
        self._stored_numbers: list[str] = []

    @abstractmethod
    def _list(self) -> Listing:
        """Name the images, their splits and their labels."""

    @property
    def augmentation(self) -> Augmentation:
        """How training images are changed; a preset or a list may be assigned, too."""
        return self._augmentation

    @augmentation.setter
    def augmentation(self, value: AugmentationChoice) -> None:
        self._augmentation = as_augmentation(value, self._augmentation)

    @override
    def prepare_data(self) -> None:
        """Check and decode every image, once per node; once set up, they stay what they are."""
        images = self._images or self._assemble()
        self._read_trainer()
        self._open_stores(images)
        self._prepared = images, self._settings()

    @override
    def setup(self, stage: str | None = None) -> None:
        """Number the classes, make all splits, and adopt what the model expects.

        A DataError says why the data cannot be used as they are.
        """
        self._read_trainer()
        if self._images is None:
            images, before = self._prepared or (None, {})
            now = self._settings()
            is_same = all(before.get(name) is value for name, value in now.items())
            self._images = images if images is not None and is_same else self._assemble()
            self._prepared = None
            self._compare_classes()
            say_what_was_decided(self._images, self.geometry.white_level)
        self._open_stores(self._images)
        if self._facts.is_attached and self._normalises:
            self.input_spec = self.normalised_spec(self._spec)
        elif self._facts.is_fitting and self.trainer is not None:
            self._normaliser.check_module(self.trainer.lightning_module, self.geometry.normalize)

    def normalised_spec(self, spec: InputSpec) -> InputSpec:
        """Return what a model expects of an image, with mean and deviation as ``geometry`` says.

        A model whose spec is measured already keeps it, since its weights expect that.
        """

        def load() -> Loader:
            return self.loader(self._dataset("train", self._eval_transform(self.image_size)))

        return self._normaliser.spec_for(spec, self.geometry.normalize, load, self.trainer)

    def eval_dataset(self, split: ImageSplit) -> ImageDataset:
        """Return a split in order, with the transforms of the evaluation; empty if there is none.

        The split ``predict`` has the unlabelled images.
        """
        return self._dataset(split, self._eval_transform())

    def eval_dataloader(self, split: ImageSplit) -> Loader:
        """Return the batches of :meth:`eval_dataset`, in order and to the last image."""
        return self.loader(self.eval_dataset(split))

    @override
    def train_dataloader(self) -> Loader:
        """Return shuffled, augmented batches; a last batch of one image is dropped."""
        self._read_trainer()
        self._open_stores(self._assembled)
        dataset = self._train_dataset()
        sampler = self.train_sampler(dataset)
        sampler.set_epoch(self._facts.epoch)
        return self.loader(dataset, sampler)

    def train_sampler(self, dataset: Sized) -> ShuffleSampler:
        """Return this process's order of a training epoch: shuffled, or drawn to balance labels.

        ``dataset`` has the training images, or something else in their order.
        """
        targets = self.train_targets[: len(dataset)] if self.class_balanced else None
        has_many = self.label_kind == "multi"
        return loaders.make_sampler(dataset, self.seed, targets, multi_label=has_many)

    @override
    def val_dataloader(self) -> Loader | list[Loader]:
        self._read_trainer()
        self._open_stores(self._assembled)
        return self._loader_or_nothing("val")

    @override
    def test_dataloader(self) -> Loader | list[Loader]:
        self._read_trainer()
        return self._loader_or_nothing("test")

    @override
    def predict_dataloader(self) -> Loader:
        self._read_trainer()  # again: an ensemble has loaded its members by now
        if not len(self._assembled.splits["predict"].paths):
            raise DataError(
                "There are no unlabelled images to predict. Put them into a folder 'test' beside"
                " the training images, or use `prediction_dataset`."
            )
        return self._viewed_loader("predict")

    @override
    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Move a batch to the device, without numbers of 64 bits where it has no such numbers."""
        if has_doubles(device) or self.label_kind != "numbers":
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        images, targets, *others = batch
        moved = super().transfer_batch_to_device([images, *others], device, dataloader_idx)
        return [moved[0], targets, *moved[1:]]

    @override
    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment on the device if asked to, and normalise for a module that does not.

        A batch holds images, ``uint8``, of shape ``(batch, 3, height, width)``, and targets.
        """
        spec = self._spec if self._normalises else None
        return loaders.finished_batch(batch, self._windows, spec)

    @override
    def state_dict(self) -> dict[str, Any]:
        if self._images is None:
            return {}
        known: dict[str, Any] = {"classes": self.classes, "label_kind": self.label_kind}
        if self.number_targets:
            known["numbers"] = [target.name for target in self.number_targets]
        if self._normalises and self._spec.is_measured:
            known["input_spec"] = self._spec.plain_values()
        return known

    def follow_classes(self, classes: Sequence[str]) -> None:
        """Number the classes as a trained model does, unless its names are others."""
        self._images = in_order_of(self._assembled, classes)

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the order of classes; refuse others, or other labels, with a ConfigurationError."""
        if state_dict.get("label_kind", self.label_kind) != self.label_kind:
            raise ConfigurationError(
                f"The checkpoint has labels of the kind '{state_dict['label_kind']}', but the"
                f" data have '{self.label_kind}'. Use the data it was trained on."
            )
        if "input_spec" in state_dict:
            self.input_spec = InputSpec.from_plain(state_dict["input_spec"])
        self._stored_classes = state_dict.get("classes")
        self._stored_numbers = state_dict.get("numbers", [])
        self._compare_classes()

    def eval_transform_key(self) -> dict[str, str | int | float]:
        """Describe the geometry of the evaluation by the arguments of ``prediction_dataset``."""
        return self._eval_transform().key()

    def _settings(self) -> dict[str, Any]:
        """Return what the user may have assigned since: other images may then be meant."""
        return {name: value for name, value in vars(self).items() if name[0] != "_"}

    def _assemble(self) -> Images:
        if self.class_balanced and self._asked_numbers() is not None:
            raise ConfigurationError(
                "`class_balanced` draws classes equally often, but the images have numbers. Leave"
                " it out."
            )
        bound = self.geometry.max_megapixels
        return assemble(self._list(), self.split, self.on_bad_file, bound)

    @property
    def _spec(self) -> InputSpec:
        return self.input_spec or InputSpec().for_channels(self.num_channels)

    @property
    def _normalises(self) -> bool:
        return self._facts.input_spec is None

    def _read_trainer(self) -> None:
        self._facts = read_trainer(self.trainer)
        self.input_spec = self._facts.input_spec or self.input_spec

    def _compare_classes(self) -> None:
        if self._stored_classes is not None and self._images is not None:
            self._images = as_stored(self._images, self._stored_classes, self._stored_numbers)

    def _eval_transform(self, image_size: int | None = None) -> EvalTransform:
        side = image_size or self.eval_image_size or self.image_size
        return EvalTransform(side, self.geometry, self._spec)

    def _train_transform(self, image_size: int) -> TrainTransform:
        how: Any = {"augmentation": self.augmentation, "seed": self.seed}
        return TrainTransform(image_size, self.geometry, self._spec, **how)

    def _train_dataset(self) -> ImageDataset:
        if self.augmentation.is_none:
            return self._dataset("train", self._eval_transform(self.image_size), has_epochs=True)
        transform = self._train_transform(self.image_size)
        samples = self._assembled.splits["train"]
        # Nobody finishes a batch without a trainer; arrays are made whole batches of at once.
        on_device = self.augmentation.on_device and self._facts.is_attached
        if not on_device or samples.pixels is not None:
            return self._dataset("train", transform, has_epochs=True)
        kept = self._cached_size("train")
        store = self._stores.get("train", samples, kept)
        self._windows = WindowDataset(samples, transform, store, kept)
        return self._windows

    def _dataset(
        self, split: ImageSplit, transform: EvalTransform, *, has_epochs: bool = False
    ) -> ImageDataset:
        samples = self._assembled.splits[split]
        if samples.pixels is not None:
            return PixelDataset(samples, transform, has_epochs=has_epochs)
        size = self._cached_size(split)
        store = self._stores.get(split, samples, size)
        return ImageDataset(samples, transform, has_epochs=has_epochs, store=store, kept=size)

    def _cached_size(self, split: ImageSplit) -> CachedSize:
        """Return the smallest size that a split's images can be kept at, for all sizes to come."""
        to_come = max(self.largest_image_size, self._facts.largest_image_size)
        if split == "train":
            return self._train_transform(max(self.image_size, to_come)).cached_size()
        size = self.eval_image_size or self.image_size
        return self._eval_transform(max(size, to_come * self._facts.is_fitting)).cached_size()

    def _open_stores(self, images: Images) -> None:
        """Keep the splits that the trainer is about to read, but for a trial of a few batches."""
        for split in self._facts.splits:
            self._stores.open(split, images.splits[split], self._cached_size(split))

    def _loader_or_nothing(self, split: ImageSplit) -> Loader | list[Loader]:
        return self._viewed_loader(split) if len(self._assembled.splits[split].paths) else []

    def _viewed_loader(self, split: ImageSplit) -> Loader:
        """Return the batches of a split, with views if a callback of the trainer asks for them."""
        dataset, views = self.eval_dataset(split), self._facts.views
        if views is not None:
            size = dataset.transform.image_size
            dataset.views = view_transforms(size, self.geometry, self._spec, views)
        return self.loader(dataset)

    def loader(
        self, dataset: ImageDataset, sampler: ShuffleSampler | range | None = None
    ) -> Loader:
        """Return the batches of a data set: all in order, of a range, or of an epoch."""
        return loaders.make_loader(dataset, self.batch_size, sampler, self.num_workers, self._facts)
