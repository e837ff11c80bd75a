"""Figures of learning rates: a schedule over the epochs, and what the LR finder found."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from lightning_fastrecipes.functional.training.lr_curves import Rule
from lightning_fastrecipes.plots.figure import ShownFigure, new_figure, save

_OTHER_COLORS = ("C4", "C5", "C6", "C1", "C8", "C9", "C2", "C7")

Values = Sequence[float] | npt.NDArray[np.float64]


def draw_schedule(
    title: str,
    epochs: Values,
    rates: Mapping[str, Values],
    frozen: Sequence[str],
    path: str | Path,
    *,
    lowest: float,
) -> Figure:
    """Draw the learning rate of each layer group over the epochs.

    ``epochs`` says where each step lies; ``rates`` has the rate of each step for each trained layer
    group, and ``frozen`` names the other groups. Rates below ``lowest`` are cut off: a schedule may
    end so close to 0 that a logarithmic axis would show little else.
    """
    figure = new_figure(8.0, 4.0)
    axes = figure.add_subplot(title=title, xlabel="epoch", ylabel="learning rate", yscale="log")
    for name, values in rates.items():
        axes.plot(epochs, values, label=name)
    for name in frozen:
        axes.plot([], [], color="grey", linestyle=":", label=f"{name} (frozen)")
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
    """Draw the loss against the learning rate, with the suggestion and what other rules pick.

    ``lrs`` rise. ``averages`` are the smoothed ``losses`` that the rules see. ``picks`` are the
    rates that the rules pick, ``rule`` is the one whose pick is the suggestion; if there is none,
    ``picks`` is empty and ``refusal`` says why. ``split`` is what the loss is measured on. Nothing
    is written if ``path`` is ``None``.
    """
    figure = new_figure(8.0, 4.5)
    axes = figure.add_subplot(
        xlabel="learning rate of the last layer group", ylabel=f"{split} loss", xscale="log"
    )
    axes.plot(lrs, losses, ".", color="silver", label="loss of a step")
    axes.plot(lrs, averages, label="average")
    lowest = float(np.nanmin(averages))
    start = float(np.nanmax(averages[: int(np.nanargmin(averages)) + 1]))
    if start > lowest:
        # Where training blows up, the loss would squeeze everything else to a line.
        axes.set_ylim(lowest - 0.5 * (start - lowest), start + 0.8 * (start - lowest))
    if rule in picks:
        axes.axvline(picks[rule], color="C3", label=f"{rule}: {picks[rule]:.1e}")
        others = [name for name in picks if name != rule]
        for name, color in zip(others, _OTHER_COLORS[: len(others)], strict=True):
            label = f"{name}: {picks[name]:.1e}"
            axes.axvline(picks[name], color=color, linestyle=":", label=label)
        axes.set_title(f"Suggested learning rate: {picks[rule]:.1e}")
    else:
        axes.set_title(f"No suggestion: {refusal}", wrap=True, fontsize=10)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    return save(figure, path)
