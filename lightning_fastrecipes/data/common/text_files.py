"""How a file of text is written: its encoding, its separator, whether its rows fit its header."""

import codecs
import csv
import io
import re
from collections.abc import Mapping, Sequence
from itertools import count, islice
from pathlib import Path

from lightning_fastrecipes.data.common.packed_files import open_unpacked
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.messages import shown

_SEPARATORS = (",", "\t", ";", "|")
_MOST_SEPARATOR = 100
# One character: plain, escaped, or one of several in brackets.
_SIGN = r"(?:[^\\\[\](){}.*+?^$|]|\\[st.|*+?^$()\[\]{}/-]|\\\\|\[\^?(?:\\.|[^\]\\])+\])"
_RUN = rf"{_SIGN}{{1,20}}(?:\+|\{{[1-9],\}})?"
_EXPRESSION = re.compile(
    rf"(?P<before>\\s\*)?(?P<run>{_RUN})(?P<after>\\s[*+])?|{_RUN}(?:\|{_RUN}){{1,9}}", re.DOTALL
)
_NUM_RECORDS = 50
_HEAD, _MOST = 1 << 16, 1 << 24
"""Bytes that are looked at, and at most where two lines are longer."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_FOR_OTHER_THINGS = ("idna", "punycode", "raw-unicode-escape", "unicode-escape", "undefined")
_OTHER_KINDS: Mapping[bytes, str] = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an Excel workbook of an old kind",
    b"PAR1": "a Parquet file",
    b"ARROW1": "a feather file",
    b"\x1f\x8b": "a gzip file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"%PDF": "a PDF file",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"\x89HDF": "an HDF5 file",
    b"SQLite format": "an SQLite database",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
    b"<!DOCTYPE": "a web page",
    b"<html": "a web page",
}


def read_head(path: Path) -> bytes:
    """Return the first lines of a file, unpacked: 64 kB, or more until two lines are whole."""
    with open_unpacked(path) as file:
        head: bytes = file.read(_HEAD)
        while head.count(b"\n") < 2 and len(head) < _MOST:
            more = file.read(len(head) or 1)
            if not more:
                break
            head += more
    return head


def find_encoding(path: Path, head: bytes, encoding: str | None, cure: str) -> str:
    """Return the encoding of a file by its first bytes: as given, by its mark, or UTF-8.

    ``cure`` says how to read another encoding. Raise `DataError` if there is no such encoding, or
    the file is no text, or not in UTF-8.
    """
    if encoding is not None:
        return encoding_name(encoding)
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    kind = next((kind for start, kind in _OTHER_KINDS.items() if head.startswith(start)), None)
    if kind is not None:
        raise DataError(f"The table '{path}' must be text, but is {kind}. Convert it first.")
    if b"\0" in head:
        side = head[:1000].count(b"\0", 0, 1000)
        if side * 3 > len(head[:1000]):
            name = "utf-16-be" if head[:1] == b"\0" else "utf-16-le"
            raise DataError(
                f"The table '{path}' must be UTF-8, but is {name} without a mark. {cure}"
            )
        raise DataError(
            f"The table '{path}' must be text, but has bytes of 0, as binary files have."
        )
    try:
        # The last character may be cut.
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError as error:
        raise not_utf8(path, error, cure) from error
    return "utf-8"


def encoding_name(encoding: str) -> str:
    """Return the usual name of an encoding of text; raise `DataError` if it is none.

    Codecs such as zlib, hex or idna are for other things than files of text.

    >>> encoding_name("Latin-1")
    'iso8859-1'
    """
    try:
        name = codecs.lookup(encoding).name
        is_text = "a,1\n".encode(name).decode(name, "replace") == "a,1\n"
    except (LookupError, ValueError, TypeError):
        name, is_text = "", False
    if not is_text or name in _FOR_OTHER_THINGS:
        what = "is a codec for other things than files of text" if name else "is not known"
        raise DataError(
            "`encoding` must be one of text that Python knows, such as 'utf-8', 'cp1252' or"
            f" 'utf-16', but {shown(encoding)} {what}."
        )
    return name


def not_utf8(path: Path, error: UnicodeDecodeError, cure: str) -> DataError:
    """Return the error for a file that is no UTF-8, with what it means in Windows-1252."""
    line = error.object[:200_000].rfind(b"\n", 0, error.start) + 1
    text = error.object[line : error.start + 20].splitlines()[0].decode("cp1252", "replace")
    return DataError(
        f"The table '{path}' must be UTF-8, but is not ({error.reason}); as cp1252, which is the"
        f" Latin-1 of Windows, it says {text[-60:]!r}. {cure}"
    )


def records(text: str, separator: str, is_whole: bool) -> list[list[str]]:
    """Return the fields of the first lines that are not empty; quoted fields may hold lines.

    ``is_whole`` says whether the text is the whole file, else its last line may be cut.
    """
    found: list[list[str]] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        found += islice((fields for fields in reader if fields), _NUM_RECORDS + 1)
    except csv.Error:  # such as a field that is longer than the module takes
        is_whole = True
    return found if is_whole and len(found) <= _NUM_RECORDS else found[:-1]


def find_separator(text: str, otherwise: str, is_whole: bool = True) -> str:
    r"""Return the first separator that cuts every line into the same number of fields above one.

    Lines of one field more than the first one will do where no separator is better, then most of
    the lines, so that those that do not fit can be named.

    >>> find_separator("a;b\n1,5;2\n", ",")
    ';'
    """
    fitting, nearly = [], []
    # White space tells columns apart where the names are.
    is_one_word = len(text.lstrip().partition("\n")[0].split()) == 1
    for separator in _SEPARATORS:
        first, *rest = [len(fields) for fields in records(text, separator, is_whole)] or [0]
        if first > 1 and {*rest} <= {first}:
            return separator
        if first > 1 and {*rest} == {first + 1}:
            fitting.append(separator)
        elif first > 1 and is_one_word and 2 * rest.count(first) > len(rest):
            nearly.append(separator)
    return next(iter(fitting + nearly), otherwise)


def separator_expression(separator: str) -> str:
    r"""Return a separator as a regular expression that takes no longer than lines are long.

    It may be one character, or characters in order, some escaped or of a set in brackets; the last
    of them may repeat. White space may stand around it, or several may be told apart by ``|``.
    Raise `ValueError` for other expressions, some of which could take for ever.

    >>> separator_expression(r"\s+"), separator_expression(r"\|\|"), separator_expression(r",\s*")
    ('\\s+', '\\|\\|', ',\\s*')
    """
    is_text = isinstance(separator, str)
    if is_text and len(separator) == 1:
        return separator
    is_short = is_text and len(separator) <= _MOST_SEPARATOR
    found = _EXPRESSION.fullmatch(separator) if is_short else None
    try:
        re.compile(separator if is_text else "")
    except re.error:
        found = None
    if found is None:
        raise ValueError(
            "`separator` must be a character, or an expression such as '\\s+', '[;,]', ' {2,}' or"
            f" '\\s*,\\s*', with a backslash before signs such as |, got {shown(separator)}."
        )
    if not found["before"]:
        return separator
    # Begun within white space it would look at the rest of it again from each place.
    return rf"(?:(?<!\s)\s+)?{found['run']}{found['after'] or ''}"


def check_width(path: Path, names: Sequence[str], rows: Sequence[Sequence[str]], cure: str) -> str:
    """Compare the first rows of a file with the names in its first line.

    Return ``""`` if no row has more fields than there are names, ``"last"`` if each has one more
    that is empty, ``"first"`` if each has one more because it begins with its number from 1, as R
    writes. Raise `DataError` for other rows that are too long, since nobody knows which field is
    whose.
    """
    wide = [place for place, row in enumerate(rows, start=2) if len(row) > len(names)]
    if not wide:
        return ""
    if {len(row) for row in rows} == {len(names) + 1}:
        if not any(row[-1] for row in rows):
            return "last"
        if all(row[0] == str(number) for number, row in zip(count(1), rows, strict=False)):
            return "first"
    if len(names) == 1 and len({len(row) for row in rows}) == 1:
        raise DataError(
            f"The table '{path}' must have the names of its columns in its first line, but that"
            f" says {shown(names[0])}, and the lines below have {len(rows[0])} fields each. Remove"
            " what stands above the names."
        )
    raise DataError(
        f"The table '{path}' must have no row of more fields than there are names of columns, but"
        f" line {wide[0]} has {len(rows[wide[0] - 2])} fields and there are {len(names)}. {cure}"
    )
