"""Predict with finished runs, whatever they are of."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from lightning_fastrecipes.data.common.files import write_atomically
from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.recipe.artifacts.export_files import is_table_export


@dataclass(frozen=True)
class Predictions:
    """What finished runs predict.

    Args:
        table: One row for each image, or each row of the tables.
        content: The table as CSV.
        bad: What could not be read: file name and reason.
        notes: What was noticed, a line each.
    """

    table: pd.DataFrame
    content: str
    bad: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Write the table as CSV.

        Args:
            path: The file.
        """
        write_atomically(path, self.content)


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
    # Imported here, so that tables need no library of images.
    if is_table_export(folders[0]):
        from lightning_fastrecipes.recipe.tables.export import predict_tables, to_csv

        if tta:
            raise RecipeError("`--tta` is for images, not for tables. Leave it out.")
        table, notes = predict_tables(folders, paths)
        return Predictions(table, to_csv(table), notes=notes)
    from lightning_fastrecipes.recipe.images.export import predict_files

    table, bad = predict_files(folders, paths, tta=tta)
    return Predictions(table, table.to_csv(index=False), bad)
