"""Several models of one recipe that predict together: of other seeds, or of folds."""

from dataclasses import asdict, replace
from typing import Any

from lightning_fastrecipes.data.common.row_splits import FoldSplit
from lightning_fastrecipes.data.common.split_choice import as_folds
from lightning_fastrecipes.recipe.config.documents import Place
from lightning_fastrecipes.recipe.config.schema import TTA, Recipe

_FEWEST_FOLDS = 2


def check_several(recipe: Recipe, place: Place) -> None:
    """Refuse numbers of models out of range, and an evaluation that they contradict."""
    if recipe.seeds < 1:
        raise place.at("seeds").error(f"must be at least 1, but is {recipe.seeds}.")
    if recipe.folds < 0 or 0 < recipe.folds < _FEWEST_FOLDS:
        raise place.at("folds").error(
            f"must be at least {_FEWEST_FOLDS}, or 0 for none, but is {recipe.folds}."
        )
    if recipe.folds and recipe.seeds > 1:
        raise place.at("folds").error(
            f"{recipe.folds} folds are of {recipe.folds} models already, so `seeds` must be left"
            " out."
        )
    count, asked = recipe.num_models, recipe.evaluation
    where = place.at("folds" if recipe.folds else "seeds")
    if count > 1 and asked.ensemble is not None:
        raise where.error(
            f"{count} models predict together, so `evaluation.ensemble` must be left out."
        )
    if count > 1 and isinstance(asked.tta, TTA) and asked.tta.plain_weight == "learn":
        raise where.error(
            f"{count} models predict together, and each would learn its own"
            " `evaluation.tta.plain_weight`. Give a number."
        )
    if recipe.folds:
        if "val" not in asked.splits:
            raise where.error(
                "folds are there to be validated on, but `evaluation.splits` leaves `val` out."
            )
        fold_split(recipe, place)


def fold_split(recipe: Recipe, place: Place | None = None) -> FoldSplit:
    """Return the first fold of the data of a recipe; a `RecipeError` if it cannot have any."""
    place = place or Place(recipe.path)
    try:
        return as_folds(recipe.data.init_args.get("split"), recipe.folds)
    except (ValueError, TypeError) as error:
        raise place.at("data.split").error(error) from error


def _without_gaps(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_gaps(value) if isinstance(value, dict) else value
        for key, value in values.items()
        if value is not None
    }


def seed_recipes(recipe: Recipe) -> dict[str, Recipe]:
    """Return the recipe of each seed by the name of its folder."""
    found = {}
    for seed in range(recipe.seed, recipe.seed + recipe.seeds):
        source = {k: v for k, v in recipe.source.items() if k != "seeds"} | {"seed": seed}
        found[f"seed-{seed}"] = replace(recipe, seed=seed, seeds=1, source=source)
    return found


def fold_recipes(recipe: Recipe, strata: str | None) -> dict[str, Recipe]:
    """Return the recipe of each fold by the name of its folder.

    ``strata`` is a column whose values every fold has in the same mix, if the split names none and
    keeps nothing together.
    """
    split, found = fold_split(recipe), {}
    if split.column is None and split.date is None:
        split = replace(split, stratify=split.stratify or strata)
    for number in range(recipe.folds):
        values = _without_gaps(asdict(replace(split, fold=number)))
        source: dict[str, Any] = {k: v for k, v in recipe.source.items() if k != "folds"}
        data = source["data"]
        arguments = {**(data.get("init_args") or {}), "split": values}
        source |= {"data": {**data, "init_args": arguments}}
        spec = replace(recipe.data, init_args=recipe.data.init_args | {"split": values})
        found[f"fold-{number}"] = replace(recipe, folds=0, data=spec, source=source)
    return found


def first_fold(recipe: Recipe, strata: str | None) -> Recipe:
    """Return the recipe of the first fold, or the recipe itself if it has no folds."""
    return next(iter(fold_recipes(recipe, strata).values())) if recipe.folds else recipe
