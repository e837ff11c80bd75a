"""Read CSV files in whatever dialect, one or one per split."""

import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pandas as pd

from lightning_fastrecipes.data.common.packed_files import open_unpacked
from lightning_fastrecipes.data.common.sources import resolve_source
from lightning_fastrecipes.data.common.split_names import (
    SPLIT_COLUMN,
    SplitName,
    named_splits,
    split_name,
)
from lightning_fastrecipes.data.common.text_files import (
    check_width,
    find_encoding,
    find_separator,
    not_utf8,
    read_head,
    records,
    separator_expression,
)
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.messages import name_some

_WHITESPACE = r"\s+"

FindColumn: TypeAlias = Callable[[pd.DataFrame], str]
"""Says which column of a table holds names of files."""


class Dialect(NamedTuple):
    """How a CSV file is written.

    ``separator`` is text or a regular expression; it and ``encoding`` are found out if ``None``.
    ``column_names`` are for a file without a first line of names.
    """

    separator: str | None = None
    column_names: list[str] | None = None
    encoding: str | None = None


UNKNOWN = Dialect()


def read_table(path: Path, dialect: Dialect = UNKNOWN) -> pd.DataFrame:
    """Read one table as columns of text, gaps as missing; a DataError if it cannot be read."""
    separator, column_names, encoding = dialect
    cure = "Give `encoding='cp1252'` of `LabelTable` or another, or save the file as UTF-8."
    head = read_head(path)
    if not head.strip():
        raise DataError(
            f"The table of labels '{path}' must have rows, but is empty. Write it anew."
        )
    encoding = find_encoding(path, head, encoding, cure)
    text, is_whole = head.decode(encoding, "replace"), len(head) < 1 << 16
    try:
        separator = separator_expression(separator or find_separator(text, _WHITESPACE, is_whole))
    except ValueError as error:
        raise DataError(str(error)) from error
    names = column_names
    has_names = names is None
    if len(separator) == 1:
        rows = records(text, separator, is_whole)
        names = names or (rows[0] if rows else [])
        twice = [name for name, times in Counter(names).items() if name and times > 1]
        if twice:
            raise DataError(
                f"The table of labels '{path}' must have each column once, but has"
                f" {name_some(twice)} more than once. Rename or drop one."
            )
        extra = check_width(path, names, rows[has_names:], "Mend it, or give its `separator`.")
        if extra == "first":
            column_names = ["(number of the row)", *names]
    try:
        with open_unpacked(path) as content:
            return pd.read_csv(
                content,
                sep=separator,
                header=0 if has_names else None,
                names=column_names,
                index_col=False,
                # Labels such as '007', 'NA' or 'None' are names, not numbers or gaps.
                dtype=str,
                keep_default_na=False,
                na_values=[""],
                engine="c" if len(separator) == 1 or separator == _WHITESPACE else "python",
                encoding=encoding,
            )
    except DataError:
        raise
    except UnicodeDecodeError as error:
        raise not_utf8(path, error, cure) from error
    except ValueError as error:
        raise DataError(
            f"The table of labels '{path}' cannot be read with the separator {separator!r}:"
            f" {str(error).strip()[:500]}. Give `separator`."
        ) from error


def read_folder(folder: Path, file_column: FindColumn, dialect: Dialect = UNKNOWN) -> pd.DataFrame:
    """Read one table per split: ``train.csv``, or the one CSV in the folder ``train``, and so on.

    Where no file of a split ends in ``.csv``, those in ``.txt`` and ``.tsv`` are read. Splits are
    called as in ``split_names.split_name``. File names in ``train/labels.csv`` are relative to
    ``train``; the column ``SPLIT_COLUMN`` is added. A DataError says that there is no
    table of the training split, or that there are two of one split.
    """
    frames, seen = [], dict[str, Path]()
    files = [place for place in folder.iterdir() if place.is_file() and split_name(place.stem)]
    endings = {place.suffix.lower() for place in files}
    endings &= {".csv"} if ".csv" in endings else {".txt", ".tsv"}
    for place in sorted(folder.iterdir()):
        is_table = place.suffix.lower() in endings and place.is_file()
        split = split_name(place.stem if is_table else place.name)
        if split is None:
            continue
        for path in [place] if is_table else sorted(place.glob("*.csv")):
            if split in seen:
                raise DataError(
                    f"'{folder}' must have one table per split, but '{seen[split]}' and '{path}'"
                    f" are both of '{split}'. Remove one, or name one file."
                )
            seen[split] = path
            frame = read_table(path, dialect)
            column = "" if is_table else file_column(frame).strip()
            for name in frame.columns.astype(str):
                if not is_table and name.strip() == column:
                    frame[name] = f"{place.name}/" + frame[name].str.strip()
            frames.append(frame.assign(**{SPLIT_COLUMN: split}))
    if "train" not in seen:
        found = name_some(sorted(path.name for path in folder.iterdir())[:20])
        raise DataError(
            f"'{folder}' must have 'train.csv' or 'train.txt', or a CSV in a folder 'train', but"
            f" has {found}."
            " Name the table itself."
        )
    return pd.concat(frames, ignore_index=True)


def read_splits_apart(
    tables: Mapping[str, str | Path | pd.DataFrame],
    file_column: FindColumn,
    dialect: Dialect = UNKNOWN,
    *,
    has_folder: bool = False,
) -> tuple[pd.DataFrame, Path]:
    """Read the table that a mapping names for each split; return all rows, and their folder.

    Splits are called as in ``split_names.split_name``. File names are relative to the folder of
    their own table, those of a data frame to the current one, unless the caller ``has_folder`` for
    all; they are turned into names relative to the folder that is returned. The column
    ``SPLIT_COLUMN`` is added. Raise `ConfigurationError` if a name is no split, or the training
    split has no table.
    """
    frames: dict[SplitName, pd.DataFrame] = {}
    homes: dict[SplitName, Path] = {}
    for split, source in named_splits(tables, "csv").items():
        if isinstance(source, pd.DataFrame):
            frames[split], homes[split] = source.reset_index(drop=True), Path.cwd()
            continue
        path = resolve_source(source, f"csv.{split}")
        frames[split] = read_table(path, dialect)
        homes[split] = path.parent.absolute()
    home = homes["train"]
    if not has_folder:
        home = Path(os.path.commonpath(homes.values()))
        for split, frame in frames.items():
            prefix = homes[split].relative_to(home).as_posix()
            named = file_column(frame).strip()
            for column in [name for name in frame if str(name).strip() == named]:
                files = frame[column].where(frame[column].isna(), frame[column].astype(str))
                if prefix != ".":
                    files = files.str.strip().map(lambda file, at=prefix: f"{at}/{file}", "ignore")
                frames[split] = frame.assign(**{str(column): files})
    parts = [frame.assign(**{SPLIT_COLUMN: split}) for split, frame in frames.items()]
    return pd.concat(parts, ignore_index=True), home
