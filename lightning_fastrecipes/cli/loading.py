"""Load the recipe that a command names."""

import argparse
import os
from pathlib import Path
from typing import Any

from lightning_fastrecipes.cli.output import out
from lightning_fastrecipes.errors import RecipeError


def say_path(named: str, path: Path) -> None:
    """Print which file a recipe is, and which one of the package it is taken for."""
    from lightning_fastrecipes.recipe.config.catalog import is_name, packaged

    is_local = is_name(named) and path != (other := packaged(named))
    beside = f", not {other}" if is_local and other.is_file() else ""
    out.print(f"Recipe: {path}{beside}")


def load_recipe_of(options: argparse.Namespace, *, names_path: bool = True) -> Any:
    """Load a recipe with its overrides, the variant that is named, or what continues a run."""
    from lightning_fastrecipes.recipe.config.catalog import find_recipe
    from lightning_fastrecipes.recipe.config.documents import Place, read_document
    from lightning_fastrecipes.recipe.config.overrides import check_names

    path, overrides = find_recipe(options.recipe), options.overrides
    # Other processes of a run say the same.
    is_json = getattr(options, "json", False)
    if names_path and not is_json and "LOCAL_RANK" not in os.environ:
        say_path(options.recipe, path)
    is_continued = getattr(options, "continued", None) is not None
    # What is wrong in plain sight is said before torch is imported.
    check_names(read_document(path), () if is_continued else overrides, Place(path))
    from lightning_fastrecipes.recipe.loading import load_recipe

    variant, trust = options.variant, options.trust
    if getattr(options, "tta", False):
        # What overrides change may not be there yet in a run that is continued.
        known = load_recipe(path, [] if is_continued else overrides, variant, trust=trust)
        if known.evaluation.tta is None:
            overrides = [*overrides, "evaluation.tta={}"]
    if is_continued:
        from lightning_fastrecipes.recipe.run.parts import continued_recipe

        return continued_recipe(path.parent, overrides, options.add, trust=trust)
    return load_recipe(path, overrides, variant, trust=trust)


def load_one_recipe(options: argparse.Namespace) -> Any:
    """Load a recipe that is one run; of a series, the variant that is named."""
    recipe = load_recipe_of(options)
    if recipe.series is not None:
        raise RecipeError(
            f"{recipe.path}: `--variant` must name a variant of the recipe, which runs all of them"
            f" in a series. Variants: {', '.join(recipe.variants)}."
        )
    return recipe
