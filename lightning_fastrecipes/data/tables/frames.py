"""Read tables from files of any usual kind, in the narrowest types that hold what is in them."""

import glob
import lzma
import os
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
from pandas.api.types import infer_dtype, union_categoricals

from lightning_fastrecipes.data.common.sources import resolve_source
from lightning_fastrecipes.data.common.text_files import not_utf8
from lightning_fastrecipes.data.tables.reading import (
    ENCODING_CURE,
    Reading,
    as_reading,
    refuse_missing,
    text_chunks,
)
from lightning_fastrecipes.data.tables.typed_files import (
    FEATHER_FILES,
    PARQUET_FILES,
    NotUtf8Error,
    TypedFile,
)
from lightning_fastrecipes.errors import DataError, DataNotFoundError
from lightning_fastrecipes.functional.tables.codes import (
    NO_CATEGORY,
    has_leading_zeros,
    is_text_column,
    numbers_of,
)
from lightning_fastrecipes.functional.tables.narrowing import narrow_column
from lightning_fastrecipes.functional.tables.rows import check_unique
from lightning_fastrecipes.messages import name_some, shown

Column: TypeAlias = "pd.Series[Any]"
Source = str | Path | Sequence[str | Path]

_TEXT_FILES = (".csv", ".tsv", ".txt")
_TYPED_FILES = (*PARQUET_FILES, *FEATHER_FILES)
_COMPRESSIONS = (".gz", ".bz2", ".xz", ".zip", ".zst")
_DAMAGE = (
    ValueError, OSError, EOFError, RuntimeError, MemoryError, LookupError, TypeError,
    zlib.error, zipfile.BadZipFile, lzma.LZMAError,
)  # fmt: skip
"""What readers raise where a file is not whole, or not of the kind that its ending says."""


@dataclass(frozen=True)
class Roles:
    """What columns are whatever they look like in the rows that are there.

    ``codes`` are categories: they become numbers only if these say all that the text does, which
    ``007`` and ``1E3`` do not. Columns in ``text`` are text, as they were in training.
    Categories in ``numbers`` were numbers there: what is none is no category that training had.
    ``words`` are the categories of columns of text, which are never gaps, such as ``NA``.
    ``side_text`` names the columns that were text in each side table, in the order they are read.
    """

    codes: Collection[str] = ()
    text: Collection[str] = ()
    numbers: Collection[str] = ()
    words: Mapping[str, Collection[str]] = field(default_factory=dict)
    side_text: Sequence[Collection[str]] = ()


_NO_ROLES = Roles()


@dataclass(frozen=True)
class _How:
    """What to read of a file: as for ``read_frames``, and columns that are text, or text first."""

    columns: Sequence[str] | None
    reading: Reading
    as_text: Collection[str] = ()
    codes: Collection[str] = ()
    words: Mapping[str, Collection[str]] = field(default_factory=dict)


def read_frames(
    source: Source,
    *,
    folder: Path | None = None,
    columns: Sequence[str] | None = None,
    reading: Reading | Mapping[str, Any] | None = None,
    file_column: str | None = None,
    roles: Roles = _NO_ROLES,
) -> pd.DataFrame:
    """Read one table from one file, or from several of the same columns, one after the other.

    CSV, TSV and TXT, plain or compressed (``.gz``, ``.bz2``, ``.xz``, ``.zip``, ``.zst``), Parquet
    and feather, told apart by their endings. Files of text are read in chunks, and every chunk is
    narrowed at once, so that the wide table never exists. A column that is numbers in one place and
    text in another is text everywhere. Dates in files of text stay text. The rows are numbered from
    0.

    ``source`` is a path, a pattern such as ``weather/*.csv``, ``package:NAME/inner/path``, or a
    list of these, relative to ``folder``. ``reading`` says how files of text are written.
    ``file_column`` names a column to add with the file's name without folder and endings. ``roles``
    says what columns are whatever they look like.

    Raise `DataError` if a file cannot be read, lacks a column or has one twice, `DataNotFoundError`
    if there is no such file.
    """
    files = frame_files(source, folder)
    return _read_table(files, _How(columns, as_reading(reading)), roles, file_column)[0]


