"""Files as they are or unpacked, whose content is bounded by their own size."""

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from typing_extensions import override

from lightning_fastrecipes.errors import DataError

_FREE, _TIMES = 1 << 29, 100
_LONGEST_LINE = 1 << 26
_MOST_MEMORY, _PIECE = 1 << 28, 1 << 16


def most_bytes(path: Path) -> int:
    """Return how many bytes a file may hold once it is unpacked: half a GiB, or 100 times itself.

    More would be a small file that fills the memory.
    """
    return max(_FREE, _TIMES * path.stat().st_size)


def check_content(path: Path, num_bytes: float) -> None:
    """Raise `DataError` if what a file holds takes more memory than ``most_bytes``."""
    if num_bytes > (most := most_bytes(path)):
        raise DataError(
            f"'{path}' must hold at most {most / 2**30:,.1f} GiB, since it has"
            f" {path.stat().st_size:,} bytes, but holds {num_bytes / 2**30:,.1f} GiB or more. If"
            " that is right, write it anew in parts, or as a file that is not packed."
        )


def open_unpacked(path: Path) -> IO[bytes]:
    """Open a file for reading, unpacked if its name ends in ``.gz``, ``.bz2``, ``.xz`` and so on.

    What is unpacked is bounded by ``most_bytes``, and a line in it by 64 MiB: reading on raises
    `DataError`.
    """
    opener = _OPENERS.get(path.suffix.lower())
    if opener is None:
        return path.open("rb")
    return io.BufferedReader(_Bounded(opener(path), path), 1 << 18)


class _Bounded(io.RawIOBase):
    """The bytes of an unpacked file, counted."""

    def __init__(self, source: IO[bytes], path: Path) -> None:
        self._source = source
        self._path = path
        self._total = 0
        self._line = 0

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Any) -> int:
        content = self._source.read(len(buffer))
        buffer[: len(content)] = content
        self._total += len(content)
        check_content(self._path, self._total)
        place = content.rfind(b"\n")
        self._line = self._line + len(content) if place < 0 else len(content) - place - 1
        if self._line > _LONGEST_LINE:
            raise DataError(
                f"The table '{self._path}' must have lines of at most {_LONGEST_LINE:,} bytes, but"
                " one is longer. Check that the file is whole and a table."
            )
        return len(content)

    @override
    def close(self) -> None:
        self._source.close()
        super().close()


class _Xz(io.RawIOBase):
    """An ``.xz`` file whose header cannot ask for any amount of memory, as to ``lzma.open``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb")
        self._decoder = lzma.LZMADecompressor(memlimit=_MOST_MEMORY)

    @override
    def read(self, size: int = -1) -> bytes:
        while True:
            packed = b""
            if self._decoder.eof:  # another stream may follow, after zeros
                packed = (self._decoder.unused_data or self._file.read(_PIECE)).lstrip(b"\0")
                if not packed:
                    return b""
                self._decoder = lzma.LZMADecompressor(memlimit=_MOST_MEMORY)
            elif self._decoder.needs_input and not (packed := self._file.read(_PIECE)):
                raise EOFError("it ends too early")
            try:
                found = self._decoder.decompress(packed, size)
            except lzma.LZMAError as error:
                if "emory" not in str(error):
                    raise
                raise DataError(
                    f"'{self._path}' must need at most {_MOST_MEMORY:,} bytes of memory to be"
                    " unpacked, but its header asks for more. Write it anew, with a smaller"
                    " dictionary."
                ) from error
            if found:
                return found

    @override
    def close(self) -> None:
        self._file.close()
        super().close()


def _open_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if len(names) != 1:
            raise DataError(
                f"The archive '{path}' must hold one table, but holds {len(names)}. Unpack it."
            )
        return archive.open(names[0])


def _open_zst(path: Path) -> Any:
    import pyarrow as pa  # which nothing else of tables of labels needs

    return pa.input_stream(str(path), compression="zstd")


_OPENERS: Mapping[str, Callable[[Path], Any]] = {
    ".gz": gzip.open, ".bz2": bz2.open, ".xz": _Xz, ".zip": _open_zip, ".zst": _open_zst,
}  # fmt: skip
