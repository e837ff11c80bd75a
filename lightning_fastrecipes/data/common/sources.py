"""Where data comes from."""

import os
import re
import stat
from importlib.util import find_spec
from pathlib import Path

from lightning_fastrecipes.errors import ConfigurationError, DataError, DataNotFoundError
from lightning_fastrecipes.messages import shown

_PACKAGE_PREFIX = "package:"
_ADDRESS = re.compile(r"(https?|ftp|s3|gs|hf):/+(?!/)")
"""Paths have one slash of two."""

_SYSTEM_NAMES = {
    "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin",
    "system volume information", "__macosx", "icon\r", "lost+found", "@eadir",
}  # fmt: skip


def resolve_source(source: str | Path, argument: str) -> Path:
    """Find a file or folder, on disk or inside an installed package.

    ``package:NAME/inner/path`` is a file that the package NAME ships. ``argument`` names for
    messages where the source came from. Raise `DataNotFoundError` if the package is not installed,
    or the path does not exist, `ConfigurationError` if it is no path, or empty.
    """
    if not isinstance(source, str | os.PathLike) or not os.fspath(source):
        raise ConfigurationError(
            f"`{argument}` must be the path of a file or folder, got {shown(source)}. Give one, '.'"
            " for the folder you are in."
        )
    text = os.fspath(source)
    if text.startswith(_PACKAGE_PREFIX):
        package, _, inner = text.removeprefix(_PACKAGE_PREFIX).partition("/")
        # `find_spec` does not run the package's own code.
        spec = find_spec(package) if package.isidentifier() else None
        if spec is None or not spec.submodule_search_locations:
            raise DataNotFoundError(
                f"`{argument}` is '{text}', but the package '{package}' is not installed."
                f" Install it: pip install {package.replace('_', '-')}"
            )
        path = Path(spec.submodule_search_locations[0]) / inner
    else:
        path = Path(text).expanduser()
    if _ADDRESS.match(text):
        address = _ADDRESS.sub(r"\1://", text)
        raise DataNotFoundError(
            f"`{argument}` must name a file or folder on a disk, but {shown(address)} is an address"
            " of the network. Fetch it first."
        )
    # Not by `Path.exists`, which raises an error if a name is too long.
    if not os.path.exists(path):
        raise DataNotFoundError(
            f"`{argument}` must name something that exists, got '{text}' (looked for"
            f" '{path.absolute()}'). Correct the path, or run where it is right."
        )
    if is_endless(path):
        raise DataError(
            f"`{argument}` must name a file or a folder, but '{text}' is a pipe or a device. Copy"
            " what it gives into a file."
        )
    return path


def check_file(path: Path) -> Path:
    """Return a path; raise `DataError` if a folder, a pipe or a device is where a file must be."""
    if os.path.isdir(path) or is_endless(path):
        raise DataError(
            f"'{path}' must be a file, but is a folder, a pipe or a device. Replace it."
        )
    return path


def check_folder(folder: Path) -> None:
    """Raise `DataError` if anything below a folder is neither a file nor a folder."""
    for place, _, names in os.walk(folder):
        for name in names:
            check_file(Path(place, name))


def is_endless(path: str | Path) -> bool:
    """Return whether a path is a pipe or a device, reading of which may never end."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # whoever opens it finds out
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def list_files(folder: Path) -> list[str]:
    """List the files below a folder, to any depth, but nothing of ``is_ignored``.

    Links are followed; a folder that they lead to again, or that holds ``folder``, is listed once.
    The paths are relative to the folder with forward slashes, sorted. Raise `DataError` if a name
    is not valid text, or a folder cannot be read.
    """
    files, folders = [], [("", os.fspath(folder))]
    seen = {_identity(parent) for parent in folder.resolve().parents}
    while folders:
        prefix, place = folders.pop()
        try:
            if (identity := _identity(place)) in seen:
                continue
            seen.add(identity)
            with os.scandir(place) as entries:
                found = [entry for entry in entries if not is_ignored(entry.name)]
        except OSError as error:
            raise DataError(
                f"The folder '{place}' cannot be read: {error.strerror}. Change its permissions, or"
                " move it elsewhere."
            ) from error
        inner = [entry for entry in found if is_folder(entry)]
        # The last is taken first: with it, names are walked in order on every machine.
        inner.sort(key=lambda entry: entry.name, reverse=True)
        folders += [(f"{prefix}{entry.name}/", entry.path) for entry in inner]
        names = {entry.name for entry in inner}
        files += [f"{prefix}{entry.name}" for entry in found if entry.name not in names]
    for file in files:
        try:
            file.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"The file name {file!r} in '{folder}' is not valid text. Rename the file."
            ) from error
    return sorted(files)


def is_ignored(name: str) -> bool:
    """Return whether a file or folder is hidden, or put there by an operating system.

    >>> [name for name in ("a.png", ".DS_Store", "Thumbs.db", "__MACOSX") if not is_ignored(name)]
    ['a.png']
    """
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder, or a link to one; a link to itself is none."""
    try:
        return entry.is_dir()
    except OSError:  # whoever opens it finds out
        return False


def _identity(folder: str | Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino
