"""Decoded images on disk: one memory-mapped file per split, mended image by image."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from lightning_fastrecipes._lightning import rank_zero_info, rank_zero_warn
from lightning_fastrecipes.data.common.disk_room import cache_lock, room_for
from lightning_fastrecipes.data.common.files import atomic_path
from lightning_fastrecipes.data.common.workers import map_threads
from lightning_fastrecipes.data.images.decoding import file_digest, load_image
from lightning_fastrecipes.data.images.geometry import CachedSize
from lightning_fastrecipes.errors import DataError

Pixels = npt.NDArray[np.uint8]

_MAGIC = b"FRPIXEL1"
_LENGTH = 8
_CHANNELS = 3
_CHUNK = 64


@dataclass(frozen=True)
class ListedFile:
    """Images that a cache is for.

    Args:
        files: Paths, for decoding.
        digests: ``file_digest`` of each file; equal digests mean equal images.
        shapes: Height and width of each image in its file. Shape ``(images, 2)``.
    """

    files: Sequence[str]
    digests: Sequence[str]
    shapes: npt.NDArray[np.int64]


class PixelStore:
    """Images of a cache by their place in the split, read straight from the disk.

    The file is mapped at once: another run with other images may put its own in the place of it,
    and this one keeps reading what it opened. It is sent to loader processes as a path; each maps
    the file for itself, if it is still the same.

    Args:
        path: The file.
        shapes: Height and width of each image. Shape ``(images, 2)``.
        form: The size they are kept at.
    """

    def __init__(self, path: Path, shapes: npt.NDArray[np.int64], form: CachedSize) -> None:
        self.path = path
        self.form = form
        self._shapes = shapes
        lengths = _CHANNELS * shapes.prod(axis=1)
        self._starts = lengths.cumsum() - lengths
        self._bytes: Pixels | None = np.memmap(path, dtype=np.uint8, mode="r")
        self._identity = _identity(path)

    def __len__(self) -> int:
        return len(self._shapes)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_bytes": None}

    def __getitem__(self, position: int) -> Tensor:
        """Return a image. Shape ``(3, height, width)``, ``uint8``, in memory of its own.

        Args:
            position: Its place in the split.

        Returns:
            The image.

        Raises:
            DataError: If this is another process than the one that opened the cache, and another
                run has replaced the file meanwhile.
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

    def _view(self, content: Pixels, position: int) -> Pixels:
        height, width = self._shapes[position]
        start = self._starts[position]
        end = start + _CHANNELS * height * width
        return content[start:end].reshape(_CHANNELS, height, width)


