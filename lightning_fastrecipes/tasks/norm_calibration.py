"""The norm policy `calibrated`: batch norm with the statistics of the training data."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader
from typing_extensions import override

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes.batches import inputs_of
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.functional.splits import spread_samples
from lightning_fastrecipes.functional.training.layer_groups import NormPolicy
from lightning_fastrecipes.functional.training.norm_calibration import (
    measure_inputs,
    store_statistics,
    trained_norms,
)
from lightning_fastrecipes.nn.averaging import reestimate_batch_norm
from lightning_fastrecipes.protocols import HasEvalDataLoader

NUM_SAMPLES = 512
"""How many training samples the statistics are measured on, over all processes."""


class CalibratesNorms(pl.LightningModule):
    """What a task does for its norm policy ``calibrated``.

    The statistics are calibrated before the first step of a fit, and measured anew at the end of
    each epoch: a running mean knows the last few batches alone.
    """

    backbone: nn.Module
    norm_policy: NormPolicy
    num_frozen: int
    _must_calibrate = False
    _calibrated_from = 0

    def plan_calibration(self) -> None:
        """Calibrate in the next step if a fit begins, or trains more layers; not if it resumes."""
        is_new = self.trainer.global_step == 0 or self.num_frozen < self._calibrated_from
        if self.trainer.ckpt_path is None:
            self._must_calibrate = is_new and self.norm_policy == "calibrated"

    def calibrate_once(self, batch: Any) -> None:
        """Calibrate if that is planned; in the step, so that a sweep, taken back, has it too."""
        if self._must_calibrate:
            self._must_calibrate, self._calibrated_from = False, self.num_frozen
            calibrate_norms(self, self.backbone, batch)

    @override
    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Measure the statistics anew after the last batch of an epoch, before its validation."""
        if self.norm_policy == "calibrated" and self.trainer.is_last_batch:
            remeasure_norms(self, self.backbone)


def calibrate_norms(task: pl.LightningModule, backbone: nn.Module, batch: Any) -> None:
    """Store the statistics of the training data in the backbone's trained batch norms.

    What the task computes stays as it is. The samples are those of the datamodule without
    augmentation, spread evenly over the split; without such a datamodule those of ``batch``.
    Nothing is drawn from the global generators.
    """
    norms = trained_norms(backbone)
    if not norms:
        return
    modes = [(module, module.training) for module in task.modules()]
    device = task.device.type
    with (
        pl.isolate_rng(),
        torch.autocast(
            device,
            dtype=torch.get_autocast_dtype(device),
            enabled=torch.is_autocast_enabled(device),
            cache_enabled=False,  # weights cast without gradients must not serve the training step
        ),
    ):
        task.eval()

        def run() -> None:
            for part in _clean_batches(task) or [batch]:
                task(pl.move_data_to_device(inputs_of(part), task.device))

        sums = measure_inputs(norms, run)
        for module, mode in modes:
            module.training = mode
    if task.trainer.world_size > 1:
        total = task.trainer.strategy.reduce(sums.to(task.device), reduce_op="sum")
        sums = total.cpu() if isinstance(total, Tensor) else sums
    store_statistics(norms, sums)


def remeasure_norms(task: pl.LightningModule, backbone: nn.Module) -> None:
    """Measure the statistics of the backbone's trained norms anew on clean training samples.

    Those of the head stay: they are of inputs with dropout, which the weights behind them were
    trained with, and which are wider than those without. Without a datamodule that serves the
    samples nothing is done.
    """
    batches = _clean_batches(task)
    if batches is None or not trained_norms(backbone):
        return

    def forward(part: Any) -> None:
        inputs = inputs_of(part)
        if len(part[1]) > 1:  # a batch of one has no variance
            task(pl.move_data_to_device(inputs, task.device))

    with pl.isolate_rng(), task.trainer.precision_plugin.forward_context():
        reestimate_batch_norm(task, batches, forward, backbone)
    if task.trainer.world_size > 1:
        norms = [module for module in task.modules() if isinstance(module, _BatchNorm)]
        for buffer in (buffer for norm in norms for buffer in norm.buffers()):
            if buffer.is_floating_point():
                task.trainer.strategy.reduce(buffer, reduce_op="mean")  # in place


def _clean_batches(task: pl.LightningModule) -> DataLoader[Any] | None:
    datamodule = pl.datamodule_of(task.trainer)
    if not isinstance(datamodule, HasEvalDataLoader):
        return None
    rank, world_size = task.trainer.global_rank, task.trainer.world_size
    return spread_samples(datamodule.eval_dataloader("train"), NUM_SAMPLES, rank, world_size)


def refuse_single_sample(module: nn.Module) -> None:
    """Raise with advice where batch norm would fail on a batch of one."""
    for name, part in module.named_modules():
        if isinstance(part, _BatchNorm) and part.training:
            raise ConfigurationError(
                "A training batch must hold at least 2 samples for the batch norm"
                f" `{name}`, but got 1. Raise `batch_size`, or drop the last batch of your"
                " loader (`drop_last=True`)."
            )
