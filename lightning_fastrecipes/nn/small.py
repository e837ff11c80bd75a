"""Networks for small images such as digits, trained from scratch."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from lightning_fastrecipes.functional.images.layer_patterns import (
    PATTERNS,
    Activate,
    Activation,
    Dense,
    parse_pattern,
)
from lightning_fastrecipes.nn.layer_stack import (
    Convolution,
    Init,
    LayerStack,
    Pooling,
    initialise,
    with_replaced,
    with_widths,
)
from lightning_fastrecipes.protocols import InputSpec

_COLOURS = 3


class SmallCNN(nn.Module):
    """Convolutions, pooling and fully connected layers in a row.

    Without a ``pattern`` these are pairs of convolutions, each pair followed by a maximum over
    2 x 2, and wide layers: ``INPUT -> [[CONV -> RELU]*2 -> POOL]*2 -> [FC -> RELU]*1 -> FC``. The
    last ``FC``, the scores of the classes, is the head ``linear`` of the task.

    Args:
        image_size: Side of the images in pixels; no other size is taken. That of a named pattern,
            else 28, if ``None``.
        channels: Filters of the convolutions, at least 1 each: one number for all that stand
            between two pools. If ``None``, 32, and after each pool twice as many.
        hidden: Widths of the fully connected layers, at least 1; one number is for all of them.
        batch_norm: Whether batch norm follows every layer.
        pattern: ``linear``, ``two_layer``, ``lenet``, ``alexnet``, ``zfnet``, ``vgg16``, or the
            layers in one line. ``CONV``, ``POOL``, ``AVERAGE_POOL``, ``FC`` and activations such as
            ``RELU`` are joined by ``->``, and ``[...]*3`` repeats. Numbers of its own go before
            other arguments: ``CONV(width, kernel_size, stride=4, padding=2, dilation=1)``,
            ``POOL(size, stride, padding=1)`` and ``FC(width)``.
        convolution: Kernel size, stride, padding and dilation: a ``Convolution``.
        pooling: ``max``, ``average`` or ``none``; replaces that of the pattern.
        activation: ``relu``, ``leaky_relu``, ``elu``, ``tanh``, ``sigmoid``, ``maxout`` (the larger
            of two) or ``none``; replaces those of the pattern.
        init: Weights at the start: ``he``, ``xavier``, ``small_random`` (a deviation of 0.01) or
            ``zero``, which a network cannot learn from. Biases are 0.
        dropout: Probability after each fully connected layer, in [0, 1).
        in_channels: Channels of the images; for 1, the mean of three is taken.

    Raises:
        ValueError: If a number is out of its range, the pattern cannot be read, or sizes do not
            fit; the message has the arithmetic.

    Attributes:
        input_spec: Pixels are scaled to [-1, 1], and images are not cropped.

    Example:
        >>> import torch
        >>> SmallCNN(28, channels=[4, 8], hidden=16)(torch.zeros(2, 3, 28, 28)).shape
        torch.Size([2, 16])
        >>> SmallCNN(pattern="lenet", in_channels=1)(torch.zeros(2, 1, 32, 32)).shape
        torch.Size([2, 84])

    References:
        fast.ai course (2017), lesson 3, the notebook on MNIST; Stanford's CS231n, *Convolutional
        Networks*, for the pattern; Simonyan and Zisserman, *Very Deep Convolutional Networks*
        (2014), for the pairs.
    """

    def __init__(
        self,
        image_size: int | None = None,
        channels: Sequence[int] | None = None,
        hidden: int | Sequence[int] = 512,
        batch_norm: bool = False,
        *,
        pattern: str | None = None,
        convolution: Convolution | Mapping[str, Any] | None = None,
        pooling: Pooling | None = None,
        activation: Activation | None = None,
        init: Init = "he",
        dropout: float = 0.0,
        in_channels: int = _COLOURS,
    ) -> None:
        super().__init__()
        if not isinstance(convolution, Convolution):
            convolution = Convolution(**(convolution or {}))
        if pattern is None:
            num_blocks = 2 if channels is None else len(channels)
            num_hidden = 1 if isinstance(hidden, int) else len(hidden)
            pattern = (
                f"INPUT -> [[CONV -> RELU]*2 -> POOL]*{num_blocks} -> [FC -> RELU]*{num_hidden}"
                " -> FC"
            )
        usual_size, pattern = PATTERNS.get(pattern, (28, pattern))
        size = usual_size if image_size is None else image_size
        layers = with_widths(parse_pattern(pattern), channels, hidden)
        stack = LayerStack(size, in_channels, convolution, batch_norm=batch_norm, dropout=dropout)
        self.layers = stack.build(with_replaced(layers, pooling, activation))
        self.in_channels = in_channels
        self.input_spec = _input_spec(size, in_channels)
        initialise(self, init)

    def forward(self, images: Tensor) -> Tensor:
        """Compute features of normalised images. Shape ``(batch, last width)``."""
        features: Tensor = self.layers(_with_channels(images, self.in_channels))
        return features


class SmallMLP(nn.Module):
    """A multilayer perceptron on the pixels.

    Args:
        image_size: Side of the images in pixels, at least 1; no other size is taken.
        hidden: Width of each hidden layer, at least 1 each; with none, the pixels themselves are
            the features, and a linear head on them is a linear model.
        activation: After each hidden layer, as in ``SmallCNN``; without one (``none``) the whole
            network is a linear model.
        init: Weights at the start, as in ``SmallCNN``.
        dropout: Probability after each hidden layer, in [0, 1).
        in_channels: Channels of the images; for 1, the mean of three is taken.

    Raises:
        ValueError: If a number is out of its range.

    Attributes:
        input_spec: Pixels are scaled to [-1, 1], and images are not cropped.

    Example:
        >>> import torch
        >>> SmallMLP(28, hidden=[512])(torch.zeros(4, 3, 28, 28)).shape
        torch.Size([4, 512])

    References:
        fast.ai course (2017), lesson 3, the notebook on MNIST.
    """

    def __init__(
        self,
        image_size: int = 28,
        hidden: Sequence[int] = (),
        *,
        activation: Activation = "relu",
        init: Init = "he",
        dropout: float = 0.0,
        in_channels: int = _COLOURS,
    ) -> None:
        super().__init__()
        layers = with_widths([Dense(), Activate("relu")] * len(hidden), None, hidden)
        stack = LayerStack(image_size, in_channels, dropout=dropout)
        self.layers = stack.build(with_replaced(layers, None, activation))
        self.in_channels = in_channels
        self.input_spec = _input_spec(image_size, in_channels)
        initialise(self, init)

    def forward(self, images: Tensor) -> Tensor:
        """Compute features of normalised images. Shape ``(batch, last width)``."""
        features: Tensor = self.layers(_with_channels(images, self.in_channels))
        return features


def _with_channels(images: Tensor, in_channels: int) -> Tensor:
    """Take the mean of three channels for a network of one; refuse other numbers of channels."""
    if in_channels == 1 and images.shape[1] == _COLOURS:
        return images.mean(1, keepdim=True)
    if images.shape[1] != in_channels:
        raise ValueError(
            f"Images must have {in_channels} channels, got shape {tuple(images.shape)}. Set"
            " `in_channels` of the network."
        )
    return images


def _input_spec(image_size: int, in_channels: int) -> InputSpec:
    half = (0.5,) * (_COLOURS if in_channels == 1 else in_channels)
    return InputSpec(mean=half, std=half, crop_fraction=1.0, image_size=image_size, fixed_size=True)
