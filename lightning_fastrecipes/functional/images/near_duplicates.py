"""Images that show the same: cut, mirrored, brighter, or compressed."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import interpolate, unfold

SIDE = 32
"""Of the grey images that are compared, in pixels."""

_COARSE = 8
_COARSE_CORRELATION = 0.7
_MOST_CANDIDATES = 8
_CORRELATION = 0.93
_FLAT = 3.0  # grey levels of deviation, below which an image shows nothing
_SHARES = (1.0, 0.95, 0.9, 0.85)  # of an image that another may be cut to
_CHUNK = 512


class Pair(NamedTuple):
    """Two images, by their numbers, and how much they correlate where they fit best."""

    one: int
    other: int
    correlation: float


def grey_look(images: Tensor) -> Tensor:
    """Shrink images ``(batch, channels, height, width)`` to grey ones, ``(batch, 32, 32)``.

    >>> grey_look(torch.zeros(1, 3, 64, 48, dtype=torch.uint8)).shape
    torch.Size([1, 32, 32])
    """
    grey = images[:, :3].float().mean(1, keepdim=True)
    return interpolate(grey, (SIDE, SIDE), mode="area")[:, 0]


def near_duplicates(
    looks: Tensor,
    features: npt.NDArray[np.float32] | None = None,
    correlation: float = _CORRELATION,
) -> list[Pair]:
    """Return pairs of images that show the same, the likest first.

    ``looks`` are grey images ``(images, 32, 32)``, ``features`` of any network ``(images, width)``.
    Candidates are images whose coarse looks correlate, also mirrored, and those whose features are
    the nearest. A pair counts if one, cut to between 85 and 100 % at any place and perhaps
    mirrored, correlates with the other pixel by pixel; brightness and contrast do not matter.
    Images that are nearly flat show nothing.

    >>> draw = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255
    >>> [pair[:2] for pair in near_duplicates(torch.cat([draw, draw[:1].flip(2) * 0.8]))]
    [(0, 3)]
    """
    usable = torch.nonzero(looks.flatten(1).std(1) > _FLAT).flatten()
    if len(usable) < 2:
        return []
    pairs = _coarse_candidates(looks[usable])
    if features is not None:
        pairs |= _nearest(torch.from_numpy(np.array(features))[usable])
    if not pairs:
        return []
    found = []
    places = torch.tensor(sorted(pairs))
    for start in range(0, len(places), _CHUNK):
        chunk = usable[places[start : start + _CHUNK]]
        best = _best_correlation(looks[chunk[:, 0]], looks[chunk[:, 1]])
        for (one, other), value in zip(chunk.tolist(), best.tolist(), strict=True):
            if value >= correlation:
                found.append(Pair(one, other, round(value, 4)))
    return sorted(found, key=lambda pair: -pair.correlation)


def _coarse_candidates(looks: Tensor) -> set[tuple[int, int]]:
    coarse = interpolate(looks[:, None], (_COARSE, _COARSE), mode="area")[:, 0]
    plain = _standardised(coarse.flatten(1))
    mirrored = _standardised(coarse.flip(2).flatten(1))
    return _top(plain, plain) | _top(plain, mirrored)


def _nearest(features: Tensor) -> set[tuple[int, int]]:
    values = _standardised(features.float())
    return _top(values, values)


def _top(one: Tensor, other: Tensor) -> set[tuple[int, int]]:
    """Return the nearest others of each row that correlate enough, as ordered pairs."""
    found: set[tuple[int, int]] = set()
    count = min(_MOST_CANDIDATES + 1, len(other))
    for start in range(0, len(one), _CHUNK):
        values, places = (one[start : start + _CHUNK] @ other.T).topk(count, dim=1)
        for row, (near, whom) in enumerate(zip(values.tolist(), places.tolist(), strict=True)):
            mine = start + row
            found |= {
                (min(mine, place), max(mine, place))
                for value, place in zip(near, whom, strict=True)
                if place != mine and value >= _COARSE_CORRELATION
            }
    return found


def _best_correlation(one: Tensor, other: Tensor) -> Tensor:
    """Return the highest correlation of each pair, over cuts and mirroring. Shape ``(pairs,)``."""
    best = torch.full((len(one),), -1.0)
    for mirrored in (one, one.flip(2)):
        for first, second in ((mirrored, other), (other, mirrored)):
            whole = _standardised(second.flatten(1))
            for share in _SHARES:
                side = round(SIDE / share)
                larger = interpolate(first[:, None], (side, side), mode="bilinear", antialias=False)
                # (pairs, pixels, places)
                windows = unfold(larger, SIDE)
                windows = windows - windows.mean(1, keepdim=True)
                windows = windows / windows.norm(dim=1, keepdim=True).clamp_min(1e-6)
                found = torch.einsum("npk,np->nk", windows, whole).amax(1)
                best = torch.maximum(best, found)
    return best


def _standardised(rows: Tensor) -> Tensor:
    centred = rows - rows.mean(1, keepdim=True)
    found: Tensor = centred / centred.norm(dim=1, keepdim=True).clamp_min(1e-6)
    return found
