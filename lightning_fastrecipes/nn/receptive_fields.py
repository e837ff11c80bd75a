"""How wide a part of an image each layer of a network sees."""

import contextlib
from collections.abc import Collection

import torch
from torch import Tensor, nn

_HEIGHTS = (32, 64)  # of a strip of the image, tried before all of it, since columns alone count
_CHUNK = 16  # strips at once
_MOST = 56  # columns that are tried where a network takes whole images alone


@torch.no_grad()
def receptive_fields(
    model: nn.Module, layers: Collection[nn.Module], image: Tensor
) -> dict[nn.Module, int]:
    """Return how many columns of an image an output of each layer depends on.

    One column after the other is made NaN, and a layer's outputs that become NaN depend on it.
    Whatever stands between image and layer is met so: branches, strides, attention, a mean over the
    image. Outputs at the border count only where no others are, since they see less; where every
    output reaches the border, it is the width of the image. A layer that runs several times has
    the widest. The model computes in eval mode, since batch norm in train mode mixes images, and
    is put back. A layer whose output tells nothing is left out.

    Args:
        model: Takes float images ``(batch, channels, height, width)``.
        layers: Which of its modules count.
        image: One image, ``(channels, height, width)``.

    Returns:
        The columns per layer, from 1 to the width of the image.

    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Conv2d(2, 2, 3))
    >>> list(receptive_fields(net, list(net), torch.zeros(1, 40, 40)).values())
    [3, 4, 8]
    """
    image, modes = image.float(), [(part, part.training) for part in model.modules()]
    found: dict[nn.Module, int] = {}
    model.eval()
    try:
        for height in (size for size in _HEIGHTS if size < image.shape[-2]):
            tried = _Tried(layers, image[:, :height], 1)
            is_whole = tried.run(model)
            found = {**tried.widths(), **found}
            if is_whole:
                return found
        width = image.shape[-1]
        step = next(s for s in range(1, width + 1) if width <= _MOST * s and width % s == 0)
        tried = _Tried(layers, image, step)
        tried.run(model)
        return {**tried.widths(), **found}
    finally:
        for part, mode in modes:
            part.training = mode


class _Tried:
    """For each output of each layer, on how many of the columns that were tried it depends."""

    def __init__(self, layers: Collection[nn.Module], image: Tensor, step: int) -> None:
        self._layers, self._image, self._step = layers, image, step
        self._columns = range(0, image.shape[-1], step)
        self._found: dict[tuple[nn.Module, int], tuple[Tensor, Tensor]] = {}
        self._calls: dict[nn.Module, int] = {}
        self._tried = range(0)

    def run(self, model: nn.Module) -> bool:
        """Try all columns, a few at a time; return whether the network takes such images."""
        handles = [layer.register_forward_hook(self._note) for layer in self._layers]
        takes_them = True
        try:
            for first in range(0, len(self._columns), _CHUNK):
                self._tried = self._columns[first : first + _CHUNK]
                images = self._image.expand(len(self._tried), *self._image.shape).clone()
                for row, column in enumerate(self._tried):
                    images[row, ..., column : column + self._step] = torch.nan
                self._calls.clear()
                with contextlib.suppress(Exception):  # whatever a network may raise
                    model(images)
                    continue
                takes_them = False  # its first layers may have run
        finally:
            for handle in handles:
                handle.remove()
        return takes_them

    def widths(self) -> dict[nn.Module, int]:
        """Return the widest of each layer's outputs, in columns of the image."""
        found: dict[nn.Module, int] = {}
        for (layer, _), (counts, at_border) in self._found.items():
            inner = counts[~at_border & (counts > 0)]
            width = int(inner.max()) * self._step if len(inner) else self._image.shape[-1]
            if counts.any():
                found[layer] = max(width, found.get(layer, 0))
        return found

    def _note(self, layer: nn.Module, _inputs: object, output: object) -> None:
        first = output[0] if isinstance(output, (tuple, list)) and output else output
        if not isinstance(first, Tensor) or len(first) != len(self._tried):
            return
        call = self._calls[layer] = self._calls.get(layer, 0) + 1
        depends = first.isnan()
        counts, at_border = depends.sum(0, dtype=torch.int32), torch.zeros_like(depends[0])
        for row, column in enumerate(self._tried):
            if column in (self._columns[0], self._columns[-1]):
                at_border |= depends[row]
        if (layer, call) in self._found:
            before = self._found[layer, call]
            counts, at_border = counts + before[0], at_border | before[1]
        self._found[layer, call] = counts, at_border
