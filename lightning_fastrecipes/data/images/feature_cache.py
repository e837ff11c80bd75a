"""Precomputed outputs of frozen layers on disk: one memory-mapped array per key."""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lightning_fastrecipes import formats
from lightning_fastrecipes._lightning import rank_zero_info
from lightning_fastrecipes.data.common.cache_entry import CacheEntry, EntryFiles
from lightning_fastrecipes.data.common.disk_room import FOLDER_ADVICE, NoRoomError
from lightning_fastrecipes.data.images.feature_files import (
    FloatArray,
    OutputShape,
    Rounded,
    StoredOutputs,
    as_chunks,
    load_outputs,
    rounded,
    write_outputs,
)
from lightning_fastrecipes.life_signs import track

_KEEP_EVERY = 30.0
"""Seconds of computing that a killed run may lose."""


def cached_outputs(
    folder: Path,
    key: Mapping[str, Any],
    batches: Callable[[int], Iterable[FloatArray]],
    shape: OutputShape,
) -> StoredOutputs:
    """Map the outputs of frozen layers, after computing and writing them if need be.

    ``key`` is all that they depend on, as plain JSON values. ``batches`` is called if there is no
    such entry, with the number of images whose outputs a run has kept that was interrupted; it
    returns float32 arrays ``(images, views, ...)`` of consecutive images from there on. Raise
    `NoRoomError` if the disk cannot take them, `DataError` if they do not add up, or numbers are
    none that can be stored so.
    """
    key = {**key, "storage": shape.storage, "format": formats.FEATURE_CACHE}
    parts = _Parts(folder, key, shape)

    def write(place: Path) -> None:
        kept = parts.read()
        begun = sum(map(len, kept))
        there = f", {begun:,} images of which are there" if begun else ""
        rank_zero_info(f"Precomputing {shape} in '{folder}'{there}.")

        def chunks() -> Iterator[Rounded]:
            for part in kept:
                yield from as_chunks(part)
            yield from parts.keeping(batches(begun), begun)

        found = track(chunks(), "Computing features of images", shape.images, _images)
        write_outputs(place, found, shape)

    entry = CacheEntry(folder, "feature", key, advice=FOLDER_ADVICE)
    stored = entry.get_or_build(
        lambda _: EntryFiles(shape.num_bytes, write), lambda place, _: load_outputs(place, shape)
    )
    parts.remove()
    return stored


class _Parts:
    """What was computed of an entry before all of it was, in entries of consecutive images.

    Only who holds the lock of the whole entry writes them.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any], shape: OutputShape) -> None:
        self.folder = folder
        self.key = key
        self.shape = shape

    def read(self) -> list[StoredOutputs]:
        """Return the parts that are whole, from the first image on."""
        found: list[StoredOutputs] = []
        begun = 0
        while begun < self.shape.images and self._entry(begun).path.is_dir():
            notes = self._entry(begun).read()
            if notes is None:
                break
            try:
                shape = replace(self.shape, images=int(notes["images"]))
                found.append(load_outputs(self._entry(begun).path, shape))
            except (OSError, ValueError, KeyError, TypeError):
                break
            begun += len(found[-1])
        return found

    def keeping(self, batches: Iterable[FloatArray], begun: int) -> Iterator[Rounded]:
        """Round batches, and keep what was computed since the last time every half a minute."""
        pending: list[Rounded] | None = []
        due = time.monotonic() + _KEEP_EVERY
        for batch in batches:
            chunk = rounded(batch, self.shape)
            yield chunk
            if pending is None:
                continue
            pending.append(chunk)
            if time.monotonic() > due:
                try:
                    begun += self._keep(pending, begun)
                    pending, due = [], time.monotonic() + _KEEP_EVERY
                except NoRoomError:  # what is whole may still have room
                    pending = None

    def remove(self) -> None:
        """Remove all parts, once the whole is there."""
        begun = 0
        while begun < self.shape.images and self._entry(begun).path.is_dir():
            path = self._entry(begun).path
            notes = self._entry(begun).read() or {}
            shutil.rmtree(path, ignore_errors=True)
            path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
            begun += max(int(notes.get("images", self.shape.images)), 1)

    def _keep(self, chunks: list[Rounded], begun: int) -> int:
        count = sum(map(_images, chunks))
        shape = replace(self.shape, images=count)
        self._entry(begun).get_or_build(
            lambda _: EntryFiles(
                shape.num_bytes,
                lambda place: write_outputs(place, chunks, shape),
                {"images": count},
            ),
            lambda place, _: load_outputs(place, shape),
        )
        return count

    def _entry(self, begun: int) -> CacheEntry:
        return CacheEntry(
            self.folder, "feature-part", {**self.key, "from": begun}, advice=FOLDER_ADVICE
        )


def held_outputs(batches: Iterable[FloatArray], shape: OutputShape) -> StoredOutputs:
    """Return outputs in memory, rounded as they would be on disk, where there is no cache."""
    parts = zip(*(rounded(batch, shape).arrays for batch in batches), strict=True)
    values, *scales = (np.concatenate(part) for part in parts)
    rows, channels = (-1, shape.views), shape.shape[shape.channel_axis]
    return StoredOutputs(
        values.reshape(*rows, *shape.shape),
        scales[0].reshape(*rows, channels, 2) if scales else None,
        shape.channel_axis,
    )


def _images(chunk: Rounded) -> int:
    return chunk.images
