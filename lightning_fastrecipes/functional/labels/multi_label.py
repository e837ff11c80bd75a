"""F-beta over several labels per sample, and the search for the thresholds that raise it."""

from typing import Literal

import torch
from torch import Tensor

from lightning_fastrecipes.functional.labels.decisions import decide_labels
from lightning_fastrecipes.functional.labels.targets import known_labels

Threshold = Literal["one", "per_label"]
"""``one``: the same threshold for every label; ``per_label``: one for each."""

SCORE_UNITS = 1 << 24
"""Scores are summed as whole numbers in these units, so that no order changes the sum."""

_MAX_SWEEPS = 10
_MOST_COMMON = 50


def threshold_grid(num_thresholds: int = 99) -> Tensor:
    """Return evenly spaced thresholds strictly between 0 and 1, ascending.

    >>> threshold_grid(3)
    tensor([0.2500, 0.5000, 0.7500])
    """
    return torch.linspace(0, 1, num_thresholds + 2, dtype=torch.float64)[1:-1].float()


def fbeta_of_counts(
    true_positives: Tensor, predicted: Tensor, actual: Tensor, beta: float
) -> Tensor:
    """Compute F-beta, element by element, from counts of right, predicted and actual labels.

    ``beta`` says how many times recall counts as much as precision. Where nothing is predicted and
    no label holds, F-beta is 1, as with scikit-learn's ``zero_division=1``: to predict nothing for
    an image without labels is right. Labels without a prediction, or predictions without a label,
    give 0.

    >>> fbeta_of_counts(torch.tensor(1), torch.tensor(2), torch.tensor(1), beta=2.0).item()
    0.8333333134651184
    """
    square = beta**2
    weight = (square * actual + predicted).float()
    scores = (1 + square) * true_positives.float() / weight.clamp_min(1e-12)
    return torch.where(weight > 0, scores, 1.0)


def sample_fbeta(
    probabilities: Tensor, targets: Tensor, thresholds: Tensor | float, beta: float = 2.0
) -> Tensor:
    """Compute the F-beta of each row over its labels, at one threshold or one per label.

    Probabilities and targets of 0 and 1 have shape ``(rows, num_labels)``. A row without labels is
    1 where none is predicted, else 0. Labels that are unknown, NaN or -1, are left out.

    >>> p, t = torch.tensor([[0.9, 0.4], [0.1, 0.2]]), torch.tensor([[1, 0], [0, 0]])
    >>> sample_fbeta(p, t, 0.5).tolist(), sample_fbeta(p, t, 0.2).tolist()
    ([1.0, 1.0], [0.8333333134651184, 0.0])
    """
    decided, truth = decide_labels(probabilities, thresholds), targets >= 0.5
    decided &= known_labels(targets)
    counts = ((decided & truth).sum(1), decided.sum(1), truth.sum(1))
    return fbeta_of_counts(*counts, beta)


def commonest_labels(targets: Tensor, beta: float = 2.0) -> tuple[list[int], float]:
    """Return which labels, given to every row alike, make the best mean F-beta, and that mean.

    They are the commonest ones, as many as do best, 50 at most. Unknown labels are left out.

    >>> commonest_labels(torch.tensor([[1, 0, 0], [1, 1, 0], [1, 0, 0]]))
    ([0, 1], 0.8888888359069824)
    """
    known = known_labels(targets)
    order = ((targets >= 0.5) & known).sum(0).argsort(descending=True, stable=True)
    always = torch.zeros(targets.shape[1])
    scores = [float(sample_fbeta(always.expand(targets.shape), targets, 0.5, beta).mean())]
    for label in order[:_MOST_COMMON].tolist():
        always[label] = 1.0
        scores.append(float(sample_fbeta(always.expand(targets.shape), targets, 0.5, beta).mean()))
    best = max(range(len(scores)), key=scores.__getitem__)
    return order[:best].tolist(), scores[best]


def bucket(probabilities: Tensor, grid: Tensor) -> Tensor:
    """Count for each probability how many thresholds of an ascending grid it reaches.

    Threshold ``i`` is reached where the bucket is above ``i``.

    >>> bucket(torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.5, 0.8])).tolist()
    [0, 1, 2]
    """
    return torch.searchsorted(grid.to(probabilities), probabilities.contiguous(), right=True)


