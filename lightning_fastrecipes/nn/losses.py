"""What is minimised where classes are predicted: cross entropy and its options, or one's own."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.messages import name_some, shown
from lightning_fastrecipes.protocols import LabelKind

LossFunction = Callable[..., Any]
"""A module or function of logits and targets that returns their mean loss."""


@dataclass(frozen=True)
class Loss:
    """How the cross entropy of classes is changed, in training, validation and test alike.

    Args:
        class_weight: With one label each, how much a row of each class counts in the mean loss: one
            number of at least 0 per class, in their order, or by name, where others count 1;
            ``balanced`` makes all classes of the training split count as much. With several labels
            use ``pos_weight``.
        smoothing: Share of each target in [0, 1) that goes to all classes alike; with several
            labels to yes and no alike.
        focal_gamma: Of the focal loss, at least 0: the loss of a class, or of yes and no, is
            multiplied by ``(1 - its probability) ** focal_gamma``.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> Loss(class_weight={"rare": 5.0}, smoothing=0.1).focal_gamma
        0.0

    References:
        Szegedy et al., *Rethinking the Inception Architecture* (2016), for smoothing; Lin et al.,
        *Focal Loss for Dense Object Detection* (2017).
    """

    class_weight: Literal["balanced"] | list[float] | dict[str, float] | None = None
    smoothing: float = 0.0
    focal_gamma: float = 0.0

    def __post_init__(self) -> None:
        if not (_is_number(self.smoothing) and 0 <= self.smoothing < 1):
            raise ConfigurationError(
                f"`loss.smoothing` must lie in [0, 1), got {shown(self.smoothing)}."
            )
        if not (_is_number(self.focal_gamma) and self.focal_gamma >= 0):
            raise ConfigurationError(
                f"`loss.focal_gamma` must be a number of at least 0, got {shown(self.focal_gamma)}."
                " 0 is the plain cross entropy, 2 is usual."
            )
        given = self.class_weight
        if given is None or given == "balanced":
            return
        numbers: Any = given.values() if isinstance(given, Mapping) else given
        is_list = isinstance(given, (Mapping, Sequence)) and not isinstance(given, str)
        if not is_list or not all(_is_number(one) and one >= 0 for one in numbers):
            raise ConfigurationError(
                "`loss.class_weight` must be 'balanced', or a number of at least 0 for each class,"
                f" in a list or by name, got {shown(given)}."
            )
        if isinstance(given, Mapping):
            # In YAML, names such as 7 are numbers.
            object.__setattr__(self, "class_weight", {str(k): v for k, v in given.items()})

    def weights_of(self, classes: Sequence[str] | None, num_classes: int) -> Tensor | None:
        """Return the weights as given, one per class, or ``None`` if the data must say.

        Raise `ConfigurationError` if their number, or a name, is not that of the classes.
        """
        given = self.class_weight
        if given is None or isinstance(given, str):
            return None
        if isinstance(given, Mapping):
            if classes is None:
                return None
            if unknown := [name for name in given if name not in classes]:
                raise ConfigurationError(
                    f"`loss.class_weight` must name classes of the data, {name_some(classes)}, but"
                    f" names {name_some(unknown)}."
                )
            return _on_cpu([given.get(name, 1.0) for name in classes])
        if len(given) != num_classes:
            raise ConfigurationError(
                f"`loss.class_weight` must have one number for each of the {num_classes} classes,"
                f" got {len(given)}."
            )
        return _on_cpu(given)


class OwnLoss:
    """A loss of the user's own, a module or a function, in place of the cross entropy."""

    def __init__(self, function: LossFunction, name: str) -> None:
        self.function = function
        self.name = name
        if isinstance(function, nn.Module) and any(p.requires_grad for p in function.parameters()):
            raise ConfigurationError(
                f"`loss` must have nothing to train, but {name} has parameters. Put them into the"
                " model, or set `requires_grad` to False."
            )

    def mean(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch. Shape ``()``."""
        return cast(Tensor, self._on(logits.device, self.function)(logits, targets))

    @property
    def has_cells(self) -> bool:
        """Whether it can be asked for the loss of each row, or of each of several labels."""
        return isinstance(self.function, nn.Module) and hasattr(self.function, "reduction")

    def cells(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each row, ``(rows,)``, or of each label, ``(rows, num_labels)``."""
        if not self.has_cells:
            raise ConfigurationError(
                "The loss of each row is needed by weights of rows and by unknown labels, but"
                f" {self.name} gives only their mean. Use a loss of `torch.nn`, or a module with"
                " `reduction`."
            )
        # Its tensors are shared.
        function: Any = copy.copy(self.function)
        function.reduction = "none"
        return cast(Tensor, self._on(logits.device, function)(logits, targets))

    def check(self, kind: LabelKind, num_classes: int) -> None:
        """Raise `ConfigurationError` unless it takes such logits and targets."""
        num_rows = 3 if num_classes != 3 else 4  # else a vector would fit the wrong axis
        logits = torch.zeros(num_rows, num_classes, requires_grad=True)
        targets = torch.arange(num_rows) % num_classes
        if kind != "single":
            targets = nn.functional.one_hot(targets, num_classes).float()
        words = f"logits {tuple(logits.shape)} and targets {tuple(targets.shape)}"
        try:
            with torch.enable_grad():
                found: Any = self._on(logits.device, self.function)(logits, targets)
        except Exception as error:  # it may raise anything
            raise ConfigurationError(
                f"`loss` must take {words} of {targets.dtype}, but {self.name} fails:"
                f" {shown(str(error))}."
            ) from error
        if not isinstance(found, Tensor) or found.ndim or not found.requires_grad:
            got = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else shown(found)
            raise ConfigurationError(
                f"`loss` must return one number that depends on the logits, the mean loss of"
                f" {words}, but {self.name} returns {got}. Set `reduction='mean'`."
            )

    def _on(self, device: torch.device, function: LossFunction) -> LossFunction:
        return function.to(device) if isinstance(function, nn.Module) else function


def _on_cpu(numbers: Sequence[float]) -> Tensor:
    # Models that are loaded are built without memory first, where no number is known.
    return torch.tensor([float(one) for one in numbers], device="cpu")


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(cast(float, value))
