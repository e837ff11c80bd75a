"""Which folder a run writes to, decided once for all processes of the run."""

import argparse
import os
from pathlib import Path

from lightning_fastrecipes.cli.output import check_place, refuse_links
from lightning_fastrecipes.errors import RecipeError

RUN_FOLDER_VARIABLE = "FASTRECIPES_RUN_FOLDER"


def goes_on(options: argparse.Namespace) -> Path | None:
    """Return the run folder that a run goes on in, resumed or continued."""
    folder: Path | None = options.resume or options.continued
    return folder


def run_folder(options: argparse.Namespace) -> Path:
    """Decide the run folder, once for all processes of a run."""
    folder: Path | None = options.out
    before = goes_on(options)
    if options.add and options.continued is None:
        raise RecipeError("`--add` adds a stage to a finished run: `--continue DIR --add NAME`.")
    if before is not None:
        word = "--resume" if options.continued is None else "--continue"
        others = (folder, options.recipe, options.variant, options.resume and options.continued)
        if any(value is not None for value in others) or options.fast_dev_run:
            raise RecipeError(
                f"`{word} DIR` takes recipe, variant and folder from DIR, and trains in earnest:"
                " leave out everything but overrides."
            )
        if not (before / "recipe.yaml").is_file():
            raise RecipeError(f"{before} is no run folder: it has no recipe.yaml.")
        check_place(before, word, is_folder=True)
        refuse_links(before)
        return before
    if options.recipe is None:
        raise RecipeError(
            "Name a recipe: `fastrecipes run solar_cells`; `fastrecipes ls` lists them."
        )
    decided = os.environ.get(RUN_FOLDER_VARIABLE)
    if decided is not None and "LOCAL_RANK" in os.environ:
        return Path(decided)
    if folder is None:
        from lightning_fastrecipes.recipe.config.catalog import find_recipe

        name = find_recipe(options.recipe).resolve().parent.name
        base = Path("runs") / "-".join(filter(None, (name, options.variant)))
        taken = (Path(f"{base}-{number}") for number in range(2, 100_000))
        check_place(base.parent, is_folder=True)
        return base if not base.exists() else next(path for path in taken if not path.exists())
    check_place(folder, is_folder=True)
    # A run that stopped before training, for want of its data, has left its log alone.
    if folder.exists() and any(path.name != "log.txt" for path in folder.iterdir()):
        raise RecipeError(
            f"{folder} is not empty. Name another folder with `--out`, or go on with"
            f" `fastrecipes run --resume {folder}`."
        )
    return folder
