"""Find the learning rate of a stage: during a run (``lr: find``), or in a sweep of its own."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import rank_zero_warn
from lightning_fastrecipes.callbacks.lr_finder import LRCurve, LRFinder, run_finder, watched
from lightning_fastrecipes.data.common.files import write_atomically
from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.functional.training.group_rates import describe_group_lrs
from lightning_fastrecipes.functional.training.lr_curves import sweep_lrs
from lightning_fastrecipes.recipe.artifacts.run_folder import RunFolder
from lightning_fastrecipes.recipe.config.defaults import trainer_arguments
from lightning_fastrecipes.recipe.config.documents import Place
from lightning_fastrecipes.recipe.config.schema import AS_BEFORE, FIND, LRSearch, Recipe, Stage
from lightning_fastrecipes.recipe.loading import modality_of
from lightning_fastrecipes.recipe.run.plan import (
    apply_stage,
    build_callbacks,
    build_parts,
    resizing,
    stage_seed,
)
from lightning_fastrecipes.recipe.shared.members import load_member

_SEARCHED = 1.35
"""How many times as long a step of a search takes, which asks each batch once more."""


def finding_callbacks(
    stage: Stage, callbacks: Sequence[pl.Callback], folder: Path, *, show: bool = False
) -> list[pl.Callback]:
    """Add a learning-rate finder to a stage that says ``lr: find``, and keep its curve.

    A finder among the stage's own callbacks takes the place of the default one. Finders come first,
    so that all other callbacks see the rates they set. ``show`` writes rates that are known when
    the stage trains, and not before, to the terminal.
    """
    own = [watched(finder) for finder in finders_of(stage, callbacks)]
    others = [callback for callback in callbacks if callback not in own]
    keepers = [_CurveKeeper(finder, folder, stage) for finder in own]
    lines = [_RateLine(own, stage)] if show and (own or stage.lr == AS_BEFORE) else []
    return [*own, *others, *keepers, *lines]


def finders_of(stage: Stage, callbacks: Sequence[pl.Callback]) -> list[LRFinder]:
    """Return the finders of a stage: its own, or the default one where it says ``lr: find``."""
    own = [callback for callback in callbacks if isinstance(callback, LRFinder)]
    return own or ([] if stage.search is None else [_finder(stage.search)])


def steps_of_searches(recipe: Recipe, index: int) -> float:
    """Return how many steps of training the searches of a stage for a rate last."""
    stage = recipe.stages[index]
    return _SEARCHED * sum(
        len(finder.lrs)
        for finder in finders_of(stage, build_callbacks(recipe, index))
        for epoch in finder.epochs
        if epoch < stage.max_epochs
    )


def write_curve(curve: LRCurve, folder: Path, stage: str) -> None:
    """Write ``lr_finder_STAGE.json`` and ``lr_finder_STAGE.png`` into a folder."""
    write_atomically(folder / f"lr_finder_{stage}.json", curve.to_json())
    curve.plot(folder / f"lr_finder_{stage}.png")


def find_stage_lr(
    recipe: Recipe,
    stage_name: str,
    run_folder: Path | None = None,
    *,
    ends: tuple[float | None, float | None] = (None, None),
) -> LRCurve:
    """Sweep the learning rate of one stage and train nothing.

    The sweep starts from the weights that a run in ``run_folder`` had after the stage before, or if
    ``None`` from those that the recipe starts from. ``ends`` are its first and its last rate, those
    of the finder where they are ``None``. Raise `RecipeError` if there is no such stage or
    checkpoint, no stage before it, or the stage cannot be swept.
    """
    index = recipe.stage_index(stage_name)
    stage = recipe.stages[index]
    if run_folder is not None and index == 0:
        raise RecipeError(
            f"'{stage_name}' is the first stage, and begins with no weights of a run. Leave"
            f" `{run_folder}` out, or name another stage."
        )
    pl.seed_everything(recipe.seed, workers=True, verbose=False)
    data, model = build_parts(recipe)
    if run_folder is not None:
        before = recipe.stages[index - 1].name
        checkpoint = RunFolder(run_folder).checkpoint(before)
        if not checkpoint.is_file():
            raise RecipeError(
                f"{checkpoint} is missing, the weights after the stage {before!r}. Name the folder"
                " of a run that finished it, or leave the folder out."
            )
        load_member(checkpoint, model)
    apply_stage(recipe, index, data, model, RunFolder(run_folder) if run_folder else None)
    resizing(recipe, index, data, model)(0)
    training_data = modality_of(recipe).training_data(stage, data, model)
    pl.seed_everything(stage_seed(recipe.seed, index), workers=True, verbose=False)
    own = [found for found in build_callbacks(recipe, index) if isinstance(found, LRFinder)]
    finder = own[0] if own else _finder(stage.search)
    finder.on_refusal = "ignore"
    if ends != (None, None):
        lrs = finder.lrs
        first = lrs[0] if ends[0] is None else ends[0]
        finder.lrs = sweep_lrs(first, lrs[-1] if ends[1] is None else ends[1], len(lrs))
    try:
        arguments = trainer_arguments(recipe.trainer, model)
        # Nothing is trained, so nothing is logged.
        arguments |= {"logger": False, "profiler": None}
        return run_finder(finder, model, training_data, **arguments)
    except pl.MisconfigurationException as error:
        raise Place(recipe.path, stage.key).error(error) from error


def _finder(search: LRSearch | None) -> LRFinder:
    return LRFinder() if search is None or search.find is None else LRFinder(rule=search.find)


class _CurveKeeper(pl.Callback):
    """Write the curve right after the step that follows it, or when the fit fails."""

    def __init__(self, finder: LRFinder, folder: Path, stage: Stage) -> None:
        self.finder = finder
        self.folder = folder
        self.stage = stage

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if batch_idx == 0 and trainer.current_epoch in self.finder.curves:
            self._write(trainer)
            if self.finder.curve.suggestion is None and self.stage.lr == FIND:
                rank_zero_warn(
                    f"{self.stage.key}: no rate was found, so that the stage trains with"
                    f" {LRSearch().otherwise:g}. State another with"
                    " `lr: {find: RULE, otherwise: RATE}`."
                )

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        if self.finder.curves:
            self._write(trainer)

    def _write(self, trainer: pl.Trainer) -> None:
        if trainer.is_global_zero:
            write_curve(self.finder.curve, self.folder, self.stage.name)


class _RateLine(pl.Callback):
    """Write the rate of each layer group, once it is found or taken from the stage before."""

    def __init__(self, finders: Sequence[LRFinder], stage: Stage) -> None:
        self.finders = finders
        self.stage = stage

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        epoch = trainer.current_epoch
        if batch_idx or not trainer.is_global_zero:
            return
        if self.stage.lr == AS_BEFORE and epoch == 0:
            names = [group.name for group in pl_module.layer_groups()]
            self._write("as before", dict(zip(names, pl_module.group_lrs(), strict=True)))
        curves = [finder.curves[epoch] for finder in self.finders if epoch in finder.curves]
        for curve in [curve for curve in curves if curve.suggestion is not None]:
            self._write(f"found by {curve.read_by}", curve.group_lrs)

    def _write(self, source: str, group_lrs: dict[str, float]) -> None:
        sys.stdout.write(f"Learning rates, {source}: {describe_group_lrs(group_lrs)}\n")
        sys.stdout.flush()
