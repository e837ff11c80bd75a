"""List the images that a table of labels names: a CSV file in whatever dialect, or a data frame."""

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from lightning_fastrecipes.data.common.csv_tables import (
    Dialect,
    read_folder,
    read_splits_apart,
    read_table,
)
from lightning_fastrecipes.data.common.row_splits import FoldSplit, RowSplit, refuse_other_index
from lightning_fastrecipes.data.common.sources import resolve_source
from lightning_fastrecipes.data.common.split_choice import ColumnSplit, GroupSplit, Split
from lightning_fastrecipes.data.common.split_names import (
    SPLIT_COLUMN,
    SPLIT_VALUES,
    may_be_split,
    read_splits,
    says_split,
    split_name,
)
from lightning_fastrecipes.data.images.label_sets import LABEL_JOINER
from lightning_fastrecipes.data.images.label_table import LabelTable, Numbers
from lightning_fastrecipes.data.images.listing import Listing
from lightning_fastrecipes.data.images.table_columns import (
    found_file_column,
    found_table,
    say_found,
)
from lightning_fastrecipes.data.images.table_files import find_files
from lightning_fastrecipes.data.images.table_labels import (
    found_columns,
    label_columns,
    merged_rows,
    read_labels,
    refuse_rows,
    say_unknown,
    unknown_cells,
)
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.messages import name_some

LabelSource: TypeAlias = str | Path | pd.DataFrame | Mapping[str, Any]
"""A table of labels, a folder with one for each split, or a mapping that names these."""


def list_table(csv: LabelSource, table: LabelTable, split: Split | None = None) -> Listing:
    """Read the images and labels that a table names; without a column of splits all are ``train``.

    A folder has one table per split, as ``csv_tables.read_folder`` finds them, and a mapping names
    one for each. Columns that it does not name are found as ``table_columns.found_table`` does, and
    said in the reading. Blanks around values and names of columns are left out. A DataError names
    columns and values that are missing, images with two rows, unknown splits, and what is no
    probability.
    """
    frame, home, split_column = _read(csv, table, split)
    _refuse_empty(frame)
    asked, table = table, found_table(frame, table, split)
    folder = home if table.folder is None else resolve_source(table.folder, "folder")
    group_column = split.column if isinstance(split, GroupSplit | FoldSplit) else None
    named = [table.file_column, split_column, group_column, *(table.stratify_by or [])]
    plain = list(dict.fromkeys(column for column in named if column is not None))
    weight = [] if table.weight is None else [table.weight]
    frame = _plain_names(frame, [*plain, *weight, *label_columns(table)])
    found = found_columns(frame, table, [*plain, *weight])
    columns = list(dict.fromkeys([*plain, *weight, *(found or label_columns(table))]))
    _refuse_missing(frame, columns)
    listed, said = None, ""
    if isinstance(split, RowSplit):
        listed, said = _listed(frame, split)
        frame = frame[listed.notna()]  # rows keep their numbers
    others = frame.drop(columns=columns)
    frame = frame[columns].apply(_stripped)
    labels = read_labels(frame, table, found)
    unknown = unknown_cells(frame, table, found)
    is_text = labels.kind == "multi" and not found  # an image without any label is legal
    needed = plain if is_text else [c for c in columns if c not in unknown and c not in weight]
    _refuse_gaps(frame, needed, table, may_be_tags=labels.kind == "single" and not found)
    text = frame[plain].astype(str)
    files, notes = find_files(text[table.file_column].tolist(), folder, table.suffix)
    rows = pd.DataFrame({"file": files, "split": "train", "label": labels.names}, index=frame.index)
    if listed is not None:
        rows["split"] = listed
        notes += [said] if said else []
    elif split_column is not None:
        rows["split"], said = _read_splits(frame, table, split_column)
        notes += [said] if said else []
    else:
        notes += _unused_splits(others)
    if group_column is not None:
        rows["group"] = text[group_column]
    if table.weight is not None:
        rows["weight"] = _weights(frame, table, table.weight)
        notes.append(f"training images count as the column '{table.weight}' says")
    by = table.stratify_by
    rows["stratum"] = text[by].agg(LABEL_JOINER.join, axis=1) if by else labels.strata
    if split_column == SPLIT_COLUMN or listed is not None:
        _refuse_overlap(rows)
    if rows["file"].duplicated().any():
        rows, labels = merged_rows(rows, labels, frame, table, others)
    if labels.unknown is not None:
        rows["unknown"] = labels.unknown
    notes += [*labels.notes, *say_unknown(unknown.to_numpy(bool))]
    order = _order(rows, unknown)
    return Listing(
        folder,
        rows.iloc[order].reset_index(drop=True),
        labels.classes,
        None if labels.probabilities is None else labels.probabilities[order],
        label_kind=labels.kind,
        label_reason=labels.reason,
        reading="; ".join([*say_found(asked, table), *notes]),
        numbers=None if labels.numbers is None else labels.numbers[order],
        number_labels=table.labels if isinstance(table.labels, Numbers) else None,
    )


