"""Where the snapshots of a run lie."""

from collections.abc import Sequence
from pathlib import Path

from lightning_fastrecipes._lightning import Callback
from lightning_fastrecipes.callbacks.snapshots import CycleSnapshots
from lightning_fastrecipes.recipe.config.schema import Recipe


def place_snapshots(callbacks: Sequence[Callback], folder: Path, stage: str) -> None:
    """Let the snapshots of each stage go into a folder of their own.

    Args:
        callbacks: Callbacks of the stage; only those without a folder are given one.
        folder: Run folder.
        stage: Name of the stage.
    """
    for callback in callbacks:
        if isinstance(callback, CycleSnapshots) and callback.dirpath is None:
            callback.dirpath = folder / "snapshots" / stage


def find_snapshots(recipe: Recipe, folder: Path) -> dict[str, Path]:
    """List the snapshots that are left of the last stage that keeps any.

    Args:
        recipe: The recipe.
        folder: Run folder.

    Returns:
        Name to checkpoint, by the number of the cycle.
    """
    for stage in reversed(recipe.stages):
        found = (folder / "snapshots" / stage.name).glob("cycle-*.ckpt")
        paths = sorted(found, key=lambda path: int(path.stem.partition("-")[2]))
        if paths:
            return {path.stem: path for path in paths}
    return {}
