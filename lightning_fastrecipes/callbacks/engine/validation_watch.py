"""What one validation tells beside its metrics: how many samples, which features, both modes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import SyncBatchNorm, _BatchNorm

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes.batches import FEATURES, inputs_of
from lightning_fastrecipes.protocols import HasHead

_DEAD_RANGE = 1e-6
"""A feature that varies by less than this share of its size is the same for all samples."""

_MIN_ROWS = 8
"""Statistics of fewer rows say little."""


class ValidationWatch:
    """Look on while a validation runs, from its start to :meth:`end`.

    ``losses`` of the first ``num_batches`` batches are those in eval mode and those with batch
    statistics.
    """

    def __init__(self, module: pl.LightningModule, num_batches: int) -> None:
        self.module = module
        self.num_batches = num_batches
        self.num_samples = 0
        self.losses: list[tuple[Tensor, Tensor]] = []
        self._low: Tensor | None = None
        self._high: Tensor | None = None
        self._is_looking = True
        backbone = getattr(module, "backbone", None)
        handle = isinstance(backbone, nn.Module) and backbone.register_forward_hook(self._look)
        self._handle = handle or None

    def end(self) -> None:
        """Look no longer."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def look_at(self, trainer: pl.Trainer, batch: Any, batch_idx: int) -> None:
        """Count the samples of a batch on its device, and compare both modes on the first ones."""
        is_pair = isinstance(batch, (tuple, list)) and len(batch) > 1
        if not is_pair or not isinstance(batch[1], Tensor) or not batch[1].ndim:
            return
        self.num_samples += len(batch[1])
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
        if self._low is None or self._high is None:
            return None
        if trainer.world_size > 1:
            gather: Any = self.module.all_gather
            self._low, self._high = gather(self._low).amin(0), gather(self._high).amax(0)
        size = torch.maximum(self._low.abs(), self._high.abs())
        return float((self._high - self._low <= _DEAD_RANGE * size).float().mean())

    def _look(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if not self._is_looking or not isinstance(output, Tensor) or output.ndim != 2:
            return
        low, high = torch.aminmax(output.detach().float(), dim=0)
        self._low = low if self._low is None else torch.minimum(self._low, low)
        self._high = high if self._high is None else torch.maximum(self._high, high)

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