def _read_splits(frame: pd.DataFrame, table: LabelTable, column: str) -> tuple[pd.Series, str]:
    splits, said = read_splits(frame[column])
    is_odd = splits.isna()
    odd = [str(value) for value in frame.loc[is_odd, column].unique()[:5]]
    problem = f"have an unknown split in {column!r}, such as {name_some(odd)}"
    refuse_rows(is_odd, frame, table, problem, f"Use {SPLIT_VALUES}")
    return splits, said


def _order(rows: pd.DataFrame, unknown: pd.DataFrame) -> npt.NDArray[np.integer[Any]]:
    """Return the places of the rows that have a known label, by file."""
    order = rows["file"].argsort().to_numpy()
    if not unknown.any(axis=None):
        return order
    return order[~unknown.all(axis=1).to_numpy()[order]]


def _refuse_gaps(
    frame: pd.DataFrame, needed: list[str], table: LabelTable, *, may_be_tags: bool
) -> None:
    cure = "Fill it in"
    if may_be_tags and isinstance(table.labels, str) and frame[table.labels].isna().any():
        cure += f", or give `labels=Tags({table.labels!r})` if an image may have no label"
    refuse_rows(frame[needed].isna().any(axis=1), frame, table, "lack a value", cure)


def _listed(frame: pd.DataFrame, split: RowSplit) -> tuple[pd.Series, str]:
    """Return the split of each row by its number or id, and what there is to say."""
    if split.column is None:
        return split.splits(frame.index.to_series())
    _refuse_missing(frame, [split.column])
    return split.splits(_stripped(frame[split.column]))


def read_label_table(
    csv: LabelSource, table: LabelTable, split: Split | None = None
) -> tuple[pd.DataFrame, Path, LabelTable]:
    """Read a whole table of labels as it is, the folder of its files, and what its columns mean."""
    frame, home, _ = _read(csv, table, split)
    table = found_table(frame, table, split)
    folder = home if table.folder is None else resolve_source(table.folder, "folder")
    return _plain_names(frame, [table.file_column, *label_columns(table)]), folder, table


def home_of(csv: LabelSource) -> Path:
    """Return the folder of a table of labels, or of one for each split; of frames the current."""
    if isinstance(csv, Mapping):
        csv = next((one for split, one in csv.items() if split_name(str(split)) == "train"), Path())
    if not isinstance(csv, str | Path):
        return Path()
    path = resolve_source(csv, "csv")
    return path if path.is_dir() else path.parent


def _refuse_empty(frame: pd.DataFrame) -> None:
    if not len(frame):
        raise DataError(
            "The table of labels must have a row for each image, but has none besides the names of"
            f" its columns, {name_some([str(name) for name in frame])}. Write the table anew."
        )


