"""Check every image once: a scan that decodes what is new and remembers what it found."""

import itertools
import logging
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import PIL
from PIL import Image

from lightning_fastrecipes import formats
from lightning_fastrecipes.data.common.cache_choice import cached_if_possible
from lightning_fastrecipes.data.common.cache_entry import CacheEntry, EntryFiles
from lightning_fastrecipes.data.common.disk_room import FOLDER_ADVICE
from lightning_fastrecipes.data.common.workers import map_threads
from lightning_fastrecipes.data.images.decoding import (
    MAX_MEGAPIXELS,
    UNOPENED,
    Decoding,
    ImageFacts,
    inspect_image,
)
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.messages import name_some

_FILE = "images.feather"
_CHUNK = 2048
_MAX_LISTED = 1000
_KEY = ["file", "size", "mtime", "ctime"]
_COLUMNS = [*_KEY, *ImageFacts._fields]
_NUMBERS = {"size", "mtime", "ctime", "width", "height", "peak"}
_GONE = ImageFacts(problem="is not there")._asdict()

logger = logging.getLogger(__name__)


def scan_images(
    folder: Path,
    files: Sequence[str],
    max_megapixels: float = MAX_MEGAPIXELS,
    *,
    skip_missing: bool = False,
) -> pd.DataFrame:
    """Decode every file of a data set once, and later only the files that have changed.

    Facts are kept in the cache folder by path, size and times of the last changes, but of a file
    that could not be opened, which the next scan tries again. If that folder cannot be written to,
    a warning says so, and every scan decodes all files.

    The files, each named once, are relative to the folder, with forward slashes. In the same order,
    return one row each with columns ``file``, ``size`` (bytes), ``mtime``, ``ctime`` (nanoseconds),
    ``width``, ``height`` (pixels), ``mode``, ``digest`` (of the bytes), ``note`` and ``problem``
    (empty for a good image). An image of more than ``max_megapixels`` is none. Raise `DataError` if
    files are missing; with ``skip_missing`` only if all are, and else missing ones are no good
    images.
    """
    found, missing = _stat(folder, files)
    if missing and (not skip_missing or not len(found)):
        raise DataError(
            f"{len(missing)} images are not in '{folder}': {name_some(missing)}."
            f"{_there(folder, missing[0])} Correct what names them, or the folder, or mend links"
            " that lead nowhere."
        )
    known = pd.DataFrame(columns=_COLUMNS)

    decoding = Decoding(max_megapixels=max_megapixels)

    def build(stored: pd.DataFrame | None) -> EntryFiles:
        nonlocal known
        known = _add_new(folder, found, known if stored is None else stored, decoding)
        return EntryFiles(0, lambda place: known.to_feather(place / _FILE))

    def load(place: Path, _: Mapping[str, Any]) -> pd.DataFrame:
        stored = pd.read_feather(place / _FILE)[_COLUMNS]
        kinds = {name: column.dtype.kind for name, column in stored.items()}
        wrong = [name for name in _COLUMNS if (kinds[name] == "i") != (name in _NUMBERS)] or [
            name for name in _COLUMNS if stored[name].hasnans
        ]
        if wrong or stored["file"].duplicated().any():
            raise ValueError(f"it does not say of each file what {_COLUMNS} are")
        return stored[~stored["problem"].str.startswith(UNOPENED)]

    def use(place: Path) -> pd.DataFrame:
        # Another version of Pillow may read what this one cannot.
        versions = {"pillow": PIL.__version__, "version": formats.IMAGE_MANIFEST}
        # And so may codecs that other packages have added to it.
        codecs = {name for name, (opens, _) in Image.OPEN.items() if not _is_pillows(opens)}
        more = {"codecs": sorted(codecs)} if codecs else {}
        bound = {} if max_megapixels == MAX_MEGAPIXELS else {"max_megapixels": max_megapixels}
        key = {"folder": str(folder.resolve()), **versions, **more, **bound}
        entry = CacheEntry(place, "manifest", key, advice=FOLDER_ADVICE)
        return entry.get_or_build(build, load, lambda stored: not len(_new(found, stored)))

    stored = cached_if_possible(
        "auto", "manifests", use, otherwise="the images are checked at every start"
    )
    if not len(known):  # nothing was built
        known = _add_new(folder, found, known, decoding) if stored is None else stored
    scanned = found.merge(known, on=_KEY, how="left", validate="one_to_one")
    if missing:
        scanned = scanned.set_index("file").reindex(list(files)).reset_index()
        is_gone = scanned["problem"].isna()
        facts = {name: scanned[name].mask(is_gone, value) for name, value in _GONE.items()}
        scanned = scanned.assign(**facts)
    return scanned


def _is_pillows(opens: Any) -> bool:
    return str(getattr(opens, "__module__", "")).startswith("PIL.")


def _there(folder: Path, missing: str) -> str:
    """Return what is there instead of a missing file, for a message."""
    place = (folder / missing).parent
    try:
        names = sorted(itertools.islice((entry.name for entry in os.scandir(place)), _MAX_LISTED))
    except (OSError, ValueError):
        return ""
    shown = f"{name_some(names[:3])}{', ...' if len(names) > 3 else ''}"
    return f" '{place}' has {shown}." if names else f" '{place}' is empty."


def _stat(folder: Path, files: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    rows, missing = [], []
    for file in files:
        try:
            status = os.stat(f"{folder}/{file}")
        except (OSError, ValueError):  # missing, behind a link to itself, or no name of a file
            missing.append(file)
        else:
            # No program sets the last of them, so that it tells any other file.
            rows.append((file, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return pd.DataFrame(rows, columns=_KEY), missing


def _new(found: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Return the files that are not known, or have changed."""
    index = [pd.MultiIndex.from_frame(rows[_KEY]) for rows in (found, known)]
    return found[~index[0].isin(index[1])]


def _add_new(
    folder: Path, found: pd.DataFrame, known: pd.DataFrame, decoding: Decoding
) -> pd.DataFrame:
    new = _new(found, known).reset_index(drop=True)
    if not len(new):
        return known
    logger.info("Checking %d of %d images in '%s'.", len(new), len(found), folder)
    inspect, parts = partial(inspect_image, decoding=decoding), []
    for start in range(0, len(new), _CHUNK):  # what is known of an image takes memory until then
        files = [folder / file for file in new["file"][start : start + _CHUNK]]
        end = start + len(files)
        what = f"Checking images {start + 1:,} to {end:,} of {len(new):,}"
        facts = map_threads(inspect, files, what if len(new) > _CHUNK else "Checking images")
        parts.append(pd.DataFrame(facts, columns=ImageFacts._fields))
    checked = pd.concat([new, pd.concat(parts, ignore_index=True)], axis=1)
    kept = known[~known["file"].isin(checked["file"])]
    return pd.concat([part for part in (kept, checked) if len(part)], ignore_index=True)
