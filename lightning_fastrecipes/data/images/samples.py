"""Files and targets of one split."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Places = npt.NDArray[np.int64]
Targets = npt.NDArray[np.int64] | npt.NDArray[np.float32] | npt.NDArray[np.float64]


@dataclass(frozen=True)
class Samples:
    """Files and targets of one split, in arrays that workers share instead of copying.

    ``paths`` are encoded and absolute. ``targets`` are class indices ``(images,)``, -1 without a
    label, float32 probabilities ``(images, classes)``, or float64 numbers ``(images,)`` or
    ``(images, numbers)``, NaN without a label. ``pixels``, of shape ``(images, height,
    width)`` or ``(images, height, width, 3)``, are there where images are in memory; paths are then
    only names. For caches, ``digests`` hash the content of each file, and ``shapes`` ``(images,
    2)`` are height and width in it. ``weights`` ``(images,)`` say how much each image of a training
    split counts, 1 on average.
    """

    paths: npt.NDArray[np.bytes_]
    targets: Targets
    pixels: npt.NDArray[np.uint8] | None = None
    digests: npt.NDArray[np.bytes_] | None = None
    shapes: npt.NDArray[np.int64] | None = None
    weights: npt.NDArray[np.float32] | None = None

    @classmethod
    def from_files(
        cls,
        files: Sequence[str | Path],
        targets: Targets | None = None,
        pixels: npt.NDArray[np.uint8] | None = None,
    ) -> "Samples":
        """Encode paths; without targets every image is unlabelled."""
        here = os.getcwd()  # once for all: it asks the system
        paths = [os.path.normpath(os.path.join(here, file)) for file in files]
        encoded = np.array([os.fsencode(path) for path in paths], dtype=np.bytes_)
        unlabelled = np.full(len(files), -1, dtype=np.int64)
        return cls(encoded, unlabelled if targets is None else targets, pixels)

    @classmethod
    def joined(cls, first: "Samples", second: "Samples") -> tuple["Samples", list[Places]]:
        """Join two splits in the order of their paths; return where each one's images are."""
        paths = np.concatenate([first.paths, second.paths])
        order = np.argsort(paths, kind="stable")
        places = np.argsort(order, kind="stable")

        def both(name: str) -> Any:
            parts = [getattr(first, name), getattr(second, name)]
            return None if any(part is None for part in parts) else np.concatenate(parts)[order]

        names = ("targets", "pixels", "digests", "shapes")
        found = cls(paths[order], **{name: both(name) for name in names})
        return found, [places[: len(first.paths)], places[len(first.paths) :]]

    @property
    def files(self) -> list[str]:
        """Absolute paths as text."""
        return [os.fsdecode(path) for path in self.paths]
