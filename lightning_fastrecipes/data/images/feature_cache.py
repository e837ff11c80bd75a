"""Precomputed outputs of frozen layers on disk: one memory-mapped array per key."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_fastrecipes import formats
from lightning_fastrecipes._lightning import rank_zero_info
from lightning_fastrecipes.data.common.cache_entry import CacheEntry, EntryFiles
from lightning_fastrecipes.data.common.disk_room import FOLDER_ADVICE
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.images.rounding import from_bytes, to_bytes
from lightning_fastrecipes.life_signs import track

Storage = Literal["float32", "float16", "uint8"]
"""How numbers are kept. ``float16``: within 1/2048 of each, or 3e-8 where that is more; ``uint8``:
within 1/510 of the range of its channel in its image."""

FloatArray = npt.NDArray[np.float32]
_NumberArray = npt.NDArray[Any]

_VALUES, _SCALES = "features.npy", "scales.npy"
_NUM_BYTES = {"float32": 4, "float16": 2, "uint8": 1}
_PREFIX = {"float32": "<f4", "float16": "<f2", "uint8": "|u1"}


@dataclass(frozen=True)
class OutputShape:
    """What is kept of each image: ``views`` outputs of ``shape``, channels at ``channel_axis``."""

    images: int
    views: int
    shape: tuple[int, ...]
    channel_axis: int = 0
    storage: Storage = "float32"

    @property
    def num_bytes(self) -> int:
        """Bytes of all numbers, and of their scales."""
        scales = 8 * self.shape[self.channel_axis] if self.storage == "uint8" else 0
        per_view = prod(self.shape) * _NUM_BYTES[self.storage] + scales
        return self.images * self.views * per_view

    def __str__(self) -> str:
        """Return what is kept in words, with its size."""
        views = "" if self.views == 1 else f"{self.views} views each, "
        sides = " x ".join(map(str, self.shape))
        return (
            f"{self.images:,} images, {views}{sides} numbers in {self.storage}:"
            f" {self.num_bytes / 2**20:,.1f} MiB"
        )


class StoredOutputs:
    """Outputs of frozen layers, read from the disk as they are asked for.

    ``values`` have the shape ``(images, views, ...)``; ``scales``, of ``uint8`` alone,
    ``(images, views, channels, 2)``, as of ``to_bytes``.
    """

    def __init__(
        self, values: _NumberArray, scales: _NumberArray | None = None, channel_axis: int = 0
    ) -> None:
        self.values = values
        self.scales = scales
        self._channel_axis = channel_axis

    def __len__(self) -> int:
        return len(self.values)

    @property
    def num_views(self) -> int:
        """Views of each image."""
        return int(self.values.shape[1])

    def take(self, rows: Tensor, views: Tensor) -> Tensor:
        """Return one view of each of some images. Shape ``(rows, ...)``, ``float32``."""
        places = rows.numpy(), views.numpy()
        values = torch.from_numpy(np.asarray(self.values[places]))
        if self.scales is None:
            return values.float()
        scales = torch.from_numpy(np.asarray(self.scales[places]))
        return from_bytes(values, scales, self._channel_axis + 1)


def cached_outputs(
    folder: Path,
    key: Mapping[str, Any],
    batches: Callable[[], Iterable[FloatArray]],
    shape: OutputShape,
) -> StoredOutputs:
    """Map the outputs of frozen layers, after computing and writing them if need be.

    ``key`` is all that they depend on, as plain JSON values. ``batches`` is called if there is no
    such entry; it returns float32 arrays ``(images, views, ...)`` of consecutive images. Raise
    `NoRoomError` if the disk cannot take them, `DataError` if they do not add up, or numbers are
    none that can be stored so.
    """
    key = {**key, "storage": shape.storage, "format": formats.FEATURE_CACHE}
    entry = CacheEntry(folder, "feature", key, advice=FOLDER_ADVICE)

    def write(place: Path) -> None:
        rank_zero_info(f"Precomputing {shape} in '{folder}'.")
        _write(place, batches(), shape)

    def load(place: Path, _: Mapping[str, Any]) -> StoredOutputs:
        values = np.load(place / _VALUES, mmap_mode="r", allow_pickle=False)
        wanted = (shape.images, shape.views, *shape.shape)
        if values.shape != wanted or values.dtype != np.dtype(shape.storage):
            raise ValueError(f"it must hold {wanted} numbers, but holds {values.shape}")
        scales = None
        if shape.storage == "uint8":
            scales = np.load(place / _SCALES, mmap_mode="r", allow_pickle=False)
            wanted = (*wanted[:2], shape.shape[shape.channel_axis], 2)
            if scales.shape != wanted or scales.dtype != np.float32:
                raise ValueError(f"it must hold {wanted} scales, but holds {scales.shape}")
        return StoredOutputs(values, scales, shape.channel_axis)

    def build(_: StoredOutputs | None) -> EntryFiles:
        return EntryFiles(shape.num_bytes, write)

    return entry.get_or_build(build, load)


def held_outputs(batches: Iterable[FloatArray], shape: OutputShape) -> StoredOutputs:
    """Return outputs in memory, rounded as they would be on disk, where there is no cache."""
    parts = zip(*(_rounded(batch, shape) for batch in batches), strict=True)
    values, *scales = (np.concatenate(part) for part in parts)
    rows, channels = (-1, shape.views), shape.shape[shape.channel_axis]
    return StoredOutputs(
        values.reshape(*rows, *shape.shape),
        scales[0].reshape(*rows, channels, 2) if scales else None,
        shape.channel_axis,
    )


def _write(folder: Path, batches: Iterable[FloatArray], shape: OutputShape) -> None:
    # Plain writes, not a writable memory map: on a full disk a map kills the process.
    wanted, num_rows = (shape.views, *shape.shape), 0
    whole: dict[str, tuple[Storage, tuple[int, ...]]] = {
        _VALUES: (shape.storage, (shape.images, *wanted))
    }
    if shape.storage == "uint8":
        channels = shape.shape[shape.channel_axis]
        whole[_SCALES] = "float32", (shape.images, shape.views, channels, 2)
    with ExitStack() as stack:
        files = [stack.enter_context((folder / name).open("wb")) for name in whole]
        for file, (storage, sides) in zip(files, whole.values(), strict=True):
            header = {"descr": _PREFIX[storage], "fortran_order": False, "shape": sides}
            np.lib.format.write_array_header_1_0(file, header)
        for batch in track(batches, "Computing features of images", shape.images, len):
            if batch.shape[1:] != wanted:
                raise DataError(f"Outputs must be of shape {wanted}, but got {batch.shape[1:]}.")
            num_rows += len(batch)
            for file, numbers in zip(files, _rounded(batch, shape), strict=True):
                file.write(numbers.tobytes())
    if num_rows != shape.images:
        raise DataError(f"There must be outputs of {shape.images} images, but got {num_rows}.")


def _rounded(batch: FloatArray, shape: OutputShape) -> list[_NumberArray]:
    """Return a batch as it is stored, and its scales if it has any."""
    if shape.storage == "float32":
        return [np.ascontiguousarray(batch, dtype="<f4")]
    largest = float(np.abs(batch).max(initial=0.0))
    most = float(np.finfo(np.float16 if shape.storage == "float16" else np.float32).max)
    if not largest <= most:
        raise DataError(
            f"Outputs must be at most {most:.3g} to be kept in {shape.storage}, but reach"
            f" {largest:.3g}. "
            + ("Use `storage='uint8'`." if np.isfinite(largest) else "Look at the weights.")
        )
    if shape.storage == "float16":
        return [np.ascontiguousarray(batch, dtype="<f2")]
    maps = torch.from_numpy(np.ascontiguousarray(batch, dtype=np.float32)).flatten(0, 1)
    codes, scales = to_bytes(maps, shape.channel_axis + 1)
    return [codes.numpy(), np.ascontiguousarray(scales.numpy(), dtype="<f4")]
