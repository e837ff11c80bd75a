"""What files of images say without being decoded: their sides, and which are the same."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lightning_fastrecipes.data.common.sources import is_endless

_MOST_OPENED = 500


@dataclass(frozen=True)
class FileFacts:
    """Facts of a folder's images.

    ``sides`` are the median width and height in pixels of up to 500 images, ``least`` and ``most``
    the shorter sides at the ends; ``num_repeated`` counts files that are, byte by byte, an earlier
    one; ``unreadable`` are those, of the ones opened, that are no images.
    """

    sides: tuple[int, int]
    least: int
    most: int
    num_repeated: int
    unreadable: tuple[str, ...]


def file_facts(folder: Path, files: Sequence[str]) -> FileFacts:
    """Open the headers of evenly chosen images, and compare files of one size byte by byte."""
    chosen = np.unique(np.linspace(0, len(files) - 1, min(len(files), _MOST_OPENED)).astype(int))
    sizes, unreadable = [], []
    for place in chosen:
        if is_endless(folder / files[place]):
            unreadable.append(files[place])
            continue
        try:
            with Image.open(folder / files[place]) as image:
                sizes.append(image.size)
        except (OSError, ValueError, Image.DecompressionBombError):
            unreadable.append(files[place])
    widths, heights = np.array(sizes or [(0, 0)]).T
    shorter = np.minimum(widths, heights)
    return FileFacts(
        (int(np.median(widths)), int(np.median(heights))),
        int(shorter.min()),
        int(shorter.max()),
        _count_repeated(folder, files),
        tuple(unreadable),
    )


def _count_repeated(folder: Path, files: Sequence[str]) -> int:
    by_size: defaultdict[int, list[Path]] = defaultdict(list)
    for file in files:
        path = folder / file
        if path.is_file():
            by_size[path.stat().st_size].append(path)
    repeated = 0
    for paths in by_size.values():
        if len(paths) > 1:
            digests = {hashlib.sha256(path.read_bytes()).digest() for path in paths}
            repeated += len(paths) - len(digests)
    return repeated
