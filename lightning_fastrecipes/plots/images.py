"""Figures of images: a grid with what each row and each image is."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from lightning_fastrecipes.plots.figure import (
    inches_of,
    letters_in,
    new_figure,
    save,
    shorten,
    wrapped,
)

_CELL = 1.6
_LETTERS_OF_A_NAME = 24
_MAX_LINES = 8
_MAX_TITLE_LINES = 4
_TITLE_SIZE = 8.5


def draw_batch(
    images: Sequence[Sequence[Tensor]],
    names: Sequence[str],
    path: str | Path | None,
    titles: Sequence[Sequence[str]] | None = None,
    *,
    title: str = "",
) -> Figure:
    """Draw images as training sees them: not augmented on the left, then epoch by epoch.

    ``images`` has for each row its images ``(channels, height, width)``, ``uint8``; ``names`` says
    what each row shows, such as its class or its labels; ``titles`` what each image does, if not an
    epoch, in one or more lines that are broken, or cut, to fit; ``title`` what all of it is.
    Nothing is written if ``path`` is ``None``.
    """
    num_columns = max(map(len, images))
    if titles is None:
        titles = [["not augmented", *(f"epoch {epoch}" for epoch in range(num_columns - 1))]]
    letters = letters_in(_CELL, _TITLE_SIZE)
    said = [
        ["\n".join(_fitted(line, letters) for line in text.split("\n")) for text in row]
        for row in titles
    ]
    rows = [wrapped(name, _LETTERS_OF_A_NAME, _MAX_LINES) for name in names]
    side = max(map(inches_of, rows)) + 0.2
    lines = sum(max((text.count("\n") + 1 for text in row), default=0) for row in said)
    width = max(side + (_CELL + 0.05) * num_columns, 3.6)
    whole = wrapped(title, letters_in(width))
    height = 0.2 + (_CELL + 0.05) * len(images) + 0.15 * lines + 0.2 * (whole.count("\n") + 1)

    figure = new_figure(width, height)
    grid = figure.subplots(len(images), num_columns, squeeze=False)
    for axes, name, row in zip(grid, rows, images, strict=True):
        for place, image in zip(axes, row, strict=False):
            # Of other channels than grey and colours, the first is shown.
            shown = image if len(image) == 3 else image[: 3 if len(image) == 4 else 1]
            place.imshow(shown.expand(3, -1, -1).permute(1, 2, 0).numpy())
        for place in axes:
            place.set_xticks([])
            place.set_yticks([])
        axes[0].set_ylabel(name, rotation=0, ha="right", va="center", parse_math=False)
        for place in axes[len(row) :]:
            place.set_axis_off()
    for axes, row_titles in zip(grid, said, strict=False):
        for place, text in zip(axes, row_titles, strict=False):
            place.set_title(text, fontsize=_TITLE_SIZE, parse_math=False)
    if title:
        figure.suptitle(whole, fontsize=10, parse_math=False)
    return save(figure, path)


def _fitted(line: str, letters: int) -> str:
    """Break several words, such as labels, into lines; cut a single one."""
    return wrapped(line, letters, _MAX_TITLE_LINES) if " " in line else shorten(line, letters)
