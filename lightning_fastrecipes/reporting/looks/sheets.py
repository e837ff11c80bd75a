"""The formulas of layers: what a spreadsheet must compute to give what PyTorch gives."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_fastrecipes.nn.layer_stack import Maxout

Cell = str | float
Put = Callable[[str, int, int, Cell], None]
"""Writes a cell: sheet, row and column from 1, and a number, or a formula, after ``=``."""


@dataclass(frozen=True)
class Block:
    """Where the numbers of a layer stand: grids ``(channels, height, width)`` one below the other.

    A grid has a title above it and an empty row below, so that its first row is the second.
    """

    sheet: str
    shape: tuple[int, int, int]

    def place(self, channel: int, row: int, column: int) -> tuple[int, int]:
        """Return row and column of a cell, from 1."""
        return channel * (self.shape[1] + 2) + 2 + row, column + 1

    def cell(self, channel: int, row: int, column: int) -> str:
        """Return a reference to a cell from other sheets."""
        return f"{self._named}{_name(*self.place(channel, row, column))}"

    def window(self, channel: int, rows: range, columns: range) -> str:
        """Return a reference to a rectangle of neighbouring cells of one channel."""
        first = _name(*self.place(channel, rows[0], columns[0]))
        last = _name(*self.place(channel, rows[-1], columns[-1]))
        return f"{self._named}{first}:{last}"

    @property
    def _named(self) -> str:
        return f"'{self.sheet}'!"


def _name(row: int, column: int) -> str:
    letters = ""
    while column:
        column, rest = divmod(column - 1, 26)
        letters = chr(65 + rest) + letters
    return f"{letters}{row}"


def count_cells(layer: nn.Module, output: torch.Size) -> int:
    """Return about how many cells a layer needs."""
    return output[1:].numel() + sum(item.numel() for item in layer.parameters())


class Formulas:
    """Write the formulas of one layer after the other.

    ``put`` writes a cell. A layer takes the numbers of the block before it, and gives a block.
    """

    def __init__(self, put: Put) -> None:
        self._put = put
        self._kinds: dict[type[nn.Module], Callable[[Any, Block, str], Block]] = {
            nn.Conv2d: self._convolution,
            nn.Linear: self._linear,
            nn.MaxPool2d: self._pool,
            nn.AvgPool2d: self._pool,
            nn.BatchNorm2d: self._norm,
            nn.BatchNorm1d: self._norm,
            nn.Flatten: self._flatten,
            Maxout: self._maxout,
        }

    def knows(self, layer: nn.Module) -> bool:
        """Return whether a layer can be written."""
        is_plain = getattr(layer, "padding_mode", "zeros") == "zeros"
        return (type(layer) in self._kinds or type(layer) in _ELEMENTWISE) and is_plain

    def write(self, layer: nn.Module, before: Block, sheet: str) -> Block:
        """Write a layer on a sheet of its own, its weights on another, and return its block."""
        simple = _ELEMENTWISE.get(type(layer))
        if simple is None:
            return self._kinds[type(layer)](layer, before, sheet)
        return self.fill(before.shape, sheet, lambda *at: f"={simple(layer, before.cell(*at))}")

    def fill(
        self, shape: tuple[int, int, int], sheet: str, cell: Callable[[int, int, int], Cell]
    ) -> Block:
        """Write the grids of a block, each cell what a function of its place says."""
        block = Block(sheet, shape)
        for channel in range(shape[0]):
            self._put(sheet, block.place(channel, -1, 0)[0], 1, f"channel {channel}")
            for row in range(shape[1]):
                for column in range(shape[2]):
                    at = channel, row, column
                    self._put(sheet, *block.place(*at), cell(*at))
        return block

    def numbers(self, values: Tensor, sheet: str) -> Block:
        """Write numbers ``(channels, height, width)`` as they are."""
        found = values.double().tolist()
        shape = (values.shape[0], values.shape[1], values.shape[2])
        return self.fill(shape, sheet, lambda c, row, column: found[c][row][column])

    def _convolution(self, layer: nn.Conv2d, before: Block, sheet: str) -> Block:
        size, stride, dilation = layer.kernel_size, layer.stride, layer.dilation
        kernels = self.numbers(layer.weight.flatten(0, 1), f"{sheet} weights")
        biases = self._column(layer.bias, layer.out_channels, f"{sheet} biases")
        ins, group = layer.in_channels // layer.groups, layer.out_channels // layer.groups
        reach = [dilation[axis] * (size[axis] - 1) for axis in (0, 1)]
        if isinstance(layer.padding, str):
            margins = reach if layer.padding == "same" else [0, 0]
        else:
            margins = [2 * int(number) for number in layer.padding]
        sides = [
            (before.shape[axis + 1] + margins[axis] - reach[axis] - 1) // stride[axis] + 1
            for axis in (0, 1)
        ]

        def formula(out: int, row: int, column: int) -> str:
            seen = [
                _inside(
                    place * stride[axis] - margins[axis] // 2,
                    size[axis],
                    dilation[axis],
                    before.shape[axis + 1],
                )
                for axis, place in ((0, row), (1, column))
            ]
            parts = []
            for place in range(ins):
                channel, kernel = out // group * ins + place, out * ins + place
                parts += list(_products(before, channel, kernels, kernel, seen, dilation))
            return "=" + "+".join([*parts, biases.cell(0, out, 0)])

        return self.fill((layer.out_channels, sides[0], sides[1]), sheet, formula)

    def _linear(self, layer: nn.Linear, before: Block, sheet: str) -> Block:
        count = layer.in_features
        weights = self.numbers(layer.weight.t()[None], f"{sheet} weights")
        biases = self._column(layer.bias, layer.out_features, f"{sheet} biases")
        inputs = before.window(0, range(count), range(1))
        return self.fill(
            (1, layer.out_features, 1),
            sheet,
            lambda _, row, __: (
                f"=SUMPRODUCT({inputs},{weights.window(0, range(count), range(row, row + 1))})"
                f"+{biases.cell(0, row, 0)}"
            ),
        )

    def _pool(self, layer: nn.MaxPool2d | nn.AvgPool2d, before: Block, sheet: str) -> Block:
        size, stride, padding = (_pair(v) for v in (layer.kernel_size, layer.stride, layer.padding))
        is_max = isinstance(layer, nn.MaxPool2d)
        sides = [
            (before.shape[axis + 1] + 2 * padding[axis] - size[axis]) // stride[axis] + 1
            for axis in (0, 1)
        ]

        def formula(channel: int, row: int, column: int) -> str:
            rows, columns = (
                _inside(
                    place * stride[axis] - padding[axis], size[axis], 1, before.shape[axis + 1]
                )[1]
                for axis, place in ((0, row), (1, column))
            )
            window = before.window(channel, rows, columns)
            # A mean counts the zeros that pad the image.
            return f"=MAX({window})" if is_max else f"=SUM({window})/{size[0] * size[1]}"

        return self.fill((before.shape[0], sides[0], sides[1]), sheet, formula)

    def _norm(self, layer: _BatchNorm, before: Block, sheet: str) -> Block:
        assert layer.running_mean is not None
        assert layer.running_var is not None
        ones = torch.ones_like(layer.running_var)
        weight = ones if layer.weight is None else layer.weight
        bias = 0 * ones if layer.bias is None else layer.bias
        known = torch.stack([layer.running_mean, layer.running_var, weight, bias], dim=1)
        given = self.numbers(known[None].detach(), f"{sheet} weights")
        is_flat = isinstance(layer, nn.BatchNorm1d)

        def formula(channel: int, row: int, column: int) -> str:
            number = row if is_flat else channel
            mean, var, weight, bias = (given.cell(0, number, place) for place in range(4))
            value = before.cell(channel, row, column)
            return f"=({value}-{mean})/SQRT({var}+{layer.eps})*{weight}+{bias}"

        return self.fill(before.shape, sheet, formula)

    def _flatten(self, _: nn.Flatten, before: Block, sheet: str) -> Block:
        channels, height, width = before.shape

        def formula(_: int, place: int, __: int) -> str:
            channel, rest = divmod(place, height * width)
            return f"={before.cell(channel, *divmod(rest, width))}"

        return self.fill((1, channels * height * width, 1), sheet, formula)

    def _maxout(self, _: Maxout, before: Block, sheet: str) -> Block:
        channels, height, width = before.shape
        if channels == 1:  # numbers in a column
            return self.fill(
                (1, height // 2, width),
                sheet,
                lambda c, row, w: (
                    f"=MAX({before.cell(c, 2 * row, w)},{before.cell(c, 2 * row + 1, w)})"
                ),
            )
        return self.fill(
            (channels // 2, height, width),
            sheet,
            lambda c, *at: f"=MAX({before.cell(2 * c, *at)},{before.cell(2 * c + 1, *at)})",
        )

    def _column(self, values: Tensor | None, count: int, sheet: str) -> Block:
        found = torch.zeros(count) if values is None else values.detach()
        return self.numbers(found[None, :, None], sheet)


def _products(
    before: Block, channel: int, kernels: Block, kernel: int, seen: list[tuple[range, range]],
    dilation: tuple[int, ...],
) -> Iterator[str]:  # fmt: skip
    (weight_rows, rows), (weight_columns, columns) = seen
    if not rows or not columns:
        return
    if tuple(dilation) == (1, 1):
        window = before.window(channel, rows, columns)
        yield f"SUMPRODUCT({window},{kernels.window(kernel, weight_rows, weight_columns)})"
        return
    for down, row in zip(weight_rows, rows, strict=True):
        for along, column in zip(weight_columns, columns, strict=True):
            yield f"{before.cell(channel, row, column)}*{kernels.cell(kernel, down, along)}"


def _inside(start: int, size: int, step: int, side: int) -> tuple[range, range]:
    """Return which weights of a row meet the image, and the places that they meet."""
    places = [start + step * place for place in range(size)]
    met = [place for place, at in enumerate(places) if 0 <= at < side]
    if not met:
        return range(0), range(0)
    return range(met[0], met[-1] + 1), range(places[met[0]], places[met[-1]] + 1, step)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


_ELEMENTWISE: dict[type[nn.Module], Callable[[Any, str], str]] = {
    nn.ReLU: lambda _, x: f"MAX({x},0)",
    nn.LeakyReLU: lambda layer, x: f"MAX({x},0)+{layer.negative_slope}*MIN({x},0)",
    nn.ELU: lambda layer, x: f"MAX({x},0)+{layer.alpha}*(EXP(MIN({x},0))-1)",
    nn.Tanh: lambda _, x: f"TANH({x})",
    nn.Sigmoid: lambda _, x: f"1/(1+EXP(-{x}))",
}
