"""Datamodules of images: from folders of classes, from a table of labels, or from arrays."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lightning_fastrecipes.data.common.cache_choice import Cache
from lightning_fastrecipes.data.common.settings import Instance
from lightning_fastrecipes.data.common.sources import resolve_source
from lightning_fastrecipes.data.images.arrays import list_arrays, list_into_memory, read_npz
from lightning_fastrecipes.data.images.assembly import OnBadFile
from lightning_fastrecipes.data.images.dataset import prediction_dataset
from lightning_fastrecipes.data.images.geometry import Geometry
from lightning_fastrecipes.data.images.label_table import LabelTable, list_table
from lightning_fastrecipes.data.images.listing import Listing, list_folder
from lightning_fastrecipes.data.images.module import ImageDataModule
from lightning_fastrecipes.data.images.settings import AugmentOn
from lightning_fastrecipes.functional.images.augment import Preset
from lightning_fastrecipes.protocols import LabelKind

__all__ = [
    "Geometry",
    "ImageArrayDataModule",
    "ImageCSVDataModule",
    "ImageDataModule",
    "ImageFolderDataModule",
    "LabelTable",
    "prediction_dataset",
]


class ImageFolderDataModule(ImageDataModule):
    """Serve ``root/{train,val,test}/<class>/*``, or ``root/<class>/*`` with drawn splits.

    ``val`` is another word for ``val``, and a folder ``test`` without class folders holds
    images to predict. A split without a folder is drawn from the training images, class by
    class. Hidden files and folders are left alone.

    Args:
        root: The folder, or ``package:NAME/inner/path`` for one that an installed package ships.
        image_size: Side of the square images in pixels, at least 1.
        batch_size: Images per step and process, at least 1.
        augmentation: Preset for training images; ``none`` gives those of the evaluation.
        val_fraction: Share to validate on, in [0, 1), if there is no such folder.
        test_fraction: Share to test on, in [0, 1), if there is no such folder.
        split_seed: Another seed draws other splits.
        seed: Of shuffling and augmentation, at least 0.
        on_bad_file: ``raise`` refuses to start with unreadable files; ``skip`` leaves them out.
        num_workers: Loader processes, at least 0; from the machine and the data if not given.
        geometry: How images are resized and cropped; the defaults if not given.
        cache: Where decoded images are kept: ``auto`` or true in the cache folder if there is
            room, ``off`` or false nowhere, or a folder.
        augment_on: Whether each image is augmented by the ``loader``, or a whole batch on the
            ``device``, after the transfer by a trainer: quicker, and other draws of the same law.
        balance: Whether rare labels are seen as often as common ones: a image is drawn in
            proportion to ``1 / count`` of its (rarest) label.

    Raises:
        ValueError: If an argument is out of its range.
        TypeError: If one is of the wrong type.

    Example:
        >>> pets = ImageFolderDataModule("pets", image_size=64, augmentation="side_on")
        >>> pets.label_kind
        'single'

    References:
        fast.ai course (2018), lesson 1: ``ImageClassifierData.from_paths``.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        image_size: int = 224,
        batch_size: int = 32,
        augmentation: Preset = "none",
        val_fraction: float = 0.2,
        test_fraction: float = 0.0,
        split_seed: int = 0,
        seed: int = 0,
        on_bad_file: OnBadFile = "raise",
        num_workers: int | None = None,
        geometry: Geometry | None = None,
        cache: Cache = "auto",
        augment_on: AugmentOn = "loader",
        balance: bool = False,
    ) -> None:
        super().__init__(
            image_size=image_size,
            batch_size=batch_size,
            augmentation=augmentation,
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            split_seed=split_seed,
            seed=seed,
            on_bad_file=on_bad_file,
            num_workers=num_workers,
            geometry=geometry,
            cache=cache,
            augment_on=augment_on,
            balance=balance,
        )
        self.root = root

    def _list(self) -> Listing:
        return list_folder(resolve_source(self.root, "root"))


class ImageCSVDataModule(ImageDataModule):
    """Serve the images that a table of labels names.

    Args:
        csv: A CSV file in any dialect, also ``package:NAME/inner/path``; a folder with
            ``train.csv`` and so on, or with folders ``train`` and so on that hold a CSV each; or a
            data frame.
        table: What the columns mean; a ``file`` and a ``label`` column if not given.
        image_size: Side of the square images in pixels, at least 1.
        batch_size: Images per step and process, at least 1.
        augmentation: Preset for training images; ``none`` gives those of the evaluation.
        val_fraction: Share to validate on, in [0, 1), if no row is in that split.
        test_fraction: Share to test on, in [0, 1), if no row is in that split.
        split_seed: Another seed draws other splits.
        seed: Of shuffling and augmentation, at least 0.
        on_bad_file: ``raise`` refuses to start with unreadable files; ``skip`` leaves them out.
        num_workers: Loader processes, at least 0; from the machine and the data if not given.
        geometry: How images are resized and cropped; the defaults if not given.
        cache: Where decoded images are kept: ``auto`` or true in the cache folder if there is
            room, ``off`` or false nowhere, or a folder.
        augment_on: Whether each image is augmented by the ``loader``, or a whole batch on the
            ``device``, after the transfer by a trainer: quicker, and other draws of the same law.
        balance: Whether rare labels are seen as often as common ones: a image is drawn in
            proportion to ``1 / count`` of its (rarest) label.

    Raises:
        ValueError: If an argument is out of its range.
        TypeError: If one is of the wrong type.

    Example:
        >>> columns = LabelTable(
        ...     probability_column="defect",
        ...     classes=["intact", "broken"],
        ...     column_names=["file", "defect", "cell"],
        ... )
        >>> ImageCSVDataModule("package:elpv_dataset/data/labels.csv", table=columns).label_kind
        'soft'

    References:
        fast.ai course (2018), lesson 2: ``ImageClassifierData.from_csv``.
    """

    table = Instance(LabelTable)

    def __init__(
        self,
        csv: str | Path | pd.DataFrame,
        *,
        table: LabelTable | None = None,
        image_size: int = 224,
        batch_size: int = 32,
        augmentation: Preset = "none",
        val_fraction: float = 0.2,
        test_fraction: float = 0.0,
        split_seed: int = 0,
        seed: int = 0,
        on_bad_file: OnBadFile = "raise",
        num_workers: int | None = None,
        geometry: Geometry | None = None,
        cache: Cache = "auto",
        augment_on: AugmentOn = "loader",
        balance: bool = False,
    ) -> None:
        super().__init__(
            image_size=image_size,
            batch_size=batch_size,
            augmentation=augmentation,
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            split_seed=split_seed,
            seed=seed,
            on_bad_file=on_bad_file,
            num_workers=num_workers,
            geometry=geometry,
            cache=cache,
            augment_on=augment_on,
            balance=balance,
        )
        self.csv = csv
        self.table = LabelTable() if table is None else table

    @property
    def label_kind(self) -> LabelKind:
        """What a target is: a class index, a probability per class, or 0 or 1 per label."""
        if self.table.classes is not None:
            return "soft"
        return self._list().label_kind if self._images is None else self._images.label_kind

    def _list(self) -> Listing:
        return list_table(self.csv, self.table)


class ImageArrayDataModule(ImageDataModule):
    """Serve small images from memory: batches are cut and augmented whole.

    Args:
        source: An ``.npz`` file, also ``package:NAME/inner/path``, or a mapping, with the arrays
            ``x_train`` (``uint8``, shape ``(images, height, width)`` or ``(images, height,
            width, 3)``) and ``y_train`` (integers or text), and if there are such splits
            ``x_val``, ``y_val``, ``x_test``, ``y_test``; or a folder as
            ``ImageFolderDataModule`` reads it, of images of one shape.
        image_size: Side of the square images in pixels, at least 1.
        batch_size: Images per step and process, at least 1.
        augmentation: Preset for training images; ``none`` gives those of the evaluation.
        val_fraction: Share to validate on, in [0, 1), if there is no such split.
        test_fraction: Share to test on, in [0, 1), if there is no such split.
        split_seed: Another seed draws other splits.
        seed: Of shuffling and augmentation, at least 0.
        num_workers: Loader processes, at least 0; none if not given.
        geometry: How images are resized and cropped; the defaults if not given.
        balance: Whether rare labels are seen as often as common ones: a image is drawn in
            proportion to ``1 / count`` of its (rarest) label.

    Raises:
        ValueError: If an argument is out of its range.
        TypeError: If one is of the wrong type.

    Example:
        >>> import numpy as np
        >>> pixels = np.random.default_rng(0).integers(0, 256, (8, 28, 28), np.uint8)
        >>> arrays = {"x_train": pixels, "y_train": np.arange(8) % 2}
        >>> digits = ImageArrayDataModule(arrays, image_size=28)
        >>> digits.setup()
        >>> digits.classes
        ['0', '1']

    References:
        fast.ai course (2018): ``ImageClassifierData.from_arrays``.
    """

    def __init__(
        self,
        source: str | Path | Mapping[str, Any],
        *,
        image_size: int = 224,
        batch_size: int = 32,
        augmentation: Preset = "none",
        val_fraction: float = 0.2,
        test_fraction: float = 0.0,
        split_seed: int = 0,
        seed: int = 0,
        num_workers: int | None = None,
        geometry: Geometry | None = None,
        balance: bool = False,
    ) -> None:
        super().__init__(
            image_size=image_size,
            batch_size=batch_size,
            augmentation=augmentation,
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            split_seed=split_seed,
            seed=seed,
            num_workers=num_workers,
            geometry=geometry,
            balance=balance,
        )
        self.source = source

    def prepare_data(self) -> None:
        """Do nothing: memory is filled in every process, by ``setup``."""

    def _list(self) -> Listing:
        if isinstance(self.source, Mapping):
            return list_arrays(self.source)
        path = resolve_source(self.source, "source")
        return list_into_memory(path) if path.is_dir() else list_arrays(read_npz(path), str(path))
