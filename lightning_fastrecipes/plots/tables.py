"""Figures of a model of a table: categories as points, columns as bars, predictions as cells.

Each function writes one file, and returns the figure for a notebook or a logger.
"""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

from lightning_fastrecipes.functional.tables.encoding import RARE_LABEL, UNKNOWN_LABEL
from lightning_fastrecipes.plots.figure import new_figure, save, shorten

MAX_NAMED = 40
"""Of a column with more values than this, only those farthest out are named."""

_NUM_FAR_OUT = 12
_PANEL_PIXELS = 380.0
_LETTER_PIXELS = (6.4, 13.0)
_PANELS_PER_ROW = 3

_shorten = partial(shorten, length=20)


def draw_embeddings(
    table: pd.DataFrame, path: str | Path, columns: Sequence[str] | None = None
) -> Figure:
    """Draw the vectors of categories in two dimensions, one panel for each of the ``columns``.

    ``table`` is as ``embedding_table`` returns it. The dimensions are the first two principal
    components. The colour follows the order of the values, such as the days of a week; grey squares
    are unknown and rare values. A name that would cover another one is left out, starting with
    values near the middle. Raise `ValueError` if a column has no vectors, or none has.
    """
    there = table["column"].unique().tolist()
    chosen = there if columns is None else list(columns)
    missing = [name for name in chosen if name not in there]
    if missing or not chosen:
        raise ValueError(
            f"`columns` must name columns with vectors, at least one, got {chosen}, but there are"
            f" {there}. Name some of these."
        )
    num_rows = math.ceil(len(chosen) / _PANELS_PER_ROW)
    num_panels = min(len(chosen), _PANELS_PER_ROW)
    figure = new_figure(5.0 * num_panels, 4.6 * num_rows)
    panels = figure.subplots(num_rows, num_panels, squeeze=False).ravel()
    for axes, name in zip(panels, chosen, strict=False):
        _draw_column(axes, name, table[table["column"] == name])
    for axes in panels[len(chosen) :]:
        axes.set_axis_off()
    figure.suptitle(
        "Learned vectors of categories: their first two principal components.\n"
        "Colour: order of the values; grey squares: unknown and rare ones.",
        size=10,
    )
    return save(figure, path)


def draw_importance(
    importance: pd.DataFrame, path: str | Path, max_columns: int = 30, error: str = "error"
) -> Figure:
    """Draw how much each column matters, the most important at the top, with the spread.

    ``importance`` is as ``permutation_importance`` returns it; at most ``max_columns`` are drawn.
    ``error`` says for the axis what was measured, and on what rows. Raise `ValueError` if there is
    nothing to draw.
    """
    shown = importance.head(max_columns)
    if not len(shown):
        raise ValueError(
            f"`importance` must have rows and `max_columns` must be at least 1, got"
            f" {len(importance)} rows and {max_columns}."
        )
    figure = new_figure(8.0, 1.6 + 0.28 * len(shown))
    axes = figure.add_subplot()
    places = range(len(shown))
    spread, whiskers = shown["spread"].fillna(0.0), {"ecolor": "0.3", "capsize": 2}
    axes.barh(places, shown["importance"], xerr=spread, color="tab:blue", error_kw=whiskers)
    axes.set_yticks(places, [_shorten(name) for name in shown["column"]], parse_math=False)
    axes.invert_yaxis()
    axes.axvline(0.0, color="0.3", linewidth=0.8)
    axes.margins(y=0.01)
    plain = float(shown["plain_error"].iloc[0])
    axes.set_xlabel(
        f"{error}: growth where the column is shuffled, {plain:.4g} as it is", parse_math=False
    )
    left_out = len(importance) - len(shown)
    rest = f", {left_out} less important ones left out" if left_out else ""
    axes.set_title(f"What the model takes from each column{rest}")
    return save(figure, path)


