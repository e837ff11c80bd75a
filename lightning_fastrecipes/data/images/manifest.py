"""Check every image once: a scan that decodes what is new and remembers what it found."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import PIL

from lightning_fastrecipes import formats
from lightning_fastrecipes.data.common.cache_choice import cached_if_possible
from lightning_fastrecipes.data.common.cache_entry import CacheEntry, EntryFiles
from lightning_fastrecipes.data.common.disk_room import FOLDER_ADVICE
from lightning_fastrecipes.data.common.workers import map_threads
from lightning_fastrecipes.data.images.decoding import ImageFacts, inspect_image
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.messages import name_some

_FILE = "images.feather"
_KEY = ["file", "size", "mtime"]
_COLUMNS = [*_KEY, *ImageFacts._fields]

logger = logging.getLogger(__name__)


def scan_images(folder: Path, files: Sequence[str]) -> pd.DataFrame:
    """Decode every file of a data set once, and later only the files that have changed.

    Facts are kept in the cache folder by path, size and time of the last change. If that folder
    cannot be written to, a warning says so, and every scan decodes all files.

    The files, each named once, are relative to the folder, with forward slashes. In the same order,
    return one row each with columns ``file``, ``size`` (bytes), ``mtime`` (nanoseconds), ``width``,
    ``height`` (pixels), ``mode``, ``digest`` (of the bytes), ``note`` and ``problem`` (empty for a
    good image). Raise `DataError` if files are missing.
    """
    found = _stat(folder, files)
    known = pd.DataFrame(columns=_COLUMNS)

    def build(stored: pd.DataFrame | None) -> EntryFiles:
        nonlocal known
        known = _add_new(folder, found, known if stored is None else stored)
        return EntryFiles(0, lambda place: known.to_feather(place / _FILE))

    def load(place: Path, _: Mapping[str, Any]) -> pd.DataFrame:
        return pd.read_feather(place / _FILE)[_COLUMNS]

    def use(place: Path) -> pd.DataFrame:
        # Another version of Pillow may read what this one cannot.
        versions = {"pillow": PIL.__version__, "version": formats.IMAGE_MANIFEST}
        key = {"folder": str(folder.resolve()), **versions}
        entry = CacheEntry(place, "manifest", key, advice=FOLDER_ADVICE)
        return entry.get_or_build(build, load, lambda stored: not len(_new(found, stored)))

    stored = cached_if_possible(
        "auto", "manifests", use, otherwise="the images are checked at every start"
    )
    known = _add_new(folder, found, known) if stored is None else stored
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


def _new(found: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Return the files that are not known, or have changed."""
    index = [pd.MultiIndex.from_frame(rows[_KEY]) for rows in (found, known)]
    return found[~index[0].isin(index[1])]


def _add_new(folder: Path, found: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    new = _new(found, known).reset_index(drop=True)
    if not len(new):
        return known
    logger.info("Checking %d of %d images in '%s'.", len(new), len(found), folder)
    facts = map_threads(inspect_image, [folder / file for file in new["file"]])
    checked = pd.concat([new, pd.DataFrame(facts, columns=ImageFacts._fields)], axis=1)
    kept = known[~known["file"].isin(checked["file"])]
    return pd.concat([part for part in (kept, checked) if len(part)], ignore_index=True)
