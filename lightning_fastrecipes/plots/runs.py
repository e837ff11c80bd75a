"""Figures of a run: confusion matrix, labels that go together, curves, variants, training images.

Each function writes one file, and returns the figure for a notebook or a logger.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FormatStrFormatter, MaxNLocator, NullFormatter
from torch import Tensor

from lightning_fastrecipes.plots.figure import new_figure, save, shorten

MAX_CLASSES_WITH_NUMBERS = 30
"""Above this many classes the cells of a confusion matrix are coloured, but bear no numbers."""

Floats = npt.NDArray[np.float64]

_MAX_CLASS_LABELS = 150
_ERRORS = ("rmspe", "rmse", "mae")


def draw_confusion_matrix(counts: Tensor, classes: Sequence[str], path: str | Path) -> Figure:
    """Draw how often each class was taken for which: rows are true, columns are predicted.

    The colour of a cell is its share of the row, so that rare classes are seen as well as common
    ones. It rises with the root of the share, so that a few mistakes are seen as well. Up to
    ``MAX_CLASSES_WITH_NUMBERS`` classes each cell also shows its count and that share. Raise
    `ValueError` if ``counts`` has not one row and one column for each class, in the order of
    ``classes``.
    """
    num_classes = len(classes)
    if counts.shape != (num_classes, num_classes):
        raise ValueError(
            f"`counts` must have one row and one column for each of the {num_classes} classes,"
            f" got shape {tuple(counts.shape)}. Count with `num_classes={num_classes}`."
        )
    cells = counts.detach().cpu().double().numpy()
    with_numbers = num_classes <= MAX_CLASSES_WITH_NUMBERS
    side = min(30.0, max(4.0, num_classes * (0.65 if with_numbers else 0.2)))
    text_size = 10.0 + side / 4

    figure = new_figure(side + 3.0, side + 2.0)
    axes = figure.add_subplot()
    shares, colours = _draw_shares(axes, cells, cells.sum(axis=1), classes)
    _add_colour_bar(figure, colours, [axes], "share of the true class (%)", text_size)
    axes.set_xlabel("predicted class", size=text_size)
    axes.set_ylabel("true class (number of samples)", size=text_size)
    num_right, num_samples = float(np.trace(cells)), float(cells.sum())
    accuracy = f"{100.0 * num_right / num_samples:.1f} %" if num_samples else "none"
    axes.set_title(
        f"Confusion matrix: {accuracy} of {num_samples:.0f} samples right", size=text_size
    )
    if with_numbers:
        for (row, column), share in np.ndenumerate(shares):
            count = cells[row, column]
            percent = f"{share:.0f} %" if share >= 1 else "<1 %"
            color = "silver" if not count else "white" if share > 30 else "black"
            text = f"{count:.0f}\n{percent}" if count else "0"
            axes.text(column, row, text, color=color, ha="center", va="center", fontsize=9)
    return save(figure, path)


def draw_cooccurrence(
    actual: Tensor, predicted: Tensor, classes: Sequence[str], path: str | Path
) -> Figure:
    """Draw which labels go together, in truth and as predicted.

    The colour of a cell is the share of the row's label that has the column's label as well. Where
    the two halves differ, the model overlooks or imagines that labels go together. ``actual`` and
    ``predicted`` count samples with both labels, in shape ``(num_classes, num_classes)``.
    """
    side = min(24.0, max(4.0, len(classes) * 0.22))
    figure = new_figure(2 * side + 4.0, side + 2.0)
    pair = list(figure.subplots(1, 2, squeeze=False)[0])
    for axes, counts, title in zip(pair, (actual, predicted), ("true", "predicted"), strict=True):
        cells = counts.detach().cpu().double().numpy()
        _, colours = _draw_shares(axes, cells, np.diag(cells), classes)
        axes.set_title(f"labels that go together, {title}", size=10.0 + side / 4)
    _add_colour_bar(figure, colours, pair, "share of the row's label (%)")
    return save(figure, path)


def draw_curves(history: pd.DataFrame, path: str | Path) -> Figure:
    """Draw losses, metrics and the learning rate over the epochs of all stages.

    ``history`` has one row per epoch, with the columns ``stage``, ``train_loss`` and ``val_loss``;
    ``lr`` (of the head), ``seconds`` and ``part`` (of a continued run, from 1) are optional, any
    other ``val_<name>`` is a metric, drawn with ``train_clean_<name>``. Missing values are epochs
    without validation. Metrics of very different size, such as errors in units and in shares, get
    panels of their own. Raise `ValueError` if ``history`` has no row, or lacks the column ``stage``
    or ``train_loss``.
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
        panels.append(("metric (validation)", [*group, *clean]))
    has_rates = "lr" in history and bool(history["lr"].notna().any())
    if has_rates:
        panels.append(("highest rate (head)", ["lr"]))

    figure = new_figure(9.0, 1.2 + 2.4 * len(panels))
    all_axes = list(figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0])
    stages = history["stage"].astype(str).tolist()
    num_stages = len([name for i, name in enumerate(stages) if i == 0 or name != stages[i - 1]])
    if "part" in history:
        pairs = zip(stages, history["part"], strict=True)
        stages = [f"{name} (part {part})" if part > 1 else name for name, part in pairs]
    starts = {i + 0.5: name for i, name in enumerate(stages) if i == 0 or name != stages[i - 1]}
    for axes, (label, columns) in zip(all_axes, panels, strict=True):
        for column in columns:
            _draw_line(axes, history, column, starts)
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    if has_rates and (history["lr"].dropna() > 0).all():
        all_axes[-1].set_yscale("log")
    all_axes[-1].set_xlabel("epoch, counted over all stages")
    all_axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    all_axes[-1].set_xlim(0.5, len(history) + 0.5)
    _mark_stages(all_axes, starts)
    figure.suptitle(_summary(history, num_stages))
    return save(figure, path)


