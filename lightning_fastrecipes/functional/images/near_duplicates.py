"""Images that show the same: cut, mirrored, brighter, or compressed."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, interpolate

SIDE = 32
"""Of the grey images that are compared, in pixels."""

_COARSE, _MIDDLE = 8, 16  # sides of smaller looks, which rule pairs out
_COARSE_CORRELATION = 0.7
_MOST_CANDIDATES = 8
_CORRELATION = 0.93
_MIDDLE_SLACK = 0.05
_SURELY = 0.998
_NEARER = 0.25  # of the distance to the eighth nearest
_FLAT = 3.0  # grey levels of deviation, below which an image shows nothing
_CUT = 29  # of 32 pixels, about 90 %
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
    Candidates are images whose coarse looks correlate, whole or cut, also mirrored, and those whose
    features are the nearest. A pair counts if one, cut to between 85 and 100 % at any place and
    perhaps mirrored, correlates with the other pixel by pixel, and is nearly a copy or much nearer
    than the eighth nearest: digits are all alike. Brightness and contrast do not matter. Images
    that are nearly flat show nothing.

    >>> draw = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255
    >>> [pair[:2] for pair in near_duplicates(torch.cat([draw, draw[:1].flip(2) * 0.8]))]
    [(0, 3)]
    """
    usable = torch.nonzero(looks.flatten(1).std(1) > _FLAT).flatten()
    if len(usable) < 2:
        return []
    plain, mirrored = _candidates(looks[usable])
    if features is not None:
        nearest = _nearest(torch.from_numpy(np.array(features))[usable])
        plain, mirrored = plain | nearest, mirrored | nearest
    best: dict[tuple[int, int], float] = {}
    fits: list[tuple[Tensor, Tensor]] = []
    for ones, pairs in ((looks, plain), (looks.flip(2), mirrored)):
        rows = usable[_as_rows(pairs)]
        fits.append((rows, _middle_fits(ones, looks, rows)))
        likely = rows[fits[-1][1] >= correlation - _MIDDLE_SLACK]
        for one, other, value in _fitting(ones, looks, likely):
            best[one, other] = max(value, best.get((one, other), value))
    usual = _usual_fit(len(looks), fits)
    found = [
        Pair(one, other, round(value, 4))
        for (one, other), value in best.items()
        if value >= correlation and _stands_out(value, max(usual[one], usual[other]))
    ]
    return sorted(found, key=lambda pair: (-pair.correlation, pair.one, pair.other))


def _stands_out(correlation: float, usual: float) -> bool:
    """Return whether two images are nearer than images of their kind are anyway, such as digits."""
    return correlation >= _SURELY or 1 - correlation <= _NEARER * (1 - usual)


def _usual_fit(num_images: int, fits: Sequence[tuple[Tensor, Tensor]]) -> list[float]:
    """Return how well each image correlates with its eighth nearest other; 0 if it has fewer."""
    found: list[list[float]] = [[] for _ in range(num_images)]
    for rows, values in fits:
        for (one, other), value in zip(rows.tolist(), values.tolist(), strict=True):
            found[one].append(value)
            found[other].append(value)
    place = _MOST_CANDIDATES - 1
    return [sorted(row, reverse=True)[place] if len(row) > place else 0.0 for row in found]


def _candidates(looks: Tensor) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """Return pairs whose coarse looks correlate, whole or cut, as they are and mirrored."""
    ends = (0, (SIDE - _CUT) // 2, SIDE - _CUT)
    cuts = [looks, *(looks[:, y : y + _CUT, x : x + _CUT] for y in ends for x in ends)]
    plain = torch.stack([_coarse(cut) for cut in cuts])
    mirrored = torch.stack([_coarse(cut.flip(2)) for cut in cuts])
    return _top(plain, plain[0]), _top(mirrored, plain[0])


def _coarse(looks: Tensor) -> Tensor:
    return _standardised(_shrunk(looks, _COARSE).flatten(1))


def _nearest(features: Tensor) -> set[tuple[int, int]]:
    values = _standardised(features.float())
    return _top(values[None], values)


def _top(ones: Tensor, others: Tensor) -> set[tuple[int, int]]:
    """Return the nearest others of each row that correlate enough, as ordered pairs.

    ``ones`` has the forms of each row, ``(forms, rows, width)``, of which the nearest counts.
    """
    found: set[tuple[int, int]] = set()
    count = min(_MOST_CANDIDATES + 1, len(others))
    for start in range(0, len(others), _CHUNK):
        near = (ones[:, start : start + _CHUNK] @ others.T).amax(0)
        values, places = near.topk(count, dim=1)
        for row, (fits, whom) in enumerate(zip(values.tolist(), places.tolist(), strict=True)):
            mine = start + row
            found |= {
                (min(mine, place), max(mine, place))
                for value, place in zip(fits, whom, strict=True)
                if place != mine and value >= _COARSE_CORRELATION
            }
    return found


def _as_rows(pairs: set[tuple[int, int]]) -> Tensor:
    return torch.tensor(sorted(pairs), dtype=torch.long).reshape(-1, 2)


def _middle_fits(ones: Tensor, others: Tensor, pairs: Tensor) -> Tensor:
    """Return the highest correlation of each pair of smaller looks, which rules most pairs out."""
    ones, others = _shrunk(ones, _MIDDLE), _shrunk(others, _MIDDLE)
    found = [_best_correlation(ones[c[:, 0]], others[c[:, 1]]) for c in torch.split(pairs, _CHUNK)]
    return torch.cat(found)


def _fitting(ones: Tensor, others: Tensor, pairs: Tensor) -> Iterator[tuple[int, int, float]]:
    for chunk in torch.split(pairs, _CHUNK):
        best = _best_correlation(ones[chunk[:, 0]], others[chunk[:, 1]])
        for (one, other), value in zip(chunk.tolist(), best.tolist(), strict=True):
            yield one, other, value


def _shrunk(looks: Tensor, side: int) -> Tensor:
    return interpolate(looks[:, None], (side, side), mode="area")[:, 0]


def _best_correlation(one: Tensor, other: Tensor) -> Tensor:
    """Return the highest correlation of each pair, over cuts of either. Shape ``(pairs,)``."""
    best = torch.full((len(one),), -1.0)
    if not len(one):
        return best
    for first, second in ((one, other), (other, one)):
        for share in _SHARES:
            best = torch.maximum(best, _best_place(first, second, share))
    return best


def _best_place(first: Tensor, second: Tensor, share: float) -> Tensor:
    """Return the highest correlation of ``second`` with a cut of ``first`` at any place."""
    side = second.shape[-1]
    larger_side = round(side / share)
    larger = interpolate(
        first[:, None], (larger_side, larger_side), mode="bilinear", antialias=False
    )
    larger = larger - larger.mean((2, 3), keepdim=True)
    whole = _standardised(second.flatten(1)).reshape(-1, 1, side, side)
    fit = conv2d(larger.transpose(0, 1), whole, groups=len(whole))[0]
    # The deviation of each cut, from the means of it and of its square.
    mean, mean_square = avg_pool2d(larger, side, 1), avg_pool2d(larger.square(), side, 1)
    norm = ((mean_square - mean.square()).clamp_min(0) * side**2).sqrt()
    return (fit / norm[:, 0].clamp_min(1e-3)).flatten(1).amax(1)


def _standardised(rows: Tensor) -> Tensor:
    centred = rows - rows.mean(1, keepdim=True)
    found: Tensor = centred / centred.norm(dim=1, keepdim=True).clamp_min(1e-6)
    return found
