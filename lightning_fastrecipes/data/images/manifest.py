"""Check every image once: a scan that decodes what is new and remembers what it found."""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import PIL

from lightning_fastrecipes._lightning import rank_zero_warn
from lightning_fastrecipes.data.common.disk_room import (
    FOLDER_ADVICE,
    NoRoomError,
    cache_lock,
    unwritable,
)
from lightning_fastrecipes.data.common.files import atomic_path
from lightning_fastrecipes.data.common.sources import cache_folder
from lightning_fastrecipes.data.common.workers import map_threads
from lightning_fastrecipes.data.images.decoding import ImageFacts, inspect_image
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.messages import name_some

_VERSION = 1
_KEY = ["file", "size", "mtime"]
_COLUMNS = [*_KEY, *ImageFacts._fields]
_KIND = "manifest"

logger = logging.getLogger(__name__)


def scan_images(folder: Path, files: Sequence[str]) -> pd.DataFrame:
    """Decode every file of a data set once, and later only the files that have changed.

    What was found is kept under the cache folder, by path, size and time of the last change. A
    lock makes several processes of a node take turns, so only the first one decodes. Where that
    folder cannot be written to, a warning says so, and every scan decodes.

    Args:
        folder: Folder that the files are relative to.
        files: Paths with forward slashes, each once.

    Returns:
        One row per file, in the order given, with columns ``file``, ``size`` (bytes), ``mtime``
        (nanoseconds), ``width``, ``height`` (pixels), ``mode``, ``digest`` (of the bytes),
        ``note`` and ``problem`` (empty for a good image).

    Raises:
        DataError: If a file is missing; the message names the missing files.
    """
    found = _stat(folder, files)
    try:
        cache = _cache_file(folder)
        with cache_lock(_KIND, cache, FOLDER_ADVICE):
            before = _read(cache)
            known = _with_new(folder, found, before)
            if known is not before:
                _write(cache, known)
    except NoRoomError as error:
        _warn(error)
        known = _with_new(folder, found, pd.DataFrame(columns=_COLUMNS))
    return found.merge(known, on=_KEY, how="left", validate="one_to_one")


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
            f"{len(missing)} images are not in '{folder}': {name_some(missing)}."
            " Correct the rows that name them, or the folder."
        )
    return pd.DataFrame(rows, columns=_KEY)


def _cache_file(folder: Path) -> Path:
    # Another version of Pillow may read what this one cannot.
    key = f"{folder.resolve()}|{_VERSION}|{PIL.__version__}"
    name = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
    return cache_folder() / "manifests" / f"{name}.feather"


def _read(cache: Path) -> pd.DataFrame:
    if cache.exists():
        try:
            return pd.read_feather(cache)[_COLUMNS]
        except Exception as error:  # whatever is wrong with it, it can be made again
            rank_zero_warn(
                f"The manifest '{cache}' is damaged ({error}). The images are checked again."
            )
    return pd.DataFrame(columns=_COLUMNS)


def _with_new(folder: Path, found: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Add what is new to what is known, or give it back as it is if nothing is."""
    new = found[~_index(found).isin(_index(known))]
    if not len(new):
        return known
    logger.info("Checking %d of %d images in '%s'.", len(new), len(found), folder)
    checked = pd.concat([new.reset_index(drop=True), _inspect(folder, new)], axis=1)
    outdated = known["file"].isin(checked["file"])
    parts = [part for part in (known[~outdated], checked) if len(part)]
    return pd.concat(parts, ignore_index=True)


def _write(cache: Path, known: pd.DataFrame) -> None:
    try:
        with atomic_path(cache) as temporary:
            known.to_feather(temporary)
    except OSError as error:  # what was found is good nevertheless
        _warn(unwritable(_KIND, cache.parent, error, FOLDER_ADVICE))


def _warn(error: NoRoomError) -> None:
    rank_zero_warn(f"{error} Until then the images are checked at every start.")


def _index(rows: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(rows[_KEY])


def _inspect(folder: Path, rows: pd.DataFrame) -> pd.DataFrame:
    paths = [folder / file for file in rows["file"]]
    return pd.DataFrame(map_threads(inspect_image, paths), columns=ImageFacts._fields)
