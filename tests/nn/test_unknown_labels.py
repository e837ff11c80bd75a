"""Losses, metrics and thresholds of several labels over those that are known."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import fbeta_score

from lightning_fastrecipes import Labels, Loss, SampleFBeta
from lightning_fastrecipes.functional.labels.merging import row_losses
from lightning_fastrecipes.functional.labels.multi_label import balanced_pos_weight
from lightning_fastrecipes.functional.training.initial_loss import label_problem
from lightning_fastrecipes.nn.label_rules import MultiLabel
from lightning_fastrecipes.tasks.building import build_loss

NAN = float("nan")


def draw(seed: int, rows: int = 7, share: float = 0.3) -> tuple[torch.Tensor, ...]:
    """Draw logits, targets with gaps, and which are known; each row has a known one."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, 3, generator=generator)
    targets = (torch.rand(rows, 3, generator=generator) < 0.5).float()
    known = torch.rand(rows, 3, generator=generator) >= share
    known[:, 0] |= ~known.any(1)
    gaps = torch.where(torch.rand(rows, 3, generator=generator) < 0.5, NAN, -1.0)
    return logits, torch.where(known, targets, gaps), known


@pytest.mark.parametrize(
    "loss", [None, {"smoothing": 0.2}, {"focal_gamma": 2.0}, "BCEWithLogitsLoss"]
)
@pytest.mark.parametrize("pos_weight", [None, [1.0, 2.0, 5.0]])
@settings(max_examples=25)
@given(seed=st.integers(0, 50))
def test_the_loss_and_its_gradient_are_those_of_the_known_cells(loss, pos_weight, seed) -> None:
    if isinstance(loss, str) and pos_weight:
        return
    logits, targets, known = draw(seed)
    rules = MultiLabel(3, Labels(pos_weight=pos_weight), build_loss(loss))
    logits.requires_grad_()
    found = rules.loss(logits, targets)
    (gradient,) = torch.autograd.grad(found, logits)
    assert bool((gradient[~known] == 0).all())
    # Each cell alone is a row of one label.
    cells = []
    for row, column in torch.nonzero(known).tolist():
        weight = None if pos_weight is None else [pos_weight[column]]
        alone = MultiLabel(1, Labels(pos_weight=weight), build_loss(loss))
        cell = (slice(row, row + 1), slice(column, column + 1))
        cells.append(alone.loss(logits[cell], targets[cell]))
    wanted = torch.stack(cells).mean()
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(gradient, torch.autograd.grad(wanted, logits)[0])
    assert float(rules.loss_weight(targets)) == pytest.approx(int(known.sum()) / 3)


@settings(max_examples=25)
@given(st.integers(0, 50))
def test_where_all_is_known_the_loss_is_bit_for_bit_that_of_torch(seed) -> None:
    logits, targets, _ = draw(seed, rows=13, share=0.0)
    weight = torch.tensor([1.0, 2.0, 0.3])
    for pos_weight in (None, weight):
        rules = MultiLabel(3, Labels())
        rules.pos_weight = pos_weight
        first, second = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        found = rules.loss(first, targets)
        wanted = F.binary_cross_entropy_with_logits(second, targets, pos_weight=pos_weight)
        found.backward()
        wanted.backward()
        assert torch.equal(found, wanted)
        assert torch.equal(first.grad, second.grad)
        assert float(rules.loss_weight(targets)) == len(targets)
        probabilities = logits.sigmoid()
        losses = F.binary_cross_entropy(probabilities, targets, reduction="none")
        if pos_weight is None:
            rows = row_losses(probabilities, targets, multi_label=True)
            assert torch.equal(rows, losses.mean(1))


@settings(max_examples=25)
@given(st.integers(0, 50), st.sampled_from(["one", "per_label"]))
def test_f_beta_is_that_of_the_known_labels(seed, threshold) -> None:
    logits, targets, known = draw(seed, rows=9)
    targets[3] = NAN  # a row that nobody knows anything of
    known[3] = False
    probabilities = logits.sigmoid()
    metric = SampleFBeta(3, threshold=threshold)
    for start in range(0, 9, 4):
        metric.update(probabilities[start : start + 4], targets[start : start + 4])
    best = metric.compute()
    fixed = SampleFBeta(3)
    fixed.fix(metric.best_thresholds)
    fixed.update(probabilities, targets)
    scores = []
    for row in [row for row in range(9) if row != 3]:
        own = known[row]
        decided = probabilities[row, own] >= metric.best_thresholds[own]
        truth = targets[row, own] >= 0.5
        scores.append(fbeta_score(truth, decided, beta=2, zero_division=1))
    assert float(fixed.compute()) == pytest.approx(sum(scores) / 8, abs=1e-6)
    assert float(best) == pytest.approx(sum(scores) / 8, abs=1e-6)


@settings(max_examples=25)
@given(st.integers(0, 50))
def test_metrics_and_losses_with_probabilities_leave_unknown_cells_out(seed) -> None:
    logits, targets, known = draw(seed)
    rules = MultiLabel(3, Labels())
    (accuracy,) = [m for name, m in rules.metrics(None).items() if name == "accuracy"]
    accuracy.update(logits.sigmoid(), rules.metric_targets(targets))
    right = (logits >= 0) == (targets >= 0.5)
    assert float(accuracy.compute()) == pytest.approx(float(right[known].float().mean()))
    rows = row_losses(logits.sigmoid(), targets, multi_label=True)
    cells = F.binary_cross_entropy(
        logits.sigmoid(), torch.where(known, targets, 0), reduction="none"
    )
    torch.testing.assert_close(rows, (cells * known).sum(1) / known.sum(1))
    weights = balanced_pos_weight(targets)
    for label in range(3):
        own = targets[known[:, label], label]
        expected = max(int((own == 0).sum()), 1) / max(int(own.sum()), 1)
        assert float(weights[label]) == pytest.approx(expected)


def test_a_batch_without_a_known_label_has_no_loss() -> None:
    for options in (Loss(), Loss(smoothing=0.1)):
        logits = torch.randn(2, 3, requires_grad=True)
        loss = MultiLabel(3, Labels(), options).loss(logits, torch.full((2, 3), NAN))
        loss.backward()
        assert float(loss) == 0
        assert bool((logits.grad == 0).all())


def test_the_first_look_at_labels_knows_of_unknown_ones() -> None:
    targets = torch.tensor([[1.0, NAN], [-1.0, 0.0]])
    assert label_problem(targets, 2, multi_label=True) is None
    assert "must lie in 0 to 1" in str(label_problem(targets - 0.5, 2, multi_label=True))
    assert label_problem(torch.full((2, 2), NAN), 2, multi_label=True) is None
    assert label_problem(torch.full((2, 2), NAN), 2) is not None
