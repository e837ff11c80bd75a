"""Images and targets by index, for loaders with any number of workers."""

import hashlib
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset
from typing_extensions import override

from lightning_fastrecipes.data.common.sources import list_files, resolve_source
from lightning_fastrecipes.data.common.workers import map_threads
from lightning_fastrecipes.data.images.decoding import (
    MAX_MEGAPIXELS,
    WHITE,
    inspect_image,
)
from lightning_fastrecipes.data.images.geometry import CachedSize, EvalTransform, Geometry, Resize
from lightning_fastrecipes.data.images.pixel_cache import PixelStore
from lightning_fastrecipes.data.images.samples import Samples
from lightning_fastrecipes.data.images.train_transform import TrainTransform, view_transforms
from lightning_fastrecipes.errors import DataError, DataNotFoundError
from lightning_fastrecipes.functional.images.views import NUM_DRAWS, Views, image_numbers
from lightning_fastrecipes.messages import shown
from lightning_fastrecipes.protocols import InputSpec


class ImageDataset(Dataset[tuple[Tensor, ...]]):
    """Decode, transform and label images; with a store, decoded images are read from it.

    Without one they are shrunk to the size at which a store would have ``kept`` them, by default
    the smallest for the transform: the pixels are the same with and without.

    With epochs, an index is ``epoch * len(dataset) + position``, as ``ShuffleSampler`` makes it, so
    that random transforms depend on the epoch whichever worker runs them. ``views`` are transforms
    that make views of the same decoded image, each called with its number as the epoch, and with
    that of the image as its place; a sample has them as its last part.
    """

    views: Sequence[EvalTransform] = ()

    def __init__(
        self,
        samples: Samples,
        transform: EvalTransform,
        *,
        has_epochs: bool = False,
        store: PixelStore | None = None,
        kept: CachedSize | None = None,
    ) -> None:
        self._samples = samples
        self.transform = transform
        self.has_epochs = has_epochs
        self.store = store
        self.kept = kept or transform.cached_size()

    @property
    def is_quick(self) -> bool:
        """Whether making a sample is cheaper than sending it from a worker."""
        return self.store is not None and not isinstance(self.transform, TrainTransform)

    @property
    def files(self) -> list[str]:
        """Absolute paths, by position."""
        return self._samples.files

    @property
    def weights(self) -> Tensor | None:
        """How much each training image counts, ``(images,)``; ``None`` in evaluations."""
        weights = self._samples.weights if self.has_epochs else None
        return None if weights is None else torch.from_numpy(weights)

    @property
    def targets(self) -> Tensor:
        """Class indices ``(images,)``, -1 without a label, or ``(images, classes)``."""
        return torch.from_numpy(self._samples.targets)

    def __len__(self) -> int:
        return len(self._samples.paths)

    def digest(self) -> str:
        """Hash the names and the content of the files, or where that is unknown their times."""
        digest = hashlib.sha256()
        for position, name in enumerate(self.files):
            content = self._digest(position)
            if content is None:
                status = os.stat(name)
                content = f"{status.st_size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}"
            digest.update(f"{Path(name)}\0{content}\n".encode())
        return digest.hexdigest()

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        """Return an image ``(3, image_size, image_size)``, ``uint8``, its target, and what else.

        That is its weight, if it has one, and any views.

        The index may lie above the length if there are epochs. Raise `IndexError` if it is out of
        range, `DataError` if the file cannot be read any more.
        """
        if index < 0 or (index >= len(self) and not self.has_epochs):
            raise IndexError(f"`index` must lie in [0, {len(self)}), got {index}.")
        epoch, position = divmod(index, len(self))
        image = self._image(position)
        sample = self.transform(image, epoch, position), *self._labels(position)
        if not self.views:
            return sample
        number = int(image_numbers(sample[0][None]))
        views = [make(image, view, number) for view, make in enumerate(self.views)]
        return (*sample, torch.stack(views))

    def _labels(self, positions: Any) -> tuple[Tensor, ...]:
        """Return the targets of positions, and their weights if there are any."""
        targets, weights = self.targets[positions], self.weights
        return (targets,) if weights is None else (targets, weights[positions])

    def _image(self, position: int) -> Tensor:
        if self.store is not None:
            return self.store[position]
        path = os.fsdecode(self._samples.paths[position])
        return self.kept.load(path, self._digest(position))

    def _digest(self, position: int) -> str | None:
        digests = self._samples.digests
        return None if digests is None else bytes(digests[position]).decode()


def shared_dataset(
    train: ImageDataset, val: ImageDataset, *, as_val: bool
) -> tuple[ImageDataset, npt.NDArray[np.int64]]:
    """Join two splits in an order that is the same however they are parted, as all folds do.

    The images are decoded and transformed as those of one of the two. Return also where its images
    are among all.
    """
    samples, places = Samples.joined(train._samples, val._samples)
    like = val if as_val else train
    if isinstance(like, PixelDataset):
        return PixelDataset(samples, like.transform), places[as_val]
    return ImageDataset(samples, like.transform, kept=like.kept), places[as_val]


