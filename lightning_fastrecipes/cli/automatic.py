"""Commands for data that nobody has described."""

import argparse
from pathlib import Path

from lightning_fastrecipes.cli.output import check_place, out
from lightning_fastrecipes.errors import RecipeError


def new(options: argparse.Namespace) -> int:
    """Look at data, and write a recipe for them; nothing is trained."""
    folder = _folder(options, "recipes")
    from lightning_fastrecipes.automatic.looking import draft_recipe
    from lightning_fastrecipes.recipe.artifacts.logs import keep_quiet

    keep_quiet()
    draft = draft_recipe(options.data, options.target)
    for decision in draft.decisions:
        out.print(str(decision))
    path = draft.write(folder)
    out.print(f"Written to {path}. Edit it, then: fastrecipes run {path}")
    return 0


def _folder(options: argparse.Namespace, home: str) -> Path:
    """Return the folder to write to, which is empty or not there yet."""
    name = (
        Path(options.data.rstrip("/").replace("*", "all")).absolute().name.split(".")[0] or "data"
    )
    folder: Path = options.out or Path(home) / name
    check_place(folder, is_folder=True)
    if folder.exists() and any(folder.iterdir()):
        raise RecipeError(f"{folder} is not empty. Name another folder with `--out`.")
    return folder
