"""Colours are told apart without red or without green cones as well."""

import itertools

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_rgb

from lightning_fastrecipes.plots.figure import COLOURS, MARKERS, RIGHT, WRONG

# Machado, Oliveira and Fernandes 2009, of linear RGB, nothing left of the cones.
EYES = {
    "all cones": np.eye(3),
    "no red ones": np.array([
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ]),
    "no green ones": np.array([
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ]),
}  # fmt: skip
XYZ = np.array([
    [0.4124564, 0.3575761, 0.1804375],
    [0.2126729, 0.7151522, 0.0721750],
    [0.0193339, 0.1191920, 0.9503041],
])  # fmt: skip


def seen(colour, eyes: str) -> np.ndarray:
    """Return the CIELAB coordinates of what an eye sees of a colour."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x, y, z = XYZ @ np.clip(EYES[eyes] @ linear, 0.0, 1.0) / (XYZ @ np.ones(3))
    f = [v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z)]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def distance(one, other, eyes: str) -> float:
    """Return how different two colours look: about 2 is just noticeable."""
    return float(np.linalg.norm(seen(one, eyes) - seen(other, eyes)))


@pytest.mark.parametrize("eyes", EYES)
def test_lines_differ_from_one_another_and_from_the_paper(eyes: str) -> None:
    for one, other in itertools.combinations(COLOURS, 2):
        assert distance(one, other, eyes) > 20, (one, other)
    for colour in COLOURS:
        assert distance(colour, "white", eyes) > 30, colour
    assert len(MARKERS) == len(set(MARKERS)) == len(COLOURS)


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 1.0])
def test_right_and_wrong_differ_at_every_share(share: float, eyes: str) -> None:
    right, wrong = (colormaps[name](share) for name in (RIGHT, WRONG))
    assert distance(right, wrong, eyes) > 20


@pytest.mark.parametrize("eyes", EYES)
def test_overlooked_and_imagined_differ(eyes: str) -> None:
    below, none, above = (colormaps["PuOr_r"](place) for place in (0.0, 0.5, 1.0))
    assert min(distance(below, above, eyes), distance(below, none, eyes)) > 40
    assert distance(above, none, eyes) > 40


def test_the_measure_knows_what_red_and_green_are_without_cones() -> None:
    assert distance("#d62728", "#6b8e23", "all cones") > 80
    assert distance("#d62728", "#6b8e23", "no red ones") < 40
