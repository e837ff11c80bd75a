"""Read tables from files of any usual kind, in the narrowest types that hold what is in them."""

import csv
import glob
import lzma
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
from pandas.api.types import infer_dtype, union_categoricals

from lightning_fastrecipes.data.common.csv_tables import find_separator
from lightning_fastrecipes.data.common.sources import resolve_source
from lightning_fastrecipes.data.tables.typed_files import FEATHER_FILES, PARQUET_FILES, TypedFile
from lightning_fastrecipes.errors import DataError, DataNotFoundError
from lightning_fastrecipes.functional.tables.narrowing import narrow_column
from lightning_fastrecipes.functional.tables.rows import check_unique
from lightning_fastrecipes.messages import name_some

Column: TypeAlias = "pd.Series[Any]"
Source = str | Path | Sequence[str | Path]

_CHUNK_ROWS = 1 << 17
_TEXT_FILES = (".csv", ".tsv", ".txt")
_TYPED_FILES = (*PARQUET_FILES, *FEATHER_FILES)
_COMPRESSIONS = (".gz", ".bz2", ".xz", ".zip", ".zst")
_DAMAGE = (ValueError, OSError, EOFError, zlib.error, zipfile.BadZipFile, lzma.LZMAError)
"""What readers raise where a file is not whole, or not of the kind that its ending says."""
_GAPS = ["", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "null", "None"]


@dataclass(frozen=True)
class _How:
    """What to read of a file: as for ``read_frames``, and columns that turned out to be text."""

    columns: Sequence[str] | None
    text: Sequence[str]
    separator: str | None
    as_text: Sequence[str] = ()


def read_frames(
    source: Source,
    *,
    folder: Path | None = None,
    columns: Sequence[str] | None = None,
    text: Sequence[str] = (),
    separator: str | None = None,
    file_column: str | None = None,
) -> pd.DataFrame:
    """Read one table from one file, or from several of the same columns, one after the other.

    CSV, TSV and TXT, plain or compressed (``.gz``, ``.bz2``, ``.xz``, ``.zip``, ``.zst``), Parquet
    and feather, told apart by their endings. Files of text are read in chunks, and every chunk is
    narrowed at once, so that the wide table never exists. A column that is numbers in one place and
    text in another is text everywhere. Dates in files of text stay text. The rows are numbered from
    0.

    ``source`` is a path, a pattern such as ``weather/*.csv``, ``package:NAME/inner/path``, or a
    list of these, relative to ``folder``. Columns in ``text`` are text whatever they look like,
    such as ``007`` or ``NA``; of these only an empty field is missing. The separator of files of
    text is found out if ``None``. ``file_column`` names a column to add with the file's name
    without folder and endings.

    Raise `DataError` if a file cannot be read, lacks a column or has one twice, `DataNotFoundError`
    if there is no such file.
    """
    how = _How(columns, text, separator)
    return _read_table(frame_files(source, folder), how, file_column)[0]


def read_files(files: Sequence[Path]) -> tuple[pd.DataFrame, list[int]]:
    """Read all columns of files as one table, as ``read_frames`` does."""
    return _read_table(files, _How(None, (), None), None)


def _read_table(
    files: Sequence[Path], how: "_How", file_column: str | None
) -> tuple[pd.DataFrame, list[int]]:
    pieces, num_rows = _read_pieces(files, how, file_column)
    mixed = [name for name, parts in pieces.items() if len({_kind(p) for p in parts} - {""}) > 1]
    if mixed:
        pieces |= _read_pieces(files, replace(how, columns=mixed, as_text=mixed))[0]
    # One column after the other, each freed of its pieces, so that there are never two tables.
    whole = {name: _join_pieces(pieces.pop(name)) for name in list(pieces)}
    return pd.DataFrame(whole, copy=False), num_rows


def frame_files(source: Source, folder: Path | None = None, argument: str = "source") -> list[Path]:
    """Find the files behind a source as of ``read_frames``, those of a pattern sorted by name.

    ``argument`` is where the source came from, for messages. Raise `DataError` if there is no
    source at all or one is a folder, `DataNotFoundError` if there is no such file.
    """
    sources = [source] if isinstance(source, (str, Path)) else list(source)
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


def _columns(path: Path, how: "_How") -> Iterator[Column]:
    """Return the columns of a file in parts, wide as they are read."""
    endings = [ending.lower() for ending in path.suffixes]
    kind = endings[-2] if len(endings) > 1 and endings[-1] in _COMPRESSIONS else path.suffix.lower()
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
                _refuse_missing(file.names, how.columns, path)
                names = file.names if how.columns is None else how.columns
                yield from file.columns(names, {*how.text, *how.as_text})
        else:
            for chunk in _text_chunks(path, how):
                yield from (column for _, column in chunk.items())
    except DataError:
        raise
    except _DAMAGE as error:
        raise DataError(
            f"The table '{path}' cannot be read: {str(error).strip()}. Check that the file is whole"
            " and of the kind that it ends in; for text give `separator` and use UTF-8."
        ) from error


def _text_chunks(path: Path, how: "_How") -> Iterator[pd.DataFrame]:
    file: dict[str, Any] = {
        "filepath_or_buffer": path,
        "sep": how.separator or _sniff_separator(path),
        "encoding": "utf-8-sig",
    }
    first = pd.read_csv(header=None, nrows=1, dtype=str, keep_default_na=False, **file)
    names = first.iloc[0].tolist()
    check_unique(names, f"The table '{path}'")
    _refuse_missing(names, how.columns, path)
    with pd.read_csv(
        usecols=None if how.columns is None else list(how.columns),
        index_col=False,
        dtype={name: str for name in names if name in {*how.text, *how.as_text}},
        keep_default_na=False,
        na_values={name: [""] if name in how.text else _GAPS for name in names},
        # Else pandas guesses types by parts of a chunk, and mixes numbers with text.
        low_memory=False,
        chunksize=_CHUNK_ROWS,
        **file,
    ) as reader:
        yield from reader


def _sniff_separator(path: Path) -> str:
    if ".tsv" in path.suffixes:
        return "\t"
    lines = pd.read_csv(
        path, sep="\x01", header=None, nrows=50, dtype=str, keep_default_na=False,
        quoting=csv.QUOTE_NONE, encoding="utf-8-sig",
    )  # fmt: skip
    return find_separator(lines[0].tolist(), ",")


def _refuse_missing(names: Sequence[str], columns: Sequence[str] | None, path: Path) -> None:
    missing = [name for name in columns or () if name not in names]
    if missing:
        raise DataError(
            f"The table '{path}' must have the columns asked for, but has no {name_some(missing)};"
            f" it has {name_some(names)}."
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
