"""What all figures share: how they are created and saved, their colours, and names that fit."""

import os
import textwrap
import unicodedata
import warnings
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib import font_manager, rcParams
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from typing_extensions import override

from lightning_fastrecipes.formats import PART

COLOURS = ("#0072B2", "#D55E00", "#56B4E9", "#000000", "#882255", "#009E73")
"""Colours of lines, in this order: told apart without red or without green cones as well."""

MARKERS = ("o", "s", "^", "D", "v", "P")
"""One for each of ``COLOURS``."""

RIGHT, WRONG = "Blues", "Oranges"
"""Colour maps of what is right and what is wrong, both from white."""

_DOTS_PER_INCH = 100
_OTHER_FONTS = (
    *(f"Noto Sans CJK {place}" for place in ("JP", "SC", "KR")), "Noto Sans JP", "Noto Sans SC",
    "Hiragino Sans", "PingFang SC", "Apple SD Gothic Neo", "Yu Gothic", "Microsoft YaHei",
    "Malgun Gothic", "WenQuanYi Zen Hei", "Noto Sans Devanagari", "Noto Sans Thai",
    "Arial Unicode MS", "Noto Sans Symbols 2", "Segoe UI Symbol",
)  # fmt: skip
"""Fonts of letters that matplotlib's own lacks, used where they are installed."""

_INCHES_PER_LETTER = 0.088
"""Of the font at 10 points, on average."""


class ShownFigure(Figure):
    """A figure that a notebook shows, with or without pyplot."""

    @override
    def draw(self, renderer: Any) -> None:
        """Draw the figure; letters that no installed font has are boxes, without a warning each."""
        others = _other_fonts()
        if others:
            for text in self.findobj(Text):
                text.set_fontfamily([*rcParams["font.family"], *others])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"Glyph .* missing", UserWarning)
            engine = self.get_layout_engine()
            if engine is not None and self.axes:
                # Beside axes of one scale the first layout is off by a few pixels; drawing does
                # the second.
                engine.execute(self)
            super().draw(renderer)

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
    temporary = target.with_name(f"{PART}{target.stem[:30]}-{os.getpid()}{target.suffix}")
    try:
        figure.savefig(temporary, dpi=_DOTS_PER_INCH)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return figure


def keep_possible(axes: Axes, lowest: float, highest: float) -> None:
    """Let the y axis show nothing below 0 or above 1, unless values ``lowest`` or ``highest`` are.

    A loss is never negative, and no share is above 1.
    """
    bottom, top = axes.get_ylim()
    if lowest >= 0.0 > bottom:
        axes.set_ylim(bottom=0.0)
    if lowest >= 0.0 and highest <= 1.0 < top:
        axes.set_ylim(top=1.0)


def letters_in(inches: float, size: float = 10.0) -> int:
    """Return how many letters of a font size in points fit side by side, at least 8."""
    return max(8, int(inches / (_INCHES_PER_LETTER * size / 10.0)))


def inches_of(text: str, size: float = 10.0) -> float:
    """Estimate how wide the longest line of a text is."""
    return max(map(_width, text.split("\n"))) * _INCHES_PER_LETTER * size / 10.0


def shorten(name: object, length: int = 28) -> str:
    """Cut a name that is longer than ``length`` letters, and end it with an ellipsis.

    Wide letters, such as Chinese ones, count twice; white space is one blank.
    """
    text = " ".join(str(name).split())
    if _width(text) <= length:
        return text
    while _width(text) > length - 1:
        text = text[:-1]
    return f"{text}…"


def wrapped(text: object, letters: int, max_lines: int | None = None) -> str:
    """Break a text into lines of at most ``letters``; what is left over is an ellipsis."""
    words = " ".join(str(text).split())
    per_line = max(1, letters * len(words) // max(_width(words), 1))
    lines = textwrap.wrap(words, per_line, max_lines=max_lines, placeholder=" …")
    return "\n".join(lines)


@cache
def _other_fonts() -> list[str]:
    there = set(font_manager.get_font_names())
    return [name for name in _OTHER_FONTS if name in there]


def _width(text: str) -> int:
    """Count letters as a terminal does: wide ones twice, marks above others not at all."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(bool(unicodedata.combining(letter)) for letter in text)