def read_undescribed(
    source: Source, reading: Reading | Mapping[str, Any] | None = None
) -> pd.DataFrame:
    """Read a table whose columns nobody has described: numbers with leading zeros stay text.

    Raise as ``read_frames`` does.
    """
    frame = read_frames(source, reading=reading)
    numbers = [str(name) for name in frame if frame[name].dtype.kind in "iuf"]
    if not numbers or not any(map(_is_text_file, frame_files(source))):
        return frame
    texts = read_frames(source, columns=numbers, reading=reading, roles=Roles(text=numbers))
    codes = [name for name in numbers if has_leading_zeros(texts[name])]
    return frame.assign(**{name: texts[name] for name in codes})


def read_files(
    files: Sequence[Path], reading: Reading, roles: Roles = _NO_ROLES
) -> tuple[pd.DataFrame, list[int]]:
    """Read all columns of files as one table, as ``read_frames`` does; count the rows of each."""
    return _read_table(files, _How(None, reading), roles, None)


def _read_table(
    files: Sequence[Path], how: "_How", roles: Roles, file_column: str | None
) -> tuple[pd.DataFrame, list[int]]:
    codes = {*roles.codes} - {*how.reading.text, *roles.text}
    numbers = {*roles.numbers}
    how = replace(how, as_text=roles.text, codes=codes)
    how = replace(
        how, words={name: roles.words[name] for name in roles.words if name in roles.text}
    )
    decimal, thousands = how.reading.decimal, how.reading.thousands
    pieces, num_rows = _read_pieces(files, how, file_column)
    mixed = [name for name, parts in pieces.items() if len({_kind(p) for p in parts} - {""}) > 1]
    if mixed:
        pieces |= _read_pieces(files, replace(how, columns=mixed, as_text=mixed))[0]
    whole: dict[str, Column] = {}
    # One column after the other, each freed of its pieces, so that there are never two tables.
    for name in list(pieces):
        column = _join_pieces(pieces.pop(name))
        if name in codes and is_text_column(column) and any(map(_is_text_file, files)):
            column = numbers_of(column, None, decimal, thousands)
        if name in numbers and is_text_column(column):
            column = numbers_of(column, NO_CATEGORY, decimal, thousands)
        whole[name] = column
    return pd.DataFrame(whole, copy=False), num_rows


def frame_files(source: Source, folder: Path | None = None, argument: str = "source") -> list[Path]:
    """Find the files behind a source as of ``read_frames``, those of a pattern sorted by name.

    ``argument`` is where the source came from, for messages. Raise `DataError` if there is no
    source at all or one is a folder, `DataNotFoundError` if there is no such file.
    """
    sources = [source] if isinstance(source, (str, Path)) else list(_listed(source, argument))
    files: list[Path] = []
    for item in sources:
        text = os.fspath(item)
        path = Path(text).expanduser()
        if folder is not None and not text.startswith("package:"):
            path = folder / path
        if glob.has_magic(text) and not path.exists():
            found = sorted(Path(name) for name in glob.glob(str(path)) if Path(name).is_file())
            if not found:
                raise DataNotFoundError(
                    f"`{argument}` must match at least one file, but '{text}' (looked for"
                    f" '{path.absolute()}') matches none. Correct the pattern."
                )
            files += found
        else:
            files.append(resolve_source(text if text.startswith("package:") else path, argument))
    folders = [str(path) for path in files if path.is_dir()]
    if folders or not files:
        what = f"the folder {name_some(folders)}" if folders else "an empty list"
        raise DataError(
            f"`{argument}` must name one file or several, got {what}. For all tables of a folder"
            " give a pattern, such as 'folder/*.csv'."
        )
    return files


def _listed(source: Any, argument: str) -> Sequence[str | Path]:
    if isinstance(source, (list, tuple)) and all(isinstance(item, (str, Path)) for item in source):
        return source
    kinds = " of several kinds" if isinstance(source, (list, tuple)) else ""
    raise DataError(
        f"`{argument}` must be a file, a pattern, several of these, or a table: a data frame, a"
        " mapping of columns, an array with two axes, or a list of tables of the same columns. Got"
        f" {type(source).__name__}{kinds}. Put a target beside the other columns."
    )


