"""Draw training images as a stage augments them, before any training."""

from pathlib import Path

from lightning_fastrecipes.data.images.showing import draw_training_images, show_transforms
from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.recipe.config.schema import Recipe
from lightning_fastrecipes.recipe.loading import modality_of
from lightning_fastrecipes.recipe.run.plan import apply_stage, build_parts

NUM_IMAGES = 6
NUM_EPOCHS = 5


def show_batch(recipe: Recipe, stage_name: str | None, path: Path) -> str:
    """Draw some training images: plain, and as each of the first epochs augments them.

    Beside it, as ``NAME_transforms.png``, each transform of the augmentation is drawn alone, at its
    extremes. If ``stage_name`` is ``None``, it is the first stage that augments, or else the last.
    Return its name. Raise `RecipeError` if there is no such stage, or the recipe is of a table.
    """
    if modality_of(recipe).unit != "images":
        raise RecipeError(f"{recipe.path}: a table has no images to show. Use `explain`.")
    num_stages = len(recipe.stages)
    indices = range(num_stages) if stage_name is None else [recipe.stage_index(stage_name)]
    images, model = build_parts(recipe)
    for index in indices:
        apply_stage(recipe, index, images, model)
        if not images.augmentation.is_none and recipe.stages[index].is_augmented:
            break
    where = f" of stage {recipe.stages[index].name}"
    draw_training_images(images, path, NUM_IMAGES, NUM_EPOCHS, where)
    if not images.augmentation.is_none:
        show_transforms(images, transforms_path(path))
    return recipe.stages[index].name


def transforms_path(path: Path) -> Path:
    """Return where the transforms are drawn, beside the images."""
    return path.with_name(f"{path.stem}_transforms{path.suffix}")
