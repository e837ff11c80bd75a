"""Lists of images, one per split: text files with a path, and perhaps a label, per line."""

import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import get_args

from lightning_fastrecipes.data.common.sources import check_file
from lightning_fastrecipes.data.common.split_names import SplitName, split_name
from lightning_fastrecipes.data.images.folder_layout import IMAGE_SUFFIXES
from lightning_fastrecipes.data.images.name_labels import NamePattern
from lightning_fastrecipes.errors import ConfigurationError, DataError
from lightning_fastrecipes.messages import name_some, shown

_MAX_BYTES = 1 << 28


def find_lists(folder: Path, names: Sequence[str]) -> dict[SplitName, Path]:
    """Return the lists among the files of a folder, such as ``train.txt`` and ``val.txt``."""
    found: dict[SplitName, Path] = {}
    for name in names:
        path = folder / name
        split = split_name(path.stem) if path.suffix.lower() == ".txt" else None
        if split in found:
            raise DataError(
                f"'{folder}' has both '{found[split].name}' and '{name}', which list the same"
                " split. Keep one, or name the lists in `lists`."
            )
        if split is not None:
            found[split] = path
    return _in_order(found) if "train" in found else {}


def named_lists(folder: Path, lists: Mapping[str, str | Path]) -> dict[SplitName, Path]:
    """Return the lists that a user names by split; paths are relative to the folder."""
    found: dict[SplitName, Path] = {}
    for name, path in lists.items():
        split = split_name(name)
        if split is None or split in found:
            raise ConfigurationError(
                f"`lists` must name a list for 'train', and may for 'val' and 'test', got '{name}'."
            )
        found[split] = folder / Path(path).expanduser()
        if not found[split].is_file():
            raise DataError(f"`lists`: there is no file '{found[split]}'. Correct the path.")
    if "train" not in found:
        raise ConfigurationError("`lists` must name a list for 'train'. Add it.")
    return _in_order(found)


def _in_order(lists: Mapping[SplitName, Path]) -> dict[SplitName, Path]:
    return {split: lists[split] for split in get_args(SplitName) if split in lists}


def read_lists(
    lists: Mapping[SplitName, Path], files: Sequence[str], pattern: NamePattern | None = None
) -> list[tuple[str, SplitName, str]]:
    """Read which of the files are in which split, with which label.

    A line names a file as in ``files``, or without its extension, with ``./`` or backslashes. After
    a blank, a tab or a comma it may have a label; else the pattern finds it, or it is the folder in
    which the paths of all lists part. A DataError names lines that are no files, and files that are
    listed twice.
    """
    known = _by_name(files)
    rows: list[tuple[str, SplitName, str]] = []
    for split, path in lists.items():
        unknown = []
        for number, line in enumerate(_lines(path), 1):
            found = _entry(line.strip(), known)
            if found is not None:
                rows.append((_the_one(found[0], line, path), split, found[1]))
            elif line.strip():
                unknown.append(f"{line} (line {number})")
        if unknown:
            raise DataError(
                f"{len(unknown)} lines of '{path}' name no file: {name_some(unknown)}. Paths are"
                " relative to the folder of images. Correct or remove them."
            )
    listed = [file for file, _, _ in rows]
    if len(set(listed)) < len(listed):
        twice = sorted(file for file, count in Counter(listed).items() if count > 1)
        raise DataError(
            f"{len(twice)} images are listed twice: {name_some(twice)}. List each in one split."
        )
    if pattern is not None:
        labels = pattern.labels(listed)
        without = [file for file, label in zip(listed, labels, strict=True) if label is None]
        if without:
            raise DataError(
                f"{len(without)} of {len(listed)} images have no label by `label_pattern`"
                f" {pattern.pattern!r}: {name_some(without)}. Correct the pattern."
            )
        return [(*row[:2], str(label)) for row, label in zip(rows, labels, strict=True)]
    return _labelled(rows)


def _lines(path: Path) -> list[str]:
    if check_file(path).stat().st_size > _MAX_BYTES:
        raise DataError(f"'{path}' is no list of images: it has over {_MAX_BYTES:,} bytes.")
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"'{path}' is not in UTF-8: {error}. Save it as UTF-8.") from error


def _by_name(files: Sequence[str]) -> dict[str, list[str]]:
    """Return the files that each name may mean, with its extension or without."""
    known = {file: [file] for file in files}
    # Annotations may lie beside images by the same names.
    for is_image in (True, False):
        stems: dict[str, list[str]] = {}
        for file in files:
            if file.lower().endswith(IMAGE_SUFFIXES) == is_image:
                stems.setdefault(posixpath.splitext(file)[0], []).append(file)
        known = stems | known
    return known


def _the_one(files: Sequence[str], line: str, path: Path) -> str:
    if len(files) > 1:
        raise DataError(
            f"The line {shown(line)} of '{path}' may mean {name_some(files)}. Write the name with"
            " its extension."
        )
    return files[0]


def _entry(line: str, known: Mapping[str, Sequence[str]]) -> tuple[Sequence[str], str] | None:
    """Return the files that a line may mean and its label, or ``None`` if there is no such file."""
    places = [(line, "")]
    for separator in ("\t", ",", " "):
        path, found, label = line.rpartition(separator)
        if found and label.strip():
            places.append((path.strip(), label.strip()))
    for path, label in places:
        plain = posixpath.normpath(path.replace("\\", "/") if path not in known else path)
        if plain in known:
            return known[plain], label
    return None


def _labelled(rows: list[tuple[str, SplitName, str]]) -> list[tuple[str, SplitName, str]]:
    """Take the label of a line without one from the folders in its path."""
    without = [PurePosixPath(file).parts[:-1] for file, _, label in rows if not label]
    if without and len(without) < len(rows):
        raise DataError(
            f"{len(without)} of {len(rows)} lines of the lists have no label. Give one to all"
            " lines, or to none."
        )
    if not without:
        return rows
    depth = 0
    while all(len(parts) > depth + 1 for parts in without) and len({p[depth] for p in without}) < 2:
        depth += 1
    if any(len(parts) <= depth for parts in without):
        raise DataError(
            "The lists name images that are in no class folder, such as"
            f" '{next(f for f, _, _ in rows if len(PurePosixPath(f).parts) <= depth + 1)}'. Write a"
            " label behind each path, or give `label_pattern`."
        )
    return [(file, split, PurePosixPath(file).parts[depth]) for file, split, _ in rows]
