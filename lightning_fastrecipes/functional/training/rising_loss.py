"""Whether a training loss has risen well above where it was, at rates as high as now."""

import math
from dataclasses import dataclass, field
from statistics import median

SMOOTHING = 0.98
MIN_LOSSES = 20
NUM_DEVIATIONS = 7.0
_NUM_FIRST = 5
_PER_DECADE = 10


@dataclass(frozen=True)
class Rise:
    """A smoothed loss, and the lowest one before it that it is compared with."""

    loss: float
    lowest: float

    @property
    def factor(self) -> float:
        """How many times the lowest the loss is; infinite where that cannot be said."""
        is_told = math.isfinite(self.loss) and self.lowest > 0
        return self.loss / self.lowest if is_told else math.inf


@dataclass
class LossTrend:
    """The smoothed loss of a training, and how low it was at which learning rates.

    A loss is compared with the lowest one at rates at least as high as now, and with that of the
    start: it rises when a schedule restarts, and falls again with the rate. Rates are smoothed as
    losses are. The start is the mean of the first losses; where they have risen already, the first
    one, which no step had changed yet. Where a few huge losses make anything look like noise, it is
    a rise that each of the last ones lies high. All values are plain, so that a checkpoint can hold
    them.
    """

    count: int = 0
    average: float = 0.0
    lr: float = 0.0
    variance: float = 0.0
    first: float = math.inf
    lowest_since: float = math.inf
    start: float = math.inf
    lowest: dict[int, float] = field(default_factory=dict)
    recent: list[tuple[float, float]] = field(default_factory=list)
    has_risen: bool = False

    def update(self, loss: float, lr: float, factor: float) -> Rise | None:
        """Take in the loss of one batch at a rate; return a rise when it begins, else ``None``.

        A loss that is not finite is a rise. Else the smoothed loss must be above the lowest by
        ``factor - 1`` times its size, and by ``NUM_DEVIATIONS`` of what noise alone may do.

        >>> trend = LossTrend()
        >>> found = [trend.update(1.0 if step < 50 else 9.0, 0.1, factor=2) for step in range(99)]
        >>> [(step, rise.lowest) for step, rise in enumerate(found) if rise]
        [(69, 1.0)]
        """
        if not math.isfinite(loss):
            is_new, self.has_risen = not self.has_risen, True
            known = [self.start, self.first, *self.lowest.values()]
            return Rise(loss, min(known)) if is_new else None
        self.count += 1
        if self.count == 1:
            self.first = loss
        elif _NUM_FIRST < self.count <= MIN_LOSSES:
            self.lowest_since = min(self.lowest_since, loss)
        self.recent = [*self.recent, (loss, lr)][-MIN_LOSSES:]
        # The first losses count alike, later ones less and less as they get older.
        weight = max(1 / self.count, 1 - SMOOTHING)
        change = loss - self.average
        self.average += weight * change
        self.lr += weight * (lr - self.lr)
        self.variance += weight * (change**2 - self.variance)
        if self.count < MIN_LOSSES or self.lr <= 0:
            return None
        if self.count == MIN_LOSSES:
            # The first may be low by chance, so that all of the later ones must lie well above it.
            has_risen = self.lowest_since - self.first > (2 * factor - 1) * abs(self.first)
            self.start = self.first if has_risen else self.average
        lowest = self._lowest_at(self.lr)
        height = _height(self.lr)
        self.lowest[height] = min(self.average, self.lowest.get(height, math.inf))
        noise = math.sqrt(self.variance * (1 - SMOOTHING) / (1 + SMOOTHING))
        allowed = max((factor - 1) * abs(lowest), NUM_DEVIATIONS * noise)
        # Over when it has fallen back half of the way.
        limit = lowest + (allowed / 2 if self.has_risen else allowed)
        is_new = not self.has_risen
        self.has_risen = self.average > limit or self._are_all_high(factor)
        return Rise(self.average, lowest) if self.has_risen and is_new else None

    def _lowest_at(self, lr: float) -> float:
        known = [v for h, v in self.lowest.items() if lr <= 0 or h >= _height(lr)]
        return min([self.start, *known])

    def _are_all_high(self, factor: float) -> bool:
        """Return whether each recent loss is high, whatever their noise; once risen, most of them.

        They are not smoothed, so that the lowest of the rates that they were computed at counts.
        """
        lowest = self._lowest_at(min(lr for _, lr in self.recent))
        losses = [loss for loss, _ in self.recent]
        if self.has_risen:
            return median(losses) - lowest > (factor - 1) / 2 * abs(lowest)
        return min(losses) - lowest > (2 * factor - 1) * abs(lowest)


def _height(lr: float) -> int:
    return math.floor(_PER_DECADE * math.log10(lr))
