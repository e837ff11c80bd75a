"""Test-time augmentation of a recipe's evaluation, and of predictions with what it exported."""

from dataclasses import asdict, replace
from typing import Any

from lightning_fastrecipes import trust
from lightning_fastrecipes._lightning import rank_zero_warn
from lightning_fastrecipes.callbacks.test_time_augmentation import TestTimeAugmentation
from lightning_fastrecipes.data.images.module import ImageDataModule
from lightning_fastrecipes.data.images.options import Augmentation, as_augmentation
from lightning_fastrecipes.errors import DataError, RecipeError
from lightning_fastrecipes.functional.images.views import DRAWN, Views
from lightning_fastrecipes.old_names import WHOLE_VIEWS, has_whole_views
from lightning_fastrecipes.recipe.config.schema import TTA, Recipe


def build_tta(recipe: Recipe, images: ImageDataModule) -> TestTimeAugmentation | None:
    """Build the test-time augmentation that a recipe's evaluation asks for, if it does.

    Raise `RecipeError` if the views cannot be made, or their weight cannot be learned.
    """
    asked = recipe.evaluation.tta
    if asked is None:
        return None
    tta = TTA(n=asked) if isinstance(asked, int) else asked
    where = f"{recipe.path}: evaluation.tta"
    if tta.plain_weight == "learn" and not (
        "val" in recipe.evaluation.splits and len(images.eval_dataset("val"))
    ):
        raise RecipeError(
            f"{where}.plain_weight: 'learn' needs the validation split, which is not evaluated."
            " Add 'val' to `evaluation.splits`, and see that there is one, or give a number."
        )
    arguments = asdict(tta)
    if tta.preset in DRAWN and tta.augmentation is None and tta.transforms is None:
        arguments |= _training_augmentation(recipe, images)
    try:
        callback = TestTimeAugmentation(**arguments, seed=recipe.seed)
        callback.resolve(images)
    except ValueError as error:
        raise RecipeError(f"{where}: {error}") from error
    return callback


def describe_views(
    callback: TestTimeAugmentation | None, recipe: Recipe | None, images: ImageDataModule
) -> dict[str, dict[str, Any] | None]:
    """Describe for an export which views a model predicts with, and which it could.

    The callback is that of the finished evaluation, with its learned weight. Without a recipe the
    augmentation is that of the datamodule as it is now. Return arguments of ``Views``: under
    ``tta`` those of the evaluation, or ``None``; under ``training_views`` those of the course, or
    ``None`` if training images are not augmented.
    """
    described: dict[str, dict[str, Any] | None] = {"tta": None, "training_views": None}
    if callback is not None:
        described["tta"] = asdict(replace(callback.views, plain_weight=callback.weight))
    if trained := _training_augmentation(recipe, images):
        usual = TestTimeAugmentation(**trained, seed=0 if recipe is None else recipe.seed)
        described["training_views"] = asdict(usual.resolve(images))
    return described


def exported_views(
    description: dict[str, Any], asked: bool | None, trusted: trust.Trust = ()
) -> Views | None:
    """Return the views that an exported model predicts with, or ``None`` for plain predictions.

    ``asked`` is whether the user wants views; ``None`` is as in the evaluation. Raise `DataError`
    if views are asked for, but the description of the export does not say which, and
    `ConfigurationError` if it names a class that is not to be trusted.
    """
    evaluated, usual = description.get("tta"), description.get("training_views")
    if has_whole_views(evaluated):
        if asked is None:
            rank_zero_warn(WHOLE_VIEWS)
        evaluated = None
    if asked is False or (asked is None and evaluated is None):
        return None
    chosen = evaluated or usual
    if chosen is None:
        raise DataError(
            "The exported model was trained without augmentation and evaluated without views, so"
            " that there is nothing to augment predictions with. Predict without `--tta`, or give"
            " the recipe `evaluation: {tta: {preset: flips}}` and run it again."
        )
    trust.check_document(chosen, trusted)
    return Views(**chosen)


def _training_augmentation(recipe: Recipe | None, images: ImageDataModule) -> dict[str, Any]:
    """Return preset and list of the last stage that has one; the very last may go without."""
    if recipe is None:
        return {} if images.augmentation.is_none else _drawn(images.augmentation)
    default = as_augmentation(images.options["augmentation"])
    for stage in reversed(recipe.stages):
        asked = stage.augmentation
        trained = default if asked is None else as_augmentation(asked, default)
        if stage.is_augmented and not trained.is_none:
            return _drawn(trained)
    return {}


def _drawn(trained: Augmentation) -> dict[str, Any]:
    return {"augmentation": trained.preset, "transforms": list(trained.transforms)}
