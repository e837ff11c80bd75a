"""The figure of a search: its trials as lines through their values, and what decided."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from lightning_fastrecipes.functional.ranges import Range
from lightning_fastrecipes.plots.figure import COLOURS, new_figure, save, shorten

Floats = npt.NDArray[np.float64]

_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def draw_trials(
    ranges: dict[str, Range],
    values: Sequence[Sequence[Any]],
    figures: Sequence[float],
    importance: Sequence[float],
    path: str | Path | None,
    *,
    monitor: str,
    highest_is_best: bool,
    best: int | None = None,
) -> Figure:
    """Draw each trial as a line through its values, coloured by its figure; beside it bars.

    ``values`` has for each trial a value of each range, and ``figures`` its metric ``monitor``; the
    bars are the ``importance`` of each range. ``best`` is the place of the trial that was chosen.
    Raise `ValueError` if there is no trial.
    """
    if not len(figures):
        raise ValueError("There must be a trial to draw, but there is none.")
    names = [shorten(name) for name in ranges]
    figure = new_figure(4.5 + 1.6 * len(ranges), 5.0)
    left, right = figure.subplots(1, 2, width_ratios=(1.2 + len(ranges), 1.6))
    found = np.asarray(figures, dtype=np.float64)
    colours = ScalarMappable(
        Normalize(*_ends(found)), "viridis" if highest_is_best else "viridis_r"
    )
    order = np.argsort(found if highest_is_best else -found, kind="stable").tolist()
    places = np.arange(len(ranges) + 1)
    low, high = _ends(found)
    for trial in order:
        shares = [one.share(v) for one, v in zip(ranges.values(), values[trial], strict=True)]
        last = (found[trial] - low) / (high - low)
        is_best = trial == best
        colour = COLOURS[1] if is_best else colours.to_rgba(found[trial])
        left.plot(places, [*shares, last], color=colour, linewidth=3 if is_best else 1.2,
                  alpha=1.0 if is_best else 0.7, zorder=3 if is_best else 2)  # fmt: skip
    _draw_axes(left, [*ranges.values()])
    for share in _TICKS:
        left.text(places[-1], share, f" {low + share * (high - low):.4g}", fontsize=8, va="center")
    left.set_xticks(places, [*names, shorten(monitor)], rotation=15, ha="right", parse_math=False)
    left.set_title(f"{len(found)} trials, by {monitor} where each ended", parse_math=False)
    right.barh(np.arange(len(ranges)), list(importance), color=COLOURS[0])
    right.set_yticks(np.arange(len(ranges)), names, parse_math=False)
    right.set_xlim(0.0, 1.0)
    right.invert_yaxis()
    right.set_title("importance (coarse trials)")
    right.set_xlabel("share of the spread")
    return save(figure, path)


def _draw_axes(axes: Axes, ranges: Sequence[Range]) -> None:
    """Draw an upright line for each range, with its values."""
    axes.set_ylim(-0.03, 1.03)
    axes.set_yticks([])
    for place, one in enumerate(ranges):
        axes.axvline(place, color="0.6", linewidth=1.0, zorder=1)
        shares = _TICKS if one.kind != "choice" else [one.share(value) for value in one.values]
        for share in shares:
            value = one.value(min(share, 0.999999))
            text = f"{value:.3g}" if isinstance(value, float) else shorten(str(value))
            axes.text(place, share, f" {text}", fontsize=8, va="center", parse_math=False)
    axes.axvline(len(ranges), color="0.6", linewidth=1.0, zorder=1)


def _ends(figures: Floats) -> tuple[float, float]:
    low, high = float(figures.min()), float(figures.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)
