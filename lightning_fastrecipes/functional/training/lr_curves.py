"""Curves of an LR finder: where to stop a sweep, how to smooth it, which rate to suggest."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lightning_fastrecipes.errors import ConfigurationError, check_choice

Spacing = Literal["geometric", "linear"]
Rule = Literal[
    "midway",
    "largest_falling",
    "course",
    "steepest",
    "minimum/10",
    "valley",
    "slide",
    "before_rise",
]
"""How to pick a rate from a curve; see :func:`suggest_lr`."""

Curve = NDArray[np.float64]

SMOOTHING = 0.98
DIVERGENCE_FACTOR = 4.0
NUM_STEPS_BEFORE_STOP = 10
BANDWIDTHS = (0.05, 0.1, 0.2, 0.4)
MAX_NOISE_SHARE = 0.03
MIN_POINTS = 20
MIN_SIGNAL = 6.5

_ROUNDING = 1e-9
_START_SHARE = 0.25
_OUTLIER_FACTOR = 1.5
_OUTLIER_NOISE = 4.0
_FALLING_SHARE = 0.25
_RISE_NOISE = 4.0
_RISE_SIGNAL = 10.0
_RISE_SHARE = 0.1
_FLAT_QUANTILE = 0.3
_VALLEY_LEVELS = 50
_SLIDE_POINTS = 15
_SLIDE_CHANGE = 0.005


@dataclass(frozen=True)
class LRSuggestion:
    """The learning rate that each rule reads off one curve; or none, and why it is refused."""

    picks: dict[Rule, float]
    refusal: str | None = None

    @property
    def agreement(self) -> float:
        """Smallest pick divided by the largest, in (0, 1]."""
        return min(self.picks.values()) / max(self.picks.values()) if self.picks else math.nan


def sweep_lrs(
    min_lr: float, max_lr: float, num_steps: int, spacing: Spacing = "geometric"
) -> list[float]:
    """List the rising learning rates of a sweep from ``min_lr`` to ``max_lr``, both included.

    Rates differ by equal factors if ``geometric``, by equal steps if ``linear``. Raise
    `ConfigurationError` if an argument is out of its range.

    >>> [round(lr, 4) for lr in sweep_lrs(1e-3, 10, num_steps=5)]
    [0.001, 0.01, 0.1, 1.0, 10.0]
    """
    if not 0 < min_lr < max_lr < math.inf:
        raise ConfigurationError(
            f"`min_lr` must be above 0 and below `max_lr`, but they are {min_lr} and {max_lr}."
            " Give the smaller rate first, such as 1e-7 and 10."
        )
    if num_steps < 2:
        raise ConfigurationError(f"`num_steps` must be at least 2, got {num_steps}. 200 are usual.")
    check_choice("spacing", spacing, get_args(Spacing))
    space = np.geomspace if spacing == "geometric" else np.linspace
    return [float(lr) for lr in space(min_lr, max_lr, num_steps)]


def smooth_losses(losses: Sequence[float], smoothing: float = SMOOTHING) -> list[float]:
    """Smooth losses by an exponential average that is not biased towards its start.

    After ``n`` losses the weights ``(1 - s) s^(n - i)`` are divided by their sum ``1 - s^n``, so
    that the first smoothed loss is the first loss and a constant stays what it is. ``smoothing`` is
    the weight ``s`` of the past, in [0, 1). Lightning divides by ``1 - s^(n + 1)``: its first
    values are 50, 67 and 76 % of the loss, so that the best loss is too small and the sweep stops
    too early.

    >>> smooth_losses([2.0, 2.0, 2.0])
    [2.0, 2.0, 2.0]
    """
    if not 0 <= smoothing < 1:
        raise ValueError(f"`smoothing` must lie in [0, 1), got {smoothing}.")
    smoothed: list[float] = []
    average = 0.0
    for count, loss in enumerate(losses, start=1):
        average += (1 - smoothing) / (1 - smoothing**count) * (loss - average)
        smoothed.append(average)
    return smoothed


def average_losses(lrs: Sequence[float], losses: Sequence[float]) -> list[float]:
    """Smooth a whole curve without lag, as :func:`suggest_lr` sees it.

    Each value lies on a straight line fitted to the losses around it, weighted by a normal
    distribution: of the first of ``BANDWIDTHS``, in decades, that leaves no more noise than
    ``MAX_NOISE_SHARE`` of the loss's fall, or of the last. Losses are capped at one and a half
    times the first ones, or four deviations of their noise above, so that the blow-up at the end
    does not reach back. From the first loss on that is not finite, values are NaN.

    >>> [round(loss, 6) for loss in average_losses([0.1, 1.0, 10.0], [1.0, 0.9, 0.8])]
    [1.0, 0.9, 0.8]
    """
    num_points = _num_finite(losses)
    if not num_points:
        return [math.nan] * len(losses)
    decades = np.log10(np.asarray(lrs[:num_points], dtype=np.float64))
    curve, _ = _local_average(decades, np.asarray(losses[:num_points], dtype=np.float64))
    return [*curve.tolist(), *[math.nan] * (len(losses) - num_points)]


def has_diverged(losses: Sequence[float]) -> bool:
    """Return whether a sweep has gone far enough to stop.

    It has when a loss is not finite; or, from ``NUM_STEPS_BEFORE_STOP`` steps on, when the smoothed
    loss is above its first value and further above its best than ``DIVERGENCE_FACTOR - 1`` times
    the size of the best and of the noise: the median distance of a loss from the mean of its two
    neighbours. Without noise, for losses above 0, the latter means ``DIVERGENCE_FACTOR`` times the
    best. The losses of a model that is right already are next to 0, and mostly noise.

    >>> has_diverged([1.0] * 20), has_diverged([1.0] * 20 + [float("nan")])
    (False, True)

    fast.ai 0.7, ``LR_Finder``: four times the best loss, after 10 steps.
    """
    if not losses:
        return False
    if not math.isfinite(losses[-1]):
        return True
    if len(losses) <= NUM_STEPS_BEFORE_STOP:
        return False
    smoothed = smooth_losses(losses)
    # Of fewer losses the average may be small by chance.
    best = min(smoothed[NUM_STEPS_BEFORE_STOP - 1 :])
    noise = float(np.median(np.abs(np.diff(losses, 2)))) / 2
    limit = best + (DIVERGENCE_FACTOR - 1) * (abs(best) + noise)
    return smoothed[-1] > max(limit, smoothed[0])


def suggest_lr(lrs: Sequence[float], losses: Sequence[float]) -> LRSuggestion:
    """Read learning rates off the curve of a sweep, or say why none can be read.

    The rules see the curve as :func:`average_losses` smooths it, on the logarithm of the rate:

    - ``midway``: the middle, on the logarithm, of the rate where half of the loss's fall is done
      and that of the lowest loss; the default of the finder.
    - ``largest_falling``: the largest rate below that of the lowest loss at which the loss still
      falls at least a quarter as fast as where it falls fastest.
    - ``course``: where half of the loss's fall is done, but at least a hundredth and at most a
      tenth of the rate of the lowest loss: one to two orders below the minimum.
    - ``steepest``: where the loss falls fastest.
    - ``minimum/10``: a tenth of the rate of the lowest loss.
    - ``valley``: the middle of the longest falling run of points, gaps allowed.
    - ``slide``: walking back from the largest rate, where the slope has stopped changing.
    - ``before_rise``: a tenth of the rate from which on the loss stays clearly above its lowest.

    A curve that is flat and then rises, as after a head was trained, has the last of these alone. A
    curve is refused when it has fewer than ``MIN_POINTS`` points, when its fall is less than
    ``MIN_SIGNAL`` times what its noise alone would give and it does not rise either, when it rises
    within the first decade, and when it still falls at the largest rate. Rates rise; losses from
    the first on that is not finite are ignored. Raises ValueError if there is not one loss for each
    rate.

    >>> lrs = sweep_lrs(1e-6, 1, num_steps=100)
    >>> losses = [2 - 1 / (1 + (1e-3 / lr) ** 2) + (3 * lr) ** 3 for lr in lrs]
    >>> f"{suggest_lr(lrs, losses).picks['course']:.1e}"
    '9.3e-04'

    Lightning takes the steepest slope on the rate itself, not on its logarithm: on noisy curves its
    pick is near the smallest rate. Smith, *Cyclical Learning Rates for Training Neural Networks*
    (2017); fast.ai course of 2018, lesson 1; ``valley`` and ``slide`` after fastai 2.
    """
    if len(lrs) != len(losses):
        raise ValueError(f"There must be a loss for each rate, got {len(losses)} for {len(lrs)}.")
    num_points = _num_finite(losses)
    if num_points < MIN_POINTS:
        refusal = (
            f"there must be at least {MIN_POINTS} points with a finite loss, got {num_points}."
            " Use more steps, or lower `min_lr` if the loss was not finite from the start."
        )
        return LRSuggestion({}, refusal)
    decades = np.log10(np.asarray(lrs[:num_points], dtype=np.float64))
    curve, noise = _local_average(decades, np.asarray(losses[:num_points], dtype=np.float64))
    lowest = int(curve.argmin())
    num_first = min(max(3, int(lowest * _START_SHARE)), lowest + 1)
    start = float(np.median(curve[:num_first]))
    positions: dict[Rule, float] = {}
    diverged = has_diverged(losses)
    reason = _refusal(start, curve, noise, diverged=diverged)
    # A flat curve's lowest point is an accident.
    floor = float(curve.min() if reason is None else np.quantile(curve, _FLAT_QUANTILE))
    rise = _rise(curve, noise, floor, _RISE_SHARE * abs(start))
    if reason is None:
        positions = _falling_picks(decades, curve, start, noise)
    elif rise is not None and not _still_falls(curve, diverged=diverged):
        if decades[rise] - 1 >= decades[0]:
            reason = None
        elif diverged:
            reason = (
                "the loss rises from the start of the sweep. Lower `min_lr`, or check that the"
                " labels fit the images."
            )
    if reason is not None:
        return LRSuggestion({}, reason)
    if rise is not None:
        positions["before_rise"] = decades[rise] - 1
    return LRSuggestion({rule: float(10**decade) for rule, decade in positions.items()})


def _falling_picks(decades: Curve, curve: Curve, start: float, noise: float) -> dict[Rule, float]:
    """Return the decade that each rule picks on a curve that falls."""
    # The middle of what may be the lowest point, as far as noise can tell.
    lowest = int(np.median(np.flatnonzero(curve <= curve.min() + noise)))
    fall = start - float(curve[lowest])
    slopes = np.gradient(curve, decades)[: lowest + 1]
    half = int(np.flatnonzero(curve[: lowest + 1] >= start - fall / 2)[-1])
    tenth = decades[lowest] - 1
    last = float(decades[int(np.flatnonzero(slopes <= _FALLING_SHARE * slopes.min())[-1])])
    return {
        "midway": float(decades[half] + decades[lowest]) / 2,
        "largest_falling": last,
        "course": min(max(decades[half], tenth - 1), tenth),
        "steepest": decades[int(slopes.argmin())],
        "minimum/10": tenth,
        "valley": decades[_valley(np.round(curve * (_VALLEY_LEVELS / fall)))],
        "slide": decades[_slide(curve)],
    }


def _refusal(start: float, curve: Curve, noise: float, *, diverged: bool) -> str | None:
    fall = start - float(curve.min())
    if fall <= MIN_SIGNAL * noise or fall <= _ROUNDING * (1 + abs(start)):
        return (
            f"the loss falls by {fall:.1g} from {start:.3g}, no more than its noise may do. Use"
            " more steps, larger batches or a wider range, and check that something is trained."
        )
    if _still_falls(curve, diverged=diverged):
        return "the loss still falls at the largest rate. Raise `max_lr`."
    return None


def _still_falls(curve: Curve, *, diverged: bool) -> bool:
    return not diverged and int(curve.argmin()) >= len(curve) - max(3, len(curve) // 20)


def _rise(curve: Curve, noise: float, floor: float, least: float) -> int | None:
    """Return from which point on the loss stays clearly above a floor, if there is one."""
    below = np.flatnonzero(curve <= floor + max(_RISE_NOISE * noise, least))
    if curve[-1] - floor < _RISE_SIGNAL * noise or below[-1] == len(curve) - 1:
        return None
    return int(below[-1]) + 1


def _num_finite(losses: Sequence[float]) -> int:
    finite = np.isfinite(losses)
    return len(losses) if finite.all() else int(finite.argmin())


def _local_average(decades: Curve, losses: Curve) -> tuple[Curve, float]:
    """Average along local straight lines; also return the noise left in one averaged point."""
    # Second differences hold the noise and little of the curve; 6 is their variance.
    variance = (
        float(np.median(np.diff(losses, n=2) ** 2)) / (6.0 * 0.4549) if len(losses) > 2 else 0.0
    )
    # Where training blows up, one huge loss would bend the average far to its left.
    first = float(np.median(losses[: len(losses) // 10 + 1]))
    cap = max((_OUTLIER_FACTOR - 1) * abs(first), _OUTLIER_NOISE * math.sqrt(variance))
    losses = np.minimum(losses, first + cap)
    distances = decades[None] - decades[:, None]
    for bandwidth in BANDWIDTHS:
        weights = _line_weights(distances, bandwidth)
        curve = weights @ losses
        noise = math.sqrt(variance * float(np.median((weights**2).sum(axis=1))))
        fall = float(np.median(curve[: len(curve) // 10 + 1]) - curve.min())
        if noise <= MAX_NOISE_SHARE * fall:
            break
    return curve, noise


def _line_weights(distances: Curve, bandwidth: float) -> Curve:
    """Return with which weights each point averages all others: a local straight line's."""
    kernel = np.exp(-0.5 * (distances / bandwidth) ** 2)
    zeroth, first, second = (
        (kernel * distances**power).sum(axis=1, keepdims=True) for power in (0, 1, 2)
    )
    determinant = zeroth * second - first**2
    # A point alone within the bandwidth, as the first of a linear sweep are, has no line.
    alone = determinant < 1e-9 * zeroth**2
    line = kernel * (second - distances * first) / np.where(alone, 1.0, determinant)
    weights: Curve = np.where(alone, kernel / zeroth, line)
    return weights


def _valley(curve: Curve) -> int:
    """Find the middle of the longest falling run of points, gaps allowed."""
    tails: list[float] = []
    ends: list[int] = []
    previous = np.full(len(curve), -1)
    for index, loss in enumerate(curve):
        length = bisect_left(tails, -loss)
        tails[length:] = [-loss, *tails[length + 1 :]]
        ends[length:] = [index, *ends[length + 1 :]]
        previous[index] = ends[length - 1] if length else -1
    run = [ends[-1]]
    while previous[run[-1]] >= 0:
        run.append(int(previous[run[-1]]))
    return run[len(run) // 2]


def _slide(curve: Curve) -> int:
    """Walk a window back from the end while the slopes at its two sides differ."""
    slopes = np.gradient(curve)
    left = len(curve) - 1 - _SLIDE_POINTS
    limit = _SLIDE_CHANGE * float(np.ptp(curve))
    while left > 0 and abs(slopes[left + _SLIDE_POINTS] - slopes[left]) > limit:
        left -= 1
    return left
