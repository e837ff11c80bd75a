"""Go on with a run folder: resume it as it was started, or continue it in a new part."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lightning_fastrecipes._lightning import rank_zero_warn
from lightning_fastrecipes.data.common.files import write_atomically
from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.recipe.artifacts.progress import (
    Progress,
    read_progress,
    trained_epochs,
)
from lightning_fastrecipes.recipe.artifacts.run_folder import RunFolder
from lightning_fastrecipes.recipe.config.changes import changed_keys, describe_changes
from lightning_fastrecipes.recipe.config.documents import dump_document
from lightning_fastrecipes.recipe.config.schema import Recipe
from lightning_fastrecipes.recipe.loading import load_recipe
from lightning_fastrecipes.trust import Trust

logger = logging.getLogger(__name__)

_OF_A_PART = (
    "results.json", "curves.png", "export", "predictions_*", "labels_*", "label_cooccurrence*",
    "confusion_matrix*", "classes_*", "importance.*", "embeddings*", "report.html",
)  # fmt: skip
"""What the evaluation of a part writes, which moves aside when the next part begins."""


def continued_recipe(
    path: Path, overrides: Sequence[str], added: Sequence[str] = (), *, trust: Trust = ()
) -> Recipe:
    """Return the recipe that continues the finished run in a folder.

    ``overrides`` may raise ``max_epochs`` of the last stage and change the evaluation; ``added``
    names new stages behind the last, whose keys the overrides set. If the folder has begun with
    exactly this part, its recipe is returned as it is. Raise `RecipeError` if other keys change, or
    the run is not finished.
    """
    folder = RunFolder(path)
    _refuse_member(path)
    progress = read_progress(folder)
    document = progress.recipe or {}
    if document.get("series") is not None:
        raise RecipeError(
            f"{path} holds variants that were trained in a series, each from keys of the one before"
            " it, and cannot be continued as a whole. Copy the folder of a variant, and continue"
            " the copy."
        )
    stages = document.get("stages") or {}
    if not stages:
        raise RecipeError(
            f"{path} must say which stages were trained, but names none, so that it cannot be"
            " continued. Start anew in another folder."
        )
    last = list(stages)[-1]
    wanted = {**document, "stages": stages | {name: stages.get(name, {}) for name in added}}
    recipe = load_recipe(folder.recipe, overrides, trust=trust, document=wanted)
    changes = changed_keys(document, recipe.source)
    is_finished = folder.results.is_file() and _is_trained(progress, recipe)
    if not changes:
        if is_finished:
            raise RecipeError(
                f"{path} is finished, and nothing is said that it should train further. Give"
                f" its last stage more epochs, `--stages.{last}.max_epochs=N`, or add a stage."
            )
        return recipe
    _refuse_changes(path, changes, document)
    before = load_recipe(folder.recipe, trust=trust, document=document)
    moved = folder.part(len(before.parts) + 1) / "results.json"
    if not (folder.results.is_file() or moved.is_file()) or not _is_trained(progress, before):
        raise RecipeError(
            f"{path} is not finished, so that it cannot be continued with other keys. First go on"
            f" with `fastrecipes run --resume {path}`."
        )
    _refuse_early_stop(folder, before, changes)
    ended = {last: before.stages[-1].max_epochs}
    parts = [*before.parts, ended]
    return load_recipe(folder.recipe, overrides, trust=trust, document=wanted | {"parts": parts})


def adopt(recipe: Recipe, folder: RunFolder) -> Progress:
    """Return the progress of the run that goes on in a folder, with the recipe it goes on with.

    Raise `RecipeError`, with names and values, for keys that differ from those the run was started
    with; a recipe of one part more may also train the last stage further, add stages and change the
    evaluation.
    """
    progress = read_progress(folder)
    if progress.recipe is not None:
        changes = changed_keys(progress.recipe, recipe.source)
        if len(recipe.parts) == len(progress.recipe.get("parts") or ()) + 1:
            changes.pop("parts")
            _refuse_changes(folder.path, changes, progress.recipe)
        elif changes:
            raise RecipeError(
                f"{folder.path} must be resumed with the keys it was started with, but"
                f" {describe_changes(changes)}. Leave them out; a finished run is trained further"
                " with `--continue`."
            )
    _compare_threads(progress.threads)
    return progress


def _compare_threads(before: int | None) -> None:
    """Warn of what another number of threads does to the numbers of a run that goes on."""
    now = torch.get_num_threads()
    if before not in (None, now):
        rank_zero_warn(
            f"The run began on {before} threads and goes on with {now}. PyTorch rounds its sums"
            " otherwise then, so that numbers may differ a little from those of a run that was not"
            f" interrupted. OMP_NUM_THREADS={before} keeps them."
        )


def is_up_to_date(recipe: Recipe, folder: RunFolder) -> bool:
    """Return whether a folder holds as many parts as a recipe; refuse what `adopt` refuses."""
    recorded = adopt(recipe, folder).recipe or {}
    return len(recorded.get("parts") or ()) == len(recipe.parts)


def is_finished(recipe: Recipe, folder: RunFolder) -> bool:
    """Return whether a folder holds all that a recipe trains, and its evaluation.

    A series, which looks at each of its runs by itself, never counts as finished.
    """
    if recipe.series is not None or not (
        folder.results.is_file() and is_up_to_date(recipe, folder)
    ):
        return False
    return _is_trained(read_progress(folder), recipe)


def begin_part(recipe: Recipe, folder: RunFolder, progress: Progress) -> None:
    """Write down the recipe of a run; what an earlier part has written moves to ``parts/NUMBER``.

    Each step may be repeated after an interruption.
    """
    number = len(recipe.parts)
    if progress.recipe is not None and number > len(progress.recipe.get("parts") or ()):
        home = folder.part(number)
        home.mkdir(parents=True, exist_ok=True)
        write_atomically(home / "recipe.yaml", dump_document(progress.recipe))
        for path in (path for name in _OF_A_PART for path in sorted(folder.path.glob(name))):
            path.rename(home / path.name)
        logger.info("Part %s begins; part %s is in %s", number + 1, number, home)
    write_atomically(folder.recipe, dump_document(recipe.source))
    progress.threads = progress.threads or torch.get_num_threads()
    logger.info(
        "PyTorch computes on %s threads; with another number it rounds sums otherwise, and results"
        " differ a little",
        torch.get_num_threads(),
    )
    replace(progress, recipe=recipe.source).write(folder)


def describe_parts(recipe: Recipe, folder: RunFolder, results: dict[str, Any]) -> None:
    """Add to the results of a continued run what each of its parts trained and measured."""
    if not recipe.parts:
        return
    epochs = {one["name"]: one.get("epochs", one["max_epochs"]) for one in results["stages"]}
    parts: list[dict[str, Any]] = []
    for number in range(1, len(recipe.parts) + 2):
        trained = {}
        for stage in recipe.stages:
            before = 0
            for part, end in recipe.part_ends(stage):
                end = min(end, epochs.get(stage.name, end))
                if part == number and end > before:
                    trained[stage.name] = end - before
                before = end
        home = RunFolder(folder.part(number))
        measured = home.read_results() if home.results.is_file() else {}
        measured = results if number > len(recipe.parts) else measured
        parts.append(
            {"epochs": trained} | {split: measured.get(split, {}) for split in ("val", "test")}
        )
    results["parts"] = parts


def _is_trained(progress: Progress, recipe: Recipe) -> bool:
    """Return whether every stage is trained; several models note that in their own folders."""
    if recipe.num_models > 1:
        return True
    planned = {stage.name: stage.max_epochs for stage in recipe.stages}
    return {one["name"]: one["max_epochs"] for one in progress.stages} == planned


def _refuse_changes(path: Path, changes: dict[str, Any], before: dict[str, Any]) -> None:
    stages = before.get("stages") or {}
    last = list(stages)[-1]
    refused = {}
    for key, (old, new) in changes.items():
        section, _, rest = key.partition(".")
        stage, _, name = rest.partition(".")
        is_longer = stage == last and name == "max_epochs" and new and new > old
        is_added = section == "stages" and stage not in stages
        if section != "evaluation" and not is_added and not (section == "stages" and is_longer):
            refused[key] = (old, new)
    if refused:
        raise RecipeError(
            f"{path} can be continued by more epochs of its last stage, `stages.{last}.max_epochs`,"
            f" by added stages and another evaluation, but {describe_changes(refused)}. Train with"
            " other keys in an added stage, or run anew in another folder."
        )


def _refuse_early_stop(folder: RunFolder, before: Recipe, changes: dict[str, Any]) -> None:
    stage = before.stages[-1]
    kind = "fold" if before.folds else "seed"
    homes = [RunFolder(path) for path in sorted(folder.path.glob(f"{kind}-*"))]
    for home in homes if before.num_models > 1 else [folder]:
        trained = trained_epochs(home.checkpoint(stage.name))
        if trained < stage.max_epochs and f"{stage.key}.max_epochs" in changes:
            raise RecipeError(
                f"{home.path}: the stage {stage.name!r} stopped after {trained} of"
                f" {stage.max_epochs} epochs, so that more of them change nothing. Add a stage,"
                " which goes on from its weights."
            )


def _refuse_member(path: Path) -> None:
    home = path.resolve()
    owner = home.parent.parent if home.parent.name in ("variants", "rungs") else home.parent
    is_member = owner != home.parent or home.name.startswith(("seed-", "fold-"))
    if is_member and (owner / "recipe.yaml").is_file():
        raise RecipeError(
            f"{path} belongs to the run {owner}, whose results would no longer be those of its"
            " models. Continue that run, or a copy of this folder elsewhere."
        )