def draw_predictions(
    targets: npt.ArrayLike,
    predictions: npt.ArrayLike,
    name: str,
    path: str | Path,
    *,
    split: str,
    log: bool = False,
) -> Figure:
    """Draw how many rows of which target were predicted as what, with a line where both are equal.

    ``targets`` and ``predictions`` are in the user's units, one for each row, and above 0 if the
    axes are logarithmic (``log``). ``name`` says what is predicted, ``split`` what the rows are.
    """
    pairs = np.stack([np.asarray(targets), np.asarray(predictions)], axis=1).astype(np.float64)
    is_shown = np.isfinite(pairs).all(axis=1)
    shown = pairs[is_shown]
    figure = new_figure(7.0, 6.0)
    axes = figure.add_subplot()
    if len(shown):
        scale: Literal["log", "linear"] = "log" if log else "linear"
        low, high = float(shown.min()), float(shown.max())
        cells = axes.hexbin(
            shown[:, 0], shown[:, 1], gridsize=60, mincnt=1, xscale=scale, yscale=scale,
            linewidths=0,
        )  # fmt: skip
        counts = np.asarray(cells.get_array())
        cells.set_norm(LogNorm(1, max(10, float(counts.max()))))
        figure.colorbar(cells, ax=axes, label="rows")
        axes.plot([low, high], [low, high], color="tab:red", linewidth=1)
    left_out = len(pairs) - len(shown)
    rest = f"; {left_out:,} infinite ones left out" if left_out else ""
    axes.set_title(f"{len(shown):,} rows of the {split} split; red line: prediction = truth{rest}")
    axes.set_xlabel(f"true {_shorten(name)}", parse_math=False)
    axes.set_ylabel(f"predicted {_shorten(name)}", parse_math=False)
    return save(figure, path)


def _draw_column(axes: Axes, name: str, rows: pd.DataFrame) -> None:
    vectors = rows.filter(regex=r"^e\d+$").dropna(axis="columns").to_numpy(dtype=np.float64)
    points, share = _projected(vectors)
    values = rows["value"].tolist()
    is_special = np.array([value in (UNKNOWN_LABEL, RARE_LABEL) for value in values])
    usual = np.flatnonzero(~is_special)
    size = 26.0 if len(values) <= MAX_NAMED else 9.0
    axes.scatter(points[usual, 0], points[usual, 1], c=usual, cmap="viridis", s=size, linewidths=0)
    axes.scatter(points[is_special, 0], points[is_special, 1], color="0.6", marker="s", s=size)
    middle = float(points[:, 0].min() + points[:, 0].max()) / 2
    for place in _named(points, values, middle):
        x, y = float(points[place, 0]), float(points[place, 1])
        # Names run towards the middle, so that they end within the panel.
        offset, side = (3, "left") if x <= middle else (-3, "right")
        axes.annotate(
            _shorten(values[place]), (x, y), xytext=(offset, 3), textcoords="offset points",
            ha=side, fontsize=8, parse_math=False,
        )  # fmt: skip
    axes.margins(0.12)
    axes.set_title(
        f"{_shorten(name)}:\n{len(values):,} values as {vectors.shape[1]} numbers each,"
        f" {100 * share:.0f} % of their spread",
        size=10,
        parse_math=False,
    )
    axes.tick_params(labelsize=8)


def _named(points: npt.NDArray[np.float64], values: Sequence[object], middle: float) -> list[int]:
    """Choose values whose names do not cover one another, those farthest out first."""
    spans = np.maximum(np.ptp(points, axis=0), 1e-12)
    pixels = points / spans * _PANEL_PIXELS / 1.24
    far_out = np.argsort(-np.linalg.norm(points - points.mean(axis=0), axis=1), kind="stable")
    most = len(values) if len(values) <= MAX_NAMED else _NUM_FAR_OUT
    boxes: list[tuple[float, float, float]] = []
    chosen: list[int] = []
    for place in far_out.tolist():
        width = _LETTER_PIXELS[0] * len(_shorten(values[place]))
        x, y = pixels[place]
        left = x if points[place, 0] <= middle else x - width
        if len(chosen) < most and not any(
            left < other + other_width and other < left + width
            and abs(y - other_y) < _LETTER_PIXELS[1]
            for other, other_width, other_y in boxes
        ):  # fmt: skip
            boxes.append((left, width, y))
            chosen.append(place)
    return sorted(chosen)


def _projected(vectors: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], float]:
    """Return two dimensions, and the share of the variance that they hold."""
    num_kept = min(2, *vectors.shape)
    if not vectors.std(axis=0).any():
        return np.zeros((len(vectors), 2)), 1.0
    projection = PCA(n_components=num_kept, svd_solver="full")
    points: npt.NDArray[np.float64] = projection.fit_transform(vectors)
    share = float(projection.explained_variance_ratio_.sum())
    return np.pad(points, ((0, 0), (0, 2 - num_kept))), share
