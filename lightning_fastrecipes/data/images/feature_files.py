"""Outputs of frozen layers in files, as they are stored: two bytes, one or four for each number."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.images.rounding import from_bytes, to_bytes

Storage = Literal["float32", "float16", "uint8"]
"""How numbers are kept. ``float16``: within 1/2048 of each, or 3e-8 where that is more; ``uint8``:
within 1/510 of the range of its channel in its image."""

FloatArray = npt.NDArray[np.float32]
_NumberArray = npt.NDArray[Any]

_VALUES, _SCALES, _CHUNK = "features.npy", "scales.npy", 256
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
    ``(images, views, channels, 2)``, as of ``to_bytes``. ``places`` ``(images,)`` are those of the
    images that are served; all in order if ``None``.
    """

    def __init__(
        self,
        values: _NumberArray,
        scales: _NumberArray | None = None,
        channel_axis: int = 0,
        places: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self.values = values
        self.scales = scales
        self._channel_axis = channel_axis
        self._places = None if places is None else torch.from_numpy(places)

    def __len__(self) -> int:
        return len(self.values) if self._places is None else len(self._places)

    def select(self, places: npt.NDArray[np.int64] | None) -> "StoredOutputs":
        """Return the outputs of some images, by their places; of all if ``None``."""
        return StoredOutputs(self.values, self.scales, self._channel_axis, places)

    @property
    def num_views(self) -> int:
        """Views of each image."""
        return int(self.values.shape[1])

    def take(self, rows: Tensor, views: Tensor) -> Tensor:
        """Return one view of each of some images. Shape ``(rows, ...)``, ``float32``."""
        rows = rows if self._places is None else self._places[rows]
        places = rows.numpy(), views.numpy()
        values = torch.from_numpy(np.asarray(self.values[places]))
        if self.scales is None:
            return values.float()
        scales = torch.from_numpy(np.asarray(self.scales[places]))
        return from_bytes(values, scales, self._channel_axis + 1)


@dataclass(frozen=True)
class Rounded:
    """Outputs of some images as they are stored: the numbers, and their scales if they have any."""

    images: int
    arrays: list[_NumberArray]


def write_outputs(folder: Path, chunks: Iterable[Rounded], shape: OutputShape) -> None:
    """Write the outputs of consecutive images; a `DataError` if they are not those of all."""
    wanted, num_rows = (shape.views, *shape.shape), 0
    whole: dict[str, tuple[Storage, tuple[int, ...]]] = {
        _VALUES: (shape.storage, (shape.images, *wanted))
    }
    if shape.storage == "uint8":
        channels = shape.shape[shape.channel_axis]
        whole[_SCALES] = "float32", (shape.images, shape.views, channels, 2)
    # Plain writes, not a writable memory map: on a full disk a map kills the process.
    with ExitStack() as stack:
        files = [stack.enter_context((folder / name).open("wb")) for name in whole]
        for file, (storage, sides) in zip(files, whole.values(), strict=True):
            header = {"descr": _PREFIX[storage], "fortran_order": False, "shape": sides}
            np.lib.format.write_array_header_1_0(file, header)
        for chunk in chunks:
            num_rows += chunk.images
            for file, numbers in zip(files, chunk.arrays, strict=True):
                file.write(numbers.tobytes())
    if num_rows != shape.images:
        raise DataError(f"There must be outputs of {shape.images} images, but got {num_rows}.")


def load_outputs(folder: Path, shape: OutputShape) -> StoredOutputs:
    """Map outputs that were written; a `ValueError` if they are of another shape."""
    values = np.load(folder / _VALUES, mmap_mode="r", allow_pickle=False)
    wanted = (shape.images, shape.views, *shape.shape)
    if values.shape != wanted or values.dtype != np.dtype(shape.storage):
        raise ValueError(f"it must hold {wanted} numbers, but holds {values.shape}")
    scales = None
    if shape.storage == "uint8":
        scales = np.load(folder / _SCALES, mmap_mode="r", allow_pickle=False)
        wanted = (*wanted[:2], shape.shape[shape.channel_axis], 2)
        if scales.shape != wanted or scales.dtype != np.float32:
            raise ValueError(f"it must hold {wanted} scales, but holds {scales.shape}")
    return StoredOutputs(values, scales, shape.channel_axis)


def as_chunks(stored: StoredOutputs) -> Iterator[Rounded]:
    """Yield outputs that were written, some images at a time."""
    parts = [part for part in (stored.values, stored.scales) if part is not None]
    for start in range(0, len(stored), _CHUNK):
        arrays = [np.asarray(part[start : start + _CHUNK]) for part in parts]
        yield Rounded(len(arrays[0]), arrays)


def rounded(batch: FloatArray, shape: OutputShape) -> Rounded:
    """Return outputs as they are stored; a `DataError` if they cannot be."""
    if batch.shape[1:] != (wanted := (shape.views, *shape.shape)):
        raise DataError(f"Outputs must be of shape {wanted}, but got {batch.shape[1:]}.")
    if shape.storage == "float32":
        return Rounded(len(batch), [np.ascontiguousarray(batch, dtype="<f4")])
    largest = float(np.abs(batch).max(initial=0.0))
    most = float(np.finfo(np.float16 if shape.storage == "float16" else np.float32).max)
    if not largest <= most:
        raise DataError(
            f"Outputs must be at most {most:.3g} to be kept in {shape.storage}, but reach"
            f" {largest:.3g}. "
            + ("Use `storage='uint8'`." if np.isfinite(largest) else "Look at the weights.")
        )
    if shape.storage == "float16":
        return Rounded(len(batch), [np.ascontiguousarray(batch, dtype="<f2")])
    maps = torch.from_numpy(np.ascontiguousarray(batch, dtype=np.float32)).flatten(0, 1)
    codes, scales = to_bytes(maps, shape.channel_axis + 1)
    arrays = [codes.numpy(), np.ascontiguousarray(scales.numpy(), dtype="<f4")]
    return Rounded(len(batch), arrays)
