"""The trainers of a recipe, and whether its callbacks can stand in one."""

import os
import signal
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes.messages import suggestion
from lightning_fastrecipes.recipe.artifacts.checkpoints import WholeCheckpoints
from lightning_fastrecipes.recipe.config.defaults import find_spread, trainer_arguments
from lightning_fastrecipes.recipe.config.documents import Place
from lightning_fastrecipes.recipe.config.schema import Recipe

_GPUS = ("gpu", "cuda")
_FAILURES = (pl.MisconfigurationException, ValueError, TypeError, RuntimeError, ImportError)
_OWN = {pl.LIGHTNING.partition(".")[0], "lightning_fastrecipes"}


def build_trainer(recipe: Recipe, model: Any, **arguments: Any) -> pl.Trainer:
    """Build a trainer from a recipe's values and from ``arguments``, which come first.

    Raise `RecipeError` if Lightning does not take what the recipe says.
    """
    chosen = {
        "logger": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
        "enable_model_summary": False,
        **trainer_arguments(recipe.trainer, model),
        **arguments,
    }
    plugins = chosen.pop("plugins", None) or []
    plugins = [*plugins] if isinstance(plugins, (list, tuple)) else [plugins]
    if not any(isinstance(plugin, pl.CheckpointIO) for plugin in plugins):
        plugins.append(WholeCheckpoints())
    spread = find_spread(os.environ)
    _check_spread(spread, chosen, Place(recipe.path, "trainer"))
    if spread and pl.SLURMEnvironment.detect():
        # A checkpoint that Lightning writes for a requeued job would be taken by every stage.
        plugins.append(pl.SLURMEnvironment(auto_requeue=False))
    chosen["callbacks"] = [*chosen.get("callbacks", ()), KeepsSigterm()]
    try:
        return pl.Trainer(**chosen, plugins=plugins)
    except _FAILURES as error:
        said = " ".join(str(error).split())
        if str(chosen["accelerator"]) in _GPUS and not torch.cuda.is_available():
            said += " Leave `accelerator` out to use what this machine has, or say `cpu`."
        raise Place(recipe.path, "trainer").error(
            f"must have values that Lightning takes here, but: {said}"
        ) from error


def check_trainer(recipe: Recipe) -> None:
    """Raise `RecipeError`, before any data are read, if Lightning does not take the recipe's."""
    build_trainer(recipe, nn.Identity(), enable_progress_bar=False)


def _check_spread(spread: dict[str, Any], chosen: dict[str, Any], place: Place) -> None:
    """Refuse other numbers of processes than a launcher has started: each would train alone."""
    devices, nodes = chosen["devices"], chosen.get("num_nodes", 1)
    if spread and isinstance(devices, int) and devices > 0:
        wanted = spread["devices"] * spread["num_nodes"]
        if devices * nodes != wanted:
            raise place.error(
                f"must fit the {wanted} processes that were started, {spread['devices']} on each"
                f" node, but `devices` is {devices} and `num_nodes` is {nodes}. Leave both out."
            )


class KeepsSigterm(pl.Callback):
    """Put back the handler of SIGTERM that was there before the trainer's own.

    Lightning's waits for the end of the batch, and on several processes for the others, which may
    never come.
    """

    def __init__(self) -> None:
        is_main = threading.current_thread() is threading.main_thread()
        self._handler = signal.getsignal(signal.SIGTERM) if is_main else None

    def _put_back(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if callable(self._handler):
            signal.signal(signal.SIGTERM, self._handler)

    on_sanity_check_start = on_train_start = on_validation_start = on_test_start = _put_back


def stage_checkpoint(path: Path) -> pl.ModelCheckpoint:
    """Return the callback that writes the checkpoint of a stage after each of its epochs."""
    return pl.ModelCheckpoint(
        dirpath=path.parent,
        filename=path.stem,
        save_top_k=1,
        every_n_epochs=1,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )


def check_callbacks(callbacks: Sequence[pl.Callback], place: Place) -> None:
    """Raise `RecipeError` if two callbacks of a stage would keep their states under one name.

    Every stage has a `ModelCheckpoint` of its own.
    """
    seen = {stage_checkpoint(Path("stage")).state_key: "the checkpoint that every stage writes"}
    for number, callback in enumerate(callbacks):
        if type(callback).state_dict is pl.Callback.state_dict:
            continue
        name, where = type(callback).__name__, place.at(f"callbacks[{number}]")
        if (other := seen.get(callback.state_key)) is None:
            seen[callback.state_key] = f"`callbacks[{number}]`"
            continue
        cure = "Leave one of them out, or give them other arguments."
        if isinstance(callback, pl.ModelCheckpoint):
            cure = (
                "Give it a `monitor`, such as `val_loss`, or leave it out: the stage leaves"
                " `checkpoints/STAGE.ckpt` after every epoch."
            )
        raise where.error(
            f"`{name}` cannot stand beside {other}, which keeps its state under the same name."
            f" {cure}"
        )


def check_monitors(callbacks: Sequence[pl.Callback], logged: Iterable[str], place: Place) -> None:
    """Raise `RecipeError` if a callback monitors what nothing in the stage logs.

    ``logged`` are the names that the model logs. Callbacks of other packages may log any.
    """
    if any(type(callback).__module__.partition(".")[0] not in _OWN for callback in callbacks):
        return
    known = list(logged)
    for number, callback in enumerate(callbacks):
        name = getattr(callback, "monitor", None)
        if isinstance(name, str) and not name.startswith((*known, "lr-", "image_size")):
            raise place.at(f"callbacks[{number}].monitor").error(
                f"must be what the stage logs, {', '.join(known)}, but is {name!r}."
                f"{suggestion(name, known)}"
            )
