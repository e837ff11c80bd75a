"""Schedules as long as the training, as pure functions of the share of it that is done."""

from lightning_fastrecipes.functional.training.schedules import Shape, interpolate


def one_cycle_factor(
    progress: float,
    rise: float = 0.25,
    start: float = 0.04,
    end: float = 1e-5,
    tail: float = 0.0,
    shape: Shape = "cosine",
) -> float:
    """Return the factor of the peak rate, in [0, 1], in a single cycle as long as the training.

    From ``start`` up to 1, and down to ``end``; with a ``tail``, down to ``start`` and from there
    to ``end`` over the last share of training. ``progress`` is the share of the training that is
    done, in [0, 1]; the other arguments are those of ``OneCycle``. Raise `ValueError` if one is out
    of its range.

    >>> [round(one_cycle_factor(share), 3) for share in (0, 0.1, 0.25, 0.5, 0.75, 1)]
    [0.04, 0.372, 1.0, 0.75, 0.25, 0.0]
    """
    _check_cycle_parts(progress, rise, tail)
    for name, share in (("start", start), ("end", end)):
        if not 0 <= share <= 1:
            raise ValueError(
                f"`{name}` must lie in [0, 1], got {share}. It is a share of the peak."
            )
    if progress <= rise:
        return interpolate(start, 1.0, progress / rise, shape)
    turn = 1 - tail
    if progress <= turn and tail:
        return interpolate(1.0, start, (progress - rise) / (turn - rise), shape)
    if tail:
        return interpolate(start, end, (progress - turn) / tail, shape)
    return interpolate(1.0, end, (progress - rise) / (1 - rise), shape)


def one_cycle_momentum(
    progress: float,
    rise: float = 0.25,
    high: float = 0.95,
    low: float = 0.85,
    tail: float = 0.0,
    shape: Shape = "cosine",
) -> float:
    """Return the momentum that goes with :func:`one_cycle_factor`: low where the rate is high.

    Momentum is ``high`` at the start, at the end and in the tail, and ``low``, which must not be
    above ``high``, at the peak of the rate. ``progress``, ``rise``, ``tail`` and ``shape`` are
    those of the factor. Raises ValueError if an argument is out of its range.

    >>> [round(one_cycle_momentum(share), 3) for share in (0, 0.25, 1)]
    [0.95, 0.85, 0.95]
    """
    _check_cycle_parts(progress, rise, tail)
    if not 0 <= low <= high < 1:
        raise ValueError(
            f"Momentum must lie in [0, 1), the low one below the high one, got {low} and {high}."
        )
    if progress <= rise:
        return interpolate(high, low, progress / rise, shape)
    return interpolate(low, high, min(1.0, (progress - rise) / (1 - tail - rise)), shape)


def flat_cosine_factor(progress: float, flat: float = 0.75, end: float = 1e-5) -> float:
    """Return the factor of the peak rate that stays at 1 for long, then falls along half a cosine.

    ``flat``, in [0, 1), is the share of the training at the peak; ``end``, in [0, 1], the last rate
    as a share of the peak. Raises ValueError if an argument is out of its range.

    >>> [round(flat_cosine_factor(share), 3) for share in (0, 0.75, 0.875, 1)]
    [1.0, 1.0, 0.5, 0.0]

    References:
        fastai 2, ``fit_flat_cos``.
    """
    _check_progress(progress)
    if not 0 <= flat < 1:
        raise ValueError(f"`flat` must lie in [0, 1), got {flat}. It is a share of the training.")
    if not 0 <= end <= 1:
        raise ValueError(f"`end` must lie in [0, 1], got {end}. It is a share of the peak.")
    return interpolate(1.0, end, max(0.0, progress - flat) / (1 - flat), "cosine")


def _check_progress(progress: float) -> None:
    if not 0 <= progress <= 1:
        raise ValueError(f"`progress` must lie in [0, 1], got {progress}.")


def _check_cycle_parts(progress: float, rise: float, tail: float) -> None:
    _check_progress(progress)
    if not 0 < rise < 1:
        raise ValueError(f"`rise` must lie in (0, 1), got {rise}. It is a share of the training.")
    if not 0 <= tail < 1 - rise:
        raise ValueError(
            f"`tail` must lie in [0, {1 - rise:g}), got {tail}: rise, fall and tail share the"
            " training."
        )
