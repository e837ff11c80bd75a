"""Weights make rare labels as frequent as common ones."""

import torch

from lightning_fastrecipes.functional.labels.balance import balancing_weights


def test_every_class_is_drawn_equally_often() -> None:
    targets = torch.tensor([0] * 7 + [1] * 2 + [2])
    weights = balancing_weights(targets)
    for index in range(3):
        torch.testing.assert_close(weights[targets == index].sum().float(), torch.tensor(1 / 3))


def test_certain_probabilities_weigh_as_class_indices_do() -> None:
    targets = torch.tensor([0, 0, 0, 1, 2])
    soft = torch.nn.functional.one_hot(targets).float()
    torch.testing.assert_close(balancing_weights(soft), balancing_weights(targets))


def test_the_rarest_label_of_a_image_counts_and_none_is_a_label_too() -> None:
    targets = torch.tensor([[1, 0], [1, 0], [1, 1], [0, 0], [0, 0]]).float()
    weights = balancing_weights(targets, multi_label=True)
    expected = torch.tensor([1 / 3, 1 / 3, 1, 1 / 2, 1 / 2])
    torch.testing.assert_close(weights.float(), expected / expected.sum())
