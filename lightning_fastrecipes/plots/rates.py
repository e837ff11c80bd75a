"""Figures of learning rates: a schedule over the epochs, and what the LR finder found."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_fastrecipes.functional.training.lr_curves import Rule
from lightning_fastrecipes.plots.figure import (
    COLOURS,
    ShownFigure,
    keep_possible,
    letters_in,
    new_figure,
    save,
    shorten,
    wrapped,
)

_LINES = ("-", "--", "-.", ":")
_ALMOST = 0.05
"""Share of the first loss that evened losses of 0 may come out below it."""

Floats = npt.NDArray[np.float64]
Values = Sequence[float] | npt.NDArray[np.float64]


def draw_schedule(
    title: str,
    epochs: Values,
    rates: Mapping[str, Values],
    frozen: Sequence[str],
    path: str | Path | None,
    *,
    lowest: float,
) -> Figure:
    """Draw the learning rate of each layer group over the epochs.

    ``epochs`` says where each step lies; ``rates`` has the rate of each step for each trained layer
    group, and ``frozen`` names the other groups. Rates below ``lowest`` are cut off: a schedule may
    end so close to 0 that a logarithmic axis would show little else.
    """
    # The legend has a line for each group, and one for its title.
    figure = new_figure(8.0, max(4.0, 0.23 * (len(rates) + len(frozen) + 1) + 0.3))
    axes = figure.add_subplot(title=title, xlabel="epoch", ylabel="learning rate", yscale="log")
    for place, (name, values) in enumerate(rates.items()):
        colour, line = COLOURS[place % len(COLOURS)], _LINES[place // len(COLOURS) % len(_LINES)]
        axes.plot(epochs, values, color=colour, linestyle=line, label=shorten(name))
    for name in frozen:
        axes.plot([], [], color="grey", linestyle=":", label=f"{shorten(name)} (frozen)")
    axes.set_ylim(bottom=max(axes.get_ylim()[0], lowest))
    axes.grid(alpha=0.3)
    figure.legend(title="layer group", loc="outside right upper")
    return save(figure, path)


def draw_lr_curve(
    lrs: Values,
    losses: Values,
    averages: Values,
    picks: Mapping[Rule, float],
    path: str | Path | None,
    *,
    rule: Rule,
    refusal: str | None = None,
    split: str = "training",
) -> ShownFigure:
    """Draw the loss against the learning rate, and below it a row for each rule with its pick.

    ``lrs`` rise. ``averages`` are the smoothed ``losses`` that the rules see. ``picks`` are the
    rates that the rules pick, ``rule`` is the one whose pick is the suggestion; if there is none,
    ``picks`` is empty and ``refusal`` says why. ``split`` is what the loss is measured on. Nothing
    is written if ``path`` is ``None``.
    """
    figure = new_figure(8.0, 4.6 + 0.22 * len(picks))
    heights = (3.6, 0.22 * len(picks)) if picks else (1.0,)
    curve, *below = figure.subplots(
        len(heights), sharex=True, squeeze=False, height_ratios=heights
    )[:, 0]
    curve.set(xscale="log", ylabel=f"{split} loss")
    curve.plot(lrs, losses, ".", color="0.6", label="loss of a step")
    curve.plot(lrs, averages, color=COLOURS[0], label="average")
    _show_the_fall(curve, np.asarray(losses), np.asarray(averages))
    curve.grid(alpha=0.3)
    for axes in below:
        _draw_picks(axes, picks, rule)
        curve.axvline(picks[rule], color=COLOURS[1])
    [curve, *below][-1].set_xlabel("learning rate of the last layer group")
    title = f"No suggestion: {refusal}"
    if rule in picks:
        title = f"Suggested learning rate: {picks[rule]:.1e} ({rule})"
    # Not wrapped by matplotlib, which does not know what else is in the figure.
    figure.suptitle(wrapped(title, letters_in(7.4)), fontsize=10, parse_math=False)
    figure.legend(loc="outside lower center", ncols=2)
    return save(figure, path)


def _show_the_fall(axes: Axes, losses: Floats, averages: Floats) -> None:
    """Cut off where training blows up, which would squeeze everything else to a line."""
    lowest = float(np.nanmin(averages))
    start = float(np.nanmax(averages[: int(np.nanargmin(averages)) + 1]))
    if start > lowest:
        axes.set_ylim(lowest - 0.5 * (start - lowest), start + 0.8 * (start - lowest))
    known = losses[np.isfinite(losses)]
    lowest = min(float(known.min()), lowest)
    # Evened and averaged, losses of almost 0 may come out below it.
    keep_possible(axes, lowest if lowest < -_ALMOST * abs(start) else 0.0, np.inf)


def _draw_picks(axes: Axes, picks: Mapping[Rule, float], rule: Rule) -> None:
    """Draw a row for each rule, with its pick as a point, so that none hides another."""
    for place, (name, lr) in enumerate(picks.items()):
        colour, size = (COLOURS[1], 9) if name == rule else ("0.3", 6)
        axes.plot([lr], [place], "o", color=colour, markersize=size)
    axes.axvline(picks[rule], color=COLOURS[1])
    axes.set_yticks(range(len(picks)), [f"{name}: {lr:.1e}" for name, lr in picks.items()])
    axes.set_ylim(len(picks) - 0.5, -0.5)
    axes.grid(alpha=0.3)
