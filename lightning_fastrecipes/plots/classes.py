"""Figures of classes: which were taken for which, and which labels go together.

Each function writes one file, and returns the figure for a notebook or a logger.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from lightning_fastrecipes.plots.figure import (
    COLOURS,
    RIGHT,
    WRONG,
    inches_of,
    new_figure,
    save,
    shorten,
)

MAX_CLASSES_WITH_NUMBERS = 30
"""Above this many classes the cells of a confusion matrix are coloured, but bear no numbers."""

MAX_CLASSES_AS_GIVEN = 12
"""Above this many classes those that are mixed up stand together, the worst pairs are listed."""

MAX_LABELS = 50
"""Of more labels than this, only the commonest ones are drawn with one another."""

Floats = npt.NDArray[np.float64]

_MAX_CLASS_NAMES = 200
_NUM_PAIRS = 10
_TICKS = (0, 1, 5, 20, 50, 100)
_MIXED_UP = 5.0
_BAR = 0.22
_BARS = 2.4
"""Inches that a colour bar is wide, and that two take with what is written on them."""


def draw_confusion_matrix(
    counts: Tensor,
    classes: Sequence[str],
    path: str | Path | None,
    *,
    split: str = "",
    with_views: bool = False,
) -> Figure:
    """Draw how often each class was taken for which: rows are true, columns are predicted.

    The colour of a cell, blue if right and orange if wrong, is its share of the row, so that rare
    classes are seen as well as common ones. It rises with the root of the share, so that a few
    mistakes are seen as well. Up to ``MAX_CLASSES_WITH_NUMBERS`` classes each cell also shows its
    count and that share. Above ``MAX_CLASSES_AS_GIVEN`` the order is such that classes that are
    taken for one another stand together, and the most frequent mistakes are listed beside. The
    title says the ``split``, and whether the predictions are those with views. Raise `ValueError`
    if ``counts`` has not one row and one column for each class, in the order of ``classes``.
    """
    num_classes = len(classes)
    if counts.shape != (num_classes, num_classes):
        raise ValueError(
            f"`counts` must have one row and one column for each of the {num_classes} classes,"
            f" got shape {tuple(counts.shape)}. Count with `num_classes={num_classes}`."
        )
    cells = counts.detach().cpu().double().numpy()
    lists_pairs = num_classes > MAX_CLASSES_AS_GIVEN
    order = _mixed_up_together(cells) if lists_pairs else np.arange(num_classes)
    is_moved = bool((order != np.arange(num_classes)).any())
    cells, classes = cells[np.ix_(order, order)], [classes[place] for place in order]
    pairs = _worst_pairs(cells, classes) if lists_pairs else []

    with_numbers = num_classes <= MAX_CLASSES_WITH_NUMBERS
    side = min(30.0, max(3.6, num_classes * (0.65 if with_numbers else 0.2)))
    text_size = 10.0 + min(side, 16.0) / 4
    longest = max((inches_of(shorten(name)) for name in classes), default=0.0)
    width, height = side + longest + 0.9 + _BARS, side + longest + 1.4
    beside = 3.6 + max((inches_of(name) for name, *_ in pairs), default=0.0) if pairs else 0.0
    figure = new_figure(width + beside, max(height, 5.4 if pairs else 0.0))
    # Bars have columns of their own, since a layout loses sight of those beside equal axes.
    grid = GridSpec(
        2, 4 if pairs else 3, figure,
        width_ratios=(side, _BAR, _BAR, 3.0) if pairs else (side, _BAR, _BAR),
        height_ratios=(4.4, max(figure.get_figheight() - 4.4, 0.1)),
    )  # fmt: skip
    axes = figure.add_subplot(grid[:, 0])
    for place, (colours, name) in enumerate(_draw_answers(axes, cells, classes, side), start=1):
        bar = figure.add_subplot(grid[0 if height > 6.0 else slice(None), place])
        figure.colorbar(colours, cax=bar, ticks=_TICKS)
        bar.set_ylabel(f"{name}: share of the true class (%)")
    if with_numbers:
        _write_numbers(axes, cells)
    together = "\nclasses that are mixed up stand together" if is_moved else ""
    axes.set_xlabel(f"predicted class{together}", size=text_size)
    axes.set_ylabel("true class (number of samples)", size=text_size)
    axes.set_title(_title(cells, split, with_views=with_views), size=text_size)
    if pairs:
        _draw_pairs(figure.add_subplot(grid[0, 3]), pairs)
    return save(figure, path)


def draw_cooccurrence(
    actual: Tensor,
    predicted: Tensor,
    classes: Sequence[str],
    path: str | Path | None,
    *,
    split: str = "",
    with_views: bool = False,
) -> Figure:
    """Draw which labels go together, and where the predictions differ from that.

    On the left the colour of a cell is the share of the row's label that has the column's label as
    well. On the right it is how much larger that share is as predicted, in percentage points:
    orange where the model imagines that two labels go together, purple where it overlooks it.
    Labels are sorted by how common they are; at most ``MAX_LABELS`` are drawn. ``actual`` and
    ``predicted`` count samples with both labels, in shape ``(num_classes, num_classes)``. The title
    says the ``split``, and whether the predictions are those with views.
    """
    counted = [counts.detach().cpu().double().numpy() for counts in (actual, predicted)]
    order = np.argsort(-np.diag(counted[0]), kind="stable")[:MAX_LABELS]
    true, found = (counts[np.ix_(order, order)] for counts in counted)
    names = [classes[place] for place in order]
    side = min(12.0, max(3.2, len(names) * 0.22))
    size = 9.0 + side / 4
    longest = max((inches_of(shorten(name)) for name in names), default=0.0)
    figure = new_figure(2 * side + longest * 2 + 5.0, side + longest + 1.8)
    grid = GridSpec(1, 4, figure, width_ratios=(side, _BAR, side, _BAR))
    left, right, *bars = (figure.add_subplot(grid[0, place]) for place in (0, 2, 1, 3))
    true_shares, found_shares = (_shares(counts, np.diag(counts)) for counts in (true, found))
    colours = left.imshow(true_shares, cmap="Greys", norm=PowerNorm(0.5, vmin=0.0, vmax=100.0))
    growth = found_shares - true_shares
    np.fill_diagonal(growth, 0.0)
    # A label that is never predicted has no share: its row says nothing of what goes with it.
    growth[np.diag(found) == 0] = np.nan
    reach = max(5.0, float(np.nanmax(np.abs(growth), initial=0.0)))
    differing = right.imshow(growth, cmap="PuOr_r", norm=Normalize(-reach, reach))
    right.set_facecolor("0.85")
    for axes, totals in ((left, np.diag(true)), (right, np.diag(found))):
        _name_classes(axes, names, totals, side)
        if len(names) <= MAX_CLASSES_AS_GIVEN:
            _write_numbers(axes)
    rest = "" if len(names) == len(classes) else f", the {len(names)} commonest of {len(classes)}"
    of = f", {split} split" if split else ""
    views = ", with views" if with_views else ""
    left.set_title(f"Labels that go together{of}\nas they are{rest}", size=size)
    right.set_title(f"as predicted{views}, minus as they are\n(grey: never predicted)", size=size)
    figure.colorbar(colours, cax=bars[0], ticks=_TICKS)
    figure.colorbar(differing, cax=bars[1])
    bars[0].set_ylabel("share of the row's label (%)")
    bars[1].set_ylabel("overlooked or imagined (points)")
    return save(figure, path)


def _title(cells: Floats, split: str, *, with_views: bool) -> str:
    num_right, num_samples = float(np.trace(cells)), float(cells.sum())
    accuracy = f"{100.0 * num_right / num_samples:.1f} %" if num_samples else "none"
    parts = ["Confusion matrix", *([f"{split} split"] if split else [])]
    if with_views:
        parts.append("with views")
    return f"{', '.join(parts)}\n{accuracy} of {num_samples:,.0f} samples right"


def _shares(cells: Floats, totals: Floats) -> Floats:
    """Return each cell's share of the row's total in per cent."""
    shares: Floats = 100.0 * cells / np.maximum(totals, 1.0)[:, None]
    return shares


def _draw_answers(
    axes: Axes, cells: Floats, classes: Sequence[str], side: float
) -> list[tuple[AxesImage, str]]:
    """Colour right and wrong answers by their share of the true class; white is none."""
    totals = cells.sum(axis=1)
    shares = _shares(cells, totals)
    is_right = np.eye(len(cells), dtype=bool)
    drawn = []
    for name, colours, is_hidden in (("right", RIGHT, ~is_right), ("wrong", WRONG, is_right)):
        shown = np.ma.masked_where(is_hidden | (cells == 0), shares)
        norm = PowerNorm(0.5, vmin=0.0, vmax=100.0)
        drawn.append((axes.imshow(shown, cmap=colours, norm=norm), name))
    _name_classes(axes, classes, totals, side)
    return drawn


def _write_numbers(axes: Axes, counts: Floats | None = None) -> None:
    """Write into each cell its number in per cent, below its count if there are counts."""
    for image in axes.images:
        for (row, column), number in np.ndenumerate(
            np.ma.filled(cast(Floats, image.get_array()), np.nan)
        ):
            if np.isnan(number):
                continue
            red, green, blue, _ = image.to_rgba(np.array([[number]]))[0, 0]
            is_dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.55
            text = f"{round(number):d}"
            if counts is not None:
                percent = f"{number:.0f} %" if number >= 1 else "<1 %"
                text = f"{counts[row, column]:.0f}\n{percent}"
            color = "white" if is_dark else "black"
            axes.text(column, row, text, color=color, ha="center", va="center", fontsize=9)
    for row, column in np.argwhere(counts == 0) if counts is not None else ():
        axes.text(column, row, "0", color="0.6", ha="center", va="center", fontsize=9)


def _name_classes(axes: Axes, classes: Sequence[str], totals: Floats, side: float) -> None:
    """Name rows with their totals, and columns; of very many classes every second, third, ..."""
    step = math.ceil(len(classes) / _MAX_CLASS_NAMES) or 1
    ticks = range(0, len(classes), step)
    names = [shorten(classes[tick]) for tick in ticks]
    rows = [f"{name} ({totals[tick]:,.0f})" for name, tick in zip(names, ticks, strict=True)]
    inches = side / max(len(classes), 1)
    is_crowded = max(map(inches_of, names), default=0.0) > 0.9 * inches
    size = min(10.0, 0.8 * 72.0 * step * inches)
    angle: Literal[0, 90] = 90 if is_crowded else 0
    axes.set_xticks(ticks, names, rotation=angle, fontsize=size, parse_math=False)
    axes.set_yticks(ticks, rows, fontsize=size, parse_math=False)


def _mixed_up_together(cells: Floats) -> npt.NDArray[np.int64]:
    """Return an order in which each class is followed by the one it is most mixed up with.

    Classes of which less than ``_MIXED_UP`` per cent are mixed up stay in the order given.
    """
    shares = _shares(cells, cells.sum(axis=1))
    mixed = shares + shares.T
    mixed[mixed < _MIXED_UP] = 0.0
    order, is_free = [0], np.ones(len(cells), dtype=bool)
    is_free[0] = False
    while is_free.any():
        order.append(int(np.where(is_free, mixed[order[-1]], -1.0).argmax()))
        is_free[order[-1]] = False
    return np.array(order, dtype=np.int64)


def _worst_pairs(cells: Floats, classes: Sequence[str]) -> list[tuple[str, float, float]]:
    """Return the most frequent mistakes in words, with their count and share in per cent."""
    wrong, shares = cells.copy(), _shares(cells, cells.sum(axis=1))
    np.fill_diagonal(wrong, 0.0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_NUM_PAIRS]
    places = [divmod(int(place), len(cells)) for place in order]
    return [
        (f"{shorten(classes[a], 20)} → {shorten(classes[b], 20)}", wrong[a, b], shares[a, b])
        for a, b in places
        if wrong[a, b] > 0
    ]


def _draw_pairs(axes: Axes, pairs: Sequence[tuple[str, float, float]]) -> None:
    counts = [count for _, count, _ in pairs]
    places = range(len(pairs))
    bars = axes.barh(places, counts, color=COLOURS[1])
    texts = [f"{count:,.0f} ({share:.0f} %)" for _, count, share in pairs]
    axes.bar_label(bars, texts, padding=3)
    axes.set_yticks(places, [name for name, *_ in pairs], parse_math=False)
    axes.set_ylim(_NUM_PAIRS - 0.5, -0.5)
    axes.set_xlim(0.0, 1.9 * max(counts))
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes.set_xlabel("samples (share of the true class)")
    axes.set_title("Most often: true → taken for")
    axes.spines[["top", "right"]].set_visible(False)
