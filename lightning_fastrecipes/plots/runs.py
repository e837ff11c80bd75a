"""Figures of a run: its curves, and its variants.

Each function writes one file, and returns the figure for a notebook or a logger.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, MaxNLocator, NullFormatter

from lightning_fastrecipes.plots.figure import (
    COLOURS,
    MARKERS,
    inches_of,
    keep_possible,
    new_figure,
    save,
    shorten,
)

Floats = npt.NDArray[np.float64]

_ERRORS = ("rmspe", "rmse", "mae")
_MARKERS_OF_A_LINE = 40


def draw_curves(
    history: pd.DataFrame, path: str | Path | None, *, seconds: float | None = None
) -> Figure:
    """Draw losses, metrics and the learning rate over the epochs of all stages.

    ``history`` has one row per epoch, with the columns ``stage``, ``train_loss`` and ``val_loss``;
    ``lr`` (of the head), ``seconds`` and ``part`` (of a continued run, from 1) are optional, any
    other ``val_<name>`` is a metric, drawn with ``train_clean_<name>``. Missing values are epochs
    without validation. Metrics of very different size, such as errors in units and in shares, get
    panels of their own. ``seconds`` is how long the stages took, features and views included, if
    more than their epochs did. Raise `ValueError` if ``history`` has no row, or lacks the column
    ``stage`` or ``train_loss``.
    """
    missing = [name for name in ("stage", "train_loss") if name not in history.columns]
    if missing or history.empty:
        raise ValueError(
            "`history` must have one row an epoch with `stage` and `train_loss`, got"
            f" {len(history)} rows with the columns {list(history.columns)}."
            " Draw the curves once the first epoch is through."
        )
    names = [str(name) for name in history]
    metrics = [name for name in names if name.startswith("val_") and name != "val_loss"]
    metrics = [name for name in metrics if history[name].notna().any()]
    panels = [("loss", ["train_loss", "train_clean_loss", "val_loss"])]
    for group in _of_one_size(history, metrics):
        clean = [name.replace("val_", "train_clean_", 1) for name in group]
        panels.append(("metric", [*group, *clean]))
    has_rates = "lr" in history and bool(history["lr"].notna().any())
    if has_rates:
        panels.append(("learning rate (head)", ["lr"]))

    figure = new_figure(9.0, 1.2 + 2.4 * len(panels))
    all_axes = list(figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0])
    stages = history["stage"].astype(str).tolist()
    num_stages = len([name for i, name in enumerate(stages) if i == 0 or name != stages[i - 1]])
    if "part" in history:
        pairs = zip(stages, history["part"], strict=True)
        stages = [f"{name} (part {part})" if part > 1 else name for name, part in pairs]
    starts = {i + 0.5: name for i, name in enumerate(stages) if i == 0 or name != stages[i - 1]}
    for axes, (label, columns) in zip(all_axes, panels, strict=True):
        drawn = [name for name in columns if name in history and history[name].notna().any()]
        for place, column in enumerate(drawn):
            style = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
            _draw_line(axes, history, column, starts, *style)
        # A line alone is named by its axis.
        axes.set_ylabel(label if len(drawn) != 1 or drawn == ["lr"] else drawn[0])
        axes.grid(alpha=0.3)
        if len(drawn) > 1:
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        values = history[drawn].to_numpy(dtype=np.float64)
        if "lr" not in drawn and np.isfinite(values).any():
            finite = values[np.isfinite(values)]
            keep_possible(axes, float(finite.min()), float(finite.max()))
    if has_rates and (history["lr"].dropna() > 0).all():
        all_axes[-1].set_yscale("log")
    all_axes[-1].set_xlabel("epoch, counted over all stages")
    all_axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    all_axes[-1].set_xlim(0.5, len(history) + 0.5)
    _mark_stages(figure, all_axes, starts)
    figure.suptitle(_summary(history, num_stages, seconds))
    return save(figure, path)


def draw_variants(variants: Sequence[Mapping[str, Any]], path: str | Path | None) -> Figure | None:
    """Draw the share of mistakes, or the error, that each variant makes, the first one on top.

    A variant has ``name``, ``seconds``, and metrics on ``test`` and ``val``; the test split is
    drawn if there is one. Return ``None`` if the variants share neither ``accuracy`` nor one of
    ``rmspe``, ``rmse`` and ``mae``.
    """
    choices = [(split, name) for split in ("test", "val") for name in ("accuracy", *_ERRORS)]
    shared = [c for c in choices if all(c[1] in variant[c[0]] for variant in variants)]
    if not shared:
        return None
    split, metric = shared[0]
    values = np.array([variant[split][metric] for variant in variants])
    names = [shorten(variant["name"]) for variant in variants]
    # In a series, what the next variant does without stands aside.
    names = [f"({n})" if v.get("is_side_step") else n for n, v in zip(names, variants, strict=True)]
    figure = new_figure(6.5 + max(map(inches_of, names)), 1.4 + 0.35 * len(variants))
    axes = figure.add_subplot()
    places = np.arange(len(variants))
    what = "mistakes" if metric == "accuracy" else metric
    if metric == "accuracy":
        ends = _draw_mistakes(axes, 100.0 * (1.0 - values))
        texts = [f"{100 * value:.2f} % right" for value in values]
        axes.set_xlabel(f"mistakes on the {split} split, without views (%), logarithmic")
    else:
        ends, texts = values, [f"{value:.4g}" for value in values]
        axes.barh(places, values, color=COLOURS[0])
        axes.set_xlim(0.0, 1.3 * values.max())
        axes.set_xlabel(f"{metric} on the {split} split")
    axes.set_yticks(places, names, parse_math=False)
    axes.set_ylim(len(variants) - 0.4, -0.6)
    axes.set_title(f"{_count(len(variants), 'variant')}: {what} on the {split} split")
    for place, end, text, variant in zip(places.tolist(), ends, texts, variants, strict=True):
        minutes = variant["seconds"] / 60
        axes.text(end, place, f" {text}, {minutes:.1f} min", verticalalignment="center")
    return save(figure, path)


def _draw_mistakes(axes: Axes, mistakes: Floats) -> Floats:
    """Draw bars on a logarithmic axis, and return where they end."""
    # A logarithmic axis has no 0: a variant without a mistake gets a bar of the shortest length.
    shortest = 0.5 * mistakes[mistakes > 0].min(initial=100.0)
    ends: Floats = np.maximum(mistakes, shortest)
    starts = np.arange(len(mistakes))
    axes.barh(starts, ends - shortest / 2, left=shortest / 2, color=COLOURS[0])
    axes.set_xscale("log")
    axes.set_xlim(shortest / 2, 10.0 * ends.max())
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    return ends


def _of_one_size(history: pd.DataFrame, metrics: Sequence[str]) -> list[list[str]]:
    """Put shares together, and other metrics of about one size, so that no line lies flat."""
    panels: list[tuple[float, list[str]]] = []
    for name in metrics:
        values = history[name].dropna()
        is_share = bool(values.between(0.0, 1.0).all())
        size = 0.0 if is_share else float(values.abs().max())
        for other, names in panels:
            if size == other or (size and other and 0.1 < size / other < 10.0):
                names.append(name)
                break
        else:
            panels.append((size, [name]))
    return [names for _, names in panels]


def _draw_line(
    axes: Axes,
    history: pd.DataFrame,
    column: str,
    starts: Iterable[float],
    colour: str,
    marker: str,
) -> None:
    values = history[column].astype(float).to_numpy()
    is_known = ~np.isnan(values)
    # A new stage has new rates, so their line is broken there: no epoch lies between the two.
    breaks = list(starts) if column == "lr" else []
    epochs = np.append(np.flatnonzero(is_known) + 1.0, breaks)
    values = np.append(values[is_known], np.full(len(breaks), np.nan))
    order = np.argsort(epochs)
    # Markers, since one epoch alone makes no line; whole ones, also at the edge of what can be.
    # Of many epochs that are joined some have one, since markers side by side hide the line.
    axes.plot(
        epochs[order], values[order], color=colour, marker=marker, markersize=4, label=column,
        clip_on=False, markevery=1 if breaks else max(len(epochs) // _MARKERS_OF_A_LINE, 1),
    )  # fmt: skip


def _mark_stages(figure: Figure, all_axes: Sequence[Axes], starts: Mapping[float, str]) -> None:
    """Rule off the stages in every panel and name them above the first one, as far as they fit."""
    first, last = all_axes[0].get_xlim()
    inches = np.diff([*starts, last]) / (last - first) * 0.75 * figure.get_figwidth()
    names = [shorten(name, 20) for name in starts.values()]
    fits = [inches_of(f" {name} ", 9.0) <= room for name, room in zip(names, inches, strict=True)]
    angle = 0 if all(fits) else 90
    above = all_axes[0].get_xaxis_transform()
    free = -1.0
    for number, (start, name) in enumerate(zip(starts, names, strict=True)):
        for axes in all_axes if number else ():
            axes.axvline(start, color="grey", linestyle="--", linewidth=1.0)
        place = (start - first) / (last - first) * 0.75 * figure.get_figwidth()
        if angle and place < free:
            continue
        free = place + 0.17
        all_axes[0].text(
            start, 1.02, f" {name}" if not angle else name, transform=above, rotation=angle,
            fontsize=9, va="bottom", parse_math=False,
        )  # fmt: skip


def _summary(history: pd.DataFrame, num_stages: int, seconds: float | None) -> str:
    text = f"Training: {_count(num_stages, 'stage')}, {_count(len(history), 'epoch')}"
    found = [seconds or 0.0]
    if "seconds" in history and history["seconds"].notna().any():
        found.append(float(history["seconds"].sum()))
    if max(found):
        minutes, rest = divmod(round(max(found)), 60)
        text += f", {minutes} min {rest:02d} s"
    return text


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
