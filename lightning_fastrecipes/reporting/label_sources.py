"""Where images and their labels come from, and the other columns of the table that labels them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lightning_fastrecipes.data.common.sources import resolve_source
from lightning_fastrecipes.data.images.datamodules import (
    ImageCSVDataModule,
    ImageFolderDataModule,
)
from lightning_fastrecipes.data.images.table_files import find_files
from lightning_fastrecipes.data.images.table_labels import label_columns
from lightning_fastrecipes.data.images.table_listing import read_label_table


def other_columns(data: Any, files: Sequence[str]) -> pd.DataFrame | None:
    """Return the columns of the label table that are no label, in the order of absolute files.

    ``None`` if the data have no such table.
    """
    if not isinstance(data, ImageCSVDataModule):
        return None
    frame, folder, table = read_label_table(data.csv, data.table, data.split)
    names = frame[table.file_column].astype(str).tolist()
    found, _ = find_files(names, folder, table.suffix)
    keys = [str((Path.cwd() / folder / name).resolve()) for name in found]
    left_out = {table.file_column, *label_columns(table)}
    others = frame[[column for column in frame if column not in left_out]]
    others = others.set_axis(pd.Index(keys)).loc[lambda x: ~x.index.duplicated()]
    wanted = [str(Path(file).resolve()) for file in files]
    chosen = others.reindex(wanted).reset_index(drop=True)
    return chosen if len(chosen.columns) else None


def image_folder(data: Any) -> Path | None:
    """Return the folder that the files of images are below; ``None`` of images in memory."""
    if isinstance(data, ImageCSVDataModule):
        return read_label_table(data.csv, data.table, data.split)[1].resolve()
    if isinstance(data, ImageFolderDataModule):
        return resolve_source(data.root, "root").resolve()
    return None


def image_key(file: str, folder: Path | None) -> str:
    """Return how a file is named for the user: below its folder, with forward slashes.

    Images in memory, without a folder, are called SPLIT/NUMBER.
    """
    path = Path(file)
    if folder is None:
        return "/".join(path.parts[-2:])
    for one in (path, path.resolve()):
        if one.is_relative_to(folder):
            return one.relative_to(folder).as_posix()
    return path.as_posix()
