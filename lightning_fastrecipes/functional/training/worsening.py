"""Whether a validation has become clearly worse, by more than its noise may do."""

import math

NOISE = 2.0
"""Standard errors of a difference that are taken for noise."""

RELATIVE_CHANGE = 0.1
"""Share by which a number that is no share of the samples may get worse."""

RUNAWAY_FACTOR, RUNAWAY_OFFSET = 10.0, 1.0
"""How far a loss may rise where a metric does not fall: by this factor, and by this beside it."""

MODES_FACTOR, MODES_OFFSET = 2.0, 0.1
"""How far apart losses of the same samples may be: by this factor, and by this beside it."""


def is_clearly_worse(
    before: float, after: float, num_samples: int, *, higher_is_better: bool
) -> bool:
    """Return whether a metric of ``num_samples`` samples has become clearly worse.

    A value in [0, 1] of which more is better, such as an accuracy, is taken as a share of the
    samples: it must fall by more than ``NOISE`` standard errors of the difference of two such
    shares. Anything else must get worse by more than ``RELATIVE_CHANGE`` of what it was. A value
    that is not finite is worse than any that is.

    >>> is_clearly_worse(0.974, 0.964, 500, higher_is_better=True)
    False
    >>> is_clearly_worse(0.974, 0.918, 500, higher_is_better=True)
    True
    """
    if not math.isfinite(after):
        return math.isfinite(before)
    if not math.isfinite(before):
        return False
    loss = before - after if higher_is_better else after - before
    is_share = higher_is_better and min(before, after) >= 0 and max(before, after) <= 1
    if is_share:
        count = max(num_samples, 1)
        # One sample more or less is noise also where a share is 0 or 1.
        variance = sum(share * (1 - share) for share in (before, after)) / count
        return loss > NOISE * math.sqrt(variance) + 1 / count
    return loss > RELATIVE_CHANGE * abs(before)


def has_run_away(before: float, after: float) -> bool:
    """Return whether a loss has risen further than over-fitting lets it rise, or is not finite.

    >>> has_run_away(0.2, 0.9), has_run_away(0.7, 1e9)
    (False, True)
    """
    return not after <= RUNAWAY_FACTOR * before + RUNAWAY_OFFSET


def modes_disagree(eval_loss: float, train_loss: float) -> bool:
    """Return whether the loss in eval mode is far above that in train mode, or not finite.

    The other way round says nothing: statistics of a batch of one class, as a validation without
    shuffling has them, are worse than the stored ones.

    >>> modes_disagree(0.26, 0.24), modes_disagree(2.3, 0.24), modes_disagree(0.05, 2.3)
    (False, True, False)
    """
    return not eval_loss <= MODES_FACTOR * train_loss + MODES_OFFSET
