"""Networks for small images such as digits, trained from scratch."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from lightning_fastrecipes.protocols import InputSpec

_CHANNELS = 3


class SmallMLP(nn.Module):
    """A multilayer perceptron on the pixels.

    Args:
        image_size: Side of the images in pixels, at least 1; no other size is taken.
        hidden: Width of each hidden layer, at least 1 each; with none, the pixels themselves are
            the features, and a linear head on them is a linear model.

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

    def __init__(self, image_size: int = 28, hidden: Sequence[int] = ()) -> None:
        super().__init__()
        _check("image_size", [image_size])
        _check("hidden", hidden)
        widths = [_CHANNELS * image_size**2, *hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.input_spec = _input_spec(image_size)
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Compute features of normalised images. Shape ``(batch, last width)``."""
        features: Tensor = self.layers(images)
        return features


class SmallCNN(nn.Module):
    """Pairs of 3 x 3 convolutions, each pair followed by a maximum over 2 x 2, and a wide layer.

    Args:
        image_size: Side of the images in pixels; no other size is taken.
        channels: Channels of each pair of convolutions, at least 1 each.
        hidden: Width of the last layer, at least 1.
        batch_norm: Whether batch norm follows every layer.

    Raises:
        ValueError: If a number is out of its range, or the images are too small for so many
            pairs: each pair removes four pixels and then halves the side.

    Attributes:
        input_spec: Pixels are scaled to [-1, 1], and images are not cropped.

    Example:
        >>> import torch
        >>> SmallCNN(28, channels=[4, 8], hidden=16)(torch.zeros(2, 3, 28, 28)).shape
        torch.Size([2, 16])

    References:
        fast.ai course (2017), lesson 3, the notebook on MNIST; Simonyan and Zisserman, *Very Deep
        Convolutional Networks* (2014), for the pairs.
    """

    def __init__(
        self,
        image_size: int = 28,
        channels: Sequence[int] = (32, 64),
        hidden: int = 512,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        _check("image_size", [image_size])
        _check("channels", channels)
        _check("hidden", [hidden])
        layers: list[nn.Module] = []
        before, side = _CHANNELS, image_size
        for after in channels:
            for width in (before, after):
                # Batch norm subtracts a bias.
                layers.append(nn.Conv2d(width, after, kernel_size=3, bias=not batch_norm))
                layers += [nn.BatchNorm2d(after)] * batch_norm
                layers.append(nn.ReLU())
            layers.append(nn.MaxPool2d(2))
            before, side = after, (side - 4) // 2
        if side < 1:
            raise ValueError(
                f"`image_size` must leave a pixel after {len(channels)} pairs of convolutions, got"
                f" {image_size}. Give larger images or fewer `channels`."
            )
        layers += [nn.Flatten(), nn.Linear(before * side**2, hidden, bias=not batch_norm)]
        layers += [nn.BatchNorm1d(hidden)] * batch_norm
        layers.append(nn.ReLU())
        self.layers = nn.Sequential(*layers)
        self.input_spec = _input_spec(image_size)
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Compute features of normalised images. Shape ``(batch, hidden)``."""
        features: Tensor = self.layers(images)
        return features


def _input_spec(image_size: int) -> InputSpec:
    half = (0.5,) * _CHANNELS
    return InputSpec(mean=half, std=half, crop_fraction=1.0, image_size=image_size, fixed_size=True)


def _initialise(network: nn.Module) -> None:
    """Start from He's normal distribution, which keeps the scale of activations under a ReLU."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _check(argument: str, values: Sequence[int]) -> None:
    if any(value < 1 for value in values):
        raise ValueError(f"`{argument}` must be at least 1, got {list(values)}.")
