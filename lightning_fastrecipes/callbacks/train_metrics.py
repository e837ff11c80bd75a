"""Training metrics that compare with those of validation."""

from typing import Any

from torch.utils.data import DataLoader

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes.callbacks.engine.clean_samples import CleanSamples
from lightning_fastrecipes.errors import check_at_least

PREFIX = "train_clean_"
"""What the names begin with, in place of ``val_``."""


def train_name(name: str) -> str:
    """Return the name under which the training samples' share of a validation value is logged.

    >>> train_name("val_loss")
    'train_clean_loss'
    """
    return f"{PREFIX}{name.removeprefix('val_')}"


class TrainMetrics(pl.OwnCallback):
    """Log once an epoch what validation would log of a fixed part of the training samples.

    The samples go through ``validation_step`` as validation samples do: in eval mode, without
    augmentation, with the same crop. ``val_loss`` becomes ``train_clean_loss``, ``val_accuracy``
    ``train_clean_accuracy``: as long as both rise alike the model under-fits, and once training
    leaves validation behind it over-fits. (``train_loss`` is another number: the mean over an
    epoch, with augmentation and dropout.) Training and its random numbers stay as they are, on any
    number of processes. Put it before ``OverfittingStop``, which may watch these values, and takes
    its gap from them.

    Args:
        num_samples: Size of the part, at least 1; its samples are spread evenly over all.
        train_loader: Loader of clean training samples; that of the datamodule's
            ``eval_dataloader("train")`` if ``None``.

    Raises:
        ValueError: If ``num_samples`` is out of its range.

    Example:
        >>> TrainMetrics(num_samples=500).num_samples
        500

    References:
        fast.ai course of 2018, lesson 1: the losses of training and validation, compared.
    """

    def __init__(
        self, num_samples: int = 1000, train_loader: DataLoader[Any] | None = None
    ) -> None:
        check_at_least("num_samples", num_samples, 1)
        self.num_samples = num_samples
        self._samples = CleanSamples("`TrainMetrics`", num_samples, train_loader)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse fits without clean samples before they run."""
        self._samples.loader(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure and log; the values are the same on all processes."""
        values = self._samples.measure(trainer, pl_module)
        named = {train_name(name): value for name, value in values.items()}
        pl_module.log_dict(named, on_step=False, on_epoch=True, sync_dist=True)
