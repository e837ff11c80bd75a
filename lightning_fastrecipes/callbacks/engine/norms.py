"""Batch norm, measured anew in the midst of a fit, whatever module it is in."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader, IterableDataset

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import rank_zero_warn
from lightning_fastrecipes.batches import num_rows
from lightning_fastrecipes.callbacks.engine.state_keeping import preserved_state
from lightning_fastrecipes.callbacks.engine.stepping import call_step, on_device
from lightning_fastrecipes.functional.splits import spread_samples
from lightning_fastrecipes.nn.averaging import reestimate_batch_norm
from lightning_fastrecipes.protocols import HasEvalDataLoader

_NUM_SAMPLES = 512


def measure_norms(trainer: pl.Trainer, module: pl.LightningModule) -> None:
    """Measure the statistics of the batch norms that train on up to 512 training samples.

    The samples are those of the datamodule without augmentation, or of the training loader. Of a
    module with a ``backbone`` only that is measured; of any other all of it, with dropout as in
    training, since the layers behind it have learned from such inputs. Where it cannot be done, the
    statistics stay, which is said. Nothing else of the fit changes.
    """
    backbone = getattr(module, "backbone", None)
    root = backbone if isinstance(backbone, nn.Module) else module
    norms = [
        part
        for part in root.modules()
        if isinstance(part, _BatchNorm) and part.running_mean is not None
    ]
    if not norms:
        return
    loader = _loader(trainer)
    if loader is None:
        _say("neither the datamodule nor the trainer has a loader of samples by number")
        return
    found: list[tuple[Tensor, Tensor]] = []
    stage = trainer.state.stage
    try:
        with preserved_state(trainer, module):
            forward = _forward(trainer, module)
            reestimate_batch_norm(module, loader, forward, root, with_dropout=root is module)
            for norm in norms:
                if norm.num_batches_tracked:  # of the others none saw a sample
                    found += [(buffer, buffer.clone()) for buffer in norm.buffers()]
    except Exception as error:  # whatever a stranger's step raises on a batch that it does not know
        _say(f"a step failed on training samples: {error!r}")
        return
    finally:
        trainer.state.stage = stage
    for buffer, value in found:
        buffer.copy_(value)
        if trainer.world_size > 1 and buffer.is_floating_point():
            trainer.strategy.reduce(buffer, reduce_op="mean")  # in place


def _loader(trainer: pl.Trainer) -> DataLoader[Any] | None:
    """Return this process's share of the training samples; ``None`` if they have no numbers."""
    datamodule = pl.datamodule_of(trainer)
    loader: Any = trainer.train_dataloader
    if isinstance(datamodule, HasEvalDataLoader):
        loader = datamodule.eval_dataloader("train")
    elif not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return None
    return spread_samples(loader, _NUM_SAMPLES, trainer.global_rank, trainer.world_size)


def _forward(trainer: pl.Trainer, module: pl.LightningModule) -> Callable[[Any], None]:
    """Return what runs a module on a batch: its validation step if it has one."""
    step = getattr(module.validation_step, "__func__", module.validation_step)
    has_own = step is not pl.LightningModule.validation_step
    name = "validation_step" if has_own else "training_step"

    def run(batch: Any) -> None:
        if num_rows(batch) > 1:  # a batch of one has no variance
            trainer.validating = has_own
            call_step(trainer, name, on_device(trainer, batch), 0)

    return run


def _say(reason: str) -> None:
    rank_zero_warn(
        "Batch norm could not be measured anew with the averaged weights, so that its statistics"
        f" are averages too: {reason}."
    )
