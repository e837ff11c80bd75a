"""Predict with finished runs, of images or of tables."""

from collections.abc import Sequence
from pathlib import Path

from lightning_fastrecipes.recipe.loading import modality_of_export
from lightning_fastrecipes.recipe.shared.predictions import Predictions


def predict_paths(
    folders: Sequence[Path], paths: Sequence[Path], tta: bool | None = None
) -> Predictions:
    """Predict images or tables, as the first run is of.

    Args:
        folders: Run folders, or the ``export`` folders in them; several predict together.
        paths: Images and folders of them, or tables.
        tta: For images, whether views of each predict as well; as each run was evaluated if
            ``None``.

    Returns:
        The predictions.

    Raises:
        RecipeError: If test-time augmentation is asked for of a table.
    """
    return modality_of_export(folders[0]).predict(folders, paths, tta=tta)
