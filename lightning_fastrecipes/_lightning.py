"""The only file that imports Lightning: every class and helper of it that the package uses.

Lightning comes as two packages, ``pytorch_lightning`` and ``lightning``, each with classes of its
own. Which of them the package is built on is decided here, when it first needs Lightning.
"""

import inspect
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.fastai_members import AnswersAsData
from lightning_fastrecipes.messages import suggestion
from lightning_fastrecipes.nested import pairs

VARIABLE = "FASTRECIPES_LIGHTNING"
"""Environment variable that says which Lightning to build on."""

_NOISE = (".*eval mode at the start of training", ".*LeafSpec")
_HOME = os.path.dirname(__file__)
_OTHERS = {"pytorch_lightning": "lightning.pytorch", "lightning.pytorch": "pytorch_lightning"}


def _decide() -> str:
    """Return the namespace that is asked for, or that the process has imported."""
    asked = os.environ.get(VARIABLE)
    if asked:
        name = "lightning.pytorch" if asked == "lightning" else asked
        if name not in _OTHERS:
            raise ConfigurationError(
                f"`{VARIABLE}` must be 'lightning' or 'pytorch_lightning', got {asked!r}."
            )
        return name
    imported = [name for name in _OTHERS if name in sys.modules]
    return imported[0] if len(imported) == 1 else "pytorch_lightning"


LIGHTNING = _decide()
"""Which of the two namespaces the package uses, also the name of its logger."""

# Type checkers read the first branch, and at run time one of them is taken.
if TYPE_CHECKING or LIGHTNING == "pytorch_lightning":
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
        ModelPruning,
        ProgressBar,
        RichProgressBar,
        StochasticWeightAveraging,
        Timer,
        WeightAveraging,
    )
    from pytorch_lightning.core.mixins import HyperparametersMixin  # type: ignore[attr-defined]
    from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
    from pytorch_lightning.loggers.logger import DummyLogger
    from pytorch_lightning.plugins import CheckpointIO, TorchCheckpointIO
    from pytorch_lightning.plugins.environments import (  # type: ignore[attr-defined]
        SLURMEnvironment,
    )
    from pytorch_lightning.strategies import (
        DDPStrategy,
        DeepSpeedStrategy,
        SingleDeviceStrategy,
        StrategyRegistry,
    )
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
        SIGTERMException,
    )
    from pytorch_lightning.utilities.seed import isolate_rng
    from pytorch_lightning.utilities.signature_utils import is_param_in_hook_signature
else:
    from lightning.pytorch import (
        Callback,
        LightningDataModule,
        LightningModule,
        Trainer,
        seed_everything,
    )
    from lightning.pytorch.callbacks import (
        BackboneFinetuning,
        ModelCheckpoint,
        ModelPruning,
        ProgressBar,
        RichProgressBar,
        StochasticWeightAveraging,
        Timer,
        WeightAveraging,
    )
    from lightning.pytorch.core.mixins import HyperparametersMixin
    from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
    from lightning.pytorch.loggers.logger import DummyLogger
    from lightning.pytorch.plugins import CheckpointIO, TorchCheckpointIO
    from lightning.pytorch.plugins.environments import SLURMEnvironment
    from lightning.pytorch.strategies import (
        DDPStrategy,
        DeepSpeedStrategy,
        SingleDeviceStrategy,
        StrategyRegistry,
    )
    from lightning.pytorch.trainer.states import TrainerFn, TrainerStatus
    from lightning.pytorch.utilities import (
        CombinedLoader,
        move_data_to_device,
        rank_zero_info,
        rank_zero_only,
        rank_zero_warn,
    )
    from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException
    from lightning.pytorch.utilities.seed import isolate_rng
    from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature


class SetupError(ConfigurationError, MisconfigurationException):
    """Parts of a run that do not fit together, which Lightning's own class catches as well."""


def refuse_other_lightning(asker: str, *parts: Any) -> None:
    """Raise a ``SetupError`` if one of the parts of a run is of the other Lightning.

    ``asker`` is what names itself in the message, such as a callback.
    """
    other = _OTHERS[LIGHTNING]
    for part in parts:
        names = [base.__module__ for base in type(part).__mro__]
        if any(name == other or name.startswith(f"{other}.") for name in names):
            raise SetupError(
                f"`{asker}` is built on `{LIGHTNING}`, but {type(part).__name__} is of `{other}`."
                f" Use one of them everywhere: import `{other}` before anything of"
                f" `lightning_fastrecipes`, or set the environment variable"
                f" `{VARIABLE}={other.split('.')[0]}`; or import `{LIGHTNING}` alone."
            )


