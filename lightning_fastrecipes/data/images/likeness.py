"""Images that are the same, or nearly so, in two splits."""

import base64
from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from lightning_fastrecipes.messages import name_some

_SIDE = 9
_MARGIN = 2  # of 255, between neighbours that count as different
_MAX_BITS = 5  # of 128, in which images that look alike may differ
_MIN_CORRELATION = 0.998
_MAX_GROUP = 64  # images with one band in common: beyond it they are of one kind, not alike
_MAX_PAIRS = 3
_CHUNK = 4096
_SIDES: tuple[Literal["left", "right"], ...] = ("left", "right")
_ORDER = ("train", "val", "test", "predict")

Pixels = npt.NDArray[np.uint8]


def coarse_look(strips: Iterable[Image.Image], height: Callable[[], int]) -> str:
    """Describe how an RGB image, given in strips from top to bottom, looks from afar.

    That is the mean of green in a grid of 9 x 9, as text. ``height``, in pixels, is asked for once
    there is a strip.
    """
    parts = [_shrunk(strip.getchannel(1), height()) for strip in strips]
    grid = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if grid.shape[0] != _SIDE:
        image = Image.fromarray(grid).resize((_SIDE, _SIDE), Image.Resampling.BOX)
        grid = np.asarray(image)
    return base64.b64encode(grid.tobytes()).decode()


def _shrunk(green: Image.Image, height: int) -> Pixels:
    is_whole = green.height == height
    rows = _SIDE if is_whole else max(1, round(16 * _SIDE * green.height / height))
    return np.asarray(green.resize((_SIDE, rows), Image.Resampling.BOX))


def looks_of_arrays(pixels: Pixels) -> list[str]:
    """Return the look of each image ``(images, height, width)``, or with three channels behind."""
    green = pixels[..., 1] if pixels.ndim == 4 else pixels
    texts = []
    for image in green:
        grid = Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BOX)
        texts.append(base64.b64encode(grid.tobytes()).decode())
    return texts


def shared_images(rows: pd.DataFrame) -> str:
    """Describe which images of val or test are also in training or in one another; empty if none.

    ``rows`` has the columns ``file``, ``split``, ``digest`` and ``look``. Images are the same if
    their digests are. They nearly are if their looks correlate and differ in few edges, as after
    compression or resizing. The looks of tiny images say too little for that, and are empty.
    """
    grids, contents = _grids(rows["look"]), pd.factorize(rows["digest"])[0]
    edges, splits = _edges(grids), rows["split"].to_numpy()
    places = {split: np.flatnonzero(splits == split) for split in _ORDER}
    parts = []
    for number, first in enumerate(_ORDER):
        for second in _ORDER[number + 1 :]:
            one, other = places[first], places[second]
            if not len(one) or not len(other):
                continue
            copies = other[np.isin(contents[other], contents[one])]
            known, first_of = np.unique(contents[one], return_index=True)
            firsts = one[first_of[np.searchsorted(known, contents[copies])]]
            same = dict(zip(copies.tolist(), firsts.tolist(), strict=True))
            near = {b: a for a, b in reversed(_near(grids, edges, one, other)) if b not in same}
            for found, how in ((same, "the same bytes as"), (near, "nearly the same as")):
                if found:
                    pairs = [
                        f"{rows['file'].iloc[b]} = {rows['file'].iloc[a]}"
                        for b, a in sorted(found.items())[:_MAX_PAIRS]
                    ]
                    parts.append(
                        f"{len(found)} images of '{second}' are {how} one of '{first}'"
                        f" ({name_some(pairs)}{', ...' * (len(found) > _MAX_PAIRS)})"
                    )
    return "; ".join(parts)


def _grids(looks: pd.Series) -> Pixels:
    """Read looks; an image without one is flat, which is like no other."""
    size = _SIDE * _SIDE
    flat = base64.b64encode(bytes(size)).decode()
    grids = np.empty((len(looks), size), np.uint8)
    for start in range(0, len(looks), _CHUNK):  # as text they take four times as much
        texts = [look or flat for look in looks.iloc[start : start + _CHUNK]]
        content = base64.b64decode("".join(texts))
        grids[start : start + len(texts)] = np.frombuffer(content, np.uint8).reshape(-1, size)
    return grids.reshape(-1, _SIDE, _SIDE)


def _edges(grids: Pixels) -> Pixels:
    """Return 128 bits for each grid, ``(images, 16)``: where it rises to the right, and down."""
    edges = np.empty((len(grids), 16), np.uint8)
    for start in range(0, len(grids), _CHUNK):
        values = grids[start : start + _CHUNK].astype(np.int16)
        across = values[:, :-1, 1:] - values[:, :-1, :-1] > _MARGIN
        down = values[:, 1:, :-1] - values[:, :-1, :-1] > _MARGIN
        both = np.concatenate([across, down], axis=1).reshape(len(values), -1)
        edges[start : start + len(values)] = np.packbits(both, axis=1)
    return edges


def _near(
    grids: Pixels, edges: Pixels, one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]
) -> list[tuple[int, int]]:
    """Return pairs of places in ``one`` and ``other`` that look alike."""
    words, bands = edges.view(np.uint64), edges.view(np.uint16)
    found: set[tuple[int, int]] = set()
    # Of eight bands one is equal if no more than seven bits differ.
    for band in range(bands.shape[1]):
        places = one[np.argsort(bands[one, band], kind="stable")]
        start, stop = (
            np.searchsorted(bands[places, band], bands[other, band], side) for side in _SIDES
        )
        counts = np.where(stop - start > _MAX_GROUP, 0, stop - start)
        b = np.repeat(other, counts)
        a = places[np.arange(len(b)) - np.repeat(counts.cumsum() - counts - start, counts)]
        alike = np.bitwise_count(words[a] ^ words[b]).sum(axis=1) <= _MAX_BITS
        a, b = a[alike], b[alike]
        correlation = (_standardised(grids[a]) * _standardised(grids[b])).sum(axis=1)
        alike = correlation >= _MIN_CORRELATION
        found.update(zip(a[alike].tolist(), b[alike].tolist(), strict=True))
    return sorted(found)


def _standardised(grids: Pixels) -> npt.NDArray[np.float32]:
    """Return grids of mean 0 and length 1, or 0 where they are flat. Shape ``(images, 81)``."""
    values = grids.reshape(-1, _SIDE * _SIDE).astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1.0)
    return values
