"""What every datamodule of images shares: checks, data sets, loaders and the class map."""

from abc import abstractmethod
from collections.abc import Sized
from typing import Any

import torch
from torch import Tensor

from lightning_fastrecipes._lightning import is_fast_dev_run, rank_zero_info, rank_zero_warn
from lightning_fastrecipes.data.common.samplers import (
    ShuffleSampler,
    WeightedSampler,
    upcoming_epoch,
)
from lightning_fastrecipes.data.images.assembly import Images, Split, assemble
from lightning_fastrecipes.data.images.class_map import refuse_other_classes
from lightning_fastrecipes.data.images.dataset import (
    ImageDataset,
    PixelDataset,
    WindowDataset,
)
from lightning_fastrecipes.data.images.geometry import EvalTransform
from lightning_fastrecipes.data.images.listing import Listing
from lightning_fastrecipes.data.images.loaders import Loader, make_loader
from lightning_fastrecipes.data.images.settings import ImageSettings
from lightning_fastrecipes.errors import ConfigurationError, DataError
from lightning_fastrecipes.functional.labels.balance import balancing_weights
from lightning_fastrecipes.messages import name_some
from lightning_fastrecipes.protocols import HasInputSpec, InputSpec, LabelKind

_SPLITS_READ: dict[str, tuple[Split, ...]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
}

Batch = list[Tensor]


