"""Figures of a model of a table: categories as points, columns as bars, predictions as cells.

Each function writes one file, and returns the figure for a notebook or a logger.
"""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox
from sklearn.decomposition import PCA

from lightning_fastrecipes.functional.tables.encoding import RARE_LABEL, UNKNOWN_LABEL
from lightning_fastrecipes.plots.figure import (
    COLOURS,
    letters_in,
    new_figure,
    save,
    shorten,
    wrapped,
)

MAX_NAMED = 40
"""Of a column with more values than this, only those farthest out are named."""

_NUM_FAR_OUT = 12
_PANELS_PER_ROW = 3
_GREY = "0.45"
_LETTERS = 20
_UNTIL_PALE = ListedColormap(colormaps["viridis"](np.linspace(0.0, 0.85, 256)))
"""Without the yellow end, which cannot be seen on white."""


def draw_embeddings(
    table: pd.DataFrame, path: str | Path | None, columns: Sequence[str] | None = None
) -> Figure:
    """Draw the vectors of categories in two dimensions, one panel for each of the ``columns``.

    ``table`` is as ``embedding_table`` returns it. The dimensions are the first two principal
    components, to one scale, so that distances may be compared. Of values that are numbers, such as
    the days of a month, the colour follows the order; grey crosses are unknown and rare values. A
    name that would cover another one is left out, starting with values near the middle. Raise
    `ValueError` if a column has no vectors, or none has.
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
    names = [
        _draw_column(axes, column, table[table["column"] == column])
        for axes, column in zip(panels, chosen, strict=False)
    ]
    for axes in panels[len(chosen) :]:
        axes.set_axis_off()
    title = (
        "Learned vectors of categories: their first two principal components. Values that the model"
        " treats alike lie close together; grey crosses are unknown and rare values."
    )
    letters = letters_in(figure.get_figwidth() - 0.4)
    figure.suptitle(wrapped(title, letters), size=10)
    _leave_out_covered(figure, names)
    return save(figure, path)


def draw_importance(
    importance: pd.DataFrame,
    path: str | Path | None,
    max_columns: int = 30,
    error: str = "error",
    split: str = "",
) -> Figure:
    """Draw how much each column matters, the most important at the top, with the spread.

    ``importance`` is as ``permutation_importance`` returns it; at most ``max_columns`` are drawn.
    ``error`` says what was measured, such as ``rmse of sales``, and ``split`` on what rows. Raise
    `ValueError` if there is nothing to draw.
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
    axes.barh(places, shown["importance"], xerr=spread, color=COLOURS[0], error_kw=whiskers)
    axes.set_yticks(places, [shorten(name, _LETTERS) for name in shown["column"]], parse_math=False)
    axes.invert_yaxis()
    axes.axvline(0.0, color="0.3", linewidth=0.8)
    axes.margins(y=0.01)
    plain, of = float(shown["plain_error"].iloc[0]), f" ({split} split)" if split else ""
    axes.set_xlabel(
        wrapped(f"rise of the {error}{of} when only this column is shuffled", letters_in(7.0)),
        parse_math=False,
    )
    count = f", {len(shown)} of {len(importance)}" if len(shown) < len(importance) else ""
    axes.set_title(
        f"What the model takes from each column{count}\n"
        + wrapped(f"{error} with all columns as they are: {plain:.4g}", letters_in(6.0)),
        size=11, parse_math=False,
    )  # fmt: skip
    return save(figure, path)


def draw_predictions(
    targets: npt.ArrayLike,
    predictions: npt.ArrayLike,
    name: str,
    path: str | Path | None,
    *,
    split: str,
    log: bool = False,
    with_views: bool = False,
) -> Figure:
    """Draw how many rows of which target were predicted as what, with a line where both are equal.

    ``targets`` and ``predictions`` are in the user's units, one for each row, and above 0 if the
    axes are logarithmic (``log``). Both have one scale. ``name`` says what is predicted, ``split``
    what the rows are, ``with_views`` whether the predictions are merged over views.
    """
    pairs = np.stack([np.asarray(targets), np.asarray(predictions)], axis=1).astype(np.float64)
    is_shown = np.isfinite(pairs).all(axis=1)
    shown = pairs[is_shown]
    figure = new_figure(7.0, 6.2)
    axes = figure.add_subplot()
    if len(shown):
        scale: Literal["log", "linear"] = "log" if log else "linear"
        low, high = float(shown.min()), float(shown.max())
        cells = axes.hexbin(
            shown[:, 0], shown[:, 1], gridsize=60, mincnt=1, xscale=scale, yscale=scale,
            cmap=_UNTIL_PALE, linewidths=0,
        )  # fmt: skip
        counts = np.asarray(cells.get_array())
        cells.set_norm(LogNorm(1, max(10, float(counts.max()))))
        figure.colorbar(cells, ax=axes, label="rows in a cell")
        axes.plot([low, high], [low, high], color=COLOURS[1], linewidth=1.5)
        _to_one_scale(axes, low, high, log=log)
    left_out = len(pairs) - len(shown)
    rest = f"; {left_out:,} infinite ones left out" if left_out else ""
    views = ", with views" if with_views else ""
    axes.set_title(
        f"{len(shown):,} rows of the {split} split{views}{rest}\nline: prediction = truth", size=11
    )
    axes.set_xlabel(f"true {shorten(name, _LETTERS)}", parse_math=False)
    axes.set_ylabel(f"predicted {shorten(name, _LETTERS)}", parse_math=False)
    return save(figure, path)


