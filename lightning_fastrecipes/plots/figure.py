"""What all figures share: how they are created and saved."""

import os
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_DOTS_PER_INCH = 100


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches, which needs no screen."""
    # Not through pyplot, which keeps every figure and may want a screen.
    figure = Figure(figsize=(width, height), dpi=_DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: str | Path) -> Figure:
    """Write a figure, PNG without a suffix, so that a reader never finds half a file; return it.

    The folder is made if missing.
    """
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
