"""Write files as a whole, and check them."""

import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning_fastrecipes.data.common.disk_room import NoRoomError
from lightning_fastrecipes.data.common.sources import check_folder, is_endless
from lightning_fastrecipes.formats import PART

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

MOST_JSON_BYTES = 1 << 25
"""Bytes of the longest JSON that is read from a file."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` if the block ends well, else is removed.

    It is on the same disk; its folder is made if missing. Raise `NoRoomError` if the disk is full.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise FileExistsError(errno.EEXIST, "It must be a file, not a folder or device", str(path))
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Shorter than the 255 bytes that a name may have, of which a character takes up to four.
        name, kind = f"{PART}{path.stem[:30]}-", path.suffix if len(path.suffix) < 20 else ""
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=name, suffix=kind)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o666 & ~umask())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in _FULL:
            raise no_room(path, error.strerror or "the disk is full") from error
        raise
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def no_room(path: Path, reason: str) -> NoRoomError:
    """Return the error of a file that its disk does not take."""
    return NoRoomError(
        f"'{path}' cannot be written: {reason}. What was there before is as it was. Free some space"
        " on its disk; a run then goes on with `fastrecipes run --resume`."
    )


def check_room(folder: Path, num_bytes: int) -> None:
    """Raise `NoRoomError` if the disk of a folder, which exists, has less room than this."""
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        mib = f"it takes {num_bytes / 2**20:,.1f} MiB, but {free / 2**20:,.1f} MiB are free"
        raise no_room(folder, mib)


def sweep_parts(folder: Path) -> None:
    """Remove what writes that were killed have left below a folder, which nobody else writes to."""
    for place, folders, names in os.walk(folder):
        for name in [name for name in folders if name.startswith(PART)]:
            shutil.rmtree(Path(place, name), ignore_errors=True)
            folders.remove(name)
        for name in names:
            if name.startswith(PART):
                Path(place, name).unlink(missing_ok=True)


def write_atomically(path: Path, content: str) -> None:
    """Write text so that a reader finds the old file or the new one, never half of one."""
    with atomic_path(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write plain values as JSON, in which what is no finite number is ``null``."""
    text = json.dumps(_finite(content), indent=2, allow_nan=False, default=str)
    write_atomically(path, f"{text}\n")


def digest_of(content: Mapping[str, Any]) -> str:
    """Compute a SHA-256 of plain values, whatever the order of their keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def read_bounded(path: Path) -> str:
    """Read the text of a file; raise a `ValueError` if it is larger than JSON of ours ever is.

    Parsed, JSON takes up to twenty times as much memory.
    """
    if is_endless(path):
        raise ValueError("it must be a file, but is a pipe or a device")
    if (size := path.stat().st_size) > MOST_JSON_BYTES:
        raise ValueError(f"it must have at most {MOST_JSON_BYTES:,} bytes, but has {size:,}")
    return path.read_text(encoding="utf-8")


def copy_folder(source: Path, target: Path, ignore: Sequence[str] = ()) -> None:
    """Copy a folder, but what patterns ignore, in place of another; half a copy never stays.

    Raise `DataError` if there is a pipe or a device in it.
    """
    check_folder(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f"{PART}{target.name[:30]}-"))
    try:
        ignored = shutil.ignore_patterns(*ignore)
        shutil.copytree(source, temporary, dirs_exist_ok=True, ignore=ignored)
        temporary.chmod(0o777 & ~umask())
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def checksum(path: Path) -> int:
    """Return the CRC-32 of a file, read piece by piece."""
    found = 0
    with path.open("rb") as file:
        while piece := file.read(1 << 22):
            found = zlib.crc32(piece, found)
    return found


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, (list, tuple)) else value


def umask() -> int:
    """Return the permissions that new files and folders do not get."""
    current = os.umask(0)
    os.umask(current)
    return current
