"""Losses of classes and labels against the formulas of torch."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import sigmoid_focal_loss

from lightning_fastrecipes.functional.labels.losses import (
    balanced_class_weight,
    class_losses,
    label_losses,
)


def draw(seed: int, rows: int, classes: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, classes, (rows,), generator=generator)
    weights = 0.1 + torch.rand(classes, generator=generator, dtype=torch.float64)
    return logits, targets, weights


@settings(max_examples=25)
@given(st.integers(0, 99), st.integers(1, 9), st.integers(2, 6), st.sampled_from([0.0, 0.1, 0.7]))
def test_weights_and_smoothing_are_those_of_torch(seed, rows, classes, smoothing) -> None:
    logits, targets, weights = draw(seed, rows, classes)
    losses, counts = class_losses(logits, targets, class_weight=weights, smoothing=smoothing)
    wanted = F.cross_entropy(logits, targets, weight=weights, label_smoothing=smoothing)
    torch.testing.assert_close(losses.sum() / counts.sum(), wanted)
    # One-hot rows are the same, whatever the weights, and mixed ones between them.
    shares = F.one_hot(targets, classes).double()
    soft = class_losses(logits, shares, class_weight=weights, smoothing=smoothing)
    torch.testing.assert_close(soft, (losses, counts))
    mixed = 0.3 * shares + 0.7 * shares.flip(0)
    losses, counts = class_losses(logits, mixed, class_weight=weights, smoothing=smoothing)
    wanted = F.cross_entropy(
        logits, mixed, weight=weights, label_smoothing=smoothing, reduction="none"
    )
    torch.testing.assert_close(losses, wanted)
    torch.testing.assert_close(counts, mixed @ weights)


@settings(max_examples=25)
@given(st.integers(0, 99), st.sampled_from([0.5, 1.0, 2.0, 5.0]))
def test_the_focus_takes_what_is_easy_back(seed, gamma) -> None:
    logits, targets, weights = draw(seed, 7, 4)
    chance = logits.softmax(1).gather(1, targets[:, None])[:, 0]
    losses, counts = class_losses(logits, targets, class_weight=weights, focal_gamma=gamma)
    wanted = -((1 - chance) ** gamma) * chance.log() * weights[targets]
    torch.testing.assert_close(losses, wanted)
    torch.testing.assert_close(counts, weights[targets])


@settings(max_examples=25)
@given(st.integers(0, 99), st.sampled_from([0.0, 0.5, 2.0]))
def test_several_labels_are_focused_as_torchvision_does(seed, gamma) -> None:
    logits, _, weights = draw(seed, 7, 4)
    targets = (torch.rand(7, 4, generator=torch.Generator().manual_seed(seed)) < 0.5).double()
    found = label_losses(logits, targets, focal_gamma=gamma)
    torch.testing.assert_close(found, sigmoid_focal_loss(logits, targets, alpha=-1, gamma=gamma))
    smoothed = label_losses(logits, targets, pos_weight=weights, smoothing=0.2)
    wanted = F.binary_cross_entropy_with_logits(
        logits, 0.8 * targets + 0.1, pos_weight=weights, reduction="none"
    )
    torch.testing.assert_close(smoothed, wanted)


@pytest.mark.parametrize("gamma", [0.3, 2.0])
def test_sure_rows_have_finite_gradients(gamma) -> None:
    for loss in (
        lambda x: class_losses(x, torch.tensor([0, 1]), focal_gamma=gamma)[0].sum(),
        lambda x: label_losses(x, torch.eye(2), focal_gamma=gamma).sum(),
    ):
        logits = torch.tensor([[200.0, -200.0], [200.0, -200.0]], requires_grad=True)
        found = loss(logits)
        found.backward()
        assert found.isfinite()
        assert logits.grad.isfinite().all()


def test_balanced_classes_weigh_the_same_in_all() -> None:
    targets = torch.tensor([0] * 6 + [1] * 3 + [2])
    weights = balanced_class_weight(targets, 4)
    torch.testing.assert_close(weights, torch.tensor([10 / 24, 10 / 12, 2.5, 2.5]))
    torch.testing.assert_close(weights[:3] * torch.tensor([6.0, 3.0, 1.0]), torch.full((3,), 2.5))
    shares = F.one_hot(targets, 4).float()
    torch.testing.assert_close(balanced_class_weight(shares, 4), weights)
