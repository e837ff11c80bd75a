"""Read CSV files in whatever dialect, one or one per split."""

import csv as csv_dialects
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lightning_fastrecipes.data.common.split_choice import SPLIT_NAMES
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.messages import name_some

SPLIT_COLUMN = "split (of the table)"
"""Column that ``read_folder`` adds."""

_SEPARATORS = (",", "\t", ";", "|")
_WHITESPACE = r"\s+"


def read_table(
    path: Path, separator: str | None = None, column_names: list[str] | None = None
) -> pd.DataFrame:
    """Read one table as columns of text, gaps as missing values; a DataError if it cannot be read.

    The separator, text or a regular expression, is found out if ``None``. ``column_names`` are for
    a file without a first line of names.
    """
    if not separator:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            lines = [line for _, line in zip(range(50), file, strict=False) if line.strip()]
        separator = find_separator(lines, _WHITESPACE)
    try:
        return pd.read_csv(
            path,
            sep=separator,
            header=0 if column_names is None else None,
            names=column_names,
            index_col=False,
            # Labels such as '007', 'NA' or 'None' are names, not numbers or gaps.
            dtype=str,
            keep_default_na=False,
            na_values=[""],
            engine="c" if len(separator) == 1 or separator == _WHITESPACE else "python",
            encoding="utf-8-sig",
        )
    except (ValueError, UnicodeError) as error:
        raise DataError(
            f"The table of labels '{path}' cannot be read with the separator {separator!r}:"
            f" {str(error).strip()}. Give `separator`."
        ) from error


def read_folder(
    folder: Path,
    file_column: str,
    separator: str | None = None,
    column_names: list[str] | None = None,
) -> pd.DataFrame:
    """Read one table per split: ``train.csv``, or the one CSV in the folder ``train``, and so on.

    File names in ``train/labels.csv`` are relative to ``train``; the column ``SPLIT_COLUMN`` is
    added. Other arguments are those of ``read_table``. A DataError says that there is no table of
    the training split, or that there are two of one split.
    """
    frames, seen = [], dict[str, Path]()
    for name, split in SPLIT_NAMES.items():
        beside, inside = [folder / f"{name}.csv"], sorted((folder / name).glob("*.csv"))
        for path in [*(path for path in beside if path.is_file()), *inside]:
            if split in seen:
                raise DataError(
                    f"'{folder}' must have one table per split, but '{seen[split]}' and '{path}'"
                    f" are both of '{split}'. Remove one, or name one file."
                )
            seen[split] = path
            frame = read_table(path, separator, column_names)
            if path in inside and file_column in frame:
                frame[file_column] = f"{name}/" + frame[file_column]
            frames.append(frame.assign(**{SPLIT_COLUMN: split}))
    if "train" not in seen:
        found = name_some(sorted(path.name for path in folder.iterdir())[:20])
        raise DataError(
            f"'{folder}' must have 'train.csv', or a CSV in a folder 'train', but has {found}."
            " Name the table itself."
        )
    return pd.concat(frames, ignore_index=True)


def find_separator(lines: Sequence[str], otherwise: str) -> str:
    """Return the first separator that cuts every line into the same number of fields above one."""
    for separator in _SEPARATORS:
        widths = {len(fields) for fields in csv_dialects.reader(lines, delimiter=separator)}
        if len(widths) == 1 and widths != {1}:
            return separator
    return otherwise