def sums_at_thresholds(
    probabilities: Tensor, targets: Tensor, grid: Tensor, beta: float = 2.0
) -> Tensor:
    """Sum the F-beta of each row at every threshold of a grid, in one pass over the batch.

    Sums of batches and of processes add up, so that the mean over an epoch is exact. Labels that
    are unknown are left out, and rows without a known one score 0. The result is in units of
    ``1 / SCORE_UNITS``: shape ``(thresholds,)``, ``int64``.

    >>> p, t = torch.tensor([[0.9, 0.4]]), torch.tensor([[1, 0]])
    >>> sums = sums_at_thresholds(p, t, torch.tensor([0.2, 0.5]))
    >>> (sums / SCORE_UNITS).tolist()
    [0.8333333134651184, 1.0]
    """
    truth = (targets >= 0.5).long()
    known = known_labels(targets)
    buckets = bucket(probabilities, grid) * known
    counts = buckets.new_zeros(2, len(buckets), len(grid) + 1)
    counts[0].scatter_add_(1, buckets, truth)
    counts[1].scatter_add_(1, buckets, torch.ones_like(truth))
    # Column i + 1 and all after it are what reaches threshold i.
    reached = counts.flip(2).cumsum(2).flip(2)[:, :, 1:]
    scores = fbeta_of_counts(reached[0], reached[1], truth.sum(1, keepdim=True), beta)
    return (score_units(scores) * known.any(1, keepdim=True)).sum(0)


def score_units(scores: Tensor) -> Tensor:
    """Turn scores in [0, 1] into whole numbers, whose sum is the same in any order.

    >>> score_units(torch.tensor([0.5, 1.0])).tolist()
    [8388608, 16777216]
    """
    return (scores * SCORE_UNITS).round().long()


def best_index(scores: Tensor) -> int:
    """Return the position of the highest score; the middle one if several are equal.

    The middle of a plateau is further from where the score falls than its edges are.

    >>> best_index(torch.tensor([1, 7, 7, 7, 2]))
    2
    """
    tied = torch.nonzero(scores == scores.max()).flatten()
    return int(tied[len(tied) // 2])


def tune_per_label(
    buckets: Tensor, truth: Tensor, start: int, num_thresholds: int, beta: float
) -> Tensor:
    """Find a threshold for each label that raises the mean F-beta of the rows.

    One label after the other gets the threshold that is best beside those of all others, until no
    threshold moves. Starting from the position ``start`` of the best common threshold, the result
    is never worse on these rows. Buckets from :func:`bucket` and truth have shape ``(rows,
    num_labels)``; the result holds positions in the grid, ``(num_labels,)``.

    >>> buckets, truth = torch.tensor([[2, 1], [1, 0]]), torch.tensor([[1, 1], [0, 0]])
    >>> tune_per_label(buckets, truth, start=0, num_thresholds=2, beta=2.0).tolist()
    [1, 0]
    """
    chosen = torch.full((buckets.shape[1],), start, device=buckets.device)
    truth = truth.long()
    actual = truth.sum(1)
    decided = (buckets > chosen).long()
    right, predicted = (decided * truth).sum(1), decided.sum(1)
    for _ in range(_MAX_SWEEPS):
        before = chosen.clone()
        for label in range(buckets.shape[1]):
            mine, hit = buckets[:, label], truth[:, label]
            was = (mine > chosen[label]).long()
            right, predicted = right - was * hit, predicted - was
            with_it = fbeta_of_counts(right + hit, predicted + 1, actual, beta)
            without = fbeta_of_counts(right, predicted, actual, beta)
            gain = score_units(with_it) - score_units(without)
            per_bucket = gain.new_zeros(num_thresholds + 1).index_add_(0, mine, gain)
            gains = per_bucket.flip(0).cumsum(0).flip(0)[1:]
            best = best_index(gains)
            # Ties keep the threshold, so that the search ends.
            if gains[best] > gains[chosen[label]]:
                chosen[label] = best
            now = (mine > chosen[label]).long()
            right, predicted = right + now * hit, predicted + now
        if torch.equal(before, chosen):
            break
    return chosen


def cooccurrence(labels: Tensor, others: Tensor | None = None) -> Tensor:
    """Count the rows in which two labels hold together; the diagonal counts single labels.

    Columns of the result count ``labels``, or ``others`` if given. Shape ``(num_labels,
    num_labels)``, ``int64``.

    >>> cooccurrence(torch.tensor([[1, 1], [1, 0]])).tolist()
    [[2, 1], [1, 1]]
    """
    others = labels if others is None else others
    first, second = (values.double().ge(0.5).double() for values in (labels, others))
    return (first.T @ second).round().long()


def balanced_pos_weight(targets: Tensor) -> Tensor:
    """Return ``negatives / positives`` of each label, both counted as at least 1; ``float32``.

    Labels that are unknown, NaN or -1, count as neither.

    >>> balanced_pos_weight(torch.tensor([[1, 0], [0, 0], [0, 1], [0, 1]])).tolist()
    [3.0, 1.0]
    """
    positives = (targets >= 0.5).sum(0)
    num_known = known_labels(targets).sum(0)
    return ((num_known - positives).clamp_min(1) / positives.clamp_min(1)).float()
