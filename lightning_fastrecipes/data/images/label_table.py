"""Read a table of labels: a CSV file in whatever dialect, or a data frame."""

import posixpath
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from lightning_fastrecipes.data.common.csv_tables import (
    SPLIT_COLUMN,
    read_folder,
    read_table,
)
from lightning_fastrecipes.data.common.sources import resolve_source
from lightning_fastrecipes.data.common.split_choice import (
    SPLIT_NAMES,
    ColumnSplit,
    GroupSplit,
    Split,
)
from lightning_fastrecipes.data.images.label_sets import (
    LABEL_JOINER,
    LabelChoice,
    LabelSets,
    labels_of_columns,
    split_labels,
)
from lightning_fastrecipes.data.images.listing import Listing
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.labels.targets import hard_labels
from lightning_fastrecipes.functional.splits import rarest_labels
from lightning_fastrecipes.messages import name_some
from lightning_fastrecipes.protocols import LabelKind

_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class LabelTable:
    """What the columns of a table of labels mean.

    A target is a class name, or with ``classes`` one probability per class: either the one column
    ``probability_column`` holds the probability of the second of two classes, or each class has a
    column of its name.

    An image may also have several labels, or none. The whole table decides, never one split: see
    ``label_sets.split_labels`` for the rule. ``label_separator`` or ``label_columns`` say that it
    may; ``label_kind`` overrides all.

    Args:
        folder: What file names are relative to; the table's own folder if not given. Also
            ``package:NAME/inner/path``.
        file_column: Column of file names.
        label_column: Column of class names; not used with ``classes`` or ``label_columns``.
        probability_column: Column with the probability of the second class, in [0, 1].
        classes: Class names of soft labels: negative and positive, or the names of the columns.
        stratify_by: Columns whose mix every drawn split keeps; the label if not given.
        separator: What stands between columns, or a regular expression; found out if not given.
        column_names: Names of the columns, for a file without a first line of names.
        label_separator: What stands between the labels of one image, such as a space or comma.
        label_columns: Columns of 0 and 1, one per label; found out for a table without
            ``label_column`` whose other columns hold nothing else.
        label_kind: ``single``: one label per image, whatever is in it; ``multi``: any number;
            ``auto``: the data decide.

    Raises:
        ValueError: If ``probability_column`` comes without two classes, ``classes`` has fewer than
            two different names, or arguments contradict one another.
    """

    folder: str | None = None
    file_column: str = "file"
    label_column: str = "label"
    probability_column: str | None = None
    classes: list[str] | None = None
    stratify_by: list[str] | None = None
    separator: str | None = None
    column_names: list[str] | None = None
    label_separator: str | None = None
    label_columns: list[str] | None = None
    label_kind: LabelChoice = "auto"

    def __post_init__(self) -> None:
        if self.classes is not None and len(set(self.classes)) != max(len(self.classes), 2):
            raise ValueError(f"`classes` must be two or more different names, got {self.classes}.")
        if self.probability_column is not None and len(self.classes or []) != 2:
            raise ValueError(
                "`classes` must name two classes, negative and positive, for"
                f" `probability_column`, got {self.classes}. Name them in this order."
            )
        if self.label_kind not in get_args(LabelChoice):
            raise ValueError(
                f"`label_kind` must be 'auto', 'single' or 'multi', got {self.label_kind!r}."
            )
        ways = {
            "classes": self.classes,
            "label_columns": self.label_columns,
            "label_separator": self.label_separator,
        }
        given = [name for name, value in ways.items() if value is not None]
        if self.label_kind == "single" and self.label_separator is not None:
            given.append("label_kind='single'")
        if self.label_kind != "auto" and self.classes is not None:
            given.append(f"label_kind='{self.label_kind}'")
        if len(given) > 1:
            raise ValueError(f"`{given[0]}` and `{given[1]}` contradict one another. Give one.")
        if self.label_separator == "":
            raise ValueError("`label_separator` must not be empty. For spaces give ' '.")