def check_trainer_arguments(owner: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Raise a TypeError if neither a function nor the trainers that it makes take an argument."""
    known = {**inspect.signature(owner).parameters, **inspect.signature(Trainer).parameters}
    for name in given:
        if name not in known:
            raise TypeError(
                f"`{owner.__name__}` has no argument `{name}`, nor has Lightning's `Trainer`."
                f"{suggestion(name, known)}"
            )


def keeps_whole_weights(strategy: Any) -> bool:
    """Return whether a strategy, or the one of a name, gives every process all weights."""
    kind = type(strategy)
    if isinstance(strategy, str):
        if strategy not in StrategyRegistry:  # `auto`, or one that Lightning refuses
            return True
        kind = StrategyRegistry[strategy]["strategy"]
    is_whole = issubclass(kind, (SingleDeviceStrategy, DDPStrategy))
    # That of DeepSpeed is one of `ddp` to Lightning.
    return is_whole and not issubclass(kind, DeepSpeedStrategy)


def refuse_shards(asker: str, trainer: Trainer | None) -> None:
    """Raise a ``SetupError`` if a trainer spreads the weights of a module over processes."""
    strategy = getattr(trainer, "strategy", None)
    if strategy is not None and not keeps_whole_weights(strategy):
        raise SetupError(
            f"`{asker}` needs whole weights in every process, as on a single device or with `ddp`,"
            f" but {type(strategy).__name__} spreads them. Use `strategy='ddp'`, or leave it out."
        )


def name_own_classes(value: Any) -> None:
    """Let class paths in plain values name the Lightning that is used, whichever they name."""
    other = f"{_OTHERS[LIGHTNING]}."
    for key, item in list(pairs(value)):
        name_own_classes(item)
        if key == "class_path" and isinstance(item, str) and item.startswith(other):
            value[key] = f"{LIGHTNING}.{item.removeprefix(other)}"


class _Given(HyperparametersMixin):
    """What Lightning's command line gives to the module that it is about to build."""

    def __init__(self) -> None:
        super().__init__()
        self.save_hyperparameters()


CLASS_PATH = "_class_path"
"""Where the command line looks for the class of a checkpoint, if it has class paths for modules.

A name of Lightning's own: the tests of the subclass mode fail if it changes.
"""


def given_class_path() -> dict[str, str]:
    """Return what checkpoints must hold beside the arguments of a module, for the command line."""
    given = _Given().hparams
    return {CLASS_PATH: given[CLASS_PATH]} if CLASS_PATH in given else {}


class OwnCallback(Callback):
    """What every callback of this package is: one that knows the Lightning it belongs to."""

    needs_whole_weights: ClassVar[bool] = True
    """Whether it works only where every process has all weights."""

    needs_own_key: ClassVar[bool] = False
    """Whether a trainer may have but one under a ``state_key``; so if it has a state."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "state_dict" in vars(cls):
            cls.needs_own_key = True
            # Read by `is_overridden`: Lightning then leaves it to `setup` to refuse a second one.
            cls.state_dict.__wrapped__ = Callback.state_dict  # type: ignore[attr-defined]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a trainer of the other Lightning or of shards, and a second one of this kind."""
        name, callbacks = type(self).__name__, callbacks_of(trainer)
        refuse_other_lightning(name, trainer, pl_module, datamodule_of(trainer), *callbacks)
        if self.needs_whole_weights:
            refuse_shards(name, trainer)
        count = [one.state_key for one in callbacks].count(self.state_key)
        if self.needs_own_key and count > 1:
            raise SetupError(
                f"A trainer must have one `{self.state_key}`, but has {count}. Leave one of them."
            )


class OwnDataModule(AnswersAsData, LightningDataModule):
    """What every datamodule of this package is: one that knows the Lightning it belongs to."""

    _trainer: Trainer | None = None

    @property
    def trainer(self) -> Trainer | None:
        """The trainer that uses these data; one of the other Lightning or of shards is refused."""
        return self._trainer

    @trainer.setter
    def trainer(self, trainer: Trainer | None) -> None:
        refuse_other_lightning(type(self).__name__, trainer)
        refuse_shards(type(self).__name__, trainer)
        self._trainer = trainer


@contextmanager
def own_lines_alone() -> Iterator[None]:
    """Show none of Lightning's own remarks on devices and products; its warnings stay.

    Two of them do not: that frozen layers are in eval mode, which this package means them to be,
    and that Lightning uses what torch will drop.
    """
    logger = logging.getLogger(f"{LIGHTNING}.utilities.rank_zero")
    logger.addFilter(_is_own)
    try:
        with warnings.catch_warnings():
            for start in _NOISE:
                warnings.filterwarnings("ignore", start)
            yield
    finally:
        logger.removeFilter(_is_own)


def _is_own(record: logging.LogRecord) -> bool:
    """Return whether a record is of this package, or a warning."""
    return record.levelno >= logging.WARNING or record.pathname.startswith(_HOME)


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
    "CLASS_PATH",
    "LIGHTNING",
    "BackboneFinetuning",
    "Callback",
    "CheckpointIO",
    "CombinedLoader",
    "DummyLogger",
    "LightningDataModule",
    "LightningModule",
    "Logger",
    "MisconfigurationException",
    "ModelCheckpoint",
    "ModelPruning",
    "OwnCallback",
    "OwnDataModule",
    "ProgressBar",
    "RichProgressBar",
    "SIGTERMException",
    "SLURMEnvironment",
    "SetupError",
    "StochasticWeightAveraging",
    "TensorBoardLogger",
    "Timer",
    "TorchCheckpointIO",
    "Trainer",
    "TrainerFn",
    "TrainerStatus",
    "WandbLogger",
    "WeightAveraging",
    "callbacks_of",
    "check_trainer_arguments",
    "datamodule_of",
    "given_class_path",
    "is_fast_dev_run",
    "is_param_in_hook_signature",
    "isolate_rng",
    "keeps_whole_weights",
    "move_data_to_device",
    "name_own_classes",
    "own_lines_alone",
    "rank_zero_info",
    "rank_zero_only",
    "rank_zero_warn",
    "refuse_other_lightning",
    "refuse_shards",
    "seed_everything",
]
