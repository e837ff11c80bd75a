"""Sample F-beta agrees with scikit-learn at every threshold, and the best one is the best."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import fbeta_score

from lightning_fastrecipes.functional.labels.decisions import decide_labels
from lightning_fastrecipes.functional.labels.multi_label import (
    SCORE_UNITS,
    balanced_pos_weight,
    best_index,
    bucket,
    cooccurrence,
    sample_fbeta,
    score_units,
    sums_at_thresholds,
    threshold_grid,
    tune_per_label,
)

GRID = threshold_grid(19)


def rows(seed: int, num_rows: int = 30, num_labels: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw probabilities that know something of the targets; some rows hold no label."""
    generator = torch.Generator().manual_seed(seed)
    targets = (torch.rand(num_rows, num_labels, generator=generator) < 0.25).float()
    noise = torch.rand(num_rows, num_labels, generator=generator)
    return (0.4 * targets + 0.6 * noise).clamp(0, 1), targets


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_every_threshold_agrees_with_scikit_learn(seed, beta) -> None:
    probabilities, targets = rows(seed)
    targets[0], probabilities[0] = 0.0, 0.0

    sums = sums_at_thresholds(probabilities, targets, GRID, beta) / SCORE_UNITS

    for threshold, found in zip(GRID.tolist(), (sums / len(targets)).tolist(), strict=True):
        decided = decide_labels(probabilities, threshold)
        expected = fbeta_score(
            targets.numpy(), decided.numpy(), beta=beta, average="samples", zero_division=1
        )
        assert found == pytest.approx(expected, abs=1e-6)
        one = sample_fbeta(probabilities, targets, threshold, beta).mean()
        assert float(one) == pytest.approx(expected, abs=1e-6)


def test_golden_values_of_rows_with_nothing() -> None:
    probabilities = torch.tensor([[0.1, 0.1], [0.9, 0.1], [0.1, 0.1], [0.9, 0.9]])
    targets = torch.tensor([[0, 0], [0, 0], [1, 0], [1, 0]])
    # Nothing said of nothing; a false alarm; a miss; right with a false alarm: 5 * 1 / (4 + 2).
    assert sample_fbeta(probabilities, targets, 0.5).tolist() == pytest.approx([1, 0, 0, 5 / 6])


def test_a_probability_at_the_threshold_counts() -> None:
    at = torch.tensor([[0.5]])
    assert decide_labels(at, 0.5).item()
    assert bucket(at, torch.tensor([0.5])).item() == 1


@settings(max_examples=50)
@given(st.integers(0, 10**6), st.integers(1, 29))
def test_sums_of_parts_are_those_of_the_whole_bit_for_bit(seed, cut) -> None:
    probabilities, targets = rows(seed)
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
    parts = [
        sums_at_thresholds(probabilities[part], targets[part], GRID)
        for part in (order[:cut], order[cut:])
    ]
    assert torch.equal(parts[0] + parts[1], sums_at_thresholds(probabilities, targets, GRID))


def value(buckets, truth, places) -> int:
    decided = (buckets > torch.tensor(places)).float()
    return int(score_units(sample_fbeta(decided, truth, 0.5)).sum())


@pytest.mark.parametrize("seed", range(8))
def test_one_threshold_a_label_is_at_least_as_good_as_one_for_all(seed) -> None:
    probabilities, targets = rows(seed)
    buckets = bucket(probabilities, GRID)
    start = best_index(sums_at_thresholds(probabilities, targets, GRID))

    places = tune_per_label(buckets, targets, start, len(GRID), beta=2.0).tolist()

    assert value(buckets, targets, places) >= value(buckets, targets, [start] * 6)
    # No single threshold can be moved for the better.
    for label, place in itertools.product(range(6), range(len(GRID))):
        moved = [*places[:label], place, *places[label + 1 :]]
        assert value(buckets, targets, moved) <= value(buckets, targets, places) + 20


def test_labels_of_different_scale_need_thresholds_of_their_own() -> None:
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]] * 4)
    probabilities = targets * torch.tensor([0.9, 0.2]) + (1 - targets) * torch.tensor([0.5, 0.1])
    buckets = bucket(probabilities, GRID)

    places = tune_per_label(buckets, targets, 2, len(GRID), beta=2.0)

    assert GRID[places].tolist() == pytest.approx([0.7, 0.15], abs=0.06)


def test_co_occurrence_counts_pairs() -> None:
    _, targets = rows(0)
    found = cooccurrence(targets)
    holds = targets.bool().numpy()
    for i, j in itertools.product(range(6), range(6)):
        assert found[i, j] == np.sum(holds[:, i] & holds[:, j])
    assert cooccurrence(targets, torch.zeros_like(targets)).sum() == 0


def test_positives_weigh_as_much_as_negatives() -> None:
    _, targets = rows(1, num_rows=200)
    weights = balanced_pos_weight(targets)
    torch.testing.assert_close((targets * weights).sum(0), (1 - targets).sum(0))
    assert balanced_pos_weight(torch.tensor([[1.0, 0.0], [1.0, 0.0]])).tolist() == [0.5, 2.0]
