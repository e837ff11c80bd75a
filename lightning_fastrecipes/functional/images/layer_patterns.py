"""Convolutional networks written in one line, and the arithmetic of their sizes."""

import re
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal, cast

from lightning_fastrecipes.messages import suggestion

Activation = Literal["relu", "leaky_relu", "elu", "tanh", "sigmoid", "maxout", "none"]
Padding = int | Literal["valid", "same"]
"""Pixels of zeros on each side: ``valid`` is 0, ``same`` keeps the side where the stride is 1."""


@dataclass(frozen=True)
class Conv:
    """A convolution. Its width is named elsewhere if it is ``None``."""

    width: int | None = None
    kernel_size: int | None = None
    stride: int | None = None
    padding: Padding | None = None
    dilation: int | None = None


@dataclass(frozen=True)
class Pool:
    """A window that is ``size`` pixels wide; it moves by ``stride``, or else by its own size."""

    kind: Literal["max", "average"] = "max"
    size: int = 2
    stride: int | None = None
    padding: int = 0


@dataclass(frozen=True)
class Dense:
    """A fully connected layer. Its width is named elsewhere if it is ``None``."""

    width: int | None = None


@dataclass(frozen=True)
class Activate:
    """A non-linear function of every value."""

    name: Activation


Layer = Conv | Pool | Dense | Activate

PATTERNS: dict[str, tuple[int, str]] = {
    "linear": (28, "INPUT -> FC"),
    "two_layer": (28, "INPUT -> [FC -> RELU] -> FC"),
    "lenet": (
        32,
        "INPUT -> CONV(6, 5) -> TANH -> AVERAGE_POOL -> CONV(16, 5) -> TANH -> AVERAGE_POOL"
        " -> FC(120) -> TANH -> FC(84) -> TANH -> FC",
    ),
    "alexnet": (
        227,
        "INPUT -> CONV(96, 11, stride=4) -> RELU -> POOL(3, 2)"
        " -> CONV(256, 5, padding=same) -> RELU -> POOL(3, 2)"
        " -> [CONV(384, 3, padding=same) -> RELU]*2 -> CONV(256, 3, padding=same) -> RELU"
        " -> POOL(3, 2) -> [FC(4096) -> RELU]*2 -> FC",
    ),
    "zfnet": (
        225,
        "INPUT -> CONV(96, 7, stride=2, padding=1) -> RELU -> POOL(3, 2)"
        " -> CONV(256, 5, stride=2) -> RELU -> POOL(3, 2, padding=1)"
        " -> CONV(512, 3, padding=same) -> RELU -> CONV(1024, 3, padding=same) -> RELU"
        " -> CONV(512, 3, padding=same) -> RELU -> POOL(3, 2) -> [FC(4096) -> RELU]*2 -> FC",
    ),
    "vgg16": (
        224,
        "INPUT -> [CONV(64, 3, padding=same) -> RELU]*2 -> POOL"
        " -> [CONV(128, 3, padding=same) -> RELU]*2 -> POOL"
        " -> [CONV(256, 3, padding=same) -> RELU]*3 -> POOL"
        " -> [[CONV(512, 3, padding=same) -> RELU]*3 -> POOL]*2 -> [FC(4096) -> RELU]*2 -> FC",
    ),
}
"""Image size in pixels and pattern of the plain networks of the Stanford course CS231n.

ZFNet has 225 pixels in place of 224, which leave half a step of its stride."""

_ARGUMENTS = {
    "CONV": ("width", "kernel_size", "stride", "padding", "dilation"),
    "POOL": ("size", "stride", "padding"),
    "AVERAGE_POOL": ("size", "stride", "padding"),
    "FC": ("width",),
    **dict.fromkeys(("RELU", "LEAKY_RELU", "ELU", "TANH", "SIGMOID", "MAXOUT"), ()),
}
_GROUP = re.compile(r"\[([^\[\]]*)\](?:\s*\*\s*(\w+))?")
_LAYER = re.compile(r"([A-Za-z_]+)\??(?:\(([^()]*)\))?")
_NOTHING = "_"  # what a group that is repeated 0 times leaves
# A pattern may stand in the file of a stranger.
_MAX_LENGTH, _MAX_LAYERS, _MAX_NUMBER = 100_000, 1_000, 65_536


