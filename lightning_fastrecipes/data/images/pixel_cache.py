"""Decoded images on disk: one memory-mapped file per split, updated image by image."""

import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import PIL
import torch
from torch import Tensor

from lightning_fastrecipes import formats
from lightning_fastrecipes._lightning import rank_zero_info, rank_zero_warn
from lightning_fastrecipes.data.common.cache_entry import CacheEntry, EntryFiles
from lightning_fastrecipes.data.common.workers import map_threads
from lightning_fastrecipes.data.images.geometry import CachedSize
from lightning_fastrecipes.data.images.samples import Samples
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.life_signs import track

Pixels = npt.NDArray[np.uint8]

_PIXELS = "pixels.bin"
_INDEX = "index.feather"
_CHUNK = 64
_LONGEST_SIDE = 1 << 20


class PixelStore:
    """Images of a cache by their position in the split, read straight from the disk.

    The file is mapped at once: another run may replace it, and this one keeps reading what it
    opened. A loader process gets the path alone; it maps the file, if that is still the same.
    ``shapes`` are height and width of each image, ``(images, 2)``.
    """

    def __init__(self, path: Path, shapes: npt.NDArray[np.int64], size: CachedSize) -> None:
        self.path = path
        self.size = size
        self._shapes = shapes
        self._channels = size.decoding.channels
        lengths = self._channels * shapes.prod(axis=1)
        self._starts = lengths.cumsum() - lengths
        self._bytes: Pixels | None = np.memmap(path, dtype=np.uint8, mode="r")
        self._identity = _identity(path)

    def __len__(self) -> int:
        return len(self._shapes)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_bytes": None}

    def __getitem__(self, position: int) -> Tensor:
        """Return a copy of an image. Shape ``(channels, height, width)``, ``uint8``.

        Raise `DataError` if another run replaced the file before this process mapped it.
        """
        if self._bytes is None:
            content = np.memmap(self.path, dtype=np.uint8, mode="r")
            if _identity(self.path) != self._identity:
                raise DataError(
                    f"The pixel cache '{self.path}' must stay as it was opened, but another run has"
                    " put other images in its place. Give runs that train side by side a `cache`"
                    " folder each, or set `num_workers` to 0."
                )
            self._bytes = content
        return torch.from_numpy(np.array(self._view(self._bytes, position)))

    def checksum(self, position: int) -> int:
        """Return the CRC-32 of an image, in the process that opened the cache."""
        assert self._bytes is not None
        return zlib.crc32(np.ascontiguousarray(self._view(self._bytes, position)).data)

    def _view(self, content: Pixels, position: int) -> Pixels:
        height, width = self._shapes[position]
        start = self._starts[position]
        end = start + self._channels * height * width
        return content[start:end].reshape(self._channels, height, width)


def cached_pixels(folder: Path, split: str, samples: Samples, size: CachedSize) -> PixelStore:
    """Open the cache of a split, after decoding what it lacks.

    ``samples`` must have digests and shapes, and hold at least one image. Images whose file has
    changed, or whose bytes in the cache are damaged, are decoded again; the others are copied. The
    cache is replaced as a whole, or not at all. Raise `NoRoomError` if the disk has no room or the
    folder cannot be written to, `DataError` if an image cannot be read any more or has changed
    meanwhile.
    """
    assert samples.digests is not None
    assert samples.shapes is not None
    files, digests = samples.files, samples.digests.astype(str).tolist()
    kept_shapes = [size.shape(*shape) for shape in samples.shapes.tolist()]
    key = {
        "split": split,
        "folder": os.path.commonpath(files),
        "size": size.key(),
        "pillow": PIL.__version__,  # another version may decode to other pixels
        "version": formats.PIXEL_CACHE,
    }
    # Checksums are in the index, one an image, so that the others are kept if one is damaged.
    entry = CacheEntry(folder, "pixel", key, unchecked=(_PIXELS,))
    intact: dict[str, int] = {}

    known = dict(zip(digests, kept_shapes, strict=True))

    def load(place: Path, _: Mapping[str, Any]) -> tuple[PixelStore, pd.DataFrame]:
        return _read(place, known, size)

    def is_complete(stored: tuple[PixelStore, pd.DataFrame]) -> bool:
        store, index = stored
        is_good = np.array([store.checksum(p) == c for p, c in enumerate(index["checksum"])], bool)
        if not is_good.all():
            rank_zero_warn(
                f"{(~is_good).sum()} of {len(index)} images in the pixel cache '{entry.path}' are"
                " damaged. They are decoded again."
            )
        places = np.flatnonzero(is_good)
        intact.update(zip(index["digest"].to_numpy()[places], places.tolist(), strict=True))
        return bool(is_good.all()) and index["digest"].tolist() == digests

    def build(stored: tuple[PixelStore, pd.DataFrame] | None) -> EntryFiles:
        num_pixels = sum(height * width for height, width in kept_shapes)
        num_bytes = size.decoding.channels * num_pixels

        def image(position: int) -> Tensor:
            digest = digests[position]
            if stored is not None and digest in intact:
                return stored[0][intact[digest]]
            return size.load(files[position], digest)

        def write(place: Path) -> None:
            rank_zero_info(
                f"Keeping {len(files)} images ({num_bytes / 2**20:,.0f} MiB) in '{folder}',"
                f" {sum(digest not in intact for digest in digests)} of them decoded now."
            )
            _write(place, digests, image)

        return EntryFiles(num_bytes, write)

    return entry.get_or_build(build, load, is_complete)[0]


def _read(
    folder: Path, known: Mapping[str, tuple[int, int]], size: CachedSize
) -> tuple[PixelStore, pd.DataFrame]:
    """Open a cache; raise `ValueError` unless its images have the sizes that are ``known``."""
    index = pd.read_feather(folder / _INDEX)
    shapes = index[["height", "width"]].to_numpy(np.int64)
    expected = [known.get(d, shape) for d, shape in zip(index["digest"], shapes, strict=True)]
    # A JPEG is decoded at an eighth to the whole of its size, and each step rounds.
    if not np.allclose(shapes, np.array(expected).reshape(shapes.shape), rtol=0.1, atol=2):
        raise ValueError("images in it have other sizes than their files")
    is_wrong = (
        index["checksum"].dtype != np.int64 or ((shapes < 1) | (shapes > _LONGEST_SIDE)).any()
    )
    length = size.decoding.channels * int(shapes.prod(axis=1).sum())
    if is_wrong or length != (folder / _PIXELS).stat().st_size:
        raise ValueError("its index does not say where the images are")
    return PixelStore(folder / _PIXELS, shapes, size), index


def _write(folder: Path, digests: Sequence[str], image: Callable[[int], Tensor]) -> None:
    rows = []
    # Plain writes, not a writable memory map: on a full disk a map kills the process.
    with (folder / _PIXELS).open("wb") as file:
        for pixels in track(_in_chunks(image, len(digests)), "Decoding images", len(digests)):
            content = pixels.contiguous().numpy().tobytes()
            rows.append((zlib.crc32(content), *pixels.shape[1:]))
            file.write(content)
    index = pd.DataFrame(rows, columns=["checksum", "height", "width"])
    index.assign(digest=digests).to_feather(folder / _INDEX)


def _in_chunks(image: Callable[[int], Tensor], count: int) -> Iterator[Tensor]:
    for start in range(0, count, _CHUNK):
        yield from map_threads(image, range(start, min(start + _CHUNK, count)))


def _identity(path: Path) -> tuple[int, int, int]:
    """Return what tells a file from one that takes its name later."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size
