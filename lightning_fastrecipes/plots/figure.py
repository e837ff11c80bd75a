"""What all figures share: how they are created and saved."""

import os
from io import BytesIO
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_DOTS_PER_INCH = 100


class ShownFigure(Figure):
    """A figure that a notebook shows, with or without pyplot."""

    def _repr_png_(self) -> bytes:
        content = BytesIO()
        self.savefig(content, format="png", dpi=_DOTS_PER_INCH)
        return content.getvalue()


def new_figure(width: float, height: float) -> ShownFigure:
    """Return an empty figure of a size in inches, which needs no screen."""
    # Not through pyplot, which keeps every figure and may want a screen.
    figure = ShownFigure(figsize=(width, height), dpi=_DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: ShownFigure, path: str | Path | None) -> ShownFigure:
    """Write a figure, PNG without a suffix, so that a reader never finds half a file; return it.

    The folder is made if missing; nothing is written if ``path`` is ``None``.
    """
    if path is None:
        return figure
    target = Path(path)
    target = target if target.suffix else target.with_suffix(".png")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.stem}-{os.getpid()}{target.suffix}")
    try:
        figure.savefig(temporary, dpi=_DOTS_PER_INCH)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return figure


def shorten(name: object, length: int = 28) -> str:
    """Cut a name that is longer than ``length`` characters, and end it with an ellipsis."""
    text = str(name)
    return text if len(text) <= length else f"{text[: length - 1]}…"
