"""Room on the disk for caches: asked for before anything is written."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning_fastrecipes.errors import DataError

SPARE = 1 << 28
"""Bytes that a cache leaves free on its disk."""


class NoRoomError(DataError):
    """A cache does not fit on its disk."""


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
    free = shutil.disk_usage(folder).free
    if num_bytes + SPARE > free:
        raise NoRoomError(_no_room(cache, folder, num_bytes, f"{free / 2**20:,.0f} MiB are free"))
    try:
        yield
    except OSError as error:
        raise NoRoomError(_no_room(cache, folder, num_bytes, str(error))) from error


def _no_room(cache: str, folder: Path, num_bytes: int, reason: str) -> str:
    return (
        f"The {cache} cache needs {num_bytes / 2**20:,.1f} MiB in '{folder}', and"
        f" {SPARE / 2**20:.0f} MiB beside it, but {reason}. Free some space, give `cache` a folder"
        " on another disk, or set `cache` to 'off'."
    )