def list_table(
    csv: str | Path | pd.DataFrame, table: LabelTable, split: Split | None = None
) -> Listing:
    """Read the images and labels that a table names.

    Args:
        csv: A file, also ``package:NAME/inner/path``; a folder with one table per split, as
            ``table_files.read_folder`` finds them; or a data frame.
        table: What the columns mean.
        split: Column of splits or of groups, if there is one.

    Returns:
        The images; without a column of splits all are in the split ``train``.

    Raises:
        DataNotFoundError: If the file or the folder does not exist.
        DataError: If a column is missing, a value is, an image has two rows, a split is unknown,
            or probabilities are not.
    """
    split_column = split.column if isinstance(split, ColumnSplit) else None
    group_column = split.column if isinstance(split, GroupSplit) else None
    if isinstance(csv, pd.DataFrame):
        frame, home = csv.reset_index(drop=True), Path()
    else:
        path = resolve_source(csv, "csv")
        how = (table.separator, table.column_names)
        if path.is_dir():
            if split_column is not None:
                raise DataError(
                    f"`split` names the column '{split_column}', but '{path}' has one table per"
                    " split. Leave it out, or name one table."
                )
            frame, home = read_folder(path, table.file_column, *how), path
            split_column = SPLIT_COLUMN
        else:
            frame, home = read_table(path, *how), path.parent
    folder = home if table.folder is None else resolve_source(table.folder, "folder")
    others = [column for column in (split_column, group_column) if column is not None]
    found_columns = _flag_columns(frame, table, others)
    columns = [*_used_columns(table, found_columns), *others]
    missing = [column for column in columns if column not in frame]
    if missing:
        raise DataError(
            f"The table of labels has no column {name_some(missing)}; it has"
            f" {name_some([str(column) for column in frame])}. Name the right ones in `table`, or"
            " give `column_names` if the first line is no header."
        )
    sets = _label_sets(frame, table, found_columns)
    # An image without any label is legal where there may be several.
    needed = [c for c in columns if not sets.multi_label or c != table.label_column]
    _refuse_rows(frame[needed].isna().any(axis=1), frame, table, "lack a value", "Fill it in")
    text = frame[columns].astype(str)
    files = text[table.file_column].map(posixpath.normpath)
    _refuse_rows(files.duplicated(keep=False), frame, table, "name an image twice", "Keep one")
    order = files.argsort().to_numpy()
    probabilities = _probabilities(frame, table)
    rows = pd.DataFrame({"file": files, "split": _splits(text, table, split_column)})
    if group_column is not None:
        rows["group"] = text[group_column]
    if probabilities is None:
        rows["label"] = [LABEL_JOINER.join(labels) for labels in sets.labels]
    else:
        classes = np.array(table.classes, dtype=object)
        rows["label"] = classes[hard_labels(torch.from_numpy(probabilities)).numpy()]
        probabilities = probabilities[order]
    if sets.multi_label and not table.stratify_by:
        rows["stratum"] = rarest_labels(sets.labels)
    else:
        strata = text[table.stratify_by] if table.stratify_by else rows[["label"]]
        rows["stratum"] = strata.agg(LABEL_JOINER.join, axis=1)
    rows = rows.iloc[order].reset_index(drop=True)
    kind: LabelKind = "multi" if sets.multi_label else "single"
    if probabilities is not None:
        kind = "soft"
    names = table.classes or found_columns or None
    return Listing(folder, rows, names, probabilities, label_kind=kind, label_reason=sets.reason)


def _flag_columns(frame: pd.DataFrame, table: LabelTable, others: list[str]) -> list[str]:
    """Name the columns that hold one label each: those given, or else all if they may be."""
    if table.label_columns is not None:
        return table.label_columns
    if table.classes is not None or table.label_column in frame:
        return []
    known = {table.file_column, *others, *(table.stratify_by or [])}
    rest = [str(column) for column in frame if column not in known]
    are_flags = len(rest) > 1 and bool(_flags(frame[rest]).notna().all(axis=None))
    return rest if are_flags else []


def _flags(columns: pd.DataFrame) -> pd.DataFrame:
    """Return 0 and 1, and gaps where there is something else."""
    named = columns.astype(str).replace({"True": "1", "False": "0"})
    numbers: pd.DataFrame = named.apply(pd.to_numeric, errors="coerce")
    return numbers.where(numbers.isin([0, 1]))


def _label_sets(frame: pd.DataFrame, table: LabelTable, columns: list[str]) -> LabelSets:
    if table.classes is not None:
        return LabelSets([], False, "soft, since the table has a probability for each class")
    if not columns:
        values = frame[table.label_column].fillna("").astype(str).tolist()
        return split_labels(values, table.label_separator, table.label_kind)
    flags = _flags(frame[columns])
    problem = "hold something else than 0 and 1 in `label_columns`"
    _refuse_rows(flags.isna().any(axis=1), frame, table, problem, "Correct them")
    is_named = table.label_columns is not None
    sets = labels_of_columns(flags == 1, table.label_kind, is_named=is_named)
    if not sets.multi_label:
        is_wrong = pd.Series([len(labels) != 1 for labels in sets.labels], dtype=bool)
        _refuse_rows(is_wrong, frame, table, "have not exactly one label", "Set `label_kind`")
    return sets


def _used_columns(table: LabelTable, found_columns: list[str]) -> list[str]:
    if table.classes is None:
        labels = found_columns or [table.label_column]
    else:
        labels = [table.probability_column] if table.probability_column else table.classes
    return list(dict.fromkeys([table.file_column, *labels, *(table.stratify_by or [])]))


def _splits(text: pd.DataFrame, table: LabelTable, column: str | None) -> pd.Series:
    if column is None:
        return pd.Series("train", index=text.index)
    splits = text[column].map(SPLIT_NAMES)
    _refuse_rows(
        splits.isna(), text, table, "have an unknown split", f"Use {', '.join(SPLIT_NAMES)}"
    )
    return splits


def _probabilities(frame: pd.DataFrame, table: LabelTable) -> npt.NDArray[np.float32] | None:
    if table.classes is None:
        return None
    columns = [table.probability_column] if table.probability_column else table.classes
    numbers = frame[columns].apply(pd.to_numeric, errors="coerce")
    values: npt.NDArray[np.float64] = numbers.to_numpy(dtype=np.float64)
    if table.probability_column:
        values = np.concatenate([1 - values, values], axis=1)
    is_wrong = ~((values >= 0) & (values <= 1)).all(axis=1)
    is_wrong |= np.abs(values.sum(axis=1) - 1) > _SUM_TOLERANCE
    problem = "have no probabilities in [0, 1] that sum to 1"
    _refuse_rows(pd.Series(is_wrong), frame, table, problem, "Correct them")
    return values.astype(np.float32)


def _refuse_rows(
    is_wrong: pd.Series, frame: pd.DataFrame, table: LabelTable, problem: str, cure: str
) -> None:
    if is_wrong.any():
        names = [
            f"{file} (row {row})"
            for row, file in frame.loc[is_wrong.to_numpy(), table.file_column].items()
        ]
        raise DataError(
            f"{len(names)} rows of the table of labels {problem}: {name_some(names)}. {cure}."
        )
