"""Which images of a datamodule are kept decoded, and where."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lightning_fastrecipes.data.common.cache_choice import Cache, cache_choice, cached_if_possible
from lightning_fastrecipes.data.images.geometry import CachedSize
from lightning_fastrecipes.data.images.pixel_cache import PixelStore, cached_pixels
from lightning_fastrecipes.data.images.samples import Samples


class _OpenStore(NamedTuple):
    """A cache, or ``None`` where there is no room, and the images it was opened for."""

    digests: npt.NDArray[np.bytes_]
    store: PixelStore | None


class PixelStores:
    """Open caches of one datamodule, one per split and size."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache_choice(cache)
        self._open: dict[tuple[str, CachedSize], _OpenStore] = {}

    def open(self, split: str, samples: Samples, size: CachedSize) -> None:
        """Open the cache of a split, after writing what it lacks.

        Raise `DataError` if the folder that was asked for cannot take it, or an image has changed.
        """
        in_memory = samples.digests is None or samples.shapes is None
        if self.cache == "off" or in_memory or not len(samples.paths):
            return
        if self._find(split, samples, size) is None:
            store = cached_if_possible(
                self.cache,
                "pixels",
                lambda folder: cached_pixels(folder, split, samples, size),
                otherwise="images are decoded every time",
            )
            assert samples.digests is not None
            self._open[split, size] = _OpenStore(samples.digests, store)

    def get(self, split: str, samples: Samples, size: CachedSize) -> PixelStore | None:
        """Return the open cache of these very images, or ``None`` where there is none."""
        found = self._find(split, samples, size)
        return None if found is None else found.store

    def _find(self, split: str, samples: Samples, size: CachedSize) -> _OpenStore | None:
        """Compare image by image: a label belongs to a position."""
        found = self._open.get((split, size))
        if found is None or samples.digests is None:
            return None
        return found if np.array_equal(found.digests, samples.digests) else None
