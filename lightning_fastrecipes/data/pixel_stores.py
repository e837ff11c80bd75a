"""Which pictures of a datamodule are kept decoded, and where."""

import hashlib
import json
import os
from pathlib import Path

import PIL
from pytorch_lightning.utilities import rank_zero_warn

from lightning_fastrecipes.data.disk_room import NoRoomError
from lightning_fastrecipes.data.geometry import StoredForm
from lightning_fastrecipes.data.image_dataset import Samples
from lightning_fastrecipes.data.pixel_cache import (
    Listed,
    PixelStore,
    get_or_write_pixels,
)
from lightning_fastrecipes.data.sources import cache_folder

_VERSION = 1


class PixelStores:
    """Caches of one datamodule, one per split and form.

    Args:
        cache: ``auto`` keeps pictures in the cache folder and does without where there is no room;
            ``off`` keeps none; anything else is a folder to keep them in.
    """

    def __init__(self, cache: str | Path) -> None:
        self.cache = cache
        self._stores: dict[tuple[str, StoredForm], PixelStore | None] = {}

    def open(self, split: str, samples: Samples, form: StoredForm) -> None:
        """Open the cache of a split, after writing what it lacks.

        Args:
            split: Name of the split.
            samples: Its pictures.
            form: The size they are kept at.

        Raises:
            DataError: If the folder that was asked for has no room.
        """
        if self.cache == "off" or (split, form) in self._stores or not len(samples.paths):
            return
        if samples.digests is None or samples.shapes is None:
            return  # in memory already
        files = [os.fsdecode(path) for path in samples.paths]
        listed = Listed(files, samples.digests.astype(str).tolist(), samples.shapes)
        folder = cache_folder() / "pixels" if self.cache == "auto" else Path(self.cache)
        try:
            store = get_or_write_pixels(folder / _file_name(split, files, form), listed, form)
        except NoRoomError as error:
            if self.cache != "auto":
                raise
            rank_zero_warn(f"{error} Until then pictures are decoded every time.")
            self._stores[split, form] = None
        else:
            self._stores[split, form] = store

    def get(self, split: str, form: StoredForm) -> PixelStore | None:
        """Give an open cache, or nothing where there is none."""
        return self._stores.get((split, form))


def _file_name(split: str, files: list[str], form: StoredForm) -> str:
    """Name a cache by all but the pictures themselves, which it compares one by one."""
    # Another version of Pillow may decode to other pixels.
    parts = [os.path.commonpath(files), form.key(), PIL.__version__, _VERSION]
    digest = hashlib.blake2b(json.dumps(parts).encode(), digest_size=12).hexdigest()
    return f"{split}-{digest}.pixels"
