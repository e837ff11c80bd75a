"""What the outputs of a module are: what ``TestTimeAugmentation`` averages, and how."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import SetupError
from lightning_fastrecipes.functional.images.batches import by_name
from lightning_fastrecipes.functional.labels.output_losses import PredictionKind

Outputs = Literal["classes", "binary", "labels", "probabilities", "numbers", "maps"]
"""``classes``: logits of classes; ``binary``: one logit; ``labels``: a logit a label;
``probabilities``: no logits any more; ``numbers``: as they are; ``maps``: as they are, turned back
with the image."""

Activation = Literal["module", "softmax", "sigmoid", "none"]
Part = str | int | None
_ACTIVATIONS: dict[Outputs, Activation] = {
    "classes": "softmax",
    "binary": "sigmoid",
    "labels": "sigmoid",
    "probabilities": "none",
    "numbers": "none",
    "maps": "none",
}
KINDS: dict[Any, PredictionKind] = {"multi": "yes_no", "numbers": "numbers"}
"""What is predicted, by the ``label_kind`` of a module; all others are classes."""

_CURE = (
    "Write `outputs='classes'` (logits of classes), 'binary' (one logit), 'labels' (a logit a"
    " label), 'probabilities', 'numbers' or 'maps' (averaged as they are), or give the module a"
    " method `probabilities`."
)


@dataclass(frozen=True)
class OutputRule:
    """How the output of a module becomes predictions, which are averaged.

    ``part`` of the output is taken, ``slot`` of what ``predict_step`` returns is replaced; both are
    ``None`` for a tensor. Predictions of a map are turned back with the image.
    """

    activation: Activation
    part: Part
    slot: Part
    is_map: bool
    kind: PredictionKind

    def predictions(self, module: Any, output: Any) -> Tensor:
        """Return the predictions of an output of ``forward``, ``float32``."""
        return _activated(module, _part_of(output, self.part), self.activation)

    def slot_of(self, returned: Any) -> Any:
        """Return what is replaced in the result of ``predict_step``."""
        return _part_of(returned, self.slot)


def read_outputs(
    module: pl.LightningModule,
    output: Any,
    images: Tensor,
    *,
    returned: Any = None,
    must_match: bool = True,
    targets: Tensor | None = None,
    asked: Outputs | None = None,
    part: Part = None,
) -> OutputRule:
    """Decide what the output of ``forward`` is, or refuse with the cure.

    By what ``predict_step`` ``returned`` for the same images, else by ``asked``, else by what the
    numbers and ``targets`` leave no doubt of: rows that sum to 1 are probabilities, and class
    indices belong to logits of classes. With ``must_match``, ``predict_step`` must return an
    output, its softmax or its sigmoid.
    """
    parts = _tensors(output, len(images))
    if part is not None:
        _part_of(output, part)
        parts = {part: parts[part]} if part in parts else {}
    if not parts:
        raise _unknown(
            module, output, "among which there is no tensor of numbers, one row an image"
        )
    name, slot, found = _compare(parts, returned, must_match=must_match)
    if name is _SEVERAL:
        names = ", ".join(repr(one) for one in parts)
        raise SetupError(
            f"`TestTimeAugmentation` cannot know which output of `{type(module).__name__}` is"
            f" averaged: there are {names}. Write `part={next(iter(parts))!r}`, or another one."
        )
    values = parts[name].float()
    label_kind = getattr(module, "label_kind", None)
    activation = found if found in ("softmax", "sigmoid") else None
    if asked is not None:
        _check_asked(module, values, asked, found)
        activation = activation or _ACTIVATIONS[asked]
    elif activation is None:
        activation = _evident(values, targets, label_kind)
    if activation is None:
        does = ", and `predict_step` returns them as they are" if found == "none" else ""
        shape = f"shape {tuple(values.shape)}{does}"
        raise _unknown(module, output, shape)
    is_map = _is_map(values, images, asked, activation)
    if activation == "softmax":
        kind: PredictionKind = "classes"
    elif activation == "sigmoid":
        kind = "yes_no"
    elif asked in ("numbers", "maps"):
        kind = "raw" if is_map else "numbers"
    else:
        kind = _kind_of(values, label_kind)
    return OutputRule(activation, name, slot, is_map, kind)


def rule_of_protocol(
    module: pl.LightningModule, output: Any, images: Tensor, given: Any, part: Part
) -> OutputRule:
    """Return the rule of a module that says by its ``probabilities`` what outputs are.

    ``given`` may hold the probabilities that one of its steps has returned already.
    """
    slots = _tensors(given, len(images))
    slot = next(iter(slots), None)
    values = given
    if not isinstance(given, Tensor):
        values = _activated(module, _part_of(output, part), "module")
    if not isinstance(values, Tensor):
        raise SetupError(
            f"`probabilities` of `{type(module).__name__}` must return a tensor, one row an image,"
            f" but returned a {type(values).__name__}. Return the tensor to be averaged."
        )
    kind = _kind_of(values, getattr(module, "label_kind", None))
    return OutputRule("module", part, slot, _is_map(values, images, None, "module"), kind)


_SEVERAL = object()


def _compare(parts: Mapping[Any, Tensor], returned: Any, *, must_match: bool) -> Any:
    """Return which part ``predict_step`` returns, where, and what it has done to it."""
    alone = next(iter(parts)) if len(parts) == 1 else _SEVERAL
    if returned is None:
        return alone, None, None
    length = len(next(iter(parts.values())))
    slots = _tensors(returned, length)
    matches = [
        (name, slot, activation)
        for slot, given in slots.items()
        for name, values in parts.items()
        for activation in ("softmax", "sigmoid", "none")
        if _is_same(values, given, activation)
    ]
    activated = [match for match in matches if match[2] != "none"]
    # One output may have several names; several heads are no single prediction.
    names = {slot: name for name, slot, _ in reversed(activated)}
    if len(set(names.values())) > 1:
        return _SEVERAL, None, None
    if matches:
        return (activated or matches)[0]
    if not must_match:
        return alone, None, None
    expected = ", ".join(str(tuple(values.shape)) for values in parts.values())
    found = [f"a tensor of shape {tuple(one.shape)}" for one in slots.values()]
    raise SetupError(
        f"`predict_step` must return a tensor of shape {expected}, one row an image: what `forward`"
        " gives, its softmax or its sigmoid, by itself or within a dictionary or tuple, but"
        f" returned {', '.join(found) or type(returned).__name__} with other numbers. Return logits"
        " or probabilities, or give the module a method `probabilities`."
    )


def _is_same(values: Tensor, given: Tensor, activation: Activation) -> bool:
    if values.numel() != given.numel() or len(values) != len(given):
        return False
    if activation == "softmax" and (values.ndim < 2 or values.shape[1] < 2):
        return False
    is_exact = given.dtype in (torch.float32, torch.float64) and values.dtype == given.dtype
    tolerance = 1e-4 if is_exact else 2e-2
    expected = _activated(None, values, activation).reshape(len(given), -1)
    flat = given.float().reshape(len(given), -1)
    return torch.allclose(flat, expected, rtol=tolerance, atol=tolerance / 10)


def _activated(module: Any, values: Any, activation: Activation) -> Tensor:
    if activation == "module":
        values = values.float() if isinstance(values, Tensor) else values
        probabilities: Tensor = module.probabilities(values)
        return probabilities
    numbers: Tensor = values.float()
    if activation == "softmax":
        return torch.softmax(numbers, dim=1)
    return numbers.sigmoid() if activation == "sigmoid" else numbers


def _evident(values: Tensor, targets: Tensor | None, label_kind: Any) -> Activation | None:
    if label_kind is not None:
        kind = KINDS.get(label_kind, "classes")
        found: dict[str, Activation] = {"yes_no": "sigmoid", "numbers": "none"}
        return found.get(kind, "softmax")
    if _sums_to_one(values):
        return "none"
    if targets is None or targets.is_floating_point() or values.ndim < 2 or values.shape[1] < 2:
        return None
    indexed = targets.numel() * values.shape[1] == values.numel()
    return "softmax" if indexed and int(targets.max()) < max(values.shape[1], 256) else None


def _sums_to_one(values: Tensor) -> bool:
    if values.ndim < 2 or values.shape[1] < 2 or not values.numel() or bool((values < 0).any()):
        return False
    return bool(((values.sum(dim=1) - 1).abs() < 1e-3).all())


def _kind_of(values: Tensor, label_kind: Any) -> PredictionKind:
    """Return what probabilities are: of classes that exclude one another, or not."""
    if label_kind is not None:
        return KINDS.get(label_kind, "classes")
    return "classes" if _sums_to_one(values) else "yes_no"


def _is_map(values: Tensor, images: Tensor, asked: Outputs | None, activation: Activation) -> bool:
    if values.ndim < 3 or asked == "numbers":
        return False
    height, width = images.shape[-2:]
    rows, columns = values.shape[-2:]
    # Strides that do not divide an image leave a map that lies on it but for a part of a pixel.
    slack = max(height, width) if asked == "maps" else 0
    is_alike = abs(rows * width - columns * height) <= slack
    # Classes lie along the second dimension, which is then no height.
    has_size = (rows, columns) == (height, width) and activation != "softmax"
    if is_alike and (values.ndim == 4 or (values.ndim == 3 and (has_size or asked == "maps"))):
        return True
    raise SetupError(
        f"`TestTimeAugmentation` takes maps (batch, channels, height, width) or (batch, height,"
        f" width) that lie on their images, but the outputs are {tuple(values.shape)} for images of"
        f" {height} x {width}. If they do so, but for a part of a pixel, write `outputs='maps'`; if"
        " they are averaged as they are, write `outputs='numbers'`."
    )


def _check_asked(
    module: pl.LightningModule, values: Tensor, asked: Outputs, found: Activation | None
) -> None:
    usual = _ACTIVATIONS[asked]
    is_dense = asked == "maps" or (asked == "numbers" and values.ndim > 2)
    if found in ("softmax", "sigmoid") and not is_dense and found != usual:
        raise SetupError(
            f"`outputs={asked!r}` does not fit `{type(module).__name__}`: its `predict_step`"
            f" returns the {found} of what `forward` gives. Leave `outputs` out."
        )
    if usual == "softmax" and found != usual and _sums_to_one(values):
        raise SetupError(
            f"`outputs={asked!r}` needs logits, but what `forward` of `{type(module).__name__}`"
            " gives sums to 1 in each row. Write `outputs='probabilities'`."
        )
    columns = values.shape[1] if values.ndim > 1 else 1
    needs = {
        "classes": (columns > 1, "at least 2 columns"),
        "binary": (columns == 1 or values.ndim == 3, "one column"),
        "labels": (values.ndim > 1, "a column a label"),
        "maps": (values.ndim > 2, "height and width"),
        "probabilities": (bool(((values >= 0) & (values <= 1)).all()), "numbers in [0, 1]"),
    }
    fits, need = needs.get(asked, (True, ""))
    if not fits:
        low, high = (float(end) for end in values.aminmax())
        raise SetupError(
            f"`outputs={asked!r}` needs {need}, but `forward` of `{type(module).__name__}` gives"
            f" shape {tuple(values.shape)} with numbers from {low:.3g} to {high:.3g}. {_CURE}"
        )


def _tensors(value: Any, length: int) -> dict[Any, Tensor]:
    """Return the tensors of floats with a row an image, by their names; ``None`` for one alone."""
    value = by_name(value)
    if isinstance(value, Mapping):
        named: dict[Any, Any] = dict(value)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        named = dict(enumerate(value))
    else:
        named = {None: value}
    return {
        name: one
        for name, one in named.items()
        if isinstance(one, Tensor) and one.is_floating_point() and one.ndim and len(one) == length
    }


def _part_of(value: Any, part: Part) -> Any:
    if part is None:
        return value
    named = by_name(value)
    try:
        return named[part]
    except (KeyError, IndexError, TypeError) as error:
        names = list(named) if isinstance(named, Mapping) else type(value).__name__
        raise SetupError(
            f"`TestTimeAugmentation(part={part!r})` names no part of the outputs, which are"
            f" {names}. Name one of them, or leave `part` out."
        ) from error


def _unknown(module: pl.LightningModule, output: Any, found: str) -> SetupError:
    what = f" a {type(output).__name__}," if not isinstance(output, Tensor) else ""
    return SetupError(
        "`TestTimeAugmentation` cannot know what the outputs of"
        f" `{type(module).__name__}` are: `forward` gives{what} {found}. {_CURE}"
    )
