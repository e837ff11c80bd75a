"""Pictures of a model of a table: its categories as points, its columns as bars."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

from lightning_fastrecipes.functional.encoding import RARE_LABEL, UNKNOWN_LABEL

MAX_NAMED = 40
"""Of a column with more values than this, only those farthest out are named."""

_NUM_FAR_OUT = 12
_MAX_LABEL_LENGTH = 20
_DOTS_PER_INCH = 100
_PANELS_PER_ROW = 3


def draw_embeddings(
    table: pd.DataFrame, path: str | Path, columns: Sequence[str] | None = None
) -> Figure:
    """Draw the vectors of categories in two dimensions, one panel for each column.

    The dimensions are the first two principal components. The colour goes with the order of the
    values, so that the course of a week or a year is seen; grey squares are unknown and rare ones.

    Args:
        table: As ``embedding_table`` gives it.
        path: Picture to write, such as ``embeddings.png``.
        columns: Which columns; all if ``None``.

    Returns:
        The figure as written, for a notebook or a logger.

    Raises:
        ValueError: If a column has no vectors, or there is none at all.
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
    figure = _new_figure(5.0 * num_panels, 4.6 * num_rows)
    panels = figure.subplots(num_rows, num_panels, squeeze=False).ravel()
    for axes, name in zip(panels, chosen, strict=False):
        _draw_column(axes, name, table[table["column"] == name])
    for axes in panels[len(chosen) :]:
        axes.set_axis_off()
    return _write(figure, path)


def draw_importance(importance: pd.DataFrame, path: str | Path, max_columns: int = 30) -> Figure:
    """Draw how much each column matters, the most important at the top, with the spread.

    Args:
        importance: As ``permutation_importance`` gives it.
        path: Picture to write, such as ``importance.png``.
        max_columns: How many columns to draw at most, at least 1.

    Returns:
        The figure as written, for a notebook or a logger.

    Raises:
        ValueError: If there is nothing to draw.
    """
    shown = importance.head(max_columns)
    if not len(shown):
        raise ValueError(
            f"`importance` must have rows and `max_columns` must be at least 1, got"
            f" {len(importance)} rows and {max_columns}."
        )
    figure = _new_figure(8.0, 1.6 + 0.28 * len(shown))
    axes = figure.add_subplot()
    places = range(len(shown))
    axes.barh(
        places,
        shown["importance"],
        xerr=shown["spread"].fillna(0.0),
        color="tab:blue",
        error_kw={"ecolor": "0.3", "capsize": 2},
    )
    axes.set_yticks(places, [_shortened(name) for name in shown["column"]], parse_math=False)
    axes.invert_yaxis()
    axes.axvline(0.0, color="0.3", linewidth=0.8)
    axes.margins(y=0.01)
    plain = float(shown["plain_error"].iloc[0])
    axes.set_xlabel(f"growth of the error when shuffled; plain error {plain:.4g}")
    left_out = len(importance) - len(shown)
    rest = f", {left_out} less important ones left out" if left_out else ""
    axes.set_title(f"What the model takes from each column{rest}")
    return _write(figure, path)


def _draw_column(axes: Axes, name: str, rows: pd.DataFrame) -> None:
    vectors = rows.filter(regex=r"^e\d+$").dropna(axis="columns").to_numpy(dtype=np.float64)
    points, share = _projected(vectors)
    values = rows["value"].tolist()
    is_special = np.array([value in (UNKNOWN_LABEL, RARE_LABEL) for value in values])
    usual = np.flatnonzero(~is_special)
    size = 26.0 if len(values) <= MAX_NAMED else 9.0
    axes.scatter(points[usual, 0], points[usual, 1], c=usual, cmap="viridis", s=size, linewidths=0)
    axes.scatter(points[is_special, 0], points[is_special, 1], color="0.6", marker="s", s=size)
    named: Sequence[int] = range(len(values))
    if len(values) > MAX_NAMED:
        far = np.argsort(-np.linalg.norm(points - points.mean(axis=0), axis=1), kind="stable")
        named = sorted(far[:_NUM_FAR_OUT].tolist())
    middle = float(points[:, 0].min() + points[:, 0].max()) / 2
    for place in named:
        x, y = float(points[place, 0]), float(points[place, 1])
        # Names run towards the middle, so that they end within the panel.
        axes.annotate(
            _shortened(values[place]),
            (x, y),
            xytext=(3 if x <= middle else -3, 3),
            ha="left" if x <= middle else "right",
            textcoords="offset points",
            fontsize=8,
            parse_math=False,
        )
    axes.margins(0.12)
    axes.set_title(
        f"{_shortened(name)}: {len(values):,} x {vectors.shape[1]}, {100 * share:.0f} % of the"
        " spread shown",
        size=10,
        parse_math=False,
    )
    axes.tick_params(labelsize=8)


def _projected(vectors: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], float]:
    """Give two dimensions, and the share of the variance that they hold."""
    num_kept = min(2, *vectors.shape)
    if not vectors.std(axis=0).any():
        return np.zeros((len(vectors), 2)), 1.0
    projection = PCA(n_components=num_kept, svd_solver="full")
    points: npt.NDArray[np.float64] = projection.fit_transform(vectors)
    share = float(projection.explained_variance_ratio_.sum())
    return np.pad(points, ((0, 0), (0, 2 - num_kept))), share


def _shortened(name: object) -> str:
    text = str(name)
    return text if len(text) <= _MAX_LABEL_LENGTH else f"{text[: _MAX_LABEL_LENGTH - 1]}…"


def _new_figure(width: float, height: float) -> Figure:
    # Not through pyplot, which keeps every figure and may want a screen.
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _write(figure: Figure, path: str | Path) -> Figure:
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=_DOTS_PER_INCH)
    return figure