def _refuse_missing(frame: pd.DataFrame, columns: list[str]) -> None:
    missing = [column for column in columns if column not in frame]
    if missing:
        raise DataError(
            f"The table of labels has no column {name_some(missing)}; it has"
            f" {name_some([str(column) for column in frame])}. Name the right ones in `table`"
            " (`--data.table.file_column=NAME`, `--data.table.labels.column=NAME` for tags, several"
            " in a value, and `--data.table.labels=NAME` for one class each), or give"
            " `column_names` if the first line is no header."
        )


def _weights(frame: pd.DataFrame, table: LabelTable, column: str) -> pd.Series:
    """Return how much each image counts; a DataError names those that do not say so."""
    weights = pd.to_numeric(frame[column], errors="coerce")
    is_wrong = ~weights.between(0, sys.float_info.max)
    problem = f"have no number of at least 0 as weight in the column '{column}'"
    refuse_rows(is_wrong, frame, table, problem, "Correct them")
    return weights


def _plain_names(frame: pd.DataFrame, named: list[str]) -> pd.DataFrame:
    """Leave out blanks around the names of columns, but of none that is asked for as it is."""
    names = {name: name.strip() for name in frame if isinstance(name, str) and name not in named}
    if twice := [new for old, new in names.items() if old != new and new in frame and new in named]:
        raise DataError(
            f"The table of labels must have each column once, but has {name_some(twice)} again with"
            " blanks around it. Rename or drop one."
        )
    return frame.rename(columns={old: new for old, new in names.items() if new not in frame})


def _stripped(column: pd.Series) -> pd.Series:
    """Leave out blanks around text; what is nothing else is a gap."""
    if pd.api.types.is_numeric_dtype(column):
        return column

    def strip(value: Any) -> Any:
        return (value.strip() or None) if isinstance(value, str) else value

    return pd.Series([strip(value) for value in column], column.index, dtype=object)


def _read(
    csv: LabelSource, table: LabelTable, split: Split | None
) -> tuple[pd.DataFrame, Path, str | None]:
    """Return the table, the folder it is in, and its column of splits."""
    split_column = split.column if isinstance(split, ColumnSplit) else None
    if isinstance(csv, pd.DataFrame):
        refuse_other_index(split, csv)
        return csv.reset_index(drop=True), Path(), split_column
    dialect = Dialect(table.separator, table.column_names, table.encoding)
    path = None if isinstance(csv, Mapping) else resolve_source(csv, "csv")
    if path is not None and not path.is_dir():
        return read_table(path, dialect), path.parent, split_column
    if split_column is not None or isinstance(split, RowSplit):
        named = "lists rows" if split_column is None else f"names the column '{split_column}'"
        raise DataError(
            f"`split` {named}, but there is one table per split. Leave it out, or name one table."
        )
    files = partial(found_file_column, name=table.file_column)
    if isinstance(csv, Mapping):
        has_folder = table.folder is not None
        frame, home = read_splits_apart(csv, files, dialect, has_folder=has_folder)
        return frame, home, SPLIT_COLUMN
    folder = cast(Path, path)
    return read_folder(folder, files, dialect), folder, SPLIT_COLUMN


def _refuse_overlap(rows: pd.DataFrame) -> None:
    """Refuse images that the tables of several splits name."""
    splits = rows.groupby("file")["split"].unique()
    shared = splits[splits.map(len) > 1]
    if len(shared):
        pairs = [f"{file} ({' and '.join(sorted(names))})" for file, names in shared.items()]
        raise DataError(
            "The splits must name different images, so that nothing is measured on"
            f" what was trained on, but {len(shared):,} of {len(splits):,} images are in several:"
            f" {name_some(pairs)}. Keep each in one."
        )


def _unused_splits(others: pd.DataFrame) -> list[str]:
    """Return hints on unread columns that may be meant to be the split."""
    return [
        f"the column '{name}' may be the split, but is not used: `split='{name}'` reads it"
        for name, column in others.items()
        if may_be_split(column) or says_split(column)
    ]
