"""What a model must show before it has learned anything."""

import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from lightning_fastrecipes.functional.training.initial_loss import (
    expected_initial_loss,
    label_problem,
    pixel_problem,
)


@pytest.mark.parametrize("num_classes", [2, 10, 1000])
def test_expected_loss_is_that_of_torch_at_even_logits(num_classes):
    logits = torch.zeros(4, num_classes)
    single = cross_entropy(logits, torch.arange(4) % num_classes)
    several = binary_cross_entropy_with_logits(logits, torch.ones(4, num_classes))
    assert expected_initial_loss(num_classes) == pytest.approx(float(single))
    assert expected_initial_loss(num_classes, multi_label=True) == pytest.approx(float(several))


def test_one_output_is_a_yes_or_no():
    assert expected_initial_loss(1) == pytest.approx(math.log(2))
    with pytest.raises(ValueError, match="at least 1, got 0"):
        expected_initial_loss(0)


@pytest.mark.parametrize(
    ("targets", "multi_label", "problem"),
    [
        pytest.param(torch.tensor([0, 2, 1]), False, None, id="fine"),
        pytest.param(torch.tensor([0, 3]), False, "0 to 2, but reach from 0 to 3", id="too-high"),
        pytest.param(torch.tensor([-1, 2]), False, "reach from -1 to 2", id="negative"),
        pytest.param(torch.tensor([[0.2, 0.8, 0.0]]), False, None, id="soft"),
        pytest.param(torch.tensor([[1.0, 1.0, 0.0]]), False, "sum to 2 up to 2", id="several"),
        pytest.param(torch.tensor([[1.0, 1.0, 0.0]]), True, None, id="multi-label"),
        pytest.param(torch.tensor([[1, 0, 1]]), True, None, id="whole-multi-label"),
        pytest.param(torch.tensor([[0.0, 9.0, 0.0]]), True, "reach from 0 to 9", id="scale"),
        pytest.param(torch.tensor([[0.5, 0.5]]), False, "each of the 3 classes", id="columns"),
        pytest.param(torch.tensor([0.5]), False, r"their shape is \(1,\)", id="one-number"),
        pytest.param(torch.tensor([]), False, None, id="empty"),
    ],
)
def test_labels(targets, multi_label, problem):
    found = label_problem(targets, 3, multi_label=multi_label)
    if problem is None:
        assert found is None
    else:
        assert found is not None
        with pytest.raises(ValueError, match=problem):
            raise ValueError(found)


@pytest.mark.parametrize(
    ("targets", "is_fine"),
    [
        pytest.param(torch.tensor([0, 1]), True, id="whole"),
        pytest.param(torch.tensor([0.0, 1.0]), True, id="numbers"),
        pytest.param(torch.tensor([[0.0], [1.0]]), True, id="a-column"),
        pytest.param(torch.tensor([0, 2]), False, id="neither-yes-nor-no"),
    ],
)
def test_one_output_takes_yes_and_no_in_any_shape(targets, is_fine):
    assert (label_problem(targets, 1) is None) is is_fine


def test_maps_of_labels_are_left_alone():
    assert label_problem(torch.full((2, 4, 4), 255), 3) is None


PIXELS = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("images", "problem"),
    [
        pytest.param(PIXELS, None, id="normalised"),
        pytest.param(PIXELS.sigmoid() * 255, "Normalise with mean and", id="as-in-the-file"),
        pytest.param(PIXELS / 255, "Normalise with mean and", id="twice"),
        pytest.param(PIXELS + math.nan, "finite numbers", id="not-a-number"),
    ],
)
def test_pixels(images, problem):
    found = pixel_problem(images)
    assert (found is None) if problem is None else (problem in found)


def test_weighed_positives_raise_the_loss_of_even_probabilities():
    targets = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    weights = torch.tensor([3.0, 2.0])
    found = expected_initial_loss(2, multi_label=True, targets=targets, pos_weight=weights)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.zeros(3, 2), targets, pos_weight=weights
    )
    assert found == pytest.approx(float(expected))
