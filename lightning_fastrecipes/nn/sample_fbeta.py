"""F-beta over the labels of each image, with the threshold that makes it best."""

from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lightning_fastrecipes.errors import check_at_least, check_choice
from lightning_fastrecipes.functional.labels.multi_label import (
    SCORE_UNITS,
    Threshold,
    best_index,
    bucket,
    sample_fbeta,
    score_units,
    sums_at_thresholds,
    threshold_grid,
    tune_per_label,
)
from lightning_fastrecipes.functional.labels.targets import known_labels


class SampleFBeta(Metric):
    """Mean F-beta of the samples, at the best threshold or at given ones.

    Every threshold of a grid is measured at once, in sums alone, so that the best of an epoch is
    that of all its rows, whatever the batches and processes: no mean over batches is taken. With
    ``per_label`` the metric also keeps the rows, as positions in the grid, since scores at mixed
    thresholds are no sums of scores at single ones.

    A sample without labels counts 1 where none is predicted, and 0 otherwise. Labels that are
    unknown, NaN or -1, are left out, and so are samples without a known one. The value at the best
    threshold is slightly too good; measure a test with ``fix``.

    Args:
        num_labels: Number of labels, at least 1.
        beta: How many times recall counts as much as precision, above 0.
        threshold: ``one`` for all labels, or one ``per_label``.
        grid: How many evenly spaced thresholds are tried, at least 1, or the thresholds
            themselves, ascending, in [0, 1].

    Attributes:
        best_thresholds: The best ones of the last ``compute``. Shape ``(num_labels,)``.
        fixed_thresholds: Those that ``compute`` uses instead, if given to ``fix``.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> metric = SampleFBeta(num_labels=2)
        >>> metric.update(torch.tensor([[0.3, 0.1], [0.4, 0.2]]), torch.tensor([[1, 0], [1, 0]]))
        >>> metric.compute().item(), metric.best_thresholds.tolist()
        (1.0, [0.25999999046325684, 0.25999999046325684])

    References:
        Kaggle, *Planet: Understanding the Amazon from Space* (2017), measured by F2; fast.ai course
        (2018), lesson 3, where the threshold is searched batch by batch.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    grid: Tensor
    scores: Tensor
    fixed_score: Tensor
    count: Tensor
    buckets: list[Tensor]
    truth: list[Tensor]

    def __init__(
        self,
        num_labels: int,
        beta: float = 2.0,
        threshold: Threshold = "one",
        grid: int | Sequence[float] = 99,
    ) -> None:
        super().__init__()
        check_at_least("num_labels", num_labels, 1)
        if not beta > 0:
            raise ValueError(f"`beta` must be above 0, got {beta}.")
        check_choice("threshold", threshold, get_args(Threshold))
        self.num_labels = num_labels
        self.beta = beta
        self.threshold = threshold
        self.register_buffer("grid", _grid(grid), persistent=False)
        self.best_thresholds = torch.full((num_labels,), 0.5)
        self.fixed_thresholds: Tensor | None = None
        zeros = torch.zeros(len(self.grid), dtype=torch.int64)
        self.add_state("scores", default=zeros, dist_reduce_fx="sum")
        self.add_state("fixed_score", default=torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("count", default=torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("buckets", default=[], dist_reduce_fx="cat")
        self.add_state("truth", default=[], dist_reduce_fx="cat")

    def fix(self, thresholds: Tensor | None) -> None:
        """Reset, and use one threshold per label, or the best ones again if ``None``."""
        self.fixed_thresholds = None if thresholds is None else thresholds.detach().clone()
        self.reset()

    def update(self, probabilities: Tensor, targets: Tensor) -> None:
        """Add probabilities and targets of 0 and 1, both of shape ``(batch, num_labels)``.

        Targets are NaN or -1 where a label is unknown.
        """
        if probabilities.shape != targets.shape or probabilities.shape[1:] != (self.num_labels,):
            raise ValueError(
                f"`probabilities` and `targets` must have shape (batch, {self.num_labels}), got"
                f" {tuple(probabilities.shape)} and {tuple(targets.shape)}. Give one column for"
                " each label."
            )
        if not bool(((probabilities >= 0) & (probabilities <= 1)).all()):
            raise ValueError(
                "`probabilities` must lie in [0, 1], but some do not, or are NaN. Give the sigmoid"
                " of logits; NaN comes from a loss that has run away or from broken inputs."
            )
        known = known_labels(targets)
        self.count += known.any(1).sum()
        if self.fixed_thresholds is not None:
            thresholds = self.fixed_thresholds.to(probabilities)
            scores = sample_fbeta(probabilities, targets, thresholds, self.beta)
            self.fixed_score += (score_units(scores) * known.any(1)).sum()
            return
        self.scores += sums_at_thresholds(probabilities, targets, self.grid, self.beta)
        if self.threshold == "per_label":
            # Types that every backend can gather.
            small = torch.uint8 if len(self.grid) < 256 else torch.int32
            # Below every threshold, an unknown label is never decided.
            places = (bucket(probabilities, self.grid) * known)[known.any(1)]
            self.buckets.append(places.to(small))
            self.truth.append((targets >= 0.5)[known.any(1)].to(torch.uint8))

    def compute(self) -> Tensor:
        """Return the mean over all rows, and store the thresholds that make it best."""
        count = self.count.clamp_min(1) * SCORE_UNITS
        if self.fixed_thresholds is not None:
            return self.fixed_score / count
        place = best_index(self.scores)
        best = self.grid[place]
        if self.threshold == "one" or not int(self.count):
            self.best_thresholds = best.repeat(self.num_labels)
            return self.scores[place] / count
        buckets, truth = dim_zero_cat(self.buckets).long(), dim_zero_cat(self.truth)
        places = tune_per_label(buckets, truth, place, len(self.grid), self.beta)
        self.best_thresholds = self.grid[places]
        # As decided in places of the grid, which rounding cannot tell apart from the numbers.
        decided = (buckets > places).float()
        return score_units(sample_fbeta(decided, truth, 0.5, self.beta)).sum() / count


def _grid(grid: int | Sequence[float]) -> Tensor:
    if isinstance(grid, int):
        check_at_least("grid", grid, 1)
        return threshold_grid(grid)
    thresholds = torch.tensor(list(grid), dtype=torch.float32)
    is_rising = bool((thresholds.diff() > 0).all())
    if not len(thresholds) or not is_rising or thresholds[0] < 0 or thresholds[-1] > 1:
        raise ValueError(f"`grid` must be ascending and lie in [0, 1], got {list(grid)}.")
    return thresholds
