"""How files of text are read as tables: what the user says, and the chunks that come of it."""

import logging
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from lightning_fastrecipes.data.common.packed_files import open_unpacked
from lightning_fastrecipes.data.common.text_files import (
    check_width,
    encoding_name,
    find_encoding,
    find_separator,
    read_head,
    records,
    separator_expression,
)
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.tables.rows import check_unique, name_rows
from lightning_fastrecipes.messages import name_some, shown
from lightning_fastrecipes.typed import from_mapping

logger = logging.getLogger(__name__)

GAPS = ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "null", "None")
_CHUNK_ROWS = 1 << 17
ENCODING_CURE = "Give `reading: {encoding: cp1252}` or another, or save the file as UTF-8."
_WIDTH_CURE = (
    "If rows begin with names of their own, name all fields: `reading: {header: [row, ...]}`. Else"
    " mend the file, or give its `separator`."
)


@dataclass(frozen=True)
class Reading:
    r"""How to read a table from files of text; of Parquet and feather files ``text`` alone counts.

    Args:
        separator: What stands between fields, a character or an expression such as ``\s+``, as of
            ``separator_expression``; found out if not given: a comma, tab, semicolon or ``|``.
        encoding: Such as ``cp1252`` or ``utf-16-le``; UTF-8 if not given, or what the mark at the
            start of the file says.
        decimal: What stands before the decimals of a number.
        thousands: What stands between groups of digits; nothing if not given.
        na_values: Words that mean a missing value, beside an empty field; if not given ``NA``,
            ``N/A``, ``n/a``, ``#N/A``, ``<NA>``, ``NaN``, ``nan``, ``NULL``, ``null`` and ``None``.
        header: Whether the first line holds the names of the columns; else these are ``0``, ``1``
            and so on. Or the names themselves: the first line is then left out if it has none but
            these.
        text: Columns that are text whatever they look like, such as ``007`` or ``NA``: of these
            only an empty field is missing.

    Raises:
        ValueError: If a text has another length than one, or names repeat.

    Example:
        >>> Reading(separator=";", decimal=",").thousands is None
        True
    """

    separator: str | None = None
    encoding: str | None = None
    decimal: str = "."
    thousands: str | None = None
    na_values: Sequence[str] | None = None
    header: bool | Sequence[str] = True
    text: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in ("decimal", "thousands"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or len(value) != 1):
                raise ValueError(f"`{name}` must be one character, got {shown(value)}.")
        if self.decimal == self.thousands:
            raise ValueError(
                f"`decimal` and `thousands` must differ, but are {shown(self.decimal)}."
            )
        if self.separator is not None:
            separator_expression(self.separator)
        if self.encoding is not None:
            encoding_name(self.encoding)
        for name in ("na_values", "header", "text"):
            value = getattr(self, name)
            may_be = {"na_values": value is None, "header": isinstance(value, bool)}
            if may_be.get(name):
                continue
            if isinstance(value, str | bytes) or not isinstance(value, Iterable):
                raise ValueError(f"`{name}` must be a list of texts, got {shown(value)}.")  # noqa: TRY004
            object.__setattr__(self, name, tuple(map(str, value)))
        if not isinstance(self.header, bool) and len(set(self.header)) < len(self.header):
            raise ValueError(f"`header` must name each column once, got {list(self.header)}.")


def as_reading(reading: Reading | Mapping[str, Any] | None) -> Reading:
    """Take a mapping of its arguments for options, and nothing for the default.

    >>> as_reading({"separator": ";"}).separator
    ';'
    """
    if isinstance(reading, Reading):
        return reading
    return from_mapping(Reading, reading or {}, "reading")