def parse_pattern(pattern: str) -> list[Layer]:
    """Return the layers of a network between its input and its last ``FC``, written out.

    ``CONV``, ``POOL``, ``AVERAGE_POOL``, ``FC`` and activations are joined by ``->``; ``[...]*3``
    repeats. In brackets a layer has ``CONV(width, kernel_size, stride=, padding=, dilation=)``,
    ``POOL(size, stride, padding=)``, ``FC(width)``. Raise `ValueError` if that is not kept to.

    >>> parse_pattern("INPUT -> [CONV(8) -> RELU]*1 -> POOL? -> FC")
    ... # doctest: +NORMALIZE_WHITESPACE
    [Conv(width=8, kernel_size=None, stride=None, padding=None, dilation=None),
     Activate(name='relu'), Pool(kind='max', size=2, stride=None, padding=0)]
    """
    if pattern.strip() and "->" not in pattern:
        hint = suggestion(pattern, PATTERNS)
        raise _wrong(pattern, f"there is no network of this name.{hint}")
    names = _written_out(pattern)
    if names[0] != "INPUT" or names[-1] != "FC" or len(names) < 2:
        raise _wrong(pattern, "it must begin with INPUT and end with FC, the scores of the classes")
    if len(names) > _MAX_LAYERS:
        raise _wrong(
            pattern, f"it must have at most {_MAX_LAYERS:,} layers, but has {len(names):,}"
        )
    layers = [_layer(name, pattern) for name in names[1:-1] if name != _NOTHING]
    dense = next((n for n, layer in enumerate(layers) if isinstance(layer, Dense)), len(layers))
    if any(isinstance(layer, (Conv, Pool)) for layer in layers[dense:]):
        raise _wrong(
            pattern, "CONV and POOL must stand before the first FC, after which is no place"
        )
    return layers


def output_side(
    side: int, kernel_size: int, stride: int = 1, padding: Padding = 0, dilation: int = 1
) -> int:
    """Return the side of a convolution's output: (W - F + 2P) / S + 1, all in pixels.

    Raise `ValueError` with the arithmetic if no pixel is left, or the steps do not fit.

    >>> output_side(32, kernel_size=5, stride=1, padding=2)
    32
    >>> output_side(10, kernel_size=3, stride=2)
    Traceback (most recent call last):
    ...
    ValueError: (W - F + 2P)/S + 1 = (10 - 3 + 2*0)/2 + 1 = 4.5, which must be a whole number
    """
    reach = dilation * (kernel_size - 1) + 1
    zeros = num_zeros(kernel_size, padding, dilation)
    steps, rest = divmod(side - reach + 2 * zeros, stride)
    if rest or steps < 0:
        value = (side - reach + 2 * zeros) / stride + 1
        why = "a whole number" if rest else "at least 1"
        wide = f" with F = {dilation}*({kernel_size} - 1) + 1" if dilation > 1 else ""
        raise ValueError(
            f"(W - F + 2P)/S + 1 = ({side} - {reach} + 2*{zeros})/{stride} + 1 = {value:.4g}{wide},"
            f" which must be {why}"
        )
    return steps + 1


def num_zeros(kernel_size: int, padding: Padding, dilation: int = 1) -> int:
    """Return the pixels of zeros on each side; a ValueError if ``same`` cannot be kept.

    >>> num_zeros(5, "same"), num_zeros(5, "valid"), num_zeros(3, "same", dilation=2)
    (2, 0, 2)
    """
    if padding == "same":
        if dilation * (kernel_size - 1) % 2:
            raise ValueError(
                f"padding 'same' must have an odd kernel size, but that is {kernel_size}"
            )
        return dilation * (kernel_size - 1) // 2
    return 0 if padding == "valid" else padding


