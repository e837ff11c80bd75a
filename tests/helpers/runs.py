"""Recipes run in this process, and interrupted."""

from pathlib import Path

import pytorch_lightning as pl

from lightning_fastrecipes.recipe.config.schema import Recipe
from lightning_fastrecipes.recipe.loading import load_recipe
from lightning_fastrecipes.recipe.run.parts import continued_recipe
from lightning_fastrecipes.recipe.run.runner import Run


class StopError(Exception):
    """What an interruption raises."""


class StopAfter(pl.Callback):
    """Interrupt a stage after one of its epochs; -1 is before the first."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        if trainer.current_epoch == self.epoch + 1:
            raise StopError


def run_recipe(
    recipe: Path | Recipe,
    folder: Path,
    *overrides: str,
    stop: tuple[int, int] | None = None,
    **options: bool,
) -> Run:
    """Run all stages of a recipe.

    Args:
        recipe: The file, or what it holds.
        folder: The run folder.
        *overrides: As on the command line, without dashes.
        stop: The stage and the epoch in it after which a `StopError` is raised.
        **options: Of `Run`.

    Returns:
        The finished run; `results` is what it measured.
    """
    read = load_recipe(recipe, overrides) if isinstance(recipe, Path) else recipe
    run = Run(read, folder, show_progress=False, **options)
    make_trainer = run._trainer
    for index, _ in enumerate(run.prepare()):
        if stop is not None and stop[0] == index:
            run._trainer = lambda callbacks, **rest: make_trainer(
                [*callbacks, StopAfter(stop[1])], **rest
            )
        run.run_stage(index)
    run.results = run.finish()
    return run


def recipe_results(recipe: Path, folder: Path, *overrides: str, **options: bool) -> dict:
    """Run all stages of a recipe, and return what it measured."""
    return run_recipe(recipe, folder, *overrides, **options).results


def continue_run(
    folder: Path, *overrides: str, add: tuple[str, ...] = (), stop: tuple[int, int] | None = None
) -> Run:
    """Continue a finished run, as ``fastrecipes run --continue`` does."""
    return run_recipe(continued_recipe(folder, overrides, add), folder, resume=True, stop=stop)
