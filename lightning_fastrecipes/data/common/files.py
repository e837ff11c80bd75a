"""Write files as a whole, and check them."""

import errno
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` if the block ends well, else is removed.

    The folder of ``path`` is made if missing.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise FileExistsError(errno.EEXIST, "It must be a file, not a folder or device", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~umask())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, content: str) -> None:
    """Write text so that a reader finds the old file or the new one, never half of one."""
    with atomic_path(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


def copy_folder(source: Path, target: Path, ignore: Sequence[str] = ()) -> None:
    """Copy a folder, but what patterns ignore, in place of another; half a copy never stays."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
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


def umask() -> int:
    """Return the permissions that new files and folders do not get."""
    current = os.umask(0)
    os.umask(current)
    return current
