"""Commands for data that nobody has described."""

import argparse
import time
from pathlib import Path

from lightning_fastrecipes.cli.output import check_place, err, out
from lightning_fastrecipes.cli.report_commands import report_on_run
from lightning_fastrecipes.errors import RecipeError

_SHARE_TO_REPORT, _MOST_TO_REPORT = 0.1, 30.0
"""The share of the time, and the seconds at most, that are left to write the report in."""


def new(options: argparse.Namespace) -> int:
    """Look at data, and write a recipe for them; nothing is trained."""
    folder = _folder(options, "recipes")
    from lightning_fastrecipes.automatic.looking import draft_recipe
    from lightning_fastrecipes.recipe.artifacts.logs import keep_quiet

    keep_quiet(err)
    drafted = draft_recipe(options.data, options.target, images=options.images)
    draft = drafted.with_folds(options.folds).with_refusal(folder)
    for decision in draft.decisions:
        out.print(str(decision))
    path = draft.write(folder)
    if draft.is_refused:
        err.print(
            f"fastrecipes: written to {path}, but the data are refused as they are, as the first"
            " line says. Mend them or the recipe.",
            style="red",
        )
        return 1
    out.print(f"Written to {path}. Edit it, then: fastrecipes run {path}")
    return 0


def auto(options: argparse.Namespace) -> int:
    """Train a good model for data within a time."""
    began = time.monotonic()  # torch takes seconds to import
    folder = _folder(options, "runs", "-auto")
    from lightning_fastrecipes.automatic.training import train_within
    from lightning_fastrecipes.recipe.artifacts.environment import keep_freed_memory
    from lightning_fastrecipes.recipe.artifacts.logs import keep_quiet
    from lightning_fastrecipes.recipe.artifacts.run_folder import RunFolder
    from lightning_fastrecipes.recipe.loading import load_recipe

    keep_freed_memory()
    keep_quiet(err)
    try:
        train_within(
            options.data,
            options.target,
            options.minutes,
            folder,
            out.print,
            images=options.images,
            folds=options.folds,
            began=began,
            to_report=min(_SHARE_TO_REPORT * 60 * options.minutes, _MOST_TO_REPORT),
        )
    except (KeyboardInterrupt, SystemExit) as error:
        # Lightning leaves by `SystemExit` when a fit is interrupted.
        if not isinstance(error.__context__ or error, KeyboardInterrupt):
            raise
        is_there = (folder / "results.json").is_file()
        left = f"the best so far is in {folder}" if is_there else "nothing was trained yet"
        err.print(f"fastrecipes: interrupted; {left}.", style="red")
        return 1
    out.print(f"Written to {folder}. Predict: fastrecipes predict {folder} DATA")
    report_on_run(load_recipe(RunFolder(folder).recipe), folder, ())
    return 0


def _folder(options: argparse.Namespace, home: str, ending: str = "") -> Path:
    """Return the folder to write to, which is empty or not there yet; data must be there."""
    from lightning_fastrecipes.data.common.sources import resolve_source

    name = (
        Path(options.data.rstrip("/").replace("*", "all")).absolute().name.split(".")[0] or "data"
    )
    folder: Path = options.out or Path(home) / f"{name}{ending}"
    check_place(folder, is_folder=True)
    if folder.exists() and any(folder.iterdir()):
        raise RecipeError(f"{folder} is not empty. Name another folder with `--out`.")
    if "*" not in options.data:
        resolve_source(options.data, "data")  # before torch is imported
    return folder
