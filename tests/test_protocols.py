"""What siblings share is safe to use."""

import pytest
import torch

from lightning_fastrecipes.protocols import InputSpec


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
def test_images_are_normalised_and_left_as_they_were(dtype: torch.dtype) -> None:
    images = torch.arange(24).view(2, 3, 2, 2).to(dtype)
    before, spec = images.clone(), InputSpec(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    found = spec.normalised(images)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (spec.mean, spec.std))
    assert torch.equal(found, (images.float() / 255 - mean) / std)
    assert torch.equal(images, before)


def test_whole_numbers_of_a_file_are_means_and_deviations_too() -> None:
    images = torch.arange(12, dtype=torch.uint8).reshape(1, 3, 2, 2)
    whole = InputSpec.from_plain({"mean": [0, 0, 0], "std": [1, 2, 1]})
    expected = InputSpec(mean=(0.0, 0.0, 0.0), std=(1.0, 2.0, 1.0)).normalised(images)
    assert torch.equal(whole.normalised(images), expected)
    assert all(part.is_floating_point() for part in whole.centre_and_scale(images))
