"""Draw training images as a stage augments them, before any training."""

from pathlib import Path

import numpy as np
import torch

from lightning_fastrecipes.data.images.module import ImageDataModule
from lightning_fastrecipes.data.images.showing import show_transforms
from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.plots.runs import draw_batch
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
        if not images.augmentation.is_none and not recipe.stages[index].precompute:
            break
    plain, trained = images.eval_dataset("train"), images.train_dataloader().dataset
    count = len(plain)
    places = np.unique(np.linspace(0, count - 1, NUM_IMAGES).round().astype(int)).tolist()
    rows = [
        [plain[place][0], *(trained[epoch * count + place][0] for epoch in range(NUM_EPOCHS))]
        for place in places
    ]
    draw_batch(rows, [_label(images, plain.targets[place]) for place in places], path)
    if not images.augmentation.is_none:
        show_transforms(images, transforms_path(path), places[0])
    return recipe.stages[index].name


def transforms_path(path: Path) -> Path:
    """Return where the transforms are drawn, beside the images."""
    return path.with_name(f"{path.stem}_transforms{path.suffix}")


def _label(images: ImageDataModule, target: torch.Tensor) -> str:
    if images.number_targets:
        pairs = zip(images.number_targets, target.reshape(-1).tolist(), strict=True)
        return ", ".join(f"{number.name} {value:.4g}" for number, value in pairs)
    if target.ndim == 0:
        return images.classes[int(target)]
    chosen = target >= min(0.5, float(target.max()))
    return ", ".join(name for name, is_on in zip(images.classes, chosen, strict=True) if is_on)
