"""Check every picture once: a scan that decodes what is new and remembers what it found."""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import PIL
from filelock import FileLock
from pytorch_lightning.utilities import rank_zero_warn

from lightning_fastrecipes.data.decoding import PictureFacts, inspect_image
from lightning_fastrecipes.data.files import atomic_path
from lightning_fastrecipes.data.sources import cache_folder
from lightning_fastrecipes.data.workers import map_threads
from lightning_fastrecipes.errors import DataError

_VERSION = 1
_KEY = ["file", "size", "mtime"]
_COLUMNS = [*_KEY, *PictureFacts._fields]
_MAX_NAMED = 20

logger = logging.getLogger(__name__)


def scan_pictures(folder: Path, files: Sequence[str]) -> pd.DataFrame:
    """Decode every file of a data set once, and later only the files that have changed.

    What was found is kept under the cache folder, by path, size and time of the last change. A
    lock makes several processes of a node take turns, so only the first one decodes.

    Args:
        folder: Folder that the files are relative to.
        files: Paths with forward slashes, each once.

    Returns:
        One row per file, in the order given, with columns ``file``, ``size`` (bytes), ``mtime``
        (nanoseconds), ``width``, ``height`` (pixels), ``mode``, ``digest`` (of the bytes),
        ``note`` and ``problem`` (empty for a good picture).

    Raises:
        DataError: If a file is missing; the message names the missing files.
    """
    found = _stat(folder, files)
    cache = _cache_file(folder)
    with FileLock(f"{cache}.lock"):
        known = _read(cache)
        new = found[~_index(found).isin(_index(known))]
        if len(new):
            logger.info("Checking %d of %d pictures in '%s'.", len(new), len(found), folder)
            checked = pd.concat([new.reset_index(drop=True), _inspect(folder, new)], axis=1)
            outdated = known["file"].isin(checked["file"])
            parts = [part for part in (known[~outdated], checked) if len(part)]
            known = pd.concat(parts, ignore_index=True)
            with atomic_path(cache) as temporary:
                known.to_feather(temporary)
    return found.merge(known, on=_KEY, how="left", validate="one_to_one")


def name_some(names: Sequence[str]) -> str:
    """List names for a message: the first 20, and how many there are.

    Args:
        names: Names of files, rows or classes.

    Returns:
        The names separated by commas.

    Example:
        >>> name_some(["a.png", "b.png"])
        "'a.png', 'b.png'"
    """
    shown = ", ".join(f"'{name}'" for name in names[:_MAX_NAMED])
    return shown if len(names) <= _MAX_NAMED else f"{shown}, ... ({len(names)} in all)"


def _stat(folder: Path, files: Sequence[str]) -> pd.DataFrame:
    rows, missing = [], []
    for file in files:
        try:
            status = (folder / file).stat()
        except FileNotFoundError:
            missing.append(file)
        else:
            rows.append((file, status.st_size, status.st_mtime_ns))
    if missing:
        raise DataError(
            f"{len(missing)} pictures are not in '{folder}': {name_some(missing)}."
            " Correct the rows that name them, or the folder."
        )
    return pd.DataFrame(rows, columns=_KEY)


def _cache_file(folder: Path) -> Path:
    # Another version of Pillow may read what this one cannot.
    key = f"{folder.resolve()}|{_VERSION}|{PIL.__version__}"
    home = cache_folder() / "manifests"
    home.mkdir(exist_ok=True)
    return home / f"{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}.feather"


def _read(cache: Path) -> pd.DataFrame:
    if cache.exists():
        try:
            return pd.read_feather(cache)[_COLUMNS]
        except Exception as error:  # whatever is wrong with it, it can be made again
            rank_zero_warn(
                f"The manifest '{cache}' is damaged ({error}). The pictures are checked again."
            )
    return pd.DataFrame(columns=_COLUMNS)


def _index(rows: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(rows[_KEY])


def _inspect(folder: Path, rows: pd.DataFrame) -> pd.DataFrame:
    paths = [folder / file for file in rows["file"]]
    return pd.DataFrame(map_threads(inspect_image, paths), columns=PictureFacts._fields)
