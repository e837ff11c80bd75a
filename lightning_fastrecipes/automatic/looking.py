"""Find out what data are, images or rows of a table, and write a recipe for them."""

import os
import re
from pathlib import Path
from typing import Any

import pandas as pd

from lightning_fastrecipes.automatic.draft import Draft
from lightning_fastrecipes.automatic.images import (
    IMAGE_TABLES,
    draft_folder,
    draft_image_table,
    file_column,
    image_folder,
)
from lightning_fastrecipes.automatic.tables import draft_table
from lightning_fastrecipes.data.common.sources import list_files, resolve_source
from lightning_fastrecipes.data.images.folder_layout import IMAGE_SUFFIXES, loose_files
from lightning_fastrecipes.data.images.split_lists import find_lists
from lightning_fastrecipes.data.tables.frames import read_undescribed
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.tables.inputs import as_frame, is_in_memory
from lightning_fastrecipes.messages import name_some, shown

_TABLES = (".csv", ".tsv", ".txt", ".parquet", ".feather")
_PACKAGE = "package:"
_LEAST_FEATURES = 2
"""Columns to learn from, besides names of images that are nowhere, with which a table is one."""


def draft_recipe(
    data: Any,
    target: str | None = None,
    folder: Path | None = None,
    *,
    images: str | Path | None = None,
) -> Draft:
    """Look at data, decide, and write a recipe that trains on them; nothing is trained.

    ``data`` are a folder of images with a folder for each class, a table that names images, or a
    table of rows; a file, a pattern or ``package:NAME/inner/path``, or a table in memory, which is
    written into ``folder`` so that the recipe can read it. ``target`` is the column to predict,
    ``images`` the folder of the images that a table names, which is looked for near the table if
    not given. Raise `DataError` if they are nothing of these, or too few, `DataNotFoundError` if
    there are no such data.
    """
    if is_in_memory(data):
        frame = as_frame(data)
        if folder is None:
            raise DataError("A table in memory needs a folder to be written to. Give `out`.")
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "data.parquet"
        frame.rename(columns=str).reset_index(drop=True).to_parquet(path)
        return draft_table(read_undescribed(path), str(path.absolute()), target)
    text = os.fspath(data)
    home = None if images is None else resolve_source(os.fspath(images), "images").absolute()
    if home is not None and not home.is_dir():
        raise DataError(f"`images` must be a folder, but '{images}' is a file. Name its folder.")
    draft = _draft(text, target, home)
    if home is not None and draft.document["data"]["class_path"] != IMAGE_TABLES:
        raise DataError(
            f"`images` is the folder of images that a table names, but '{text}' is no such table."
            " Leave it out."
        )
    return draft


def _draft(text: str, target: str | None, images: Path | None) -> Draft:
    is_pattern = not text.startswith(_PACKAGE) and "*" in text and not os.path.exists(text)
    if is_pattern:
        return draft_table(read_undescribed(text), os.path.abspath(text), target)
    path = resolve_source(text, "data")
    if path.is_dir():
        return _draft_folder(path.absolute(), target, images)
    source = text if text.startswith(_PACKAGE) else str(path.absolute())
    return _draft_file(path, source, target, images)


def _draft_file(path: Path, source: str, target: str | None, images: Path | None) -> Draft:
    frame = read_undescribed(path)
    column = file_column(frame)
    if column is None:
        return draft_table(frame, source, target)
    _refuse_no_head(frame, path)
    folder = image_folder(frame, path.absolute().parent, images)
    if folder is not None:
        return draft_image_table(frame, path.absolute(), folder, target)
    lost = (
        f"Its column '{column}' names images, such as"
        f" {shown(str(frame[column].dropna().iloc[0]))}, which are neither beside the table nor in"
        " a folder near it: bring them together, or name their folder by `--images`."
    )
    try:
        draft = draft_table(frame, source, target)
    except DataError as error:
        raise DataError(f"{error} {lost}") from error
    columns = draft.document["data"]["init_args"]["columns"]
    if len(columns["categorical"]) + len(columns["continuous"]) < _LEAST_FEATURES:
        raise DataError(f"The table says little besides. {lost}")
    return draft


def _refuse_no_head(frame: pd.DataFrame, path: Path) -> None:
    """Refuse a table whose first line names an image where names of columns should be."""
    named = [str(name) for name in frame if str(name).strip().lower().endswith(IMAGE_SUFFIXES)]
    if named:
        home = path.absolute().parent
        lists = find_lists(home, loose_files(home)).values()
        beside = f"name the folder '{home}' without a target to read its lists, " * (
            path.absolute() in lists
        )
        raise DataError(
            f"The first line of '{path}' must name the columns, but is no header: it names the"
            f" image {shown(named[0])}. Write a line such as 'file,label' above it, {beside}or"
            " write a recipe by hand, with `column_names` of `LabelTable`, such as"
            " `column_names: [file, label]`."
        )


def _draft_folder(folder: Path, target: str | None, images: Path | None) -> Draft:
    """Take a folder for images in class folders or lists, unless a table in it says more."""
    if target is None and _has_lists(folder):
        return draft_folder(folder, "that lists beside them name")
    tables = [path for path in sorted(folder.iterdir()) if _is_table(path)]
    named = [path for path in tables if path.name.split(".")[0].lower() in ("train", "labels")]
    chosen = named or tables
    has_images = any(name.lower().endswith(IMAGE_SUFFIXES) for name in list_files(folder))
    if len(chosen) == 1 and (
        not has_images or file_column(read_undescribed(chosen[0])) is not None
    ):
        return _draft_file(chosen[0], str(chosen[0]), target, images)
    if not has_images:
        found = name_some([path.name for path in tables]) or "no table"
        raise DataError(
            f"'{folder}' must hold images in a folder for each class, or one table, but has no"
            f" image and {found}. Name the table itself."
        )
    if target is not None:
        raise DataError(
            f"`target` names a column of a table, but the classes of '{folder}' are its folders."
            " Leave it out."
        )
    return draft_folder(folder)


def _has_lists(folder: Path) -> bool:
    """Return whether text files beside images list them by split, without a head as tables have."""
    lists = find_lists(folder, loose_files(folder))
    if not lists:
        return False
    with lists["train"].open(encoding="utf-8-sig", errors="replace") as lines:
        first = next((line.strip() for line in lines if line.strip()), "")
    name = re.split(r"[,\s]", first, maxsplit=1)[0]
    return name.lower().endswith(IMAGE_SUFFIXES) and (folder / name).is_file()


def _is_table(path: Path) -> bool:
    return path.is_file() and any(ending in _TABLES for ending in map(str.lower, path.suffixes))
