"""From probabilities to decided labels, and the thresholds of an exported model."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from lightning_fastrecipes.functional.labels.targets import hard_labels


def decide_labels(probabilities: Tensor, thresholds: Tensor | float) -> Tensor:
    """Return which labels hold: those whose probability reaches the threshold.

    Thresholds are one number or one per label, ``(num_labels,)``; the result is ``bool``.

    >>> decide_labels(torch.tensor([[0.3, 0.2]]), torch.tensor([0.3, 0.5])).tolist()
    [[True, False]]
    """
    return probabilities >= thresholds


def decided_names(
    values: Tensor, classes: Sequence[str], thresholds: Tensor | float | None = None
) -> list[str]:
    """Return the name of the decided class of each row; with thresholds, of all its labels.

    Labels are joined by a space, or by a sign that no label has. Values are probabilities or
    targets, ``(rows, num_classes)``, or class indices.

    >>> decided_names(torch.tensor([[0.6, 0.8]]), ["sun", "sea"], 0.5)
    ['sun sea']
    """
    if thresholds is None:
        return [classes[index] for index in hard_labels(values).tolist()]
    separator = next(sign for sign in (" ", ",", ";", "|", "\t") if sign not in "".join(classes))
    return [
        separator.join(name for name, holds in zip(classes, row, strict=True) if holds)
        for row in decide_labels(values, thresholds).tolist()
    ]


def describe_thresholds(
    plain: Tensor | None, with_views: Tensor | None, classes: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return the entries of an export for the thresholds of predictions without and with views.

    There are none with one label per sample, where ``plain`` is ``None``.
    """
    if plain is None:
        return {}
    if with_views is None:
        return {"thresholds": _by_name(plain, classes)}
    found = {"thresholds": with_views, "plain_thresholds": plain}
    return {key: _by_name(values, classes) for key, values in found.items()}


def choose_thresholds(
    description: Mapping[str, Any], *, with_views: bool
) -> dict[str, float] | None:
    """Read the thresholds for predictions with or without views; ``None`` with one label."""
    plain = description.get("plain_thresholds")
    chosen: dict[str, float] | None = description.get("thresholds")
    return chosen if with_views or plain is None else plain


def average_thresholds(rows: Sequence[Mapping[str, float]], classes: Sequence[str]) -> list[float]:
    """Return the mean threshold of each class over several models."""
    return [sum(row[name] for row in rows) / len(rows) for name in classes]


def _by_name(thresholds: Tensor, classes: Sequence[str]) -> dict[str, float]:
    # The shortest text that gives the same number again.
    values = [float(str(value)) for value in thresholds.cpu().numpy()]
    return dict(zip(classes, values, strict=True))
