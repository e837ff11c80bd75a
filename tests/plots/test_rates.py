"""Figures of learning rates."""

from typing import get_args

import pytest
from matplotlib.figure import Figure

from lightning_fastrecipes.functional.training.lr_curves import Rule
from lightning_fastrecipes.plots.figure import COLOURS
from lightning_fastrecipes.plots.rates import draw_lr_curve, draw_schedule

LRS = [1e-4, 1e-3, 1e-2, 1e-1]
LOSSES = [1.0, 0.8, 0.5, 0.9]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize("rule", get_args(Rule))
def test_all_picks_are_drawn_in_rows_of_their_own(rule):
    picks = {name: 1e-3 * (1 + index // 2) for index, name in enumerate(get_args(Rule))}
    figure = draw_lr_curve(LRS, LOSSES, LOSSES, picks, None, rule=rule)
    curve, rows = figure.axes
    assert [tick.get_text() for tick in rows.get_yticklabels()] == [
        f"{name}: {lr:.1e}" for name, lr in picks.items()
    ]
    points = [line for line in rows.get_lines() if line.get_marker() == "o"]
    assert [float(line.get_xdata()[0]) for line in points] == list(picks.values())
    assert [float(line.get_ydata()[0]) for line in points] == list(range(len(picks)))
    marked = [line.get_color() == COLOURS[1] for line in points]
    assert marked == [name == rule for name in picks]
    assert [float(line.get_xdata()[0]) for line in curve.get_lines()[2:]] == [picks[rule]]
    assert figure.get_suptitle() == f"Suggested learning rate: {picks[rule]:.1e} ({rule})"
    assert legend(figure) == ["loss of a step", "average"]


def test_a_refused_curve_is_drawn_with_the_reason():
    figure = draw_lr_curve(LRS, LOSSES, LOSSES, {}, None, rule="midway", refusal="it is flat.")
    assert figure.get_suptitle() == "No suggestion: it is flat."
    assert len(figure.axes) == 1
    assert legend(figure) == ["loss of a step", "average"]


def test_the_axis_shows_no_negative_loss_unless_there_is_one():
    figure = draw_lr_curve(
        LRS, [0.9, 0.5, 0.01, 2.0], [0.9, 0.5, 0.01, 2.0], {}, None, rule="slide"
    )
    assert figure.axes[0].get_ylim()[0] == 0.0
    figure = draw_lr_curve(
        LRS, [0.9, 0.5, -0.1, 2.0], [0.9, 0.5, -0.1, 2.0], {}, None, rule="slide"
    )
    assert figure.axes[0].get_ylim()[0] < -0.1
    evened = [0.9, 0.5, -0.02, 2.0]
    figure = draw_lr_curve(LRS, evened, evened, {}, None, rule="slide")
    assert figure.axes[0].get_ylim()[0] == 0.0


def test_a_schedule_tells_more_groups_apart_than_there_are_colours(tmp_path):
    rates = {f"group_{place}": [1e-3, 1e-4] for place in range(14)}
    figure = draw_schedule("SGDR", [0, 1], rates, ["stem"], tmp_path / "a.png", lowest=1e-9)
    styles = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].get_lines()}
    assert len(styles) == 15
    assert legend(figure)[-1] == "stem (frozen)"
