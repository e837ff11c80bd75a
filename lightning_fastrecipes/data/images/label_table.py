"""Read a table of labels: a CSV file in whatever dialect, or a data frame."""

import posixpath
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from lightning_fastrecipes.data.common.csv_tables import SPLIT_COLUMN, read_folder, read_table
from lightning_fastrecipes.data.common.sources import resolve_source
from lightning_fastrecipes.data.common.split_choice import ColumnSplit, GroupSplit, Split
from lightning_fastrecipes.data.common.split_names import (
    SPLIT_VALUES,
    is_split_flag,
    may_be_split,
    read_splits,
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
class SingleLabel:
    """One label per image, whatever characters are in it.

    Args:
        column: Column of class names.
        one_hot: Columns of 0 and 1, one per class, a single 1 in every row; in place of ``column``.
    """

    column: str = "label"
    one_hot: list[str] | None = None


@dataclass(frozen=True)
class Tags:
    """Any number of labels per image, or none.

    Args:
        column: Column of labels, several in one value.
        separator: What stands between them, such as a space or a comma; ``auto`` finds it.
        columns: Columns of 0 and 1, one per label; in place of ``column``.

    Raises:
        ValueError: If ``separator`` is empty, or comes with ``columns``.
    """

    column: str = "label"
    separator: str = "auto"
    columns: list[str] | None = None

    def __post_init__(self) -> None:
        if self.separator == "":
            raise ValueError("`separator` must not be empty. For spaces give ' '.")
        if self.columns is not None and self.separator != "auto":
            raise ValueError("`columns` and `separator` contradict one another. Give one.")


@dataclass(frozen=True)
class SoftLabels:
    """A probability for each class.

    Args:
        classes: Two or more class names: those of the columns of probabilities, or the negative
            and the positive class for ``probability_column``.
        probability_column: Column with the probability of the second class, in [0, 1].

    Raises:
        ValueError: If ``classes`` has fewer than two different names, or other than two for
            ``probability_column``.
    """

    classes: list[str]
    probability_column: str | None = None

    def __post_init__(self) -> None:
        if len(set(self.classes)) != max(len(self.classes), 2):
            raise ValueError(f"`classes` must be two or more different names, got {self.classes}.")
        if self.probability_column is not None and len(self.classes) != 2:
            raise ValueError(
                "`classes` must name two classes, negative and positive, for"
                f" `probability_column`, got {self.classes}. Name them in this order."
            )

    @property
    def columns(self) -> list[str]:
        """Columns of probabilities."""
        return self.classes if self.probability_column is None else [self.probability_column]


@dataclass(frozen=True)
class LabelTable:
    """What the columns of a table of labels mean.

    Args:
        folder: What file names are relative to; the table's own folder if not given. Also
            ``package:NAME/inner/path``.
        file_column: Column of file names.
        labels: Where the labels are: ``SingleLabel``, ``Tags`` or ``SoftLabels``. A text is the
            name of their column, and the whole table decides whether an image may have several, by
            the rule of ``label_sets.split_labels``; without such a column, all others are taken
            for labels if they hold nothing but 0 and 1.
        stratify_by: Columns whose mix every drawn split keeps; the label if not given.
        separator: What stands between columns, or a regular expression; found out if not given.
        column_names: Names of the columns, for a file without a first line of names.

    Example:
        >>> LabelTable(labels=Tags(separator=" ")).labels
        Tags(column='label', separator=' ', columns=None)
    """

    folder: str | None = None
    file_column: str = "file"
    labels: SingleLabel | Tags | SoftLabels | str = "label"
    stratify_by: list[str] | None = None
    separator: str | None = None
    column_names: list[str] | None = None


class _Labels(NamedTuple):
    """The labels of a frame, row by row."""

    kind: LabelKind
    names: list[str]
    strata: list[str]
    classes: list[str] | None
    reason: str
    probabilities: npt.NDArray[np.float32] | None = None


def list_table(
    csv: str | Path | pd.DataFrame, table: LabelTable, split: Split | None = None
) -> Listing:
    """Read the images and labels that a table names; without a column of splits all are ``train``.

    A folder has one table per split, as ``csv_tables.read_folder`` finds them. A DataError names
    columns and values that are missing, images with two rows, unknown splits, and what is no
    probability.
    """
    frame, home, split_column = _read(csv, table, split)
    folder = home if table.folder is None else resolve_source(table.folder, "folder")
    group_column = split.column if isinstance(split, GroupSplit) else None
    named = [table.file_column, split_column, group_column, *(table.stratify_by or [])]
    plain = list(dict.fromkeys(column for column in named if column is not None))
    found = _found_columns(frame, table, plain)
    label_columns = found or _label_columns(table)
    columns = list(dict.fromkeys([*plain, *label_columns]))
    missing = [column for column in columns if column not in frame]
    if missing:
        raise DataError(
            f"The table of labels has no column {name_some(missing)}; it has"
            f" {name_some([str(column) for column in frame])}. Name the right ones in `table`, or"
            " give `column_names` if the first line is no header."
        )
    labels = _read_labels(frame, table, found)
    notes: list[str] = []
    # An image without any label is legal where there may be several.
    is_text = labels.kind == "multi" and len(label_columns) == 1
    needed = [column for column in columns if not is_text or column != label_columns[0]]
    _refuse_rows(frame[needed].isna().any(axis=1), frame, table, "lack a value", "Fill it in")
    text = frame[columns].astype(str)
    files = text[table.file_column].map(posixpath.normpath)
    _refuse_rows(files.duplicated(keep=False), frame, table, "name an image twice", "Keep one")
    rows = pd.DataFrame({"file": files, "split": "train", "label": labels.names})
    if split_column is not None:
        rows["split"], said = read_splits(text[split_column])
        cure = f"Use {SPLIT_VALUES}"
        _refuse_rows(rows["split"].isna(), frame, table, "have an unknown split", cure)
        notes += [said] if said else []
    else:
        notes += _unused_splits(frame.drop(columns=columns))
    if group_column is not None:
        rows["group"] = text[group_column]
    rows["stratum"] = (
        text[table.stratify_by].agg(LABEL_JOINER.join, axis=1)
        if table.stratify_by
        else labels.strata
    )
    order = files.argsort().to_numpy()
    rows = rows.iloc[order].reset_index(drop=True)
    probabilities = None if labels.probabilities is None else labels.probabilities[order]
    return Listing(
        folder,
        rows,
        labels.classes,
        probabilities,
        label_kind=labels.kind,
        label_reason=labels.reason,
        reading="; ".join(notes),
    )


def _read(
    csv: str | Path | pd.DataFrame, table: LabelTable, split: Split | None
) -> tuple[pd.DataFrame, Path, str | None]:
    """Return the table, the folder it is in, and its column of splits."""
    split_column = split.column if isinstance(split, ColumnSplit) else None
    if isinstance(csv, pd.DataFrame):
        return csv.reset_index(drop=True), Path(), split_column
    path, how = resolve_source(csv, "csv"), (table.separator, table.column_names)
    if not path.is_dir():
        return read_table(path, *how), path.parent, split_column
    if split_column is not None:
        raise DataError(
            f"`split` names the column '{split_column}', but '{path}' has one table per split."
            " Leave it out, or name one table."
        )
    return read_folder(path, table.file_column, *how), path, SPLIT_COLUMN


def _unused_splits(others: pd.DataFrame) -> list[str]:
    """Say which of the columns that are not read may be meant to be the split."""
    return [
        f"the column '{name}' may be the split, but is not used: `split='{name}'` reads it"
        for name, column in others.items()
        if may_be_split(column)
    ]


def _label_columns(table: LabelTable) -> list[str]:
    labels = table.labels
    if isinstance(labels, str):
        return [labels]
    if isinstance(labels, SoftLabels):
        return labels.columns
    named = labels.one_hot if isinstance(labels, SingleLabel) else labels.columns
    return named or [labels.column]


def _found_columns(frame: pd.DataFrame, table: LabelTable, others: list[str]) -> list[str]:
    """Name columns of 0 and 1: those given, or all that are left where labels have no column."""
    columns = _label_columns(table)
    if isinstance(table.labels, SoftLabels):
        return []
    is_named = not isinstance(table.labels, str) and columns != [table.labels.column]
    if is_named or columns[0] in frame:
        return columns if is_named else []
    rest = [str(name) for name in frame if name not in others and not is_split_flag(str(name))]
    are_flags = len(rest) > 1 and bool(_flags(frame[rest]).notna().all(axis=None))
    return rest if are_flags else []


def _flags(columns: pd.DataFrame) -> pd.DataFrame:
    """Return 0 and 1, and gaps where there is something else."""
    named = columns.astype(str).replace({"True": "1", "False": "0"})
    numbers: pd.DataFrame = named.apply(pd.to_numeric, errors="coerce")
    return numbers.where(numbers.isin([0, 1]))


def _read_labels(frame: pd.DataFrame, table: LabelTable, flag_columns: list[str]) -> _Labels:
    if isinstance(table.labels, SoftLabels):
        probabilities = _probabilities(frame, table, table.labels)
        hard = hard_labels(torch.from_numpy(probabilities)).tolist()
        names = [table.labels.classes[index] for index in hard]
        reason = "soft, since the table has a probability for each class"
        return _Labels("soft", names, names, table.labels.classes, reason, probabilities)
    sets = _label_sets(frame, table, flag_columns)
    names = [LABEL_JOINER.join(labels) for labels in sets.labels]
    strata = rarest_labels(sets.labels) if sets.multi_label else names
    kind: LabelKind = "multi" if sets.multi_label else "single"
    return _Labels(kind, names, strata, flag_columns or None, sets.reason)


def _label_sets(frame: pd.DataFrame, table: LabelTable, flag_columns: list[str]) -> LabelSets:
    labels = table.labels
    choice: LabelChoice = "auto" if isinstance(labels, str) else "multi"
    choice = "single" if isinstance(labels, SingleLabel) else choice
    if not flag_columns:
        values = frame[_label_columns(table)[0]].fillna("").astype(str).tolist()
        separator = labels.separator if isinstance(labels, Tags) else "auto"
        return split_labels(values, None if separator == "auto" else separator, choice)
    flags = _flags(frame[flag_columns])
    problem = "hold something else than 0 and 1 in columns of labels"
    _refuse_rows(flags.isna().any(axis=1), frame, table, problem, "Correct them")
    sets = labels_of_columns(flags == 1, choice)
    if not sets.multi_label:
        is_wrong = pd.Series([len(labels) != 1 for labels in sets.labels], dtype=bool)
        _refuse_rows(is_wrong, frame, table, "have not exactly one label", "Use `Tags`")
    return sets


def _probabilities(
    frame: pd.DataFrame, table: LabelTable, labels: SoftLabels
) -> npt.NDArray[np.float32]:
    numbers = frame[labels.columns].apply(pd.to_numeric, errors="coerce")
    values: npt.NDArray[np.float64] = numbers.to_numpy(dtype=np.float64)
    if labels.probability_column:
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
