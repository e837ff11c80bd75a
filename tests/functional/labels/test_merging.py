"""Merged predictions against numpy, and what cannot be merged."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_fastrecipes.functional.labels.merging import (
    agreement,
    merge_predictions,
    stack_predictions,
)


def draw(num_models: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(5, 3, generator=generator).softmax(dim=1) for _ in range(num_models)]


def test_probabilities_are_averaged():
    found = merge_predictions(draw(4))
    np.testing.assert_allclose(found, np.mean([p.numpy() for p in draw(4)], axis=0), rtol=1e-6)


def test_mean_of_logits_is_the_normalised_geometric_mean():
    found = merge_predictions(draw(4), "logits")
    geometric = np.exp(np.mean([np.log(p.numpy()) for p in draw(4)], axis=0))
    expected = geometric / geometric.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@given(st.integers(1, 5), st.sampled_from(["probabilities", "logits"]), st.integers(0, 99))
def test_the_same_model_many_times_is_that_model(num_models, merge, seed):
    (model,) = draw(1, seed)
    merged = merge_predictions([model] * num_models, merge)
    torch.testing.assert_close(merged, model, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(merged.sum(dim=1), torch.ones(5))


def test_a_probability_of_zero_does_not_give_a_nan():
    merged = merge_predictions([torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]])], "logits")
    torch.testing.assert_close(merged, torch.tensor([[0.5, 0.5]]))


@pytest.mark.parametrize(
    ("models", "merge", "message"),
    [
        pytest.param([], "probabilities", "at least one model to merge", id="none"),
        pytest.param(draw(1), "median", "`merge` must be .* got 'median'", id="merge"),
        pytest.param(
            [torch.ones(2, 3), torch.ones(2, 4)], "logits", r"\(2, 3\) and \(2, 4\)", id="shapes"
        ),
        pytest.param(
            [torch.ones(2, 3), torch.ones(1, 3)], "logits", r"\(2, 3\) and \(1, 3\)", id="rows"
        ),
    ],
)
def test_what_cannot_be_merged_is_refused(models, merge, message):
    with pytest.raises(ValueError, match=message):
        merge_predictions(models, merge)


def test_logits_of_yes_and_no_are_averaged_each_by_itself():
    models = [p[:, :2] for p in draw(3)]
    found = merge_predictions(models, "logits", multi_label=True)
    expected = torch.stack(models).double().logit().mean(0).sigmoid()
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    certain = merge_predictions([torch.tensor([[1.0, 0.0]])] * 2, "logits", multi_label=True)
    np.testing.assert_allclose(certain, [[1.0, 0.0]], atol=1e-6)


def test_members_agree_where_they_decide_as_together():
    members = torch.tensor(
        [
            [[0.9, 0.1, 0.0], [0.2, 0.5, 0.3]],
            [[0.6, 0.3, 0.1], [0.2, 0.3, 0.5]],
            [[0.3, 0.4, 0.3], [0.1, 0.3, 0.6]],
            [[0.8, 0.1, 0.1], [0.0, 0.1, 0.9]],
        ]
    )
    mean = merge_predictions(members)
    assert agreement(members, mean).tolist() == [0.75, 0.75]
    thresholds = torch.tensor([0.5, 0.35, 0.9])
    found = agreement(members, mean, thresholds)
    decided = (members.numpy() >= thresholds.numpy()) == (mean.numpy() >= thresholds.numpy())
    np.testing.assert_allclose(found, decided.mean(axis=(0, 2)))
    assert agreement(members[:1], members[0]).tolist() == [1.0, 1.0]


def test_what_is_stacked_has_one_shape():
    numbers = [torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])]
    assert stack_predictions(iter(numbers)).tolist() == [[1.0, 2.0], [3.0, 4.0]]
    with pytest.raises(ValueError, match=r"the shapes are \(2,\) and \(3,\)"):
        stack_predictions([numbers[0], torch.ones(3)])
