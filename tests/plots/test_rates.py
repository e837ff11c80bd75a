"""Figures of learning rates."""

from typing import get_args

import pytest
from matplotlib.figure import Figure

from lightning_fastrecipes.functional.training.lr_curves import Rule
from lightning_fastrecipes.plots.rates import draw_lr_curve

LRS = [1e-4, 1e-3, 1e-2, 1e-1]
LOSSES = [1.0, 0.8, 0.5, 0.9]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize("rule", get_args(Rule))
def test_all_picks_are_drawn_with_their_names_and_colours_of_their_own(rule):
    picks = {name: 1e-3 * (index + 1) for index, name in enumerate(get_args(Rule))}
    figure = draw_lr_curve(LRS, LOSSES, LOSSES, picks, None, rule=rule)
    assert {f"{name}: {lr:.1e}" for name, lr in picks.items()} < set(legend(figure))
    lines = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 2]
    assert len(lines) == len({line.get_color() for line in lines}) == len(picks)
    assert figure.axes[0].get_title() == f"Suggested learning rate: {picks[rule]:.1e}"


def test_a_refused_curve_is_drawn_with_the_reason():
    figure = draw_lr_curve(LRS, LOSSES, LOSSES, {}, None, rule="midway", refusal="it is flat.")
    assert figure.axes[0].get_title() == "No suggestion: it is flat."
    assert legend(figure) == ["loss of a step", "average"]