def pooled_side(side: int, pool: Pool) -> int:
    """Return the side after pooling; pixels at the end that fill no window are left out.

    Raise `ValueError` with the arithmetic if no window fits.

    >>> pooled_side(7, Pool())
    3
    """
    stride = pool.stride or pool.size
    if side + 2 * pool.padding < pool.size:
        value = (side - pool.size + 2 * pool.padding) / stride + 1
        raise ValueError(
            f"(W - F + 2P)/S + 1 = ({side} - {pool.size} + 2*{pool.padding})/{stride} + 1 ="
            f" {value:.4g}, which must be at least 1"
        )
    return (side - pool.size + 2 * pool.padding) // stride + 1


def num_parameters(kernel_size: int, in_channels: int, width: int) -> int:
    """Return the weights and biases of a convolution of ``width`` filters.

    >>> num_parameters(kernel_size=5, in_channels=3, width=10)
    760
    """
    return (kernel_size**2 * in_channels + 1) * width


def _written_out(pattern: str) -> list[str]:
    """Return the words between the arrows, groups repeated as often as they say."""

    def repeat(match: re.Match[str]) -> str:
        times = match[2] or "1"
        if not times.isdecimal():
            raise _wrong(pattern, f"`*{times}` must be a number")
        if len(times) > 6 or int(times) * len(match[1]) > _MAX_LENGTH:
            raise _wrong(pattern, "it must be shorter when it is written out")
        return "->".join([match[1]] * int(times)) or _NOTHING

    text, found = pattern.strip(), 1
    while found and len(text) <= _MAX_LENGTH:
        text, found = _GROUP.subn(repeat, text)
    return [word.strip() for word in text.split("->")]


def _layer(word: str, pattern: str) -> Layer:
    match = _LAYER.fullmatch(word)
    if match is None:
        raise _wrong(pattern, f"`{word[:40]}` is no layer between two arrows")
    name, inside = match[1].upper(), match[2] or ""
    if name not in _ARGUMENTS:
        hint = suggestion(name, _ARGUMENTS) or f" Known are {', '.join(_ARGUMENTS)}."
        raise _wrong(pattern, f"there is no layer {name}.{hint}")
    known = _ARGUMENTS[name]
    values: dict[str, Any] = {}
    for key, item in zip_longest(known, filter(None, inside.split(","))):
        *named, text = (part.strip() for part in (item or "").split("="))
        key = named[0] if named else key
        if item is None:
            continue
        is_word = name == "CONV" and key == "padding" and text in ("same", "valid")
        least = 0 if key == "padding" else 1
        if key not in known or key in values or not (is_word or text.isdecimal()):
            takes = ", ".join(known) or "nothing"
            raise _wrong(pattern, f"`{word}` cannot be read; {name} takes whole numbers: {takes}")
        if not is_word and not (len(text) < 9 and least <= int(text) <= _MAX_NUMBER):
            limits = f"from {least} to {_MAX_NUMBER:,}"
            raise _wrong(pattern, f"`{key}` of {name} must be {limits}, got {text[:20]}")
        values[key] = text if is_word else int(text)
    if name == "CONV":
        return Conv(**values)
    if name == "FC":
        return Dense(**values)
    if known:
        return Pool("max" if name == "POOL" else "average", **values)
    return Activate(cast(Activation, name.lower()))


def _wrong(pattern: str, reason: str) -> ValueError:
    end = "" if reason.endswith((".", "?")) else "."
    return ValueError(
        f"`pattern` must be one such as 'INPUT -> [[CONV -> RELU]*2 -> POOL]*3 -> [FC -> RELU]*1 ->"
        f" FC', or one of {', '.join(PATTERNS)}, but got {pattern!r}: {reason}{end}"
        " Networks with branches, such as GoogLeNet and ResNet, are backbones of timm."
    )
