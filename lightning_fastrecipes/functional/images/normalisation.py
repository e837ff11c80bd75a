"""Mean and deviation of the pixels of a set of images."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor

from lightning_fastrecipes.errors import ConfigurationError, DataError
from lightning_fastrecipes.messages import shown, suggestion
from lightning_fastrecipes.protocols import InputSpec

Normalize = Literal["weights", "dataset", "mean_image"] | dict[str, list[float]]
"""``weights``: as the model's weights expect; ``dataset``: by mean and deviation per channel of the
training images; ``mean_image``: minus their mean image, over the deviation per channel of what is
left; or ``{"mean": [...], "std": [...]}`` of pixels in [0, 1], one number per channel."""

_FAR = 1e-4


def check_normalize(value: Any) -> Normalize:
    """Return what ``normalize`` may be, or raise `ConfigurationError`."""
    names = [str(name) for name in get_args(get_args(Normalize)[0])]
    if isinstance(value, str) and value in names:
        return cast(Normalize, value)
    if not isinstance(value, Mapping) or set(value) != {"mean", "std"}:
        hint = suggestion(value, names) if isinstance(value, str) else ""
        raise ConfigurationError(
            f"`normalize` must be one of {', '.join(names)}, or a mapping of `mean` and `std`, got"
            f" {shown(value)}.{hint}"
        )
    try:
        mean, std = ([float(number) for number in value[name]] for name in ("mean", "std"))
    except (TypeError, ValueError):
        raise ConfigurationError(
            "`normalize` must have lists of numbers for `mean` and `std`, one for each channel, got"
            f" {dict(value)}."
        ) from None
    if len(mean) != len(std) or not mean or min(std) <= 0 or not _in_unit([*mean, *std]):
        raise ConfigurationError(
            "`normalize` must have one mean in [0, 1] and one deviation in (0, 1] for each channel,"
            f" got {dict(value)}. Divide them by 255 if they are of bytes."
        )
    return {"mean": mean, "std": std}


def given_spec(spec: InputSpec, value: Mapping[str, Sequence[float]]) -> InputSpec:
    """Return a spec that normalises by given means and deviations."""
    mean, std = tuple(value["mean"]), tuple(value["std"])
    return replace(spec, mean=mean, std=std, mean_image=None, normalize="given")


def measured_spec(
    spec: InputSpec, batches: Iterable[Tensor], normalize: Literal["dataset", "mean_image"]
) -> InputSpec:
    """Measure images in one pass, and return a spec that normalises by what was found.

    The ``batches`` are ``uint8``, ``(batch, channels, height, width)``, of one size. Sums are whole
    numbers, and so exact: neither the order nor the size of the batches matters. Raise `DataError`
    if there are no images, or a channel has one value alone.

    >>> images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
    >>> found = measured_spec(InputSpec(), [images], "dataset")
    >>> found.mean, found.std
    ((0.5,), (0.5,))
    """
    count, total, squares = 0, torch.zeros(()).long(), torch.zeros(()).long()
    for images in batches:
        whole = images.cpu().long()
        count += len(whole)
        total = total + whole.sum(0)
        squares = squares + whole.square().sum(dim=(0, 2, 3))
    if not count:
        raise DataError("There must be training images to measure mean and deviation of, got none.")
    image = total.double() / count / 255
    num_pixels = image[0].numel()
    mean = image.mean(dim=(1, 2))
    middle = image.square().mean(dim=(1, 2)) if normalize == "mean_image" else mean.square()
    variance = squares.double() / (count * num_pixels) / 255**2 - middle
    std = variance.clamp(min=0).sqrt()
    if bool((std < _FAR).any()):
        flat = (std < _FAR).nonzero().flatten().tolist()
        raise DataError(
            f"Training images must differ to be normalised by their deviation, but channels {flat}"
            " have one value alone. Set `normalize` to 'weights' or to a mean and deviation."
        )
    return replace(
        spec,
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        mean_image=image.float() if normalize == "mean_image" else None,
        normalize=normalize,
    )


def _in_unit(numbers: Sequence[float]) -> bool:
    return all(0 <= number <= 1 for number in numbers)
