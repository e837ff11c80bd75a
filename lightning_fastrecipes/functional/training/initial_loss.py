"""What the first batch must show, before a model has learned anything."""

import math

import torch
from torch import Tensor

from lightning_fastrecipes.functional.labels.targets import known_labels
from lightning_fastrecipes.protocols import InputSpec

_FAR_MEAN = 3.0
_SMALL_DEVIATION, _LARGE_DEVIATION = 0.1, 5.0
_ROUNDING = 1e-3
_IGNORED = -100
_MARGIN, _AT_THE_END = 0.1, 0.01
_USUAL = {
    "mean and deviation 0.5": InputSpec(mean=(0.5,) * 3, std=(0.5,) * 3),
    "the mean and deviation of ImageNet": InputSpec(),
}


def expected_initial_loss(
    num_classes: int,
    *,
    multi_label: bool = False,
    targets: Tensor | None = None,
    pos_weight: Tensor | None = None,
) -> float:
    """Return the cross entropy of even probabilities, from which a new head starts.

    That is ``log(num_classes)``; with several labels, the mean over yes and no, ``log(2)``. Targets
    and ``pos_weight``, of shapes ``(batch, num_classes)`` and ``(num_classes,)``, multiply it by
    the mean weight. Raises ValueError if there is no class.

    >>> round(expected_initial_loss(10), 3)
    2.303
    >>> round(expected_initial_loss(17, multi_label=True), 3)
    0.693
    """
    if num_classes < 1:
        raise ValueError(f"`num_classes` must be at least 1, got {num_classes}.")
    if not multi_label and num_classes > 1:
        return math.log(num_classes)
    if targets is None or pos_weight is None:
        return math.log(2)
    known = known_labels(targets)
    weights = 1 + (pos_weight.to(targets) - 1) * targets
    return math.log(2) * float(weights[known].mean())


def label_problem(targets: Tensor, num_classes: int, *, multi_label: bool = False) -> str | None:
    """Return what is wrong with the labels of a batch and what to do, or ``None``.

    Targets are class indices ``(batch,)``, or ``(batch, length)`` of sequences, -100 where torch's
    losses ignore them; or one number for each class ``(batch, num_classes)``: probabilities that
    sum to 1, or yes and no between 0 and 1 if ``multi_label``, NaN or -1 where that is unknown; or
    one yes or no, if there are two classes or one.

    >>> label_problem(torch.tensor([0, 3]), num_classes=3)
    'labels must lie in 0 to 2, but reach from 0 to 3. Check the class map and `num_classes`.'
    """
    # What maps of labels and the like must hold is not known here.
    if not targets.numel() or targets.ndim > 2:
        return None
    is_float = targets.is_floating_point()
    is_sequence = not is_float and targets.ndim == 2 and not multi_label and num_classes > 1
    if is_sequence and (targets.shape[1] != num_classes or int(targets.max()) > 1):
        targets = targets.flatten()
    if not is_float and targets.ndim == 1:
        targets = targets[targets != _IGNORED]
        if not targets.numel():
            return None
    if num_classes == 2 and is_float and targets[0].numel() == 1:
        num_classes = 1  # one logit says which of the two
    low, high = float(targets.min()), float(targets.max())
    if num_classes == 1:
        multi_label, num_classes = True, 2 if targets.ndim == 1 else 1
        if targets.ndim == 1 and targets.is_floating_point():
            targets = targets[:, None]
            num_classes = 1
    if not targets.is_floating_point() and targets.ndim == 1:
        if low >= 0 and high < num_classes:
            return None
        return (
            f"labels must lie in 0 to {num_classes - 1}, but reach from {low:g} to {high:g}. Check"
            " the class map and `num_classes`."
        )
    if targets.ndim != 2 or targets.shape[1] != num_classes:
        return (
            f"targets must have one column for each of the {num_classes} classes, but their shape"
            f" is {tuple(targets.shape)}."
        )
    if multi_label:
        given = targets[~(targets.isnan() | (targets == -1))]
        low, high = (float(end) for end in given.aminmax()) if given.numel() else (0.0, 0.0)
    if not (low >= 0 and high <= 1):
        return (
            f"probabilities must lie in 0 to 1, but reach from {low:g} to {high:g}. Scale the"
            " labels."
        )
    sums = targets.sum(dim=1)
    if not multi_label and bool((sums - 1).abs().max() > _ROUNDING):
        return (
            f"probabilities of a row must sum to 1, but sum to {float(sums.min()):g} up to"
            f" {float(sums.max()):g}. If several labels may hold at once, set `multi_label`."
        )
    return None


