"""Room on the disk for caches, and folders that let them be written."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from lightning_fastrecipes.errors import DataError

SPARE = 1 << 28
"""Bytes that a cache leaves free on its disk."""

_ADVICE = (
    "Free some space, give `cache` a folder on another disk, set the environment variable"
    " `FASTRECIPES_CACHE` to one, or set `cache` to 'off'."
)
FOLDER_ADVICE = (
    "Free some space there, or set the environment variable `FASTRECIPES_CACHE` to a folder that"
    " can be written to."
)
"""What to do about a cache that no argument moves."""


class NoRoomError(DataError):
    """A cache does not fit on its disk, or its folder cannot be written to."""


@contextmanager
def room_for(cache: str, folder: Path, num_bytes: int) -> Iterator[None]:
    """Let a cache be written where there is room for it, and name a disk that fills up meanwhile.

    Args:
        cache: What the cache is of, such as ``table``.
        folder: Where it is written; it exists.
        num_bytes: Room that it needs.

    Yields:
        Nothing; the cache is written in the block.

    Raises:
        NoRoomError: If there is too little room, or writing fails.
    """
    try:
        free = shutil.disk_usage(folder).free
        if num_bytes + SPARE > free:
            reason = f"{free / 2**20:,.0f} MiB are free"
            raise NoRoomError(_no_room(cache, folder, num_bytes, reason))
        yield
    except OSError as error:
        raise NoRoomError(_no_room(cache, folder, num_bytes, str(error))) from error


@contextmanager
def cache_lock(cache: str, path: Path, advice: str = _ADVICE) -> Iterator[None]:
    """Make the folder of a cache, and let one process at a time into the block.

    Args:
        cache: What the cache is of, such as ``table``.
        path: The cache; its lock lies beside it.
        advice: What to do where this fails.

    Yields:
        Nothing; the lock is held in the block.

    Raises:
        NoRoomError: If the folder cannot be made or written to.
    """
    lock = FileLock(f"{path}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise unwritable(cache, path.parent, error, advice) from error
    try:
        yield
    finally:
        lock.release()


def unwritable(cache: str, folder: Path, error: OSError, advice: str = _ADVICE) -> NoRoomError:
    """Return why a cache cannot be written.

    Args:
        cache: What the cache is of, such as ``table``.
        folder: Where it was to be written.
        error: What the system said.
        advice: What to do.

    Returns:
        The error to raise.

    Example:
        >>> str(unwritable("pixel", Path("a"), OSError(30, "Read-only"), "Move it."))
        "The pixel cache must be written to 'a', but: [Errno 30] Read-only. Move it."
    """
    is_file = isinstance(error, FileExistsError | NotADirectoryError)
    reason = f" this is a file, or lies below one ({error})" if is_file else f": {error}"
    return NoRoomError(f"The {cache} cache must be written to '{folder}', but{reason}. {advice}")


def _no_room(cache: str, folder: Path, num_bytes: int, reason: str) -> str:
    return (
        f"The {cache} cache needs {num_bytes / 2**20:,.1f} MiB in '{folder}', and"
        f" {SPARE / 2**20:.0f} MiB beside it, but {reason}. {_ADVICE}"
    )
