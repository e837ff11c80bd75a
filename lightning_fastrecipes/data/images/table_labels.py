"""Read the labels of a table, row by row."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from lightning_fastrecipes.data.common.split_names import SPLIT_COLUMN, is_split_flag
from lightning_fastrecipes.data.images.label_sets import (
    LABEL_JOINER,
    LabelChoice,
    LabelSets,
    labels_of,
    labels_of_columns,
    labels_of_lists,
    split_labels,
)
from lightning_fastrecipes.data.images.label_table import (
    LabelTable,
    Numbers,
    SingleLabel,
    SoftLabels,
    Tags,
)
from lightning_fastrecipes.data.images.number_labels import bad_numbers, numbers_of_columns
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.labels.targets import hard_labels
from lightning_fastrecipes.functional.splits import rarest_labels
from lightning_fastrecipes.messages import name_some
from lightning_fastrecipes.protocols import LabelKind

_SUM_TOLERANCE = 1e-3
_MAX_GRADES = 10
"""As many numbers may well be classes."""
_LEAST_MEASURED = 3
"""Fewer numbers have no order that could be learned."""


class RowLabels(NamedTuple):
    """The labels of a frame, row by row."""

    kind: LabelKind
    names: list[str]
    strata: list[str]
    classes: list[str] | None
    reason: str
    probabilities: npt.NDArray[np.float32] | None = None
    unknown: list[str] | None = None
    """Labels of each row that are not known, joined; ``None`` if all are."""
    numbers: npt.NDArray[np.float64] | None = None
    notes: tuple[str, ...] = ()
    """What else the labels might have been."""


def label_columns(table: LabelTable) -> list[str]:
    """Return the columns that hold the labels, as the user names them."""
    labels = table.labels
    if isinstance(labels, str):
        return [labels]
    if isinstance(labels, SoftLabels):
        return labels.columns
    if isinstance(labels, Numbers):
        return labels.names
    named = labels.one_hot if isinstance(labels, SingleLabel) else labels.columns
    return named or [labels.column]


def found_columns(frame: pd.DataFrame, table: LabelTable, others: list[str]) -> list[str]:
    """Name columns of 0 and 1: those given, or all that are left where labels have no column."""
    columns = label_columns(table)
    if isinstance(table.labels, SoftLabels | Numbers):
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


def unknown_cells(frame: pd.DataFrame, table: LabelTable, flag_columns: list[str]) -> pd.DataFrame:
    """Return which labels are unknown, empty or -1, where the table may say so.

    It may with ``Tags`` of columns, and with ``SoftLabels``; else there are no columns.
    """
    columns = flag_columns if isinstance(table.labels, Tags) else []
    if isinstance(table.labels, SoftLabels):
        columns = table.labels.columns
    cells = frame[columns]
    numbers: pd.DataFrame = cells.apply(pd.to_numeric, errors="coerce")
    return cells.isna() | numbers.eq(-1)


def say_unknown(unknown: npt.NDArray[np.bool_]) -> list[str]:
    """Return how many labels are unknown, and how many rows have none; empty if all are known."""
    if not unknown.any():
        return []
    said = f"{int(unknown.sum()):,} of {unknown.size:,} labels are unknown and are left out"
    num_rows = int(unknown.all(axis=1).sum())
    return [said + (f", with {num_rows:,} images that have no known one" if num_rows else "")]


def read_labels(frame: pd.DataFrame, table: LabelTable, flag_columns: list[str]) -> RowLabels:
    """Read the labels of each row; ``flag_columns`` are those of ``found_columns``."""
    if isinstance(table.labels, SoftLabels):
        probabilities = _probabilities(frame, table, table.labels)
        hard = hard_labels(torch.from_numpy(probabilities)).tolist()
        names = [table.labels.classes[index] for index in hard]
        reason = "soft, since the table has a probability for each class"
        return RowLabels("soft", names, names, table.labels.classes, reason, probabilities)
    if isinstance(table.labels, Numbers):
        numbers = numbers_of_columns(frame, table.labels)
        bad, problem = bad_numbers(numbers, table.labels)
        is_bad = pd.Series(np.isin(np.arange(len(frame)), bad))
        refuse_rows(is_bad, frame, table, problem, "Correct them, or leave these images out")
        empty = [""] * len(frame)
        return RowLabels("numbers", empty, empty, [], "", numbers=numbers)
    sets = _label_sets(frame, table, flag_columns)
    names = [LABEL_JOINER.join(labels) for labels in sets.labels]
    strata = rarest_labels(sets.labels) if sets.multi_label else names
    kind: LabelKind = "multi" if sets.multi_label else "single"
    unknown = None
    cells = unknown_cells(frame, table, flag_columns)
    if cells.any(axis=None):
        values = cells.to_numpy()
        unknown = [LABEL_JOINER.join(np.array(flag_columns)[row]) for row in values]
    classes, notes = flag_columns or None, (sets.note,) if sets.note else ()
    return RowLabels(kind, names, strata, classes, sets.reason, unknown=unknown, notes=notes)


def _label_sets(frame: pd.DataFrame, table: LabelTable, flag_columns: list[str]) -> LabelSets:
    labels = table.labels
    choice: LabelChoice = "auto" if isinstance(labels, str) else "multi"
    choice = "single" if isinstance(labels, SingleLabel) else choice
    if not flag_columns:
        column = frame[label_columns(table)[0]]
        if (lists := labels_of_lists(column.tolist(), choice)) is not None:
            return lists
        values = column.fillna("").astype(str).tolist()
        separator = labels.separator if isinstance(labels, Tags) else "auto"
        sets = split_labels(values, None if separator == "auto" else separator, choice)
        if choice == "auto" and not sets.multi_label and table.class_names is None:
            sets = replace(sets, note=_numbers_as_classes(values, str(column.name)))
        return sets
    flags = _flags(frame[flag_columns])
    problem, cure = "hold something else than 0 and 1 in columns of labels", "Correct them"
    unknown = unknown_cells(frame, table, flag_columns)
    if unknown.empty:
        cure += ", or name the columns, `Tags(columns=[...])`, if some labels are unknown"
    is_odd = flags.isna() & ~unknown.reindex(columns=flags.columns, fill_value=False)
    refuse_rows(is_odd.any(axis=1), frame, table, problem, cure)
    sets = labels_of_columns(flags == 1, choice)
    if not sets.multi_label:
        is_wrong = pd.Series([len(labels) != 1 for labels in sets.labels], dtype=bool)
        refuse_rows(is_wrong, frame, table, "have not exactly one label", "Use `Tags`")
    return sets


def _numbers_as_classes(values: list[str], column: str) -> str:
    """Refuse numbers that are measured, and say of others that may be, unless they are codes."""
    numbers = pd.to_numeric(pd.Series(values, dtype=object), errors="coerce")
    is_code = any(len(text) > 1 and text[0] == "0" and text[1].isdigit() for text in values)
    num_distinct = numbers.nunique()
    if is_code or numbers.isna().any() or num_distinct < _LEAST_MEASURED:
        return ""
    cure = f"To predict the number, give `labels=Numbers('{column}')` and an `ImageRegressor`."
    is_fraction = bool((numbers % 1 != 0).any())
    if num_distinct > _MAX_GRADES and (is_fraction or 2 * num_distinct > len(values)):
        raise DataError(
            f"The column '{column}' must hold names of classes, but holds {num_distinct:,}"
            f" different numbers in {len(values):,} rows, such as {values[0]}, as a target of"
            f" regression does. {cure} If each is a class, give `labels=SingleLabel('{column}')`."
        )
    if numbers.min() in (0, 1) and numbers.max() - numbers.min() == num_distinct - 1:
        return ""  # numbers of classes
    ends = f"from {numbers.min():g} to {numbers.max():g}"
    return (
        f"the {num_distinct} numbers of '{column}', {ends}, are taken for classes,"
        f" the order of which is not learned. {cure.rstrip('.')}"
    )


def merged_rows(
    rows: pd.DataFrame,
    labels: RowLabels,
    frame: pd.DataFrame,
    table: LabelTable,
    others: pd.DataFrame,
) -> tuple[pd.DataFrame, RowLabels]:
    """Make one row of each image from one row per image and tag, sorted by file.

    Without ``Tags``, every label must stand on images that have others, and a tenth of the images
    must have several; else an image that is named twice is a mistake, which a DataError says.
    """
    is_repeated = rows["file"].duplicated(keep=False)
    pairs = pd.DataFrame({"file": rows["file"], "label": labels.names}).drop_duplicates()
    several = pairs.groupby("file")["label"].transform("size") > 1
    num_several = pairs["file"][several].nunique()
    num_images = pairs["file"].nunique()
    reads_tags = 10 * num_several >= num_images and (
        set(pairs["label"][several]) == set(pairs["label"])
    )
    is_column = labels.classes is None
    is_meant = isinstance(table.labels, Tags) or (isinstance(table.labels, str) and reads_tags)
    if not is_column or not is_meant:
        cure = "Keep one" + (", or give `labels=Tags()` to take all labels of an image" * is_column)
        refuse_rows(is_repeated, frame, table, "name an image twice", cure)
    shared = [str(name) for name in rows if name not in {"file", "label", "stratum"}]
    shared += ["stratum"] if table.stratify_by else []
    by_file = rows.groupby("file")
    for name in shared:
        differs = by_file[name].transform("nunique") > 1
        refuse_rows(
            differs, frame, table, f"say another {name} of the same image", "Give all the same"
        )
    _refuse_denied(others)
    sets = [_union(names) for _, names in by_file["label"]]
    merged = by_file[shared].first().reset_index()
    merged["label"] = [LABEL_JOINER.join(labels) for labels in sets]
    if not table.stratify_by:
        merged["stratum"] = rarest_labels(sets)
    counted = f"{num_several:,} of {num_images:,} images have several rows with different labels"
    return merged, labels._replace(kind="multi", reason=f"multi, since {counted}")


def _union(names: pd.Series) -> tuple[str, ...]:
    return tuple(sorted({label for text in names for label in labels_of(text)}))


def _refuse_denied(others: pd.DataFrame) -> None:
    """Refuse rows that say that a label is not there, as Open Images has them."""
    for name, column in others.items():
        if str(name).lower() == "confidence" and (
            pd.to_numeric(column, errors="coerce").eq(0).any()
        ):
            raise DataError(
                f"The table of labels has one row per image and label, and rows whose '{name}' is"
                " 0, which say that the label is not there. Drop these rows."
            )


def _probabilities(
    frame: pd.DataFrame, table: LabelTable, labels: SoftLabels
) -> npt.NDArray[np.float32]:
    numbers = frame[labels.columns].apply(pd.to_numeric, errors="coerce")
    unknown = unknown_cells(frame, table, []).to_numpy()
    values: npt.NDArray[np.float64] = numbers.to_numpy(dtype=np.float64, copy=True)
    # Rows without a known one are left out later; of a single one the others say what it is.
    values[unknown.all(axis=1)] = 1 / len(labels.classes)
    single = (unknown.sum(axis=1) == 1) & ~unknown.all(axis=1)
    values[single] = np.where(
        unknown[single],
        (1 - np.where(unknown, 0, values)[single].sum(axis=1, keepdims=True)).clip(0),
        values[single],
    )
    if labels.probability_column:
        values = np.concatenate([1 - values, values], axis=1)
    is_wrong = ~((values >= 0) & (values <= 1)).all(axis=1)
    is_wrong |= np.abs(values.sum(axis=1) - 1) > _SUM_TOLERANCE
    problem = "have no probabilities in [0, 1] that sum to 1"
    refuse_rows(pd.Series(is_wrong), frame, table, problem, "Correct them")
    return values.astype(np.float32)


def refuse_rows(
    is_wrong: pd.Series, frame: pd.DataFrame, table: LabelTable, problem: str, cure: str
) -> None:
    """Raise `DataError` if rows are wrong, and name the files in them."""
    if is_wrong.any():
        places = pd.Series(frame.index.astype(str), frame.index)
        if SPLIT_COLUMN in frame:  # one table for each split
            rows = frame.groupby(SPLIT_COLUMN).cumcount().astype(str)
            places = rows + " of " + frame[SPLIT_COLUMN]
        wrong = is_wrong.to_numpy()
        files = zip(frame.loc[wrong, table.file_column], places[wrong], strict=True)
        names = [f"{file} (row {place})" for file, place in files]
        raise DataError(
            f"{len(names)} rows of the table of labels {problem}: {name_some(names)}. {cure}."
        )
