"""A fixed, clean part of the training samples, and what validation would log of it."""

import math
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchmetrics import Metric

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import SetupError
from lightning_fastrecipes.batches import num_rows
from lightning_fastrecipes.callbacks.engine.state_keeping import preserved_state
from lightning_fastrecipes.callbacks.engine.stepping import (
    VAL_LOSS,
    mean_over_processes,
    run_validation_step,
    step_loss,
)
from lightning_fastrecipes.functional.splits import spread_samples
from lightning_fastrecipes.protocols import HasEvalDataLoader


class CleanSamples:
    """Up to ``num_samples`` training samples, spread evenly over all, without augmentation.

    They are those of ``loader``, or of the datamodule's ``eval_dataloader("train")`` if ``None``.
    ``wish`` says in a message what asks for them.
    """

    def __init__(self, wish: str, num_samples: int, loader: DataLoader[Any] | None) -> None:
        self.wish = wish
        self.num_samples = num_samples
        self.given = loader

    def loader(self, trainer: pl.Trainer) -> DataLoader[Any]:
        """Return this process's share of the samples; a ``SetupError`` if there are none."""
        loader = self.given
        datamodule = pl.datamodule_of(trainer)
        if loader is None and isinstance(datamodule, HasEvalDataLoader):
            loader = datamodule.eval_dataloader("train")
        if loader is None:
            raise SetupError(
                f"{self.wish} needs clean training samples, but the datamodule has no"
                " `eval_dataloader`. Give `train_loader`, a loader without augmentation."
            )
        return spread_samples(loader, self.num_samples, trainer.global_rank, trainer.world_size)

    def measure(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, float]:
        """Return what ``validation_step`` logs of the samples, over all processes, by its names.

        The loss that it returns counts as ``val_loss``. Nothing of the fit changes.
        """
        totals: dict[str, Tensor] = {}
        metrics: dict[str, Metric] = {}
        count = 0
        with preserved_state(trainer, pl_module) as logged:
            for part in pl_module.modules():
                if isinstance(part, Metric):
                    part.reset()
            batches: Any = self.loader(trainer)
            if pl.is_fast_dev_run(trainer):
                batches = islice(batches, 1)
            # Behind the batches of validation, of which the last may hold a repeated row.
            behind = sum(num for num in trainer.num_val_batches if not math.isinf(num))
            for index, batch in enumerate(batches, start=int(behind)):
                logged.clear()
                loss = step_loss(run_validation_step(trainer, batch, index))
                if VAL_LOSS not in logged and loss is not None:
                    logged[VAL_LOSS] = loss
                size = num_rows(batch)
                for name, value in logged.items():
                    if isinstance(value, Metric):
                        metrics[name] = value
                    else:
                        row = torch.as_tensor(value).detach().double() * size
                        totals[name] = totals.get(name, torch.zeros_like(row)) + row
                count += size
            # Their states are put back at the end of the block.
            found = {name: float(metric.compute()) for name, metric in metrics.items()}
        means = {
            name: mean_over_processes(trainer, total / count) for name, total in totals.items()
        }
        return found | means
