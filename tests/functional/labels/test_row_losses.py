import torch
from torch.nn import functional

from lightning_fastrecipes.functional.labels.row_losses import row_losses


def test_classes_have_the_cross_entropy_of_torch() -> None:
    logits, targets = torch.randn(9, 4), torch.arange(9) % 4
    expected = functional.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(row_losses(logits.softmax(1), targets).float(), expected)


def test_several_labels_have_the_binary_cross_entropy_of_known_ones() -> None:
    probabilities, targets = torch.rand(6, 3), torch.randint(0, 2, (6, 3)).float()
    expected = functional.binary_cross_entropy(probabilities, targets, reduction="none")
    torch.testing.assert_close(row_losses(probabilities, targets).float(), expected.mean(1))
    targets[:, 0] = -1
    torch.testing.assert_close(row_losses(probabilities, targets).float(), expected[:, 1:].mean(1))


def test_numbers_have_squared_errors() -> None:
    assert row_losses(torch.tensor([2.0, 5.0]), torch.tensor([0.0, 5.0])).tolist() == [4.0, 0.0]
    found = row_losses(torch.tensor([[2.0, 9.0]]), torch.tensor([[0.0, 5.0]]))
    assert found.tolist() == [10.0]


def test_a_certain_error_is_finite() -> None:
    assert row_losses(torch.tensor([[1.0, 0.0]]), torch.tensor([1])).isfinite().all()
