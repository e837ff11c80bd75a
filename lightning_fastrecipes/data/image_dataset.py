"""Pictures and targets by index, for loaders with any number of workers."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lightning_fastrecipes.data.decoding import inspect_image, load_image
from lightning_fastrecipes.data.geometry import EvalTransform, Geometry, Resize
from lightning_fastrecipes.data.sources import list_files, resolve_source
from lightning_fastrecipes.data.workers import map_threads
from lightning_fastrecipes.protocols import InputSpec

Targets = npt.NDArray[np.int64] | npt.NDArray[np.float32]


@dataclass(frozen=True)
class Samples:
    """Files and targets of one split, in arrays that workers share instead of copying.

    Args:
        paths: Encoded absolute paths. Shape ``(pictures,)``.
        targets: Class indices, -1 without a label, of shape ``(pictures,)``, or float32
            probabilities of shape ``(pictures, classes)``.
    """

    paths: npt.NDArray[np.bytes_]
    targets: Targets

    @classmethod
    def from_files(cls, files: Sequence[str | Path], targets: Targets | None = None) -> "Samples":
        """Encode paths; without targets every picture is unlabelled."""
        encoded = np.array([os.fsencode(os.path.abspath(file)) for file in files], dtype=np.bytes_)
        unlabelled = np.full(len(files), -1, dtype=np.int64)
        return cls(encoded, unlabelled if targets is None else targets)


class ImageDataset(Dataset[tuple[Tensor, Tensor]]):
    """Decode, transform and label pictures.

    Args:
        samples: Files and targets.
        transform: Makes a decoded picture square.
        has_epochs: Whether an index is ``epoch * len(dataset) + index``, as ``ShuffleSampler``
            makes it, so that a random transform depends on the epoch whichever worker runs it.
    """

    def __init__(
        self, samples: Samples, transform: EvalTransform, *, has_epochs: bool = False
    ) -> None:
        self._samples = samples
        self.transform = transform
        self.has_epochs = has_epochs

    @property
    def files(self) -> list[str]:
        """Absolute paths in the order of the index."""
        return [os.fsdecode(path) for path in self._samples.paths]

    @property
    def targets(self) -> Tensor:
        """Class indices ``(pictures,)``, -1 without a label, or ``(pictures, classes)``."""
        return torch.from_numpy(self._samples.targets)

    def __len__(self) -> int:
        return len(self._samples.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Make one sample.

        Args:
            index: From 0; with epochs also above the length.

        Returns:
            Picture of shape ``(3, image_size, image_size)``, ``uint8``, and its target.

        Raises:
            IndexError: If ``index`` is out of range.
            DataError: If the file cannot be read any more.
        """
        if index < 0 or (index >= len(self) and not self.has_epochs):
            raise IndexError(f"`index` must lie in [0, {len(self)}), got {index}.")
        epoch, position = divmod(index, len(self))
        path = os.fsdecode(self._samples.paths[position])
        image = self.transform(load_image(path, self.transform.background), epoch, position)
        return image, self.targets[position]


def prediction_dataset(
    paths: Sequence[str | Path],
    *,
    image_size: int,
    resize: Resize = "crop",
    interpolation: str = "bilinear",
    crop_fraction: float = 0.875,
    background: str = "white",
) -> tuple[ImageDataset, list[tuple[str, str]]]:
    """Make a data set of files without labels, with the loader and geometry of the evaluation.

    The keyword arguments are those that ``ImageDataModule.eval_transform_key`` describes.

    Args:
        paths: Files, or folders that are searched to any depth in the order of their names.
        image_size: Side in pixels, at least 1.
        resize: ``crop`` or ``squish``.
        interpolation: ``nearest``, ``bilinear`` or ``bicubic``.
        crop_fraction: Side of the centre crop over the resized shorter side, in (0, 1].
        background: Colour behind transparent pixels.

    Returns:
        The data set, with target -1 for every picture, and the path and reason of each file that
        cannot be read.

    Raises:
        DataNotFoundError: If a path does not exist.
    """
    files: list[Path] = []
    for path in paths:
        found = resolve_source(path, "paths")
        inside = [found / name for name in list_files(found)] if found.is_dir() else [found]
        files += inside
    problems = [facts.problem for facts in map_threads(inspect_image, files)]
    good = [file for file, problem in zip(files, problems, strict=True) if not problem]
    bad = [(str(file), problem) for file, problem in zip(files, problems, strict=True) if problem]
    geometry = Geometry(resize, interpolation, crop_fraction, background=background)
    transform = EvalTransform(image_size, geometry, InputSpec())
    return ImageDataset(Samples.from_files(good), transform), bad
