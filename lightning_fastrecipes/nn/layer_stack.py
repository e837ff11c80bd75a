"""Modules from the layers of a pattern, in a row."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

from lightning_fastrecipes.errors import check_at_least, check_choice
from lightning_fastrecipes.functional.images.layer_patterns import (
    Activate,
    Activation,
    Conv,
    Dense,
    Layer,
    Padding,
    Pool,
    num_zeros,
    output_side,
    pooled_side,
)

Pooling = Literal["max", "average", "none"]
Init = Literal["he", "xavier", "small_random", "zero"]

_CHANNELS = 32
_SMALL_STD = 0.01
_MAXOUT_PIECES = 2
_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "maxout": lambda: Maxout(),
}
_INITS: dict[str, Callable[[Tensor], Tensor]] = {
    "he": nn.init.kaiming_normal_,
    "xavier": nn.init.xavier_normal_,
    "small_random": partial(nn.init.normal_, std=_SMALL_STD),
    "zero": nn.init.zeros_,
}


@dataclass(frozen=True)
class Convolution:
    """The convolutions of a ``SmallCNN``, where its pattern has no numbers for them.

    Args:
        kernel_size: Side of a filter in pixels, at least 1.
        stride: Pixels from one place of the filter to the next, at least 1.
        padding: Pixels of zeros on each side: a number; ``valid``, which is 0; or ``same``, which
            keeps the side where the stride is 1.
        dilation: Pixels from one weight of the filter to the next, at least 1.
    """

    kernel_size: int = 3
    stride: int = 1
    padding: Padding = "valid"
    dilation: int = 1

    def __post_init__(self) -> None:
        for name in ("kernel_size", "stride", "dilation"):
            check_at_least(name, getattr(self, name), 1)
        if isinstance(self.padding, str):
            check_choice("padding", self.padding, ("valid", "same"))
        else:
            check_at_least("padding", self.padding, 0)


class Maxout(nn.Module):
    """The largest of each two neighbouring channels, which are learned pieces of one function."""

    def forward(self, values: Tensor) -> Tensor:
        """Halve the channels. Shape ``(batch, channels, ...)``."""
        return torch.unflatten(values, 1, (-1, _MAXOUT_PIECES)).amax(2)


class LayerStack:
    """Modules that are built one after the other, and the size of what leaves the last one."""

    def __init__(
        self,
        side: int,
        in_channels: int,
        convolution: Convolution | None = None,
        *,
        batch_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        _check("image_size", [side])
        check_at_least("in_channels", in_channels, 1)
        if not 0 <= dropout < 1:
            raise ValueError(f"`dropout` must be in [0, 1), got {dropout}. Use 0 for none.")
        self._side, self._width = side, in_channels
        self._convolution = convolution or Convolution()
        self._batch_norm, self._dropout = batch_norm, dropout
        self._modules: list[nn.Module] = []
        self._is_flat = False

    def build(self, layers: Sequence[Layer]) -> nn.Sequential:
        """Build all layers, from images to vectors; a ValueError if sizes do not fit."""
        counts = Counter[str]()
        image_size, dense = self._side, False
        for layer, following in zip(layers, [*layers, None][1:], strict=True):
            pieces = _MAXOUT_PIECES if following == Activate("maxout") else 1
            counts[type(layer).__name__.upper()] += 1
            try:
                self._add(layer, pieces)
            except ValueError as error:
                name = type(layer).__name__.upper()
                raise ValueError(
                    f"The layers must fit images of {image_size} x {image_size} px, but {name}"
                    f" number {counts[name]} does not: {error}. Change its kernel size, stride or"
                    " padding, or `image_size`."
                ) from error
            dense = isinstance(layer, Dense) or (dense and isinstance(layer, Activate))
            if self._dropout and dense and not isinstance(following, Activate):
                self._modules.append(nn.Dropout(self._dropout))
        if not self._is_flat:
            self._modules.append(nn.Flatten())
        return nn.Sequential(*self._modules)

    def _add(self, layer: Layer, pieces: int) -> None:
        if isinstance(layer, Activate):
            if layer.name != "none":
                self._modules.append(_ACTIVATIONS[layer.name]())
        elif isinstance(layer, Pool):
            self._side = pooled_side(self._side, layer)
            pool = nn.MaxPool2d if layer.kind == "max" else nn.AvgPool2d
            self._modules.append(pool(layer.size, layer.stride, layer.padding))
        elif isinstance(layer, Conv):
            self._add_convolution(layer, pieces)
        else:
            if not self._is_flat:
                self._modules.append(nn.Flatten())
                self._width, self._is_flat = self._width * self._side**2, True
            after = cast(int, layer.width)
            # Batch norm subtracts a bias.
            linear = nn.Linear(self._width, after * pieces, bias=not self._batch_norm)
            self._modules.append(linear)
            self._modules += [nn.BatchNorm1d(after * pieces)] * self._batch_norm
            self._width = after

    def _add_convolution(self, layer: Conv, pieces: int) -> None:
        own = {key: value for key, value in asdict(layer).items() if value is not None}
        after = own.pop("width")
        said = replace(self._convolution, **own)
        self._side = output_side(self._side, **asdict(said))
        conv = nn.Conv2d(
            self._width,
            after * pieces,
            said.kernel_size,
            said.stride,
            num_zeros(said.kernel_size, said.padding, said.dilation),
            said.dilation,
            bias=not self._batch_norm,
        )
        self._modules += [conv, *[nn.BatchNorm2d(after * pieces)] * self._batch_norm]
        self._width = after


def with_widths(
    layers: Sequence[Layer], channels: Sequence[int] | None, hidden: int | Sequence[int]
) -> list[Layer]:
    """Set the width of convolutions and fully connected layers that have none of their own."""
    named: list[Layer] = []
    width, num_blocks, num_dense = None, 0, 0
    for layer in layers:
        if isinstance(layer, Pool):
            width = None
        elif isinstance(layer, Conv) and layer.width is None:
            if width is None:
                width = _nth(channels, num_blocks, otherwise=_CHANNELS * 2**num_blocks)
                num_blocks += 1
            layer = replace(layer, width=width)
        elif isinstance(layer, Dense) and layer.width is None:
            each = (hidden,) * (num_dense + 1) if isinstance(hidden, int) else hidden
            layer = Dense(_nth(each, num_dense, otherwise=1))
            num_dense += 1
        named.append(layer)
    _check("hidden", [hidden] if isinstance(hidden, int) else hidden)
    for name, widths, number in (("channels", channels, num_blocks), ("hidden", hidden, num_dense)):
        if isinstance(widths, Sequence) and len(widths) != number:
            raise ValueError(
                f"`{name}` must have {number} widths, one for each part of the pattern that has"
                f" none of its own, got {list(widths)}."
            )
    _check("channels", channels or ())
    return named


def _nth(widths: Sequence[int] | None, index: int, otherwise: int) -> int:
    return otherwise if widths is None or index >= len(widths) else widths[index]


def with_replaced(
    layers: Sequence[Layer], pooling: Pooling | None, activation: Activation | None
) -> list[Layer]:
    """Put the pooling and activation that are asked for in the place of all others."""
    if pooling is not None:
        check_choice("pooling", pooling, get_args(Pooling))
    if activation is not None:
        check_choice("activation", activation, get_args(Activation))
    found: list[Layer] = []
    for layer in layers:
        if isinstance(layer, Pool) and pooling is not None:
            if pooling == "none":
                continue
            layer = replace(layer, kind=pooling)
        elif isinstance(layer, Activate) and activation is not None:
            layer = Activate(activation)
        found.append(layer)
    return found


def initialise(network: nn.Module, init: Init) -> None:
    """Start from He's normal distribution, which keeps the scale of activations under a ReLU."""
    check_choice("init", init, _INITS)
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            _INITS[init](layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _check(argument: str, values: Sequence[int]) -> None:
    if any(value < 1 for value in values):
        raise ValueError(f"`{argument}` must be at least 1, got {list(values)}.")
