"""The only file that imports Lightning: every class and helper of it that the package uses."""

from typing import Any

from pytorch_lightning import (
    Callback,
    LightningDataModule,
    LightningModule,
    Trainer,
    seed_everything,
)
from pytorch_lightning.callbacks import (
    BackboneFinetuning,
    ModelCheckpoint,
    ProgressBar,
    RichProgressBar,
    StochasticWeightAveraging,
    WeightAveraging,
)
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.logger import DummyLogger
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy
from pytorch_lightning.trainer.states import TrainerFn, TrainerStatus
from pytorch_lightning.utilities import (
    CombinedLoader,
    move_data_to_device,
    rank_zero_info,
    rank_zero_only,
    rank_zero_warn,
)
from pytorch_lightning.utilities.exceptions import (  # type: ignore[attr-defined]
    MisconfigurationException,
)
from pytorch_lightning.utilities.seed import isolate_rng
from pytorch_lightning.utilities.signature_utils import is_param_in_hook_signature

from lightning_fastrecipes.errors import ConfigurationError

LIGHTNING = "pytorch_lightning"
"""Which of the two namespaces the package uses, also the name of its logger."""


class SetupError(ConfigurationError, MisconfigurationException):
    """Parts of a run that do not fit together, which Lightning's own class catches as well."""


def is_fast_dev_run(trainer: Trainer | None) -> bool:
    """Return whether a trainer runs one batch of everything as a trial."""
    # Lightning's stub has no `fast_dev_run`.
    return bool(getattr(trainer, "fast_dev_run", False))


def callbacks_of(trainer: Trainer | None) -> list[Callback]:
    """Return the callbacks of a trainer, which Lightning's stub does not have."""
    return list(getattr(trainer, "callbacks", []))


def datamodule_of(trainer: Trainer | None) -> Any:
    """Return the datamodule of a trainer, or ``None`` where it runs on loaders."""
    return getattr(trainer, "datamodule", None)


__all__ = [
    "LIGHTNING",
    "BackboneFinetuning",
    "Callback",
    "CombinedLoader",
    "DDPStrategy",
    "DummyLogger",
    "LightningDataModule",
    "LightningModule",
    "Logger",
    "MisconfigurationException",
    "ModelCheckpoint",
    "ProgressBar",
    "RichProgressBar",
    "SetupError",
    "SingleDeviceStrategy",
    "StochasticWeightAveraging",
    "TensorBoardLogger",
    "Trainer",
    "TrainerFn",
    "TrainerStatus",
    "WandbLogger",
    "WeightAveraging",
    "callbacks_of",
    "datamodule_of",
    "is_fast_dev_run",
    "is_param_in_hook_signature",
    "isolate_rng",
    "move_data_to_device",
    "rank_zero_info",
    "rank_zero_only",
    "rank_zero_warn",
    "seed_everything",
]
