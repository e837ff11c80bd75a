"""Find recipes: every folder that holds a ``recipe.yaml`` is one."""

import json
import os
import re
from collections.abc import Mapping
from importlib.resources import files
from itertools import zip_longest
from pathlib import Path
from typing import Any

from lightning_fastrecipes.data.common.files import copy_folder, write_atomically
from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.messages import shown, suggestion
from lightning_fastrecipes.recipe.config.documents import dump_document, read_document
from lightning_fastrecipes.recipe.config.notebook import as_notebook

_TABLES = (".csv", ".tsv", ".csv.gz", ".parquet", ".feather")


def recipes_folder() -> Path:
    """Return the folder of the recipes that come with the package, or with the checkout."""
    installed = Path(str(files("lightning_fastrecipes"))) / "recipes"
    return installed if installed.is_dir() else installed.parent.parent / "recipes"


def recipe_rows() -> list[dict[str, Any]]:
    """Return what there is to say of every recipe, sorted by name.

    The keys are ``name``, ``description``, ``variants``, and from the table of measurements beside
    the recipes ``data``, ``model``, ``result``, ``seconds`` and ``memory``, empty if not measured.
    """
    table = recipes_folder() / "README.md"
    lines = table.read_text(encoding="utf-8").splitlines() if table.is_file() else []
    measured = {}
    for line in lines:
        name, *cells = (cell.strip() for cell in line.strip("| ").split(" | "))
        if found := re.match(r"\[(\w+)\]\(", name):
            measured[found[1]] = cells
    keys = ("data", "model", "result", "seconds", "memory")
    rows = []
    for path in sorted(recipes_folder().glob("*/recipe.yaml")):
        name, document = path.parent.name, read_document(path)
        variants = [str(variant) for variant in document.get("variants") or ()]
        row = {"name": name, "description": str(document["description"]), "variants": variants}
        cells = measured.get(name, [])[: len(keys)]
        rows.append(row | dict(zip_longest(keys, cells, fillvalue="")))
    return rows


def find_recipe(name_or_path: str) -> Path:
    """Return a recipe's file by its name, folder or file; raise `RecipeError` if there is none.

    What is in the current folder goes before a recipe of the package that is called the same.
    """
    path = Path(name_or_path)
    candidates = [path, path / "recipe.yaml"]
    if is_name(name_or_path):
        candidates.append(packaged(name_or_path))
    for candidate in candidates:
        # Not by `Path.is_file`, which raises an error if a name is too long.
        if os.path.isfile(candidate) and not name_or_path.lower().endswith(_TABLES):
            return candidate
    if os.path.exists(path):
        kind, give = ("a folder", "root") if os.path.isdir(path) else ("a table", "csv")
        raise RecipeError(
            f"There is no recipe {shown(name_or_path)}, which is {kind}. `fastrecipes new"
            f" {name_or_path}` writes a recipe for what is in it, `fastrecipes auto {name_or_path}`"
            f" trains at once, and a recipe of images takes it by `--data.{give}={name_or_path}`."
        )
    names = sorted(folder.parent.name for folder in recipes_folder().glob("*/recipe.yaml"))
    raise RecipeError(
        f"There is no recipe {shown(name_or_path)}.{suggestion(name_or_path, names)} Known names:"
        f" {', '.join(names)}; or give the path of a recipe.yaml."
    )


def recipe_name(path: Path, document: Mapping[str, Any]) -> Any:
    """Return what a recipe and its runs are called: by itself, its file, or its folder."""
    folder_or_file = path.parent.resolve().name if path.name == "recipe.yaml" else path.stem
    return document.get("name", folder_or_file)


def is_name(name_or_path: str) -> bool:
    """Return whether a word may be the name of a recipe of the package, rather than a path."""
    return Path(name_or_path).name == name_or_path and name_or_path not in ("", ".", "..")


def packaged(name: str) -> Path:
    """Return where the recipe of that name is in the package, if there is one."""
    return recipes_folder() / name / "recipe.yaml"


def copy_recipe(name: str, folder: Path, document: dict[str, Any] | None = None) -> Path:
    """Copy a recipe's folder into another one, to be edited, and return the recipe in the copy.

    If a ``document`` is given, it becomes the copy's recipe. Raise `RecipeError` if there is such a
    folder already, or it would lie in the one that is copied.
    """
    path = find_recipe(name)
    source = path.parent
    target = folder / source.name
    if os.path.lexists(target):
        raise RecipeError(f"{target} exists already. Name another folder, or remove it first.")
    if target.resolve().is_relative_to(source.resolve()):
        raise RecipeError(
            f"{target} must not lie in {source.resolve()}, the folder of the recipe, which is"
            " copied with all that is in it. Name a folder elsewhere."
        )
    copy_folder(source, target, ("__pycache__", "runs"))
    copied = target / path.name
    if document is not None:
        write_atomically(copied, dump_document(document))
    return copied


def write_notebook(folder: Path) -> Path:
    """Write the script of a recipe's folder as ``recipe.ipynb`` beside it, and return the file.

    Raise `RecipeError` if the recipe has no script.
    """
    script = folder / "recipe.py"
    if not script.is_file():
        raise RecipeError(f"{folder} has no `recipe.py` to make a notebook of.")
    try:
        content = as_notebook(script.read_text(encoding="utf-8"), folder.name)
    except (ValueError, SyntaxError) as error:
        raise RecipeError(f"{script}: {error}") from error
    path = script.with_suffix(".ipynb")
    write_atomically(path, json.dumps(content, indent=1) + "\n")
    return path
