"""Images that show their numbers, and tables of these."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

REDNESS, SIZE = 4e9, 1e-8
"""Units of the two numbers, far from 0 and 1."""


def draw_numbers(folder: Path, count: int = 40) -> Path:
    """Draw noisy squares that are red to some degree, and blue to another, and tell both."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    rows = []
    for number in range(count):
        red, blue = draw.integers(0, 150, 2)
        pixels = draw.integers(0, 60, (24, 24, 3), dtype=np.uint8)
        pixels[..., 0] += np.uint8(red)
        pixels[..., 2] += np.uint8(blue)
        Image.fromarray(pixels).save(folder / f"{number}_red{red}.png")
        rows.append((f"{number}_red{red}.png", REDNESS + 10.0 * red, SIZE * (1 + blue), number))
    frame = pd.DataFrame(rows, columns=["file", "red", "blue", "place"])
    frame.to_csv(folder / "numbers.csv", index=False)
    return folder


def arrays_of_numbers(count: int = 40) -> dict[str, np.ndarray]:
    """Return small images and how bright they are, without noise."""
    draw = np.random.default_rng(0)
    values = draw.integers(0, 200, count)
    pixels = np.broadcast_to(values[:, None, None], (count, 16, 16)).astype(np.uint8)
    return {"x_train": pixels + draw.integers(0, 30, pixels.shape, np.uint8), "y_train": values / 7}