class ImageDataModule(ImageSettings):
    """Serve images; subclasses say which images there are.

    Batches are ``[uint8 images (batch, 3, image_size, image_size), targets]`` for a module with
    an ``input_spec``, which normalises them itself; for any other module they are normalised after
    the transfer. The arguments are those of ``ImageSettings``.
    """

    _windows: WindowDataset | None = None
    _images: Images | None = None
    _stored_classes: list[str] | None = None

    @abstractmethod
    def _list(self) -> Listing:
        """Name the images, their splits and their labels."""

    @property
    def classes(self) -> list[str]:
        """Class names in the order of the target, from the training split."""
        return list(self._assembled.classes)

    @property
    def label_kind(self) -> LabelKind:
        """What a target is: a class index, a probability per class, or 0 or 1 per label."""
        return "single" if self._images is None else self._images.label_kind

    @property
    def label_reason(self) -> str:
        """Why labels are of this kind; empty where there was nothing to decide."""
        return self._assembled.label_reason

    @property
    def train_targets(self) -> Tensor:
        """Targets of the training split, in the order of its files."""
        return torch.from_numpy(self._assembled.splits["train"].targets)

    @property
    def skipped_files(self) -> list[tuple[str, str]]:
        """Path and reason of each unreadable file that was left out."""
        return list(self._assembled.skipped_files)

    def prepare_data(self) -> None:
        """Check and decode every image, once per node; what was found is cached.

        Once set up, the images stay those that were found then, whatever is added meanwhile.
        """
        photos = self._assemble() if self._images is None else self._images
        self._adopt_input_spec()
        self._open_stores(photos)

    def setup(self, stage: str | None = None) -> None:
        """Number the classes, make the splits, and adopt what the model expects.

        Args:
            stage: Not used: all splits are made together.

        Raises:
            DataError: If the data cannot be used as they are.
            ConfigurationError: If the classes differ from those of the checkpoint.
        """
        self._adopt_input_spec()
        if self._images is not None:
            self._open_stores(self._images)
            return
        self._images = self._assemble()
        self._open_stores(self._images)
        self._compare_classes()
        if self.label_reason:
            rank_zero_info(f"Labels: {self.label_reason}")
        if self.skipped_files:
            names = [f"{file}: {reason}" for file, reason in self.skipped_files]
            rank_zero_warn(
                f"{len(names)} unreadable files are left out: {name_some(names)}."
                " Replace or remove them, or see `skipped_files`."
            )

    def eval_dataset(self, split: Split) -> ImageDataset:
        """Return a split in order, with the transforms of the evaluation.

        Args:
            split: ``train``, ``val``, ``test``, or ``predict`` for unlabelled images.

        Returns:
            The data set, empty if there is no such split.
        """
        return self._dataset(split, self._eval_transform())

    def eval_dataloader(self, split: Split) -> Loader:
        """Return the batches of :meth:`eval_dataset`, in order and to the last image.

        Args:
            split: As for :meth:`eval_dataset`.

        Returns:
            A loader.
        """
        return self._loader(self.eval_dataset(split))

    def train_dataloader(self) -> Loader:
        """Return shuffled, augmented batches; a last batch of one image is dropped."""
        self._open_stores(self._assembled)
        dataset = self._train_dataset()
        sampler = self.train_sampler(dataset)
        if self.trainer is not None:
            sampler.set_epoch(upcoming_epoch(self.trainer))
        return self._loader(dataset, sampler)

    def train_sampler(self, dataset: Sized) -> ShuffleSampler:
        """Return the order of a training epoch: shuffled, or drawn so that labels are balanced.

        Args:
            dataset: The training images, or something else in their order.

        Returns:
            A sampler of this process's share.
        """
        if not self.balance:
            return ShuffleSampler(dataset, self.seed)
        targets = self.train_targets[: len(dataset)]
        weights = balancing_weights(targets, multi_label=self.label_kind == "multi")
        return WeightedSampler(dataset, self.seed, weights)

    def val_dataloader(self) -> Loader | list[Loader]:
        """Return the validation split in order; nothing without such a split."""
        self._open_stores(self._assembled)
        return self._loader_or_nothing("val")

    def test_dataloader(self) -> Loader | list[Loader]:
        """Return the test split in order; nothing without such a split."""
        return self._loader_or_nothing("test")

    def predict_dataloader(self) -> Loader:
        """Return the unlabelled images in order."""
        self._adopt_input_spec()  # again: an ensemble has loaded its members by now
        if not len(self._assembled.splits["predict"].paths):
            raise DataError(
                "There are no unlabelled images to predict. Put them into a folder 'test' beside"
                " the training images, or use `prediction_dataset`."
            )
        return self.eval_dataloader("predict")

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment on the device if asked to, and normalise for a module that does not.

        Args:
            batch: Images ``(batch, 3, height, width)``, ``uint8``, and targets; windows
                also with their indices.
            dataloader_idx: Not used.

        Returns:
            The batch, with float images for a module without an ``input_spec``.
        """
        images, targets, *indices = batch
        if indices and self._windows is not None:
            images = self._windows.finish(images, indices[0])
        trainer = self.trainer
        if trainer is None or not isinstance(trainer.lightning_module, HasInputSpec):
            images = (self.input_spec or InputSpec()).normalised(images)
        return [images, targets]

    def state_dict(self) -> dict[str, Any]:
        """Store the class names and the kind of labels."""
        if self._images is None:
            return {}
        return {"classes": self.classes, "label_kind": self.label_kind}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Compare the stored classes with those of the data, by name.

        Args:
            state_dict: As :meth:`state_dict` gave it.

        Raises:
            ConfigurationError: If classes or kind of labels differ.
        """
        if state_dict.get("label_kind", self.label_kind) != self.label_kind:
            raise ConfigurationError(
                f"The checkpoint has labels of the kind '{state_dict['label_kind']}', but the"
                f" data have '{self.label_kind}'. Use the data it was trained on."
            )
        self._stored_classes = state_dict.get("classes")
        self._compare_classes()

    @property
    def _assembled(self) -> Images:
        if self._images is None:
            raise ConfigurationError(
                "The images have not been read yet. Call `setup('fit')`, or let a Trainer do so."
            )
        return self._images

    def _assemble(self) -> Images:
        return assemble(self._list(), self.split_plan, self.on_bad_file)

    def _compare_classes(self) -> None:
        if self._stored_classes is not None and self._images is not None:
            refuse_other_classes(self._stored_classes, self._images.classes)

    def _train_dataset(self) -> ImageDataset:
        transform = self._train_transform(self.image_size)
        if self.augmentation == "none":
            plain = EvalTransform(self.image_size, self.geometry, self.input_spec or InputSpec())
            return self._dataset("train", plain, has_epochs=True)
        samples = self._assembled.splits["train"]
        # Nobody finishes a batch without a trainer; arrays are made whole batches of at once.
        on_device = self.augment_on == "device" and self.trainer is not None
        if not on_device or samples.pixels is not None:
            return self._dataset("train", transform, has_epochs=True)
        store = self._stores.get("train", samples, self._cached_size("train"))
        self._windows = WindowDataset(samples, transform, store)
        return self._windows

    def _dataset(
        self, split: Split, transform: EvalTransform, *, has_epochs: bool = False
    ) -> ImageDataset:
        samples = self._assembled.splits[split]
        if samples.pixels is not None:
            return PixelDataset(samples, transform, has_epochs=has_epochs)
        store = self._stores.get(split, samples, self._cached_size(split))
        return ImageDataset(samples, transform, has_epochs=has_epochs, store=store)

    def _open_stores(self, photos: Images) -> None:
        """Keep the splits that the trainer is about to read, but for a trial of a few batches."""
        if self.trainer is None or is_fast_dev_run(self.trainer):
            return
        task = self.trainer.state.fn
        for split in _SPLITS_READ.get("" if task is None else task.value, ()):
            self._stores.open(split, photos.splits[split], self._cached_size(split))

    def _loader_or_nothing(self, split: Split) -> Loader | list[Loader]:
        if not len(self._assembled.splits[split].paths):
            return []
        return self.eval_dataloader(split)

    def _loader(self, dataset: ImageDataset, sampler: ShuffleSampler | None = None) -> Loader:
        size, given = self.batch_size, self.num_workers
        if self.trainer is None:
            return make_loader(dataset, size, sampler, given)
        on_cpu = self.trainer.strategy.root_device.type == "cpu"
        num_local = self.trainer.num_devices
        return make_loader(dataset, size, sampler, given, num_local, on_cpu)
