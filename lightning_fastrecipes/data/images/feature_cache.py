"""Precomputed features on disk: keyed by all that matters, checked, written atomically."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_fastrecipes._lightning import rank_zero_warn
from lightning_fastrecipes.data.common.disk_room import FOLDER_ADVICE, cache_lock
from lightning_fastrecipes.data.common.files import atomic_path, checksum, write_atomically
from lightning_fastrecipes.errors import DataError

FloatMatrix = npt.NDArray[np.float32]

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1


class FeatureCache:
    """One matrix of features, memory-mapped, that is found again by what it was made from.

    The key is a hash of every part given; the parts are stored beside the matrix and compared on
    reading, and a checksum guards the matrix. A cache that does not match is never used: a damaged
    one is thrown away with a warning, and built anew.

    Args:
        folder: Where caches live; made if missing.
        parts: All that the features depend on, as plain JSON values.

    Example:
        >>> import tempfile
        >>> cache = FeatureCache(Path(tempfile.mkdtemp()), {"model": "resnet18", "size": 32})
        >>> cache.read() is None
        True
        >>> cache.get_or_write(lambda: [np.ones((2, 3), np.float32)], (2, 3)).sum().item()
        6.0
        >>> cache.read().shape
        (2, 3)
    """

    def __init__(self, folder: Path, parts: Mapping[str, Any]) -> None:
        self.parts = json.loads(json.dumps({"format_version": FORMAT_VERSION, **parts}))
        text = json.dumps(self.parts, sort_keys=True)
        self.key = hashlib.sha256(text.encode()).hexdigest()[:32]
        self.matrix_path = folder / f"{self.key}.npy"
        self.manifest_path = folder / f"{self.key}.json"

    def read(self) -> FloatMatrix | None:
        """Return the memory-mapped matrix, or ``None`` where there is none that can be trusted."""
        try:
            manifest = json.loads(self.manifest_path.read_text())
            problem = self._problem(manifest)
            if problem is None:
                matrix: FloatMatrix = np.load(self.matrix_path, mmap_mode="r", allow_pickle=False)
                return matrix
        except FileNotFoundError:
            if not self.matrix_path.exists() and not self.manifest_path.exists():
                return None
            problem = "one of its two files is missing"
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            problem = f"{type(error).__name__}: {error}"
        rank_zero_warn(
            f"The feature cache {self.matrix_path} is damaged ({problem}). It is built anew."
        )
        return None

    def get_or_write(
        self, batches: Callable[[], Iterable[FloatMatrix]], shape: tuple[int, int]
    ) -> FloatMatrix:
        """Read the matrix, or compute and write it, once even when several processes ask.

        Args:
            batches: Called if there is no cache; gives consecutive rows, float32.
            shape: Rows and columns of the whole matrix.

        Returns:
            The memory-mapped matrix. Shape ``shape``, dtype float32.

        Raises:
            DataError: If the disk cannot take the matrix, or the rows do not add up to ``shape``.
        """
        with cache_lock("feature", self.matrix_path, FOLDER_ADVICE):
            found = self.read()
            if found is None:
                self._write(batches(), shape)
                found = self.read()
        if found is None:
            raise DataError(
                f"The feature cache {self.matrix_path} cannot be read back after writing. Check"
                " the disk, or set FASTRECIPES_CACHE to a folder on another one."
            )
        return found

    def _problem(self, manifest: Mapping[str, Any]) -> str | None:
        if manifest["parts"] != self.parts:
            return "it was made from something else"
        if self.matrix_path.stat().st_size != manifest["bytes"]:
            return "its length is wrong"
        if checksum(self.matrix_path) != manifest["checksum"]:
            return "its checksum is wrong"
        return None

    def _write(self, batches: Iterable[FloatMatrix], shape: tuple[int, int]) -> None:
        try:
            with atomic_path(self.matrix_path) as temporary:
                _write_rows(temporary, batches, shape)
                manifest = {
                    "parts": self.parts,
                    "bytes": temporary.stat().st_size,
                    "checksum": checksum(temporary),
                }
                self.manifest_path.unlink(missing_ok=True)
            write_atomically(self.manifest_path, json.dumps(manifest, indent=1))
        except OSError as error:
            raise DataError(
                f"The feature cache needs {4 * shape[0] * shape[1]:,} bytes in"
                f" {self.matrix_path.parent}, but writing failed: {error}. Free some space, or set"
                " FASTRECIPES_CACHE to a folder on another disk."
            ) from error
        logger.info("Wrote %d x %d features to %s", *shape, self.matrix_path)


def _write_rows(path: Path, batches: Iterable[FloatMatrix], shape: tuple[int, int]) -> None:
    # Plain writes, not a writable memory map: on a full disk a map kills the process.
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    num_rows = 0
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for batch in batches:
            if batch.ndim != 2 or batch.shape[1] != shape[1]:
                raise DataError(f"Features must have {shape[1]} columns, but got {batch.shape}.")
            num_rows += len(batch)
            file.write(np.ascontiguousarray(batch, dtype="<f4").tobytes())
    if num_rows != shape[0]:
        raise DataError(f"The features must have {shape[0]} rows, but got {num_rows}.")
