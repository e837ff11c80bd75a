"""Kernels with names, over images of which one knows what must come out."""

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d

from lightning_fastrecipes.functional.images.kernels import KERNELS


def over(name: str, image: torch.Tensor) -> torch.Tensor:
    return conv2d(image[None, None], torch.tensor(KERNELS[name], dtype=torch.float64)[None, None])[
        0, 0
    ]


@pytest.mark.parametrize("name", KERNELS)
def test_what_a_kernel_makes_of_an_even_image(name: str) -> None:
    """Edges vanish, and the others keep the brightness or change it as they say."""
    weights = np.array(KERNELS[name], dtype=np.float64)
    assert weights.shape[0] == weights.shape[1]
    edges = "sobel" in name or name == "outline"
    wanted = 0.0 if edges else 0.5 if name.startswith("half") else 1.0
    assert weights.sum() == pytest.approx(wanted)
    even = torch.full((9, 9), 10.0, dtype=torch.float64)
    assert over(name, even).flatten().tolist() == pytest.approx(
        [10 * wanted] * over(name, even).numel()
    )


def test_each_sobel_is_positive_where_its_side_is_brighter() -> None:
    right = torch.arange(9, dtype=torch.float64).expand(9, 9)
    for name, image in [
        ("right sobel", right),
        ("left sobel", right.flip(1)),
        ("bottom sobel", right.T),
        ("top sobel", right.T.flip(0)),
    ]:
        assert (over(name, image) == 8).all()
        assert (over(name, -image) == -8).all()


def test_identity_sharpen_and_emboss() -> None:
    image = torch.randn(8, 8, dtype=torch.float64)
    assert torch.equal(over("identity", image), image[1:-1, 1:-1])
    dot = torch.zeros(5, 5, dtype=torch.float64)
    dot[2, 2] = 1
    assert over("sharpen", dot).tolist() == [[0, -1, 0], [-1, 5, -1], [0, -1, 0]]
    assert over("emboss", dot)[0, 0] == 2  # a light from above and left throws it on the other side
