"""Before the first step of a fit: batch norm takes over the statistics of the training data."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes.functional.splits import spread_samples
from lightning_fastrecipes.functional.training.norm_calibration import (
    measure_inputs,
    store_statistics,
    trained_norms,
)
from lightning_fastrecipes.protocols import HasEvalDataLoader, inputs_of

NUM_SAMPLES = 512
"""How many training samples the statistics are measured on, over all processes."""


def calibrate_norms(task: pl.LightningModule, backbone: torch.nn.Module, batch: Any) -> None:
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
            for part in _clean_batches(task, batch):
                task(pl.move_data_to_device(inputs_of(part), task.device))

        sums = measure_inputs(norms, run)
        for module, mode in modes:
            module.training = mode
    if task.trainer.world_size > 1:
        total = task.trainer.strategy.reduce(sums.to(task.device), reduce_op="sum")
        sums = total.cpu() if isinstance(total, Tensor) else sums
    store_statistics(norms, sums)


def _clean_batches(task: pl.LightningModule, batch: Any) -> Iterable[Any]:
    datamodule = pl.datamodule_of(task.trainer)
    if not isinstance(datamodule, HasEvalDataLoader):
        return [batch]
    rank, world_size = task.trainer.global_rank, task.trainer.world_size
    return spread_samples(datamodule.eval_dataloader("train"), NUM_SAMPLES, rank, world_size)
