"""Precomputed features on disk: one memory-mapped matrix per key."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_fastrecipes import formats
from lightning_fastrecipes.data.common.cache_entry import CacheEntry, EntryFiles
from lightning_fastrecipes.data.common.disk_room import FOLDER_ADVICE
from lightning_fastrecipes.data.common.life_signs import track
from lightning_fastrecipes.errors import DataError

FloatMatrix = npt.NDArray[np.float32]

_FILE = "features.npy"


def cached_features(
    folder: Path,
    key: Mapping[str, Any],
    batches: Callable[[], Iterable[FloatMatrix]],
    shape: tuple[int, int],
) -> FloatMatrix:
    """Map a matrix of features, after computing and writing it if need be.

    ``key`` is all that the features depend on, as plain JSON values. ``batches`` is called if there
    is no such entry; it returns consecutive float32 rows of a matrix of ``shape``. Raise
    `NoRoomError` if the disk cannot take the matrix, `DataError` if the rows do not add up.
    """
    key = {**key, "format": formats.FEATURE_CACHE}
    entry = CacheEntry(folder, "feature", key, advice=FOLDER_ADVICE)

    def build(_: FloatMatrix | None) -> EntryFiles:
        num_bytes = 4 * shape[0] * shape[1]
        return EntryFiles(num_bytes, lambda place: _write_rows(place / _FILE, batches(), shape))

    def load(place: Path, _: Mapping[str, Any]) -> FloatMatrix:
        matrix: FloatMatrix = np.load(place / _FILE, mmap_mode="r", allow_pickle=False)
        if matrix.shape != shape or matrix.dtype != np.float32:
            raise ValueError(f"it must hold {shape} numbers, but holds {matrix.shape}")
        return matrix

    return entry.get_or_build(build, load)


def _write_rows(path: Path, batches: Iterable[FloatMatrix], shape: tuple[int, int]) -> None:
    # Plain writes, not a writable memory map: on a full disk a map kills the process.
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    num_rows = 0
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for batch in track(batches, "Computing features of images", shape[0], len):
            if batch.ndim != 2 or batch.shape[1] != shape[1]:
                raise DataError(f"Features must have {shape[1]} columns, but got {batch.shape}.")
            num_rows += len(batch)
            file.write(np.ascontiguousarray(batch, dtype="<f4").tobytes())
    if num_rows != shape[0]:
        raise DataError(f"The features must have {shape[0]} rows, but got {num_rows}.")