def draw_variants(variants: Sequence[Mapping[str, Any]], path: str | Path) -> Figure | None:
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
    figure = new_figure(8.0, 1.2 + 0.45 * len(variants))
    axes = figure.add_subplot()
    places = np.arange(len(variants))
    if metric == "accuracy":
        ends = _draw_mistakes(axes, 100.0 * (1.0 - values))
        texts = [f"{100 * value:.2f} % right" for value in values]
        axes.set_xlabel(f"mistakes on the {split} split (%), logarithmic")
    else:
        ends, texts = values, [f"{value:.4g}" for value in values]
        axes.barh(places, values)
        axes.set_xlim(0.0, 1.3 * values.max())
        axes.set_xlabel(f"{metric} on the {split} split")
    names = [shorten(variant["name"]) for variant in variants]
    # In a series, what the next variant does without stands aside.
    names = [f"({n})" if v.get("is_side_step") else n for n, v in zip(names, variants, strict=True)]
    axes.set_yticks(places, names, parse_math=False)
    axes.invert_yaxis()
    for place, end, text, variant in zip(places.tolist(), ends, texts, variants, strict=True):
        minutes = variant["seconds"] / 60
        axes.text(end, place, f" {text}, {minutes:.1f} min", verticalalignment="center")
    return save(figure, path)


def draw_batch(
    images: Sequence[Sequence[Tensor]],
    names: Sequence[str],
    path: str | Path | None,
    titles: Sequence[Sequence[str]] | None = None,
) -> Figure:
    """Draw images as training sees them: not augmented on the left, then epoch by epoch.

    ``images`` has for each row its images ``(channels, height, width)``, ``uint8``; ``names`` says
    what each row shows, such as its class; ``titles`` what each image does, if not an epoch.
    Nothing is written if ``path`` is ``None``.
    """
    num_columns = max(map(len, images))
    figure = new_figure(1.2 + 1.5 * num_columns, 0.6 + 1.5 * len(images))
    grid = figure.subplots(len(images), num_columns, squeeze=False)
    for axes, name, row in zip(grid, names, images, strict=True):
        for place, image in zip(axes, row, strict=False):
            # Of other channels than grey and colours, the first is shown.
            shown = image if len(image) == 3 else image[: 3 if len(image) == 4 else 1]
            place.imshow(shown.expand(3, -1, -1).permute(1, 2, 0).numpy())
        for place in axes:
            place.set_xticks([])
            place.set_yticks([])
        axes[0].set_ylabel(shorten(name), parse_math=False)
        for place in axes[len(row) :]:
            place.set_axis_off()
    if titles is None:
        titles = [["not augmented", *(f"epoch {epoch}" for epoch in range(num_columns - 1))]]
    for axes, row_titles in zip(grid, titles, strict=False):
        for place, title in zip(axes, row_titles, strict=False):
            place.set_title(title, fontsize="medium" if len(titles) == 1 else "small")
    return save(figure, path)


