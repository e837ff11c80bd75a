"""Pixels are moved, resampled and lit."""

import pytest
import torch
from torch.nn import functional

from lightning_fastrecipes.functional.images.augment import draw_parameters
from lightning_fastrecipes.functional.images.pixels import (
    adjust_brightness_contrast,
    crop_matrix,
    dihedral,
    num_at_once,
    resample,
)
from lightning_fastrecipes.functional.random import seeded_generator


def test_the_eight_poses_are_different_exact_moves_that_form_a_group():
    square = torch.arange(9).reshape(3, 3)
    moved = {tuple(dihedral(square, element).flatten().tolist()) for element in range(8)}

    assert len(moved) == 8
    for first in range(8):
        for second in range(8):
            both = dihedral(dihedral(square, first), second)
            assert tuple(both.flatten().tolist()) in moved


def test_a_ninth_pose_is_refused():
    with pytest.raises(ValueError, match="`element` must be in 0 to 7, got 8"):
        dihedral(torch.zeros(2, 2), 8)


@pytest.mark.parametrize("size", [(16, 16), (9, 24)], ids=["square", "oblong"])
def test_a_resample_is_that_of_an_affine_grid(size):
    pixels = torch.rand(40, 2, 12, 20, generator=seeded_generator(0))
    drawn = draw_parameters(40, "basic", 1.3, seeded_generator(1), max_angle=180)
    matrix = crop_matrix(
        drawn.angle, drawn.crop_top, drawn.crop_left, drawn.zoom, 2 * drawn.zoom, size[0] / size[1]
    )
    grid = functional.affine_grid(matrix, [40, 2, *size], align_corners=False)
    expected = functional.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
    torch.testing.assert_close(resample(pixels, matrix, *size), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("white", [1.0, 255.0])
def test_brightness_and_contrast_change_in_place_between_black_and_white(white):
    pixels = white * torch.rand(2, 3, 4, 4, generator=seeded_generator(0))
    mean = pixels.mean(dim=(1, 2, 3), keepdim=True)
    brightness, contrast = torch.tensor([0.3, -0.3]), torch.tensor([1.5, 0.5])
    expected = (pixels - mean) * contrast.view(-1, 1, 1, 1) + mean
    expected = (expected + white * brightness.view(-1, 1, 1, 1)).clamp(0, white)
    found = adjust_brightness_contrast(pixels, brightness, contrast, white)
    assert found is pixels
    torch.testing.assert_close(found, expected)


def test_few_large_images_are_worked_on_together_and_many_small_ones():
    threads = torch.get_num_threads()
    large, small = torch.empty(64, 3, 512, 512, dtype=torch.uint8), torch.empty(2, 1, 28, 28)
    assert num_at_once(large) == threads
    assert num_at_once(small, large) == threads
    assert num_at_once(small) > 100 * threads
    assert num_at_once(torch.empty(0, 0, 5, 5)) >= 1


def test_a_card_takes_all_images_at_once():
    assert num_at_once(torch.empty(64, 3, 512, 512, device="meta")) == 64