def _to_one_scale(axes: Axes, low: float, high: float, *, log: bool) -> None:
    """Let both axes show the same, and nothing below 0 if no number is."""
    if log:
        margin = (high / low) ** 0.05 if high > low else 2.0
        limits = low / margin, high * margin
    else:
        margin = 0.05 * (high - low) or 1.0
        limits = max(low - margin, 0.0) if low >= 0 else low - margin, high + margin
    axes.set(xlim=limits, ylim=limits, aspect="equal")


def _draw_column(axes: Axes, name: str, rows: pd.DataFrame) -> list[Annotation]:
    """Draw the values of a column as points, and return names for some, the farthest out first."""
    vectors = rows.filter(regex=r"^e\d+$").dropna(axis="columns").to_numpy(dtype=np.float64)
    points, shares = _projected(vectors)
    values = rows["value"].tolist()
    is_special = np.array([value in (UNKNOWN_LABEL, RARE_LABEL) for value in values])
    usual = np.flatnonzero(~is_special)
    size = 26.0 if len(values) <= MAX_NAMED else 9.0
    has_order = len(usual) > 2 and all(_is_number(values[place]) for place in usual)
    colours: dict[str, Any] = {"color": COLOURS[0]}
    if has_order:
        colours = {"c": usual, "cmap": _UNTIL_PALE}
    axes.scatter(points[usual, 0], points[usual, 1], s=size, linewidths=0, **colours)
    axes.scatter(points[is_special, 0], points[is_special, 1], color=_GREY, marker="x", s=size / 2)
    axes.margins(0.12)
    # Distances are all that such a figure tells.
    axes.set_aspect("equal", adjustable="datalim")
    order = ""
    if has_order:
        first, last = (shorten(values[usual[end]], 10) for end in (0, -1))
        order = f"; dark to light: {first} to {last}"
    axes.set_title(
        f"{shorten(name, _LETTERS)}: {len(values):,} values{order}", size=10, parse_math=False
    )
    axes.set_xlabel(
        f"component 1 of {vectors.shape[1]} ({100 * shares[0]:.0f} % of the variance)", size=8
    )
    axes.set_ylabel(f"component 2 ({100 * shares[1]:.0f} %)" if shares[1] else "", size=8)
    axes.tick_params(labelsize=8)
    middle = float(points[:, 0].min() + points[:, 0].max()) / 2
    far_out = np.argsort(-np.linalg.norm(points - points.mean(axis=0), axis=1), kind="stable")
    names = []
    # Unknown and rare values last: what the data have comes first.
    shown = sorted(far_out[:MAX_NAMED].tolist(), key=lambda place: bool(is_special[place]))
    for place in shown:
        x, y = float(points[place, 0]), float(points[place, 1])
        # Names run towards the middle, so that they end within the panel.
        offset, side = (3, "left") if x <= middle else (-3, "right")
        names.append(axes.annotate(
            shorten(values[place], _LETTERS), (x, y), xytext=(offset, 3),
            textcoords="offset points", ha=side, fontsize=8, parse_math=False,
            color=_GREY if is_special[place] else "black",
        ))  # fmt: skip
    return names


def _leave_out_covered(figure: Figure, panels: Sequence[Sequence[Annotation]]) -> None:
    """Remove names that would cover one before them or run out of their panel, or are too many."""
    for name in (name for names in panels for name in names):
        name.set_in_layout(False)
    # Only what is drawn has a size; the layout and the limits of equal axes are made then as well.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing", UserWarning)
        figure.draw_without_rendering()
        for names in panels:
            kept: list[Bbox] = []
            for name in names:
                panel = cast(Axes, name.axes).get_window_extent()
                most = MAX_NAMED if len(names) < MAX_NAMED else _NUM_FAR_OUT
                for above in (3, -10):
                    name.xyann = (name.xyann[0], above)
                    box = name.get_window_extent()
                    is_within = panel.fully_contains(*box.min) and panel.fully_contains(*box.max)
                    if is_within and len(kept) < most and not any(map(box.overlaps, kept)):
                        kept.append(box)
                        break
                else:
                    name.remove()


def _is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return True


def _projected(
    vectors: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], tuple[float, float]]:
    """Return two dimensions, and the share of the variance that each holds."""
    num_kept = min(2, *vectors.shape)
    if not vectors.std(axis=0).any():
        return np.zeros((len(vectors), 2)), (1.0, 0.0)
    projection = PCA(n_components=num_kept, svd_solver="full")
    points: npt.NDArray[np.float64] = projection.fit_transform(vectors)
    shares = [*projection.explained_variance_ratio_.tolist(), 0.0]
    return np.pad(points, ((0, 0), (0, 2 - num_kept))), (shares[0], shares[1])
