"""Go on from the checkpoints of a run folder, which are checked before Lightning reads them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_fastrecipes import plain
from lightning_fastrecipes.errors import ConfigurationError, DataError, RecipeError
from lightning_fastrecipes.messages import name_some, shown
from lightning_fastrecipes.recipe.artifacts.history import read_history
from lightning_fastrecipes.recipe.artifacts.reading import RUN_CURE, named_errors, read_state
from lightning_fastrecipes.recipe.artifacts.run_folder import RunFolder, kept_inside
from lightning_fastrecipes.recipe.config.bounds import MOST
from lightning_fastrecipes.recipe.config.schema import Recipe
from lightning_fastrecipes.recipe.loading import modality_of
from lightning_fastrecipes.tasks.optim import check_optimizer_state

_MAPPING, _LIST = plain.named(plain.anything), plain.items(plain.anything)
_UNFINISHED = plain.keys(
    {"epoch": plain.whole(0), "global_step": plain.whole(0), "loops": _MAPPING},
    {
        "callbacks": plain.all_of(_MAPPING, kept_inside),
        "optimizer_states": _LIST,
        "lr_schedulers": _LIST,
    },
)


def check_finished_stages(
    stages: Sequence[Mapping[str, Any]], recipe: Recipe, data: Any, folder: RunFolder
) -> None:
    """Raise `DataError` or `RecipeError` if finished stages are not those of a recipe."""
    for stage in stages:
        for name in modality_of(recipe).size_names:
            most = getattr(data, f"largest_{name}", None) or MOST[name]
            if stage.get(name, 1) > most:
                raise DataError(
                    f"{folder.progress}: `{name}` must be at most {most}, as the recipe says, but"
                    f" is {shown(stage[name])}. {RUN_CURE}"
                )
    done, planned = [stage["name"] for stage in stages], [stage.name for stage in recipe.stages]
    if done != planned[: len(done)]:
        raise RecipeError(
            f"{folder.path} holds the finished stages {done}, but the recipe begins with"
            f" {planned}. Resume with the recipe that was started, or run in another folder."
        )


def load_finished_stage(model: Any, folder: RunFolder, stage: str) -> None:
    """Load the weights that a finished stage has left.

    Raise `RecipeError` if they are missing, `DataError` if they cannot be read.
    """
    checkpoint = folder.checkpoint(stage)
    if not checkpoint.is_file():
        raise RecipeError(
            f"{folder.progress} says that the stage {stage!r} is finished, but {checkpoint} is"
            " missing. Start anew in another folder."
        )
    loaded = read_state(checkpoint, plain.anything, RUN_CURE)
    with named_errors(checkpoint, RUN_CURE):
        try:
            model.on_load_checkpoint(loaded)
        except ConfigurationError as error:
            raise DataError(f"{checkpoint}: {error}") from error
        model.load_state_dict(loaded["state_dict"])


def check_history(folder: RunFolder, stage: str, epochs: int) -> None:
    """Raise `DataError` if the history of a stage lacks epochs that it has behind it."""
    rows = read_history(folder.metrics)
    found = int((rows["stage"] == stage).sum())
    if found < epochs:
        raise DataError(
            f"{folder.metrics} must have a row for each of {epochs} epochs of the stage {stage!r},"
            f" but has {found}. {RUN_CURE}"
        )


def check_unfinished(model: Any, checkpoint: Path) -> None:
    """Check a checkpoint that Lightning will resume from; `DataError` if it cannot."""
    saved = read_state(checkpoint, _UNFINISHED, RUN_CURE)
    state = saved["state_dict"]
    ours = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    odd = [name for name, tensor in state.items() if ours.get(name) != tuple(tensor.shape)]
    if odd := odd or [name for name in ours if name not in state]:
        raise DataError(
            f"{checkpoint} must hold the weights of the recipe's model, but {len(odd)} tensors"
            f" differ, such as {name_some(odd[:3])}. {RUN_CURE}"
        )
    with named_errors(checkpoint, RUN_CURE):
        for one in saved.get("optimizer_states", []):
            check_optimizer_state(one, model.configure_optimizers())
