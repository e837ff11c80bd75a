"""The command that searches the numbers of a recipe."""

import argparse
import os
from pathlib import Path
from typing import Any

from rich.console import Console

from lightning_fastrecipes.cli.interruptions import TerminatedError, ended_by_sigterm, interruption
from lightning_fastrecipes.cli.launch import find_launch
from lightning_fastrecipes.cli.output import check_place, err, out, refuse_links
from lightning_fastrecipes.cli.report_commands import report_on_run
from lightning_fastrecipes.errors import RecipeError

_TRIALS = 24


def search(options: argparse.Namespace) -> int:
    """Search the numbers of a recipe, or go on with a search, alone or beside other processes."""
    if find_launch(os.environ) is not None:
        raise RecipeError(
            "`search` is started by itself, on one device, but a launcher has started several"
            " processes. Start `fastrecipes search --resume DIR` in each of several terminals."
        )
    try:
        with ended_by_sigterm():
            return _search(options)
    except TerminatedError:
        err.print("fastrecipes: terminated", style="red")
        return 143


def _search(options: argparse.Namespace) -> int:
    folder = _resumed(options) or _begun(options)
    from lightning_fastrecipes.recipe.artifacts.environment import keep_freed_memory
    from lightning_fastrecipes.recipe.artifacts.logs import log_to
    from lightning_fastrecipes.recipe.artifacts.run_folder import RunFolder
    from lightning_fastrecipes.recipe.loading import load_recipe
    from lightning_fastrecipes.searching.definition import read_definition
    from lightning_fastrecipes.searching.search import Search

    keep_freed_memory()
    # Warnings of trials that go astray are in the log: that is what they are tried for.
    log_to(folder / "log.txt", Console(quiet=True))
    found = Search(folder, read_definition(folder), out.print, options.trust)
    if found.is_finished:
        out.print(
            f"{folder} is finished, and stays as it is. Its best recipe: {folder}/recipe.yaml"
        )
        return 0
    more = f"Go on with: fastrecipes search --resume {folder}"
    try:
        finished_here = found.run()
    except (KeyboardInterrupt, SystemExit) as error:
        if (ended := interruption(error)) is None:
            raise
        err.print(f"fastrecipes: {ended[0]} {found.progress()}. {more}", style="red")
        return ended[1]
    out.print(
        f"Written to {folder}: recipe.yaml of the best trial, all of them in trials.csv and"
        " trials.png"
    )
    if finished_here:
        report_on_run(
            load_recipe(RunFolder(folder).recipe, trust=options.trust), folder, options.trust
        )
    return 0


def _resumed(options: argparse.Namespace) -> Path | None:
    """Return the folder of a search that goes on, ``None`` if a new one begins."""
    folder: Path | None = options.resume
    if folder is None:
        return None
    others = (options.recipe, options.out, options.variant, options.monitor, options.trials)
    if any(value is not None for value in others) or options.overrides:
        raise RecipeError(
            "`--resume DIR` takes the recipe and all else from DIR: leave out everything but"
            " `--trust`."
        )
    check_place(folder, "--resume", is_folder=True)
    if not (folder / "search.yaml").is_file():
        raise RecipeError(f"{folder} is no folder of a search: it has no search.yaml.")
    refuse_links(folder)
    return folder


def _begun(options: argparse.Namespace) -> Path:
    """Check the recipe, and write down what is searched for."""
    if options.recipe is None:
        raise RecipeError(
            "Name a recipe: `fastrecipes search RECIPE`; `fastrecipes ls` lists them."
        )
    from lightning_fastrecipes.recipe.config.catalog import find_recipe
    from lightning_fastrecipes.recipe.config.documents import Place, read_document
    from lightning_fastrecipes.recipe.config.overrides import check_names

    path = find_recipe(options.recipe)
    place = Place(path, trust=tuple(options.trust))
    check_names(read_document(path), options.overrides, place)
    from lightning_fastrecipes.recipe.artifacts.logs import keep_quiet
    from lightning_fastrecipes.recipe.config.merging import searched_document
    from lightning_fastrecipes.searching.definition import define

    document, ranges = searched_document(place, options.overrides, options.variant)
    folder = _new_folder(options, str(document["name"]))
    keep_quiet(err)
    out.print(f"Recipe: {path}")
    definition = define(document, place, options.trials or _TRIALS, options.monitor)
    for name, one in zip(definition.names, ranges.values(), strict=True):
        out.print(f"searched: {name}, {one.kind} {list(one.values)}")
    word: Any = {"max": "highest", "min": "lowest"}[definition.mode]
    out.print(f"compared by: {definition.monitor}, the {word} is the best")
    folder.mkdir(parents=True, exist_ok=True)
    definition.write(folder)
    return folder


def _new_folder(options: argparse.Namespace, name: str) -> Path:
    """Return a folder to write to, which is empty or not there yet."""
    folder: Path = options.out or Path("runs") / f"{name}-search"
    check_place(folder, is_folder=True)
    if folder.exists() and any(folder.iterdir()):
        more = f"or go on with `fastrecipes search --resume {folder}`"
        more = more if (folder / "search.yaml").is_file() else "which is empty or not there yet"
        raise RecipeError(f"{folder} is not empty. Name another folder with `--out`, {more}.")
    return folder
