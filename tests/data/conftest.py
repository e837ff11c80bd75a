"""Tiny images, drawn on the spot."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Draw = Callable[..., Path]


@pytest.fixture
def draw() -> Draw:
    """Write an image of random pixels; every call gives other ones."""
    generator = np.random.default_rng(0)

    def write(path: Path, size: tuple[int, int] = (24, 20)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return write


@pytest.fixture
def pets(tmp_path: Path, draw: Draw) -> Path:
    """Make `pets/{cat,dog}` with 10 and 8 images."""
    for name, count in (("cat", 10), ("dog", 8)):
        for number in range(count):
            draw(tmp_path / "pets" / name / f"{number}.png")
    return tmp_path / "pets"


@pytest.fixture
def split_pets(tmp_path: Path, draw: Draw) -> Path:
    """Make `split/{train,val}/{cat,dog}` with 4 and 2 images each."""
    for split, count in (("train", 4), ("val", 2)):
        for name in ("cat", "dog"):
            for number in range(count):
                draw(tmp_path / "split" / split / name / f"{number}.png")
    return tmp_path / "split"
