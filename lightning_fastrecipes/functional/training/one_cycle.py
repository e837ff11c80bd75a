"""Schedules of one cycle as long as the training, as pure functions of the share that is done."""

from lightning_fastrecipes.functional.training.schedules import Shape, between


def one_cycle_factor(
    progress: float,
    rise: float = 0.25,
    start: float = 0.04,
    end: float = 1e-5,
    tail: float = 0.0,
    shape: Shape = "cosine",
) -> float:
    """Return the share of the peak rate at one moment of a single cycle.

    From ``start`` up to 1, and down to ``end``; with a ``tail``, down to ``start`` and from there
    to ``end`` over the last share of training.

    Args:
        progress: Share of the training that is done, in [0, 1].
        rise: Share of the training that the rise takes, in (0, 1).
        start: First rate as a share of the peak rate, in [0, 1].
        end: Last rate as a share of the peak rate, in [0, 1].
        tail: Share of the training from the return to ``start`` to its end, in [0, 1 - rise).
        shape: ``cosine``: half a cosine for each part; ``linear``: a straight line.

    Returns:
        Factor for every peak rate, in [0, 1].

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> [round(one_cycle_factor(share), 3) for share in (0, 0.1, 0.25, 0.5, 0.75, 1)]
        [0.04, 0.372, 1.0, 0.75, 0.25, 0.0]

    Note:
        The defaults are those of fastai 2. ``use_clr_beta=(div, pct, ...)`` of fast.ai 0.7 is
        ``start=1 / div, end=0.01 / div, tail=pct / 100, rise=(1 - pct / 100) / 2`` and ``linear``.

    References:
        Smith and Topin, *Super-Convergence* (2019).
    """
    _check_cycle_parts(progress, rise, tail)
    for name, share in (("start", start), ("end", end)):
        if not 0 <= share <= 1:
            raise ValueError(
                f"`{name}` must lie in [0, 1], got {share}. It is a share of the peak."
            )
    if progress <= rise:
        return between(start, 1.0, progress / rise, shape)
    turn = 1 - tail
    if progress <= turn and tail:
        return between(1.0, start, (progress - rise) / (turn - rise), shape)
    if tail:
        return between(start, end, (progress - turn) / tail, shape)
    return between(1.0, end, (progress - rise) / (1 - rise), shape)


def one_cycle_momentum(
    progress: float,
    rise: float = 0.25,
    high: float = 0.95,
    low: float = 0.85,
    tail: float = 0.0,
    shape: Shape = "cosine",
) -> float:
    """Return the momentum that belongs to :func:`one_cycle_factor`: low where the rate is high.

    Args:
        progress: Share of the training that is done, in [0, 1].
        rise: Share of the training in which the rate rises, in (0, 1).
        high: Momentum at the start and at the end, in [0, 1).
        low: Momentum at the peak of the rate, in [0, ``high``].
        tail: Last share of the training, in which the momentum stays high, in [0, 1 - rise).
        shape: ``cosine`` or ``linear``.

    Returns:
        Momentum, in [``low``, ``high``].

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> [round(one_cycle_momentum(share), 3) for share in (0, 0.25, 1)]
        [0.95, 0.85, 0.95]
    """
    _check_cycle_parts(progress, rise, tail)
    if not 0 <= low <= high < 1:
        raise ValueError(
            f"Momentum must lie in [0, 1), the low one below the high one, got {low} and {high}."
        )
    if progress <= rise:
        return between(high, low, progress / rise, shape)
    return between(low, high, min(1.0, (progress - rise) / (1 - tail - rise)), shape)


def flat_cosine_factor(progress: float, flat: float = 0.75, end: float = 1e-5) -> float:
    """Return the share of the peak rate at one moment: the peak for long, then half a cosine.

    Args:
        progress: Share of the training that is done, in [0, 1].
        flat: Share of the training at the peak, in [0, 1).
        end: Last rate as a share of the peak rate, in [0, 1].

    Returns:
        Factor for every peak rate, in [``end``, 1].

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> [round(flat_cosine_factor(share), 3) for share in (0, 0.75, 0.875, 1)]
        [1.0, 1.0, 0.5, 0.0]

    References:
        fastai 2, ``fit_flat_cos``.
    """
    if not 0 <= progress <= 1:
        raise ValueError(f"`progress` must lie in [0, 1], got {progress}.")
    if not 0 <= flat < 1:
        raise ValueError(f"`flat` must lie in [0, 1), got {flat}. It is a share of the training.")
    if not 0 <= end <= 1:
        raise ValueError(f"`end` must lie in [0, 1], got {end}. It is a share of the peak.")
    return between(1.0, end, max(0.0, progress - flat) / (1 - flat), "cosine")


def _check_cycle_parts(progress: float, rise: float, tail: float) -> None:
    if not 0 <= progress <= 1:
        raise ValueError(f"`progress` must lie in [0, 1], got {progress}.")
    if not 0 < rise < 1:
        raise ValueError(f"`rise` must lie in (0, 1), got {rise}. It is a share of the training.")
    if not 0 <= tail < 1 - rise:
        raise ValueError(
            f"`tail` must lie in [0, {1 - rise:g}), got {tail}: rise, fall and tail share the"
            " training."
        )
