"""Write to a disk that may be full or read-only."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning_fastrecipes.errors import DataError

SPARE = 1 << 28
"""Bytes that a cache leaves free on its disk."""

ADVICE = (
    "Free some space, give `cache` a folder on another disk, set the environment variable"
    " `FASTRECIPES_CACHE` to one, or set `cache` to 'off'."
)
"""What to do about a cache whose folder is the argument `cache`."""

FOLDER_ADVICE = (
    "Free some space there, or set the environment variable `FASTRECIPES_CACHE` to a folder that"
    " can be written to."
)
"""What to do about a cache whose folder is no argument."""


class NoRoomError(DataError):
    """A cache does not fit on its disk, or its folder cannot be written to."""


@contextmanager
def writing(cache: str, folder: Path, num_bytes: int = 0, advice: str = ADVICE) -> Iterator[None]:
    """Raise ``NoRoomError`` if there is too little room, or if writing in the block fails.

    ``cache`` says for the message what is written, such as ``table``, and ``advice`` what to do.
    Room for ``num_bytes`` is checked beforehand; 0 if the size does not matter.
    """
    needs = (
        f"The {cache} cache needs {num_bytes / 2**20:,.1f} MiB in '{folder}', and"
        f" {SPARE / 2**20:.0f} MiB beside it, but"
    )
    try:
        if num_bytes and num_bytes + SPARE > (free := shutil.disk_usage(folder).free):
            raise NoRoomError(f"{needs} {free / 2**20:,.0f} MiB are free. {advice}")
        yield
    except OSError as error:
        if num_bytes:
            raise NoRoomError(f"{needs} {error}. {advice}") from error
        is_file = isinstance(error, FileExistsError | NotADirectoryError)
        reason = f" this is a file, or lies below one ({error})" if is_file else f": {error}"
        message = f"The {cache} cache must be written to '{folder}', but{reason}. {advice}"
        raise NoRoomError(message) from error
