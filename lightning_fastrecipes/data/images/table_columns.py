"""Which columns of a table of labels hold files and labels, where the user names none."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from lightning_fastrecipes.data.common.split_choice import Split
from lightning_fastrecipes.data.common.split_names import (
    SPLIT_COLUMN,
    is_split_flag,
    may_be_split,
    says_split,
)
from lightning_fastrecipes.data.images.folder_layout import IMAGE_SUFFIXES
from lightning_fastrecipes.data.images.label_table import (
    LabelTable,
    Numbers,
    SingleLabel,
    SoftLabels,
    Tags,
)
from lightning_fastrecipes.data.images.table_labels import found_columns
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.tables.codes import is_text_column
from lightning_fastrecipes.messages import name_some

LABEL_NAMES = ("label", "labels", "class", "category", "tag", "tags", "target", "y")
"""What columns of labels are called, in any case."""

_FILE_NAMES = (
    "file", "filename", "file_name", "filepath", "file_path", "path", "image", "image_name",
    "image_path", "image_id", "img", "photo",
)  # fmt: skip
_LEAST_SHARE_OF_FILES = 0.95
_FILE, _LABEL = "file", "label"
"""The columns that are meant where a `LabelTable` names none."""


def file_columns(frame: pd.DataFrame) -> list[str]:
    """Return the columns of a table whose values are names of images.

    >>> file_columns(pd.DataFrame({"photo": ["a.jpg", "b.png"], "tag": ["sun", "sea"]}))
    ['photo']
    """
    return [str(name) for name in frame if _holds_files(frame[name])]


def _holds_files(column: "pd.Series[Any]") -> bool:
    values = column.dropna()
    if not len(values) or not is_text_column(values):
        return False
    texts = values.astype(str).str.strip().str.lower()
    return bool(texts.str.endswith(IMAGE_SUFFIXES).mean() >= _LEAST_SHARE_OF_FILES)


def found_file_column(frame: pd.DataFrame, name: str) -> str:
    """Return the column of files: as it is named, else the one that holds names of images.

    Where values have no extension, it is the one that is called so. The name is returned as it is
    if there is none, and a DataError says which may be meant if there are several.
    """
    if name != _FILE or _FILE in _plain(frame):
        return name
    found = file_columns(frame) or _called(frame, list(frame), _FILE_NAMES)
    return _the_one(found, "files", "`--data.table.file_column={}`") or name


def found_table(frame: pd.DataFrame, table: LabelTable, split: Split | None) -> LabelTable:
    """Return a table with the columns of files and labels that are found where it names none.

    Labels are in the column that is called so, such as ``tags`` or ``class``, or in the only one
    that is left. Nothing is changed if there is none, and a DataError says which may be meant if
    there are several.
    """
    files = found_file_column(frame, table.file_column)
    table = replace(table, file_column=files)
    labels = table.labels
    if _asked(labels) != _LABEL or _LABEL in _plain(frame):
        return table
    used = {files, table.weight, SPLIT_COLUMN, *(table.stratify_by or [])}
    used |= set() if split is None else set(split.columns)
    if found_columns(frame, table, sorted(map(str, used))):
        return table  # of 0 and 1, one for each label
    others = [str(name) for name in frame if name not in used and str(name).strip() not in used]
    rest = [name for name in others if not _tells_splits(frame[name])]
    called = _called(frame, rest, LABEL_NAMES)
    option = "`--data.table.labels={}`"
    if not isinstance(labels, str):
        option = f"`--data.table.labels.column{'s' * isinstance(labels, Numbers)}={{}}`"
    found = _the_one(called or (rest if len(rest) == 1 else []), "labels", option)
    if found is None:
        return table
    if isinstance(labels, Numbers):
        return replace(table, labels=replace(labels, columns=found))
    if isinstance(labels, SingleLabel | Tags):
        return replace(table, labels=replace(labels, column=found))
    return replace(table, labels=found)


def say_found(asked: LabelTable, found: LabelTable) -> list[str]:
    """Return which columns were found, in words; empty if they are those that were asked for."""
    said = [f"'{found.file_column}' for files"] * (found.file_column != asked.file_column)
    if found.labels != asked.labels:
        said.append(f"'{_asked(found.labels)}' for labels")
    return [f"columns are taken as they look: {', '.join(said)}"] if said else []


def _asked(labels: SingleLabel | Tags | SoftLabels | Numbers | str) -> str | None:
    """Return the one column of labels that a user names, ``None`` if they are not in one."""
    if isinstance(labels, str):
        return labels
    if isinstance(labels, Numbers):
        return labels.columns if isinstance(labels.columns, str) else None
    if isinstance(labels, SoftLabels):
        return None
    several = labels.one_hot if isinstance(labels, SingleLabel) else labels.columns
    return labels.column if several is None else None


def _plain(frame: pd.DataFrame) -> set[str]:
    return {str(name).strip() for name in frame}


def _called(frame: pd.DataFrame, among: Sequence[Any], words: Sequence[str]) -> list[str]:
    return [str(name) for name in frame if name in among and str(name).strip().lower() in words]


def _tells_splits(column: "pd.Series[Any]") -> bool:
    return may_be_split(column) or says_split(column) or is_split_flag(str(column.name))


def _the_one(found: Sequence[str], what: str, option: str) -> str | None:
    if len(found) > 1:
        raise DataError(
            f"The {what} of the table of labels may be in {name_some(found)}. Name the column, such"
            f" as {option.format(found[0])}."
        )
    return found[0] if found else None
