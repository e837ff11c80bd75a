"""Where recipes are found: folders that hold a ``recipe.yaml``, no list kept by hand."""

import difflib
import shutil
from importlib.resources import files
from pathlib import Path

from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.recipe.config.documents import read_document


def recipes_folder() -> Path:
    """Return the folder of the recipes that come with the package, or with the checkout."""
    installed = Path(str(files("lightning_fastrecipes"))) / "recipes"
    return installed if installed.is_dir() else installed.parent.parent / "recipes"


def list_recipes() -> dict[str, str]:
    """Return name and description of every recipe, sorted by name."""
    found = sorted(recipes_folder().glob("*/recipe.yaml"))
    return {path.parent.name: str(read_document(path)["description"]) for path in found}


def find_recipe(name_or_path: str) -> Path:
    """Find a recipe by its name, its folder or its file.

    Args:
        name_or_path: A name that ``fastrecipes ls`` shows, or a path.

    Returns:
        The path of the recipe file.

    Raises:
        RecipeError: If there is no such recipe.
    """
    named = recipes_folder() / name_or_path / "recipe.yaml"
    if named.is_file():
        return named
    path = Path(name_or_path)
    for candidate in (path, path / "recipe.yaml"):
        if candidate.is_file():
            return candidate
    names = sorted(folder.parent.name for folder in recipes_folder().glob("*/recipe.yaml"))
    close = difflib.get_close_matches(name_or_path, names, 1)
    hint = f" Did you mean `{close[0]}`?" if close else ""
    raise RecipeError(
        f"There is no recipe {name_or_path!r}.{hint} Known names: {', '.join(names)}; or give the"
        " path of a recipe.yaml."
    )


def copy_recipe(name: str, folder: Path) -> Path:
    """Copy a recipe's folder, to be edited.

    Args:
        name: Name of a recipe.
        folder: Where the copy goes, as a folder of the recipe's name.

    Returns:
        The new folder.

    Raises:
        RecipeError: If the place is taken.
    """
    source = find_recipe(name).parent
    target = folder / source.name
    if target.exists():
        raise RecipeError(f"{target} exists already. Name another folder, or remove it first.")
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "runs"))
    return target
