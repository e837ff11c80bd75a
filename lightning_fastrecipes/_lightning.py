"""The only file that imports Lightning: every class and helper of it that the package uses."""

from pytorch_lightning import (
    Callback,
    LightningDataModule,
    LightningModule,
    Trainer,
    seed_everything,
)
from pytorch_lightning.callbacks import ModelCheckpoint, ProgressBar, RichProgressBar
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

LIGHTNING = "pytorch_lightning"
"""Which of the two namespaces the package uses, also the name of its logger."""

__all__ = [
    "LIGHTNING",
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
    "SingleDeviceStrategy",
    "TensorBoardLogger",
    "Trainer",
    "TrainerFn",
    "TrainerStatus",
    "WandbLogger",
    "is_param_in_hook_signature",
    "isolate_rng",
    "move_data_to_device",
    "rank_zero_info",
    "rank_zero_only",
    "rank_zero_warn",
    "seed_everything",
]
