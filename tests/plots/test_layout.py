"""No figure has text that covers other text or the data, or runs out of it."""

import re

import numpy as np
import pytest
from helpers.gallery import gallery
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text

from lightning_fastrecipes.plots import figure as drawing

GALLERY = gallery()
EASIER = ("_10_plain", "_45_plain")  # the same with strange names is measured
# Coarse pixels are enough to measure, and each figure is drawn once.
DOTS = 40


def shown_texts(figure: Figure) -> list[Text]:
    """Return what is drawn: ticks outside the limits of their axis are not."""
    hidden = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            hidden |= {id(tick.label1) for tick in ticks(axis) if not low <= tick.get_loc() <= high}
            hidden |= {id(tick.label2) for tick in ticks(axis)}
        if not axes.axison:
            hidden |= {id(text) for text in axes.findobj(Text)}
    return [
        text
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and id(text) not in hidden
    ]


def ticks(axis: Axis) -> list:
    return [*axis.get_major_ticks(), *axis.get_minor_ticks()]


def boxes_of(things: list) -> np.ndarray:
    """Return left, bottom, right and top of each, a pixel less on every side."""
    boxes = np.array([thing.get_window_extent().extents for thing in things]).reshape(-1, 4)
    return boxes + np.array([1.0, 1.0, -1.0, -1.0])


def overlapping(ones: np.ndarray, others: np.ndarray) -> list[tuple[int, int]]:
    """Return which boxes share a pixel."""
    left, right = ones[:, None], others[None]
    shares = (left[..., :2] < right[..., 2:]).all(-1) & (right[..., :2] < left[..., 2:]).all(-1)
    return [(a, b) for a, b in np.argwhere(shares).tolist()]


@pytest.mark.filterwarnings("ignore:Glyph .* missing:UserWarning")
@pytest.mark.parametrize("name", [name for name in GALLERY if not name.endswith(EASIER)])
def test_texts_cover_nothing_and_stay_within_the_figure(name, monkeypatch) -> None:
    monkeypatch.setattr(drawing, "_DOTS_PER_INCH", DOTS)
    figure = GALLERY[name](None)
    figure.draw_without_rendering()
    texts = shown_texts(figure)
    words = [text.get_text() for text in texts]
    boxes = boxes_of(texts)
    assert len(texts) > 3

    covering = [(words[a], words[b]) for a, b in overlapping(boxes, boxes) if a < b]
    assert covering == []
    width, height = figure.bbox.size
    outside = (boxes[:, :2] < -2).any(1) | (boxes[:, 2:] > [width + 2, height + 2]).any(1)
    assert [words[place] for place in np.flatnonzero(outside)] == []

    above = [axes.title for axes in figure.axes] + figure.findobj(Legend)
    panels = [axes for axes in figure.axes if axes.axison]
    assert overlapping(boxes_of(above), boxes_of(panels)) == []


def test_the_measure_sees_texts_that_overlap_or_leave_the_figure() -> None:
    figure = drawing.new_figure(2.0, 2.0)
    texts = [figure.text(x, 0.5, "a rather long text") for x in (0.5, 0.9)]
    figure.draw_without_rendering()
    boxes = boxes_of(shown_texts(figure))
    assert (0, 1) in overlapping(boxes, boxes)
    assert (boxes[:, 2] > 200).any()
    assert shown_texts(figure) == texts


def test_no_name_is_drawn_as_a_formula(monkeypatch) -> None:
    monkeypatch.setattr(drawing, "_DOTS_PER_INCH", DOTS)
    figure = GALLERY["confusion_10_strange"](None)
    texts = [text for text in shown_texts(figure) if "bill" in text.get_text()]
    assert len(texts) == 2
    assert all(not text.get_parse_math() for text in texts)
    assert all(re.match(r"\$5 \\bill_\{x\}\^2\$", text.get_text()) for text in texts)