class WindowDataset(ImageDataset):
    """Cut windows out of images in the loader; :meth:`finish` augments them on the device."""

    transform: TrainTransform

    def __init__(
        self,
        samples: Samples,
        transform: TrainTransform,
        store: PixelStore | None = None,
        kept: CachedSize | None = None,
    ) -> None:
        super().__init__(samples, transform, has_epochs=True, store=store, kept=kept)

    @property
    @override
    def is_quick(self) -> bool:
        return self.store is not None

    @override
    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        """Return a window ``(3, side, side)``, ``uint8``, its target, any weight, and the index."""
        epoch, position = divmod(index, len(self))
        window = self.transform.window(self._image(position), epoch, position, len(self))
        return window, *self._labels(position), torch.tensor(index)

    def finish(self, windows: Tensor, indices: Tensor) -> Tensor:
        """Augment a batch of windows on their device, by the indices of their samples."""
        places = indices.cpu()
        epoch = int(places[0]) // len(self)
        return self.transform.batch(windows, epoch, places % len(self), len(self))


class PixelDataset(ImageDataset):
    """Serve images that are in memory, a whole batch at a time."""

    is_quick = True

    def __init__(
        self, samples: Samples, transform: EvalTransform, *, has_epochs: bool = False
    ) -> None:
        super().__init__(samples, transform, has_epochs=has_epochs)
        pixels = np.empty((0, 1, 1), np.uint8) if samples.pixels is None else samples.pixels
        in_rows = torch.from_numpy(pixels)
        self._pixels = in_rows[:, None] if in_rows.ndim == 3 else in_rows.permute(0, 3, 1, 2)

    @override
    def digest(self) -> str:
        return hashlib.sha256(self._pixels.contiguous().numpy().data).hexdigest()

    @override
    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return tuple(part[0] for part in self.__getitems__([index]))

    def __getitems__(self, indices: Sequence[int]) -> list[Tensor]:
        """Return images ``(batch, 3, image_size, image_size)``, ``uint8``, targets, and what else.

        All indices must be of one epoch.
        """
        found = torch.as_tensor(indices)
        if found.min() < 0 or (found.max() >= len(self) and not self.has_epochs):
            raise IndexError(f"`indices` must lie in [0, {len(self)}), got {list(indices)}.")
        positions = found % len(self)
        epoch = int(found[0]) // len(self)
        pixels = self._pixels[positions]

        def make(transform: EvalTransform, epoch: int, places: Tensor, count: int) -> Tensor:
            images = transform.batch(pixels, epoch, places, count)
            # Grey images stay in one channel until here.
            channels = transform.decoding.channels if images.shape[1] == 1 else -1
            return images.expand(-1, channels, -1, -1).contiguous()

        plain = make(self.transform, epoch, positions, len(self))
        batch = [plain, *self._labels(positions)]
        if self.views:
            numbers = image_numbers(plain)
            views = [make(t, view, numbers, NUM_DRAWS) for view, t in enumerate(self.views)]
            batch.append(torch.stack(views, dim=1))
        return batch


def identity_collate(batch: Any) -> Any:
    """Return what is a batch already, for loaders of data sets with ``__getitems__``."""
    return batch


def prediction_dataset(
    paths: Sequence[str | Path],
    *,
    image_size: int,
    resize: Resize = "crop",
    interpolation: str = "bilinear",
    crop_fraction: float = 0.875,
    background: str = "white",
    max_megapixels: float = MAX_MEGAPIXELS,
    white_level: int = WHITE,
    channels: int = 3,
    views: Views | None = None,
) -> tuple[ImageDataset, list[tuple[str, str]]]:
    """Make a data set of files without labels, with the loader and geometry of the evaluation.

    ``paths`` are files, or folders that are searched to any depth in the order of their names.
    ``ImageDataModule.eval_transform_key`` returns the keyword arguments: a side in pixels, and
    those of ``Geometry``. Views of ``training`` are made beside each image. Return the data set,
    with target -1 for every image, and the path and reason of each file that cannot be read. Raise
    `DataNotFoundError` if a path does not exist.
    """
    files: list[Path] = []
    for path in paths:
        found = resolve_source(path, "paths")
        files += [found / name for name in list_files(found)] if found.is_dir() else [found]
    if paths and not files:
        raise DataNotFoundError(
            f"`paths` must name images, or folders of some, but {shown([str(p) for p in paths])}"
            " holds no file. Name another folder."
        )
    geometry = Geometry(
        resize,
        interpolation,
        crop_fraction,
        background=background,
        max_megapixels=max_megapixels,
        white_level=white_level,
        channels=channels,
    )
    if channels not in (1, 3, 4):
        raise DataError(
            f"The model must be of 1, 3 or 4 channels to predict files, but is of {channels}. Give"
            " its arrays to a `Trainer` in an `ImageArrayDataModule`."
        )
    inspect = partial(inspect_image, decoding=geometry.decoding)
    problems = [facts.problem for facts in map_threads(inspect, files, "Checking images")]
    good = [file for file, problem in zip(files, problems, strict=True) if not problem]
    bad = [(str(file), problem) for file, problem in zip(files, problems, strict=True) if problem]
    transform = EvalTransform(image_size, geometry, InputSpec())
    dataset = ImageDataset(Samples.from_files(good), transform)
    if views is not None and views.preset == "training":
        dataset.views = view_transforms(image_size, geometry, InputSpec(), views)
    return dataset, bad
