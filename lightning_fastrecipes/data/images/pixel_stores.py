"""Which images of a datamodule are kept decoded, and where."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL

from lightning_fastrecipes._lightning import rank_zero_warn
from lightning_fastrecipes.data.common.cache_choice import Cache, cache_choice
from lightning_fastrecipes.data.common.disk_room import NoRoomError
from lightning_fastrecipes.data.common.sources import cache_folder
from lightning_fastrecipes.data.images.dataset import Samples
from lightning_fastrecipes.data.images.geometry import CachedSize
from lightning_fastrecipes.data.images.pixel_cache import (
    ListedFile,
    PixelStore,
    get_or_write_pixels,
)

_VERSION = 1


class PixelStores:
    """Caches of one datamodule, one per split and form.

    Args:
        cache: ``auto`` or true keeps images in the cache folder and does without where there is
            no room; ``off`` or false keeps none; anything else is a folder to keep them in.

    Raises:
        ValueError: If ``cache`` is no such word and no folder.
        TypeError: If it is of the wrong type.
    """

    def __init__(self, cache: Cache) -> None:
        self.cache = cache_choice(cache)
        self._stores: dict[tuple[str, CachedSize], _Open] = {}

    def open(self, split: str, samples: Samples, form: CachedSize) -> None:
        """Open the cache of a split, after writing what it lacks.

        Args:
            split: Name of the split.
            samples: Its images.
            form: The size they are kept at.

        Raises:
            DataError: If the folder that was asked for cannot take them, or a image has changed.
        """
        if self.cache == "off" or not len(samples.paths):
            return
        if samples.digests is None or samples.shapes is None:
            return  # in memory already
        found = self._stores.get((split, form))
        if found is not None and found.holds(samples):
            return
        files = [os.fsdecode(path) for path in samples.paths]
        listed = ListedFile(files, samples.digests.astype(str).tolist(), samples.shapes)
        store = None
        try:
            folder = self.cache if isinstance(self.cache, Path) else cache_folder() / "pixels"
            store = get_or_write_pixels(folder / _file_name(split, files, form), listed, form)
        except NoRoomError as error:
            if self.cache != "auto":
                raise
            rank_zero_warn(f"{error} Until then images are decoded every time.")
        self._stores[split, form] = _Open(samples.digests, store)

    def get(self, split: str, samples: Samples, form: CachedSize) -> PixelStore | None:
        """Return an open cache of these very images, or nothing where there is none."""
        found = self._stores.get((split, form))
        return found.store if found is not None and found.holds(samples) else None


@dataclass(frozen=True)
class _Open:
    """A cache, or the lack of one, and the images it is for."""

    digests: npt.NDArray[np.bytes_]
    store: PixelStore | None

    def holds(self, samples: Samples) -> bool:
        """Return whether each image is in its place, as a label is given by the place."""
        return samples.digests is not None and np.array_equal(self.digests, samples.digests)


def _file_name(split: str, files: list[str], form: CachedSize) -> str:
    """Name a cache by all but the images themselves, which it compares one by one."""
    # Another version of Pillow may decode to other pixels.
    parts = [os.path.commonpath(files), form.key(), PIL.__version__, _VERSION]
    digest = hashlib.blake2b(json.dumps(parts).encode(), digest_size=12).hexdigest()
    return f"{split}-{digest}.pixels"
