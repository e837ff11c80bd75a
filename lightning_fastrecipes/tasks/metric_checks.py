"""Whether metrics fit what a task hands to them, tried out before any training."""

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torchmetrics import Metric, MetricCollection

from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.tasks.building import FunctionMetric

_ROWS, _MOST_ROWS = 8, 256
_OF_CLASSES = (
    "It gets one column of probabilities per class, and the number of the right class: use a metric"
    " for several classes, such as `torchmetrics.classification.MulticlassF1Score`; `num_classes`"
    " is filled in."
)
_OF_LABELS = (
    "It gets one column of probabilities per label, and 0 or 1 for each: use a metric for several"
    " labels, such as `torchmetrics.classification.MultilabelF1Score`; `num_labels` is filled in."
)
_OF_NUMBERS = (
    "It gets the predicted numbers and the right ones: use a metric of numbers, such as"
    " `torchmetrics.MeanAbsoluteError`."
)
_FAILURES = (TypeError, ValueError, IndexError, RuntimeError, NotImplementedError, AttributeError)


class Example(NamedTuple):
    """What a task hands to its metrics, advice on which fit, and how the names of others begin."""

    predictions: Tensor
    targets: Tensor
    advice: str
    others: tuple[str, ...] = ()


def label_example(num_classes: int, *, multi_label: bool) -> Example:
    """Return made-up probabilities and targets of classes, or of several labels per row."""
    if multi_label:
        targets = (torch.arange(_ROWS)[:, None] + torch.arange(num_classes)) % 2
        return Example(targets * 0.6 + 0.2, targets, _OF_LABELS, ("Multiclass",))
    targets = torch.arange(min(2 * num_classes, _MOST_ROWS)) % num_classes
    probabilities = one_hot(targets, num_classes).float().softmax(dim=1)
    return Example(probabilities, targets, _OF_CLASSES, ("Binary", "Multilabel"))


def number_example(count: int = 1) -> Example:
    """Return made-up predictions of one number per row, or of several beside one another."""
    targets = torch.arange(1.0, _ROWS + 1)
    targets = targets if count == 1 else targets[:, None] + torch.arange(count)
    return Example(targets + 0.25, targets, _OF_NUMBERS, ("Binary", "Multiclass", "Multilabel"))


def check_metrics(task: Any) -> None:
    """Try the metrics of a task on its example, if it has one; they stay as they are.

    Functions that somebody gave in Python are not called, since they may be for certain rows.
    Raise `ConfigurationError`, with advice on what fits, if a metric fails or gives no number.
    """
    example, metrics = task.example(), task.phase_metrics["val_"]
    if example is not None:
        prefix = metrics.prefix or ""
        check_fit({name.removeprefix(prefix): one for name, one in metrics.items()}, example)


def check_fit(metrics: Mapping[str, Metric | MetricCollection], example: Example) -> None:
    """Raise `ConfigurationError` unless each metric makes one number of the example."""
    if torch.empty(0).is_meta:
        return  # of a model that is loaded, without numbers to try them on
    predictions, targets, advice, others = example
    for name, metric in metrics.items():
        if isinstance(metric, FunctionMetric) and not metric.path:
            continue
        path = getattr(metric, "path", "") or type(metric).__name__
        try:
            if type(metric).__name__.startswith(others):
                raise ValueError("it is for another kind of labels")
            value = _value(metric, predictions, targets)
        except _FAILURES as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ConfigurationError(
                f"`metrics.{name}`: `{path}` does not fit what it is given: {reason.rstrip('.')}."
                f" {_counterpart(type(metric).__name__, others)}{advice}"
            ) from error
        if not isinstance(value, (int, float)) and (
            not isinstance(value, Tensor) or value.numel() != 1
        ):
            found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ConfigurationError(
                f"`metrics.{name}` must give one number, but `{path}` gives {found}. Choose its"
                " average, or another metric; confusion matrices are drawn without being asked for."
            )


def compute_alone(metric: Metric) -> None:
    """Let a metric measure what this process holds: all rows, as every other process does."""
    # `sync_on_compute` is heeded in a constructor alone.
    metric.distributed_available_fn = bool


def _counterpart(name: str, others: tuple[str, ...]) -> str:
    """Name the metric of several classes that belongs to one of two, where it would fit."""
    is_other = name.startswith("Binary") and "Binary" in others and "Multiclass" not in others
    return f"Use `{name.replace('Binary', 'Multiclass', 1)}`. " if is_other else ""


def _value(metric: Metric | MetricCollection, predictions: Tensor, targets: Tensor) -> object:
    tried: Any = metric.clone().cpu()
    for one in tried.values() if isinstance(tried, MetricCollection) else [tried]:
        compute_alone(one)
    tried.reset()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as of classes that the example lacks
        tried.update(predictions, targets)
        return tried.compute()