def _draw_mistakes(axes: Axes, mistakes: Floats) -> Floats:
    """Draw bars on a logarithmic axis, and return where they end."""
    # A logarithmic axis has no 0: a variant without a mistake gets a bar of the shortest length.
    shortest = 0.5 * mistakes[mistakes > 0].min(initial=100.0)
    ends: Floats = np.maximum(mistakes, shortest)
    axes.barh(np.arange(len(mistakes)), ends - shortest / 2, left=shortest / 2)
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


def _draw_shares(
    axes: Axes, cells: Floats, totals: Floats, classes: Sequence[str]
) -> tuple[Floats, AxesImage]:
    """Colour each cell by its share of the row's total in per cent, and name the classes."""
    shares = 100.0 * cells / np.maximum(totals, 1.0)[:, None]
    colours = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, vmin=0.0, vmax=100.0))
    ticks = range(0, len(classes), math.ceil(len(classes) / _MAX_CLASS_LABELS) or 1)
    names = [shorten(classes[tick]) for tick in ticks]
    rows = [f"{name} ({totals[tick]:.0f})" for name, tick in zip(names, ticks, strict=True)]
    is_crowded = len(classes) > 4 or max(map(len, names), default=0) > 8
    axes.set_xticks(ticks, names, rotation=90 if is_crowded else 0, parse_math=False)
    axes.set_yticks(ticks, rows, parse_math=False)
    return shares, colours


def _add_colour_bar(
    figure: Figure, colours: AxesImage, axes: list[Axes], label: str, size: float | None = None
) -> None:
    bar = figure.colorbar(colours, ax=axes, shrink=0.8, aspect=30, ticks=[0, 1, 5, 20, 50, 100])
    bar.set_label(label, size=size)


def _draw_line(axes: Axes, history: pd.DataFrame, column: str, starts: Iterable[float]) -> None:
    if column not in history:
        return
    values = history[column].astype(float).to_numpy()
    is_known = ~np.isnan(values)
    # A new stage has new rates, so their line is broken there: no epoch lies between the two.
    breaks = list(starts) if column == "lr" else []
    epochs = np.append(np.flatnonzero(is_known) + 1.0, breaks)
    values = np.append(values[is_known], np.full(len(breaks), np.nan))
    order = np.argsort(epochs)
    if is_known.any():
        # Markers, since one epoch alone makes no line.
        axes.plot(epochs[order], values[order], marker="o", markersize=4, label=column)


def _mark_stages(all_axes: Sequence[Axes], starts: Mapping[float, str]) -> None:
    """Rule off the stages in every panel and name them above the first one."""
    first, last = all_axes[0].get_xlim()
    narrowest = np.diff([*starts, last]).min() if starts else last
    is_crowded = narrowest < 0.15 * (last - first)
    for number, (start, name) in enumerate(starts.items()):
        for axes in all_axes:
            if number:
                axes.axvline(start, color="grey", linestyle="--", linewidth=1.0)
        above = all_axes[0].get_xaxis_transform()
        angle = 30 if is_crowded else 0
        text = f" {shorten(name)}"
        all_axes[0].text(start, 1.02, text, transform=above, rotation=angle, parse_math=False)


def _summary(history: pd.DataFrame, num_stages: int) -> str:
    text = f"Training: {_count(num_stages, 'stage')}, {_count(len(history), 'epoch')}"
    if "seconds" in history and history["seconds"].notna().any():
        minutes, seconds = divmod(round(float(history["seconds"].sum())), 60)
        text += f", {minutes} min {seconds:02d} s"
    return text


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