def pixel_problem(images: Tensor) -> str | None:
    """Return what is wrong with the scale of normalised images and what to do, or ``None``.

    >>> pixels = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> print(pixel_problem(pixels))
    None
    >>> print(pixel_problem(255 * pixels.sigmoid()).partition(",")[0])
    pixels have mean 129.5 and deviation 51.1
    """
    if not bool(torch.isfinite(images).all()):
        return "pixels must be finite numbers, but some are not. Check the transforms."
    mean, deviation = float(images.float().mean()), float(images.float().std())
    if abs(mean) > _FAR_MEAN or not _SMALL_DEVIATION < deviation < _LARGE_DEVIATION:
        return (
            f"pixels have mean {mean:.1f} and deviation {deviation:.1f}, but normalised ones are"
            " near 0 and 1. Normalise with mean and deviation of the weights."
        )
    return None


def normalisation_problem(images: Tensor, spec: InputSpec) -> str | None:
    """Return what is wrong with the range of normalised floats that a spec is to have made.

    Images are ``(batch, channels, height, width)``. Found are images in [0, 1] for weights that
    want black below 0, numbers that no image has after the spec, and ranges from end to end of
    another usual spec. ``None`` if nothing is wrong, or if the spec subtracts a mean image.

    >>> pixels = torch.linspace(0, 1, 192).view(1, 3, 8, 8)
    >>> print(normalisation_problem((pixels - 0.5) / 0.5, InputSpec((0.5,) * 3, (0.5,) * 3)))
    None
    >>> print(normalisation_problem(pixels, InputSpec()).partition(",")[0])
    pixels lie in 0 to 1
    """
    if spec.mean_image is not None or images.shape[1] != len(spec.mean) or not images.numel():
        return None
    low, high = (end.cpu() for end in _channel_ends(images.float()))
    least, most = _ends_of(spec)
    wanted = (
        f"but with mean {_listed(spec.mean)} and deviation {_listed(spec.std)} of the weights they"
        f" reach from {float(least.min()):.2f} to {float(most.max()):.2f}. Normalise with these."
    )
    if bool((low >= 0).all() and (high <= 1).all() and (least < -_MARGIN).all()):
        return f"pixels lie in 0 to 1, none below, {wanted}"
    margin = _MARGIN * (most - least)
    if bool((low < least - margin).any() or (high > most + margin).any()):
        found = f"{float(low.min()):.2f} to {float(high.max()):.2f}"
        return f"pixels reach from {found}, {wanted}"
    for name, other in _USUAL.items():
        if len(other.mean) != len(spec.mean):
            continue
        ends = _ends_of(other)
        near = _AT_THE_END * (ends[1] - ends[0])
        fits = ((low - ends[0]).abs() <= near) & ((high - ends[1]).abs() <= near)
        differs = ((ends[0] - least).abs() > margin) | ((ends[1] - most).abs() > margin)
        if bool(fits.all() and differs.any()):
            return f"pixels look normalised with {name}, {wanted}"
    return None


def _channel_ends(images: Tensor) -> tuple[Tensor, Tensor]:
    return images.amin(dim=(0, 2, 3)), images.amax(dim=(0, 2, 3))


def _ends_of(spec: InputSpec) -> tuple[Tensor, Tensor]:
    mean, std = torch.tensor(spec.mean), torch.tensor(spec.std)
    return -mean / std, (1 - mean) / std


def _listed(numbers: tuple[float, ...]) -> str:
    return ", ".join(f"{number:.3g}" for number in dict.fromkeys(numbers))