def _read_pieces(
    files: Sequence[Path], how: "_How", file_column: str | None = None
) -> tuple[dict[str, list[Column]], list[int]]:
    pieces: dict[str, list[Column]] = {}
    num_rows = []
    for path in files:
        found: dict[str, list[Column]] = {}
        for column in _columns(path, how):
            found.setdefault(str(column.name), []).append(_narrow_piece(column))
            del column  # else it is there, wide, while the next one is read
        num_rows.append(sum(map(len, next(iter(found.values()), []))))
        if file_column is not None:
            stem = pd.Categorical([path.name.split(".")[0]]).repeat(num_rows[-1])
            found[file_column] = [pd.Series(stem)]
        if pieces and set(found) != set(pieces):
            raise DataError(
                f"Files that are read as one table must have the same columns, but '{path}' and"
                f" '{files[0]}' differ in {name_some(sorted(set(found) ^ set(pieces)))}. Read"
                " them apart, or name the `columns` to take."
            )
        for name, parts in found.items():
            pieces.setdefault(name, []).extend(parts)
    return pieces, num_rows


def _ending(path: Path) -> str:
    endings = [ending.lower() for ending in path.suffixes]
    is_packed = len(endings) > 1 and endings[-1] in _COMPRESSIONS
    return endings[-2] if is_packed else path.suffix.lower()


def _is_text_file(path: Path) -> bool:
    return _ending(path) in _TEXT_FILES


def _columns(path: Path, how: "_How") -> Iterator[Column]:
    """Return the columns of a file in parts, wide as they are read."""
    kind = _ending(path)
    if kind not in _TEXT_FILES and kind not in _TYPED_FILES:
        raise DataError(
            "A table must be a file that ends in one of"
            f" {', '.join([*_TEXT_FILES, *_TYPED_FILES])}, got '{path}'. Convert it, or give a data"
            " frame."
        )
    try:
        if kind in _TYPED_FILES:
            with TypedFile(path) as file:
                check_unique(file.names, f"The table '{path}'")
                refuse_missing(file.names, how.columns, path)
                names = file.names if how.columns is None else how.columns
                yield from file.columns(names, {*how.reading.text, *how.as_text})
        else:
            as_text = {*how.as_text, *how.codes}
            for chunk in text_chunks(path, how.reading, how.columns, as_text, how.words):
                yield from (column for _, column in chunk.items())
    except DataError:
        raise
    except UnicodeDecodeError as error:
        if kind not in _TYPED_FILES:
            raise not_utf8(path, error, ENCODING_CURE) from error
        text = shown(error.object[error.start : error.start + 20])
        raise _not_utf8_within(path, f"{text} in it is none") from error
    except _DAMAGE as error:
        if isinstance(error, NotUtf8Error):
            raise _not_utf8_within(path, error) from error
        raise DataError(
            f"The table '{path}' cannot be read: {str(error).strip()[:500]}. Check that the file is"
            " whole and of the kind that it ends in; `reading` says how text is written."
        ) from error


def _not_utf8_within(path: Path, what: object) -> DataError:
    return DataError(
        f"The table '{path}' must hold names and text in UTF-8, as its format has them, but {what}."
        " Write it anew by `DataFrame.to_parquet` or `to_feather` from text that is decoded, or as"
        " a CSV, whose `encoding` may be given."
    )


def _narrow_piece(values: Column) -> Column:
    """Narrow a part of a column; text always to categories, whose codes are joined later."""
    narrowed = narrow_column(values)
    is_text = narrowed.dtype.kind == "O" and infer_dtype(narrowed, skipna=True) == "string"
    return narrowed.astype("category") if is_text else narrowed


def _kind(piece: Column) -> str:
    """Return what a part of a column holds; nothing but gaps goes with everything."""
    if piece.isna().all():
        return ""
    if isinstance(piece.dtype, pd.CategoricalDtype):
        return "text"
    return "number" if piece.dtype.kind in "iuf" else piece.dtype.kind


def _join_pieces(pieces: list[Column]) -> Column:
    known = [piece for piece in pieces if _kind(piece)]
    if known and all(isinstance(piece.dtype, pd.CategoricalDtype) for piece in known):
        dtype = known[0].dtype
        parts = [
            piece if piece.dtype.name == "category" else piece.astype(dtype) for piece in pieces
        ]
        whole = pd.Series(union_categoricals(parts, sort_categories=True))
        if 2 * len(whole.cat.categories) > len(whole):
            return whole.astype(whole.cat.categories.dtype)
        return whole
    if len(pieces) == 1:
        return pieces[0]
    return narrow_column(pd.concat(pieces, ignore_index=True))