def _identity(path: Path) -> tuple[int, int, int]:
    """Tell a file from one that takes its name later."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size


def get_or_write_pixels(path: Path, listed: ListedFile, form: CachedSize) -> PixelStore:
    """Open a cache, after decoding what it lacks, once even when several processes ask.

    Images whose file has changed, or whose bytes in the cache are damaged, are decoded anew; the
    others are copied. The file is replaced as a whole, or not at all.

    Args:
        path: The cache file; its folder is made if missing.
        listed: The images, in order.
        form: The size they are kept at.

    Returns:
        The images.

    Raises:
        NoRoomError: If the disk has no room, or the folder cannot be written to.
        DataError: If a image cannot be read any more, or has changed meanwhile.
    """
    with cache_lock("pixel", path):
        old = _read(path, form)
        if old is not None and old.digests == list(listed.digests) and not old.damaged:
            return old.store
        num_bytes = _num_bytes(listed.shapes, form)
        _remove_leftovers(path)
        with room_for("pixel", path.parent, num_bytes):
            with atomic_path(path) as temporary:
                shapes = _write(temporary, listed, form, old)
            return PixelStore(path, shapes, form)


@dataclass(frozen=True)
class _Old:
    """What is in a cache file already."""

    digests: list[str]
    damaged: set[int]
    store: PixelStore

    def photos(self) -> dict[str, int]:
        """Return the place of every image that is whole."""
        places = enumerate(self.digests)
        return {digest: place for place, digest in places if place not in self.damaged}


def _read(path: Path, form: CachedSize) -> _Old | None:
    if not path.exists():
        return None
    try:
        content = np.memmap(path, dtype=np.uint8, mode="r")
        index = _read_index(content, form)
        shapes = index[["height", "width"]].to_numpy(np.int64)
        store = PixelStore(path, shapes, form)
        damaged = {
            place
            for place, checksum in enumerate(index["checksum"])
            if zlib.crc32(np.ascontiguousarray(store._view(content, place)).data) != checksum
        }
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        rank_zero_warn(f"The pixel cache '{path}' is damaged ({error}). It is built anew.")
        return None
    if damaged:
        rank_zero_warn(
            f"{len(damaged)} of {len(index)} images in the pixel cache '{path}' are damaged."
            " They are decoded again."
        )
    return _Old(index["digest"].tolist(), damaged, store)


def _read_index(content: Pixels, form: CachedSize) -> pd.DataFrame:
    """Read the table at the end of a cache, which says what is where."""
    footer = content[-_LENGTH - len(_MAGIC) :].tobytes()
    if footer[_LENGTH:] != _MAGIC:
        raise ValueError("its end is missing")
    end = len(content) - len(footer)
    length = int.from_bytes(footer[:_LENGTH], "little")
    index = pd.read_feather(BytesIO(content[end - length : end].tobytes()))
    if index.attrs["form"] != form.key():
        raise ValueError("it was made for another size")
    return index


def _write(
    path: Path, listed: ListedFile, form: CachedSize, old: _Old | None
) -> npt.NDArray[np.int64]:
    """Write all images, and give the shapes they are kept in."""
    known = {} if old is None else old.photos()
    num_new = sum(digest not in known for digest in listed.digests)
    rank_zero_info(
        f"Keeping {len(listed.files)} images ({_num_bytes(listed.shapes, form) / 2**20:,.0f} MiB)"
        f" in '{path.parent}', {num_new} of them decoded now."
    )

    def image(place: int) -> Tensor:
        digest = listed.digests[place]
        if old is not None and digest in known:
            return old.store[known[digest]]
        file = listed.files[place]
        if _digest_now(file) != digest:
            raise DataError(
                f"The image '{file}' has changed since it was checked. Start again, with a new"
                " datamodule."
            )
        return form.bring(load_image(file, form.background, form.side))

    shapes, checksums = np.empty((len(listed.files), 2), np.int64), []
    # Plain writes, not a writable memory map: on a full disk a map kills the process.
    with path.open("wb") as file:
        for places in _chunks(len(shapes)):
            for place, pixels in zip(places, map_threads(image, places), strict=True):
                shapes[place] = pixels.shape[1:]
                content = pixels.contiguous().numpy().tobytes()
                checksums.append(zlib.crc32(content))
                file.write(content)
        index = pd.DataFrame({"digest": list(listed.digests), "checksum": checksums})
        index["height"], index["width"] = shapes[:, 0], shapes[:, 1]
        index.attrs["form"] = form.key()
        table = BytesIO()
        index.to_feather(table)
        file.write(table.getvalue())
        file.write(len(table.getvalue()).to_bytes(_LENGTH, "little") + _MAGIC)
    return shapes


def _digest_now(file: str) -> str:
    try:
        return file_digest(file)
    except OSError as error:  # not one of the disk of the cache
        raise DataError(
            f"The image '{file}' cannot be read any more: {error}. Put it back, or start again,"
            " with a new datamodule."
        ) from error


def _num_bytes(shapes: npt.NDArray[np.int64], form: CachedSize) -> int:
    """Return the size of a cache beforehand, up to a row of pixels per image."""
    stored = (form.shape(*shape) for shape in shapes.tolist())
    return _CHANNELS * sum(height * width for height, width in stored)


def _remove_leftovers(path: Path) -> None:
    """Remove what a process left that was killed while it wrote; the lock is held."""
    for leftover in path.parent.glob(f".{path.stem}-*{path.suffix}"):
        leftover.unlink(missing_ok=True)


def _chunks(count: int) -> Iterator[range]:
    return (range(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK))
