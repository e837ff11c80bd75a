"""What the layers of a convolutional network cost, and how much of the image each of them sees."""

from dataclasses import dataclass

import pandas as pd

from lightning_fastrecipes.errors import check_at_least
from lightning_fastrecipes.functional.images.layer_patterns import (
    PATTERNS,
    Activate,
    Conv,
    Dense,
    Layer,
    Pool,
    num_parameters,
    output_side,
    parse_pattern,
    pooled_side,
)

COLUMNS = ("layer", "side", "channels", "parameters", "multiply_adds", "receptive_field")


def conv_arithmetic(
    layers: str, image_size: int | None = None, in_channels: int = 3
) -> pd.DataFrame:
    """Return output size, parameters, work and receptive field of each layer of a network.

    Args:
        layers: One or more layers, such as ``CONV(10, 5, padding=2) -> RELU -> POOL``: see the
            pattern of ``SmallCNN``. A convolution needs its width; it is 3 x 3 if nothing else is
            said, with stride 1 and no padding. Or a whole pattern, ``INPUT -> ... -> FC``, whose
            last layer is left out; or the name of a known network: ``alexnet``, ``vgg16``...
        image_size: Height and width of the input, in pixels. That of a known network, else 32, if
            ``None``.
        in_channels: Channels of the input.

    Returns:
        A row for each layer: ``layer``, ``side`` (height and width of its output in pixels, 1 of a
        fully connected one), ``channels``, ``parameters`` (weights and biases), ``multiply_adds``
        for an image (biases, pooling and activations not counted), and ``receptive_field`` (the
        side of the square of the input that one output sees, zeros around the image included).

    Raises:
        ValueError: If the layers cannot be read or do not fit, with the arithmetic.

    Example:
        Ten filters of 5 x 5 over an image of 32 x 32 x 3, with stride 1 and padding 2:

        >>> print(conv_arithmetic("CONV(10, 5, stride=1, padding=2)").to_string(index=False))
        layer  side  channels  parameters  multiply_adds  receptive_field
         CONV    32        10         760         768000                5

        Three filters of 3 x 3 in a row see as much as one of 7 x 7, with fewer weights:

        >>> row = conv_arithmetic("CONV(8) -> CONV(8) -> CONV(8)", in_channels=8)
        >>> row["receptive_field"].tolist(), row["parameters"].sum()
        ([3, 5, 7], np.int64(1752))
        >>> conv_arithmetic("CONV(8, 7)", in_channels=8)["parameters"].sum()
        np.int64(3144)

        A stride of 3 does not fit an image of 7 pixels under a filter of 3:

        >>> conv_arithmetic("CONV(1, 3, stride=3)", image_size=7)
        Traceback (most recent call last):
        ...
        ValueError: CONV number 1: (W - F + 2P)/S + 1 = (7 - 3 + 2*0)/3 + 1 = 2.333, which must be a whole number

    References:
        Stanford's CS231n, *Convolutional neural networks: architectures, convolution and pooling
        layers*.
    """  # noqa: E501
    known = PATTERNS.get(layers.strip())
    if known is not None:
        own_size, layers = known
    else:
        own_size = 32
        if not layers.strip().upper().startswith("INPUT"):
            layers = f"INPUT -> {layers} -> FC"
    side = own_size if image_size is None else image_size
    check_at_least("image_size", side, 1)
    check_at_least("in_channels", in_channels, 1)
    place, rows, counts = _Place(side, in_channels), [], dict[str, int]()
    found = parse_pattern(layers)
    for layer, following in zip(found, [*found, None][1:], strict=True):
        name = _name(layer)
        counts[name] = counts.get(name, 0) + 1
        try:
            parameters, work = place.pass_through(layer, 1 + (following == Activate("maxout")))
        except ValueError as error:
            raise ValueError(f"{name} number {counts[name]}: {error}") from error
        rows.append((name, place.side, place.channels, parameters, work, place.field))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _name(layer: Layer) -> str:
    if isinstance(layer, Activate):
        return layer.name.upper()
    if isinstance(layer, Pool):
        return "POOL" if layer.kind == "max" else "AVERAGE_POOL"
    return "CONV" if isinstance(layer, Conv) else "FC"


@dataclass
class _Place:
    """What has come out of a layer: its size, and what of the input one pixel of it sees."""

    side: int
    channels: int
    field: int = 1
    step: int = 1  # pixels of the input from one output to the next

    def __post_init__(self) -> None:
        self._image_size = self.side

    def pass_through(self, layer: Layer, pieces: int) -> tuple[int, int]:
        """Go behind a layer, each output of which has so many pieces for a maxout that follows.

        Return its parameters and multiply-adds.
        """
        if isinstance(layer, Conv):
            return self._convolve(layer, pieces)
        if isinstance(layer, Pool):
            self.side = pooled_side(self.side, layer)
            self._see(layer.size, layer.stride or layer.size)
            return 0, 0
        if isinstance(layer, Activate):
            if layer.name == "maxout":
                self.channels //= 2
            return 0, 0
        return self._connect(layer, pieces)

    def _convolve(self, layer: Conv, pieces: int) -> tuple[int, int]:
        kernel, stride = layer.kernel_size or 3, layer.stride or 1
        dilation, width = layer.dilation or 1, _width(layer) * pieces
        self.side = output_side(self.side, kernel, stride, layer.padding or 0, dilation)
        parameters = num_parameters(kernel, self.channels, width)
        self.channels = width
        self._see(dilation * (kernel - 1) + 1, stride)
        return parameters, (parameters - width) * self.side**2

    def _connect(self, layer: Dense, pieces: int) -> tuple[int, int]:
        width = _width(layer) * pieces
        weights = self.channels * self.side**2 * width
        self.side, self.channels = 1, width
        self.field = max(self.field, self._image_size)
        return weights + width, weights

    def _see(self, reach: int, stride: int) -> None:
        self.field += (reach - 1) * self.step
        self.step *= stride


def _width(layer: Conv | Dense) -> int:
    if layer.width is None:
        name = _name(layer)
        raise ValueError(f"it must have a width, such as {name}(16), but has none")
    return layer.width
