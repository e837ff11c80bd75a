"""Datamodules of images: from folders of classes, from a table of labels, or from arrays."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

import pandas as pd
from typing_extensions import override

from lightning_fastrecipes.data.common.settings import Instance
from lightning_fastrecipes.data.common.sources import resolve_source
from lightning_fastrecipes.data.images.arrays import list_arrays, list_into_memory, read_npz
from lightning_fastrecipes.data.images.class_names import with_class_names
from lightning_fastrecipes.data.images.folder_layout import FolderLayout, FoldersAre, as_layout
from lightning_fastrecipes.data.images.label_table import LabelTable, Numbers, SoftLabels, Tags
from lightning_fastrecipes.data.images.listing import Listing, list_folder
from lightning_fastrecipes.data.images.module import ImageDataModule
from lightning_fastrecipes.data.images.number_labels import with_numbers
from lightning_fastrecipes.data.images.options import ImageOptions
from lightning_fastrecipes.data.images.table_listing import home_of, list_table
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.messages import shown
from lightning_fastrecipes.protocols import LabelKind


class ImageFolderDataModule(ImageDataModule):
    """Serve ``root/{train,val,test}/<class>/*``, or ``root/<class>/*`` with drawn splits.

    Splits are called ``train`` or ``training``, ``val``, ``valid``, ``validation``, ``dev`` or
    ``eval``, ``test`` or ``testing``, in any case, also with ``_set``, ``_data`` or ``_images``
    behind; they may lie in one folder, as zip archives have it. A folder ``test`` without class
    folders holds images to predict. A split without a folder is drawn from the training images,
    class by class. Folders inside a class belong to it. Lists ``train.txt``, ``val.txt`` and
    ``test.txt`` beside the images, with a path and perhaps a label per line, are read as
    ``lists``. Hidden files and those of operating systems are left alone; one line says what was
    found and what is left unused. Classes come in the order of their names, those that are all
    whole numbers, such as ``0`` to ``11``, as numbers.

    Args:
        root: The folder, or ``package:NAME/inner/path`` for one that an installed package ships.
        layout: What folders, names and lists mean, a ``FolderLayout``, or its ``folders`` alone.
        **options: Those of ``ImageOptions``, such as ``image_size`` and ``augmentation``.

    Example:
        >>> pets = ImageFolderDataModule("pets", image_size=64, augmentation="side_on", split=0.1)
        >>> pets.label_kind
        'single'
        >>> flat = ImageFolderDataModule("train", layout=FolderLayout(label_pattern="^(cat|dog)"))

    References:
        fast.ai course (2018), lesson 1: ``ImageClassifierData.from_paths``.
    """

    layout = Instance(FolderLayout)

    def __init__(
        self,
        root: str | Path,
        *,
        layout: FoldersAre | FolderLayout = "auto",
        **options: Unpack[ImageOptions],
    ) -> None:
        super().__init__(**options)
        self.root = root
        self.layout = as_layout(layout)

    @override
    def _list(self) -> Listing:
        root, labels = resolve_source(self.root, "root"), self.layout.labels
        listing = list_folder(root, self.layout)
        if self.layout.class_names is not None:
            listing = with_class_names(listing, self.layout.class_names, root)
        return listing if labels is None else with_numbers(listing, labels)

    @override
    def _asked_numbers(self) -> Numbers | None:
        return self.layout.labels


class ImageCSVDataModule(ImageDataModule):
    """Serve the images that a table of labels names.

    Args:
        csv: A CSV file in any dialect, also ``package:NAME/inner/path``; a folder with
            ``train.csv`` and so on, or with folders ``train`` and so on that hold a CSV each; a
            mapping from splits to tables, such as ``{"train": "a.csv", "test": "b.csv"}``; or a
            data frame.
        table: What the columns mean; if not given, those of files and labels are looked for.
        **options: Those of ``ImageOptions``, such as ``image_size`` and ``split``.

    Example:
        >>> table = LabelTable(
        ...     labels=SoftLabels(["intact", "broken"], probability_column="defect"),
        ...     column_names=["file", "defect", "cell"],
        ... )
        >>> ImageCSVDataModule("package:elpv_dataset/data/labels.csv", table=table).label_kind
        'soft'

    References:
        fast.ai course (2018), lesson 2: ``ImageClassifierData.from_csv``.
    """

    table = Instance(LabelTable)
    _has_columns = True

    def __init__(
        self,
        csv: str | Path | pd.DataFrame | Mapping[str, str | Path | pd.DataFrame],
        *,
        table: LabelTable | None = None,
        **options: Unpack[ImageOptions],
    ) -> None:
        super().__init__(**options)
        self.csv = csv
        self.table = LabelTable() if table is None else table

    @property
    @override
    def label_kind(self) -> LabelKind:
        """What a target is: a class index, probabilities, 0 or 1 per label, or numbers."""
        if isinstance(self.table.labels, SoftLabels):
            return "soft"
        if self._images is not None or self._asked_numbers() is not None:
            return super().label_kind
        return self._list().label_kind

    @override
    def _asked_numbers(self) -> Numbers | None:
        return self.table.labels if isinstance(self.table.labels, Numbers) else None

    @override
    def _list(self) -> Listing:
        listing, names = list_table(self.csv, self.table, self.split), self.table.class_names
        return listing if names is None else with_class_names(listing, names, home_of(self.csv))


class ImageArrayDataModule(ImageDataModule):
    """Serve small images from memory: batches are cut and augmented whole.

    Args:
        source: An ``.npz`` file, also ``package:NAME/inner/path``, or a mapping, with the arrays
            ``x_train`` (``uint8``, shape ``(images, height, width)`` or ``(images, height,
            width, channels)``, 3 unless ``channels`` of ``Geometry`` says so) and
            ``y_train`` (integers or text), and if there are such splits
            ``x_val``, ``y_val``, ``x_test``, ``y_test``; or a folder as
            ``ImageFolderDataModule`` reads it, of images of one shape.
        labels: ``Numbers()`` if labels are numbers to be predicted: then ``y_train`` and so on have
            shape ``(images,)``, or ``(images, numbers)`` of several. ``Tags(columns=[...])`` if
            images may have several labels: then the shape is ``(images, labels)``, of 0 and 1, and
            -1 or NaN where a label is unknown; the columns are the names of the labels. In YAML
            ``labels: {columns: [...]}`` means these, and numbers need their class path.
        **options: Those of ``ImageOptions``; nothing is cached, and there are no workers if not
            given.

    Raises:
        ConfigurationError: If ``source`` or ``labels`` is something else.

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
        labels: Tags | Numbers | None = None,
        **options: Unpack[ImageOptions],
    ) -> None:
        super().__init__(**options)
        if not isinstance(source, str | Path | Mapping):
            raise ConfigurationError(
                "`source` must be a path, or a mapping of arrays such as `{'x_train': images,"
                f" 'y_train': labels}}`, got {shown(source)}."
            )
        if labels is not None and not isinstance(labels, Tags | Numbers):
            raise ConfigurationError(
                "`labels` must be `Tags(columns=[...])`, `Numbers()`, or left out for one class"
                f" per image, got {shown(labels)}."
            )
        self.source = source
        self.labels = labels

    @override
    def prepare_data(self) -> None:
        """Do nothing: memory is filled in every process, by ``setup``."""

    @override
    def _list(self) -> Listing:
        if isinstance(self.source, Mapping):
            return list_arrays(self.source, "arrays", self.labels, self.geometry.channels)
        path = resolve_source(self.source, "source")
        if path.is_dir():
            if isinstance(self.labels, Tags):
                raise ConfigurationError(
                    f"`labels` must be left out for the folder '{path}', whose classes are folders."
                )
            listing = list_into_memory(path, self.geometry.decoding)
            return listing if self.labels is None else with_numbers(listing, self.labels)
        return list_arrays(read_npz(path), str(path), self.labels, self.geometry.channels)

    @override
    def _asked_numbers(self) -> Numbers | None:
        return None if isinstance(self.labels, Tags) else self.labels
