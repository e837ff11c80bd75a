"""What one validation tells beside its metrics: how many samples, which features, both modes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import SyncBatchNorm, _BatchNorm

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes.batches import FEATURES, inputs_of
from lightning_fastrecipes.callbacks.engine.stepping import mean_over_processes
from lightning_fastrecipes.protocols import HasHead

_DEAD_RANGE = 1e-6
"""A feature that varies by less than this share of its size is the same for all samples."""

_MIN_ROWS = 8
"""Statistics of fewer rows say little."""

_MIN_WATCHED = 64
"""Of fewer samples many a unit that is seldom active is active in none."""

_MAPS = 4
"""Axes of a batch of feature maps, of which the second one is that of the units."""


class _Ranges:
    """The lowest and the highest value of each unit, over all that was added."""

    def __init__(self) -> None:
        self.low: Tensor | None = None
        self.high: Tensor | None = None

    def add(self, values: Tensor, unit_axis: int = -1) -> None:
        """Add the values of a batch, of any shape."""
        if not values.numel():
            return
        axes = [axis for axis in range(values.ndim) if axis != unit_axis % values.ndim]
        values = values.detach()
        low, high = values.amin(axes).float(), values.amax(axes).float()
        if self.low is not None and self.low.shape != low.shape:  # called in another order
            return
        self.low = low if self.low is None else torch.minimum(self.low, low)
        self.high = high if self.high is None else torch.maximum(self.high, high)


class ValidationWatch:
    """Look on while a validation runs, from its start to :meth:`end`.

    The backbone's outputs are looked at in every batch; in the first ``num_batches`` batches the
    outputs of activations are as well, and ``losses`` are those in eval mode and those with batch
    statistics.
    """

    def __init__(self, module: pl.LightningModule, num_batches: int) -> None:
        self.module = module
        self.num_batches = num_batches
        self.num_samples = 0
        self.losses: list[tuple[Tensor, Tensor]] = []
        self._features = _Ranges()
        self._units: list[_Ranges] = []
        self._place = 0
        self._num_seen = self._num_watched = 0
        self._is_looking = True
        backbone = getattr(module, "backbone", None)
        parts = [backbone] if isinstance(backbone, nn.Module) else []
        self._handles = [part.register_forward_hook(self._look) for part in parts]
        activations = [part for part in module.modules() if _is_activation(part)]
        self._handles += [part.register_forward_hook(self._look_inside) for part in activations]

    def end(self) -> None:
        """Look no longer."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def look_at(self, trainer: pl.Trainer, batch: Any, batch_idx: int) -> None:
        """Count the samples of a batch on its device, and compare both modes on the first ones."""
        self._place, self._num_seen = 0, self._num_seen + 1
        is_pair = isinstance(batch, (tuple, list)) and len(batch) > 1
        if not is_pair or not isinstance(batch[1], Tensor) or not batch[1].ndim:
            return
        self.num_samples += len(batch[1])
        if self._num_seen <= self.num_batches:
            self._num_watched += len(batch[1])
        loss = getattr(self.module, "loss", None)
        if batch_idx < self.num_batches and callable(loss) and len(batch[1]) >= _MIN_ROWS:
            self._is_looking = False
            with trainer.precision_plugin.forward_context():
                self._compare_modes(loss, batch)
            self._is_looking = True

    def dead_share(self, trainer: pl.Trainer) -> float | None:
        """Return the share of the backbone's outputs that are the same for all samples.

        ``None`` if the backbone did not run, or gave none of shape ``(samples, features)``.
        """
        return self._same(trainer, [self._features])

    def dead_units(self, trainer: pl.Trainer) -> float | None:
        """Return the share of units whose activation is the same everywhere in all samples.

        A unit is a channel of feature maps or a number of a vector. ``None`` without activations
        that are modules of torch, and of few samples.
        """
        watched = mean_over_processes(trainer, torch.tensor(float(self._num_watched)))
        if watched * trainer.world_size < _MIN_WATCHED:
            return None
        return self._same(trainer, self._units)

    def _same(self, trainer: pl.Trainer, ranges: list[_Ranges]) -> float | None:
        lows = [one.low for one in ranges if one.low is not None]
        highs = [one.high for one in ranges if one.high is not None]
        if not lows:
            return None
        low, high = torch.cat(lows), torch.cat(highs)
        if trainer.world_size > 1:
            gather: Any = self.module.all_gather
            low, high = gather(low).amin(0), gather(high).amax(0)
        size = torch.maximum(low.abs(), high.abs())
        return float((high - low <= _DEAD_RANGE * size).float().mean())

    def _look(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if self._is_looking and isinstance(output, Tensor) and output.ndim == 2:
            self._features.add(output)

    def _look_inside(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Keep the ranges of an activation, which networks may call at several places."""
        if torch.compiler.is_compiling():  # a compiled network has no places inside
            return
        if not self._is_looking or self._num_seen >= self.num_batches or output.ndim < 2:
            return
        if self._place == len(self._units):
            self._units.append(_Ranges())
        self._units[self._place].add(output, 1 if output.ndim == _MAPS else -1)
        self._place += 1

    def _compare_modes(self, loss: Callable[..., Tensor], batch: Any) -> None:
        with _batch_statistics(self.module) as norms:
            if not norms:
                return
            by_batch = loss(self._logits(batch), batch[1])
        self.losses.append((loss(self._logits(batch), batch[1]), by_batch))

    def _logits(self, batch: Any) -> Tensor:
        if isinstance(batch, FEATURES) and isinstance(self.module, HasHead):
            return self.module.forward_head(batch.features)
        logits: Tensor = self.module(inputs_of(batch))
        return logits


def _is_activation(module: nn.Module) -> bool:
    """Return whether a module is one of torch's activations, such as `ReLU` or `Sigmoid`."""
    is_other = isinstance(module, (nn.MultiheadAttention, nn.Softmax, nn.LogSoftmax))
    return type(module).__module__ == nn.ReLU.__module__ and not is_other


@contextmanager
def _batch_statistics(module: nn.Module) -> Iterator[list[_BatchNorm]]:
    """Let the batch norms that training lets compute with batch statistics do so, and no more.

    Everything else stays in eval mode, and what the norms store as it is. None if they work across
    processes.
    """
    modes = [(part, part.training) for part in module.modules()]
    module.train()
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.training]
    for part, mode in modes:
        part.training = mode
    if any(isinstance(norm, SyncBatchNorm) for norm in norms):
        norms = []
    buffers = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()]
    for norm in norms:
        norm.training = True
    try:
        # A compiled model would be compiled anew for modes that it has nowhere else.
        with torch.compiler.set_stance("force_eager"):
            yield norms
    finally:
        for norm in norms:
            norm.training = False
        for buffer, before in buffers:
            buffer.copy_(before)