def text_chunks(
    path: Path,
    reading: Reading,
    columns: Sequence[str] | None,
    as_text: Collection[str] = (),
    categories: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> Iterator[pd.DataFrame]:
    """Read a file of text in chunks of rows, wide as pandas reads it.

    Columns in ``as_text`` are text, but words for gaps are missing there, except for those that are
    ``categories`` of a column. Raise `DataError` if the
    file is no text, lacks one of the ``columns`` or has one twice, or has rows that are longer than
    its first line or repeat it; else what pandas raises.
    """
    head = read_head(path)
    encoding = find_encoding(path, head, reading.encoding, ENCODING_CURE)
    text, is_whole = head.decode(encoding, "replace"), len(head) < 1 << 16
    separator = separator_expression(reading.separator or _separator(path, text, is_whole))
    is_plain = len(separator) == 1
    engine = "c" if is_plain or separator == r"\s+" else "python"
    file: dict[str, Any] = {
        "sep": separator, "encoding": encoding, "engine": engine,
    }  # fmt: skip
    with open_unpacked(path) as content:
        first = pd.read_csv(content, header=None, nrows=1, dtype=str, keep_default_na=False, **file)
    written = first.iloc[0].tolist()
    names, has_names = _names(path, written, reading.header)
    check_unique(names, f"The table '{path}'")
    refuse_missing(names, columns, path)
    all_names = list(names)
    if is_plain:
        rows = records(text, separator, is_whole)[has_names:]
        extra = check_width(path, names, rows, _WIDTH_CURE)
        if extra == "first":
            all_names = ["(number of the row)", *names]
            logger.warning("The rows of '%s' begin with their numbers, which are left out.", path)
        elif extra == "last":
            all_names = [*names, "(nothing)"]
    text_columns, words = {*reading.text}, {*reading.text, *as_text}
    gaps = GAPS if reading.na_values is None else ("", *reading.na_values)
    options: dict[str, Any] = {
        "names": all_names,
        "header": 0 if has_names else None,
        "index_col": False,
        "dtype": {name: str for name in names if name in words},
        "keep_default_na": False,
        "na_values": {
            name: [""]
            if name in text_columns
            else [word for word in gaps if word not in categories.get(name, ())]
            for name in names
        },
        "decimal": reading.decimal,
        "thousands": reading.thousands,
        "chunksize": _CHUNK_ROWS,
    }
    if engine == "c":
        # Else pandas guesses types by parts of a chunk, and mixes numbers with text.
        options["low_memory"] = False
    with open_unpacked(path) as content, pd.read_csv(content, **options, **file) as reader:
        while (chunk := _next(reader)) is not None:
            # Not by `usecols`, with which pandas reads over fields that are too many.
            if has_names and len(names) > 1:
                _refuse_second_header(path, chunk[names])
            wanted = names if columns is None else list(columns)
            yield chunk if len(wanted) == chunk.shape[1] else chunk[wanted]


def refuse_missing(names: Sequence[str], columns: Sequence[str] | None, path: Path) -> None:
    """Raise a `DataError` if a file has not all the columns that are asked for."""
    there = {*names}
    missing = [name for name in columns or () if name not in there]
    if missing:
        raise DataError(
            f"The table '{path}' must have the columns asked for, but has no {name_some(missing)};"
            f" it has {name_some(names)}."
        )


def _refuse_second_header(path: Path, chunk: pd.DataFrame) -> None:
    """Raise a `DataError` if a row holds the names, as where files were put below one another."""
    rows = chunk
    for name in chunk:
        if pd.api.types.is_numeric_dtype(rows[name].dtype):
            return
        # A mark of Unicode stands before it where files were put together as they were.
        rows = rows[rows[name].isin([name, f"\ufeff{name}"])]
        if rows.empty:
            return
    raise DataError(
        f"The table '{path}' must have the names of its columns in its first line alone, but has"
        f" them again in {name_rows(chunk.index, chunk.index.isin(rows.index))}, counted from 0."
        " Remove such lines, or give files that were put below one another as a list."
    )


def _separator(path: Path, text: str, is_whole: bool) -> str:
    return "\t" if ".tsv" in path.suffixes else find_separator(text, ",", is_whole)


def _names(path: Path, first: list[str], header: bool | Sequence[str]) -> tuple[list[str], bool]:
    """Return the names of the columns, and whether the first line holds names."""
    if header is False:
        return [str(place) for place in range(len(first))], False
    if header is not True:
        if len(header) < len(first):
            raise DataError(
                f"`header` must name all {len(first)} fields of the first line of '{path}', but"
                f" names {len(header)}. Add the others."
            )
        return list(header), {*first} <= {*header}
    return [name or f"Unnamed: {place}" for place, name in enumerate(first)], True


def _next(reader: Any) -> pd.DataFrame | None:
    with warnings.catch_warnings():
        # Of fields that would be left out.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            return next(reader)  # type: ignore[no-any-return]
        except StopIteration:
            return None
        except pd.errors.ParserWarning as warning:
            raise ValueError(str(warning)) from warning
