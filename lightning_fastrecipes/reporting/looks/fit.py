"""A page on which a line, and then a curve, is fitted by gradient descent, step by step."""

import numpy as np

from lightning_fastrecipes.reporting.page import render_data

_SLOPE, _OFFSET, _NOISE = 1.5, 0.5, 0.3


def fit_page(num_points: int = 64, seed: int = 0) -> str:
    """Return the page of fitting, as HTML.

    The first part fits ``y = a x + b`` to points by gradient descent on the mean squared error: in
    full batches or mini-batches, at rates that are too low, fitting or too high. The second fits a
    curve with a network of linear layers, which stays a line whatever its width and depth, and with
    ReLU between them, where width and depth count.

    Args:
        num_points: How many points each part has.
        seed: What the points are drawn by.

    Returns:
        The page, one file without a network.
    """
    draw = np.random.default_rng(seed)
    x = np.sort(draw.uniform(-2, 2, num_points))
    line = _SLOPE * x + _OFFSET + _NOISE * draw.standard_normal(num_points)
    curve = np.sin(2 * x) + 0.3 * x + 0.1 * draw.standard_normal(num_points)
    data = {"x": x, "line": line, "curve": curve, "seed": seed}
    return render_data("Fitting", data, ["fit.js"])
