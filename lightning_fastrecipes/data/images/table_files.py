"""Which files the names in a table of labels mean."""

import os
import posixpath
from collections.abc import Sequence
from pathlib import Path

from lightning_fastrecipes.data.images.folder_layout import IMAGE_SUFFIXES, inner_folders
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.messages import name_some

_NUM_TRIED = 5
_MAX_FOLDERS = 100


def find_files(
    names: Sequence[str], folder: Path, suffix: str | None = None
) -> tuple[list[str], list[str]]:
    """Return the path below the folder that each name means, and what was done to read them so.

    Blanks around names are left out, and backslashes are separators, unless there is such a file.
    Absolute paths must lie below the folder.
    ``suffix`` is put behind names that do not end so; without it, names without the extension of an
    image are looked up in their folder. Names that nothing is found for stay as they are. Raise
    `DataError` if a name may mean several files, or if the files are clearly in another folder.
    """
    if suffix is not None and suffix.lower().lstrip(".") == "":
        raise DataError(f"`suffix` must be what file names end in, such as '.jpg', got {suffix!r}.")
    stems: dict[str, dict[str, list[str]]] = {}
    found, added, num_turned = [], list[str](), 0
    for name in names:
        file = posixpath.normpath(name.strip())
        is_plain = file.lower().endswith(IMAGE_SUFFIXES) and "\\" not in name
        is_plain &= name == name.strip()
        if suffix is None and is_plain:
            found.append(file)
            continue
        if not is_plain and os.path.isfile(folder / name):
            found.append(posixpath.normpath(name))
            continue
        if "\\" in file:
            file, num_turned = posixpath.normpath(file.replace("\\", "/")), num_turned + 1
        ending = _ending(folder, file, suffix, stems)
        added += [ending] if ending else []
        found.append(file + ending)
    found = _below(found, folder)
    notes = []
    if num_turned:
        notes.append(f"backslashes in {num_turned:,} file names are read as '/'")
    if added and suffix is None:
        endings = name_some(sorted(set(added)))
        notes.append(f"{len(added):,} file names without extension are those of {endings}")
    _refuse_other_folder(found, folder)
    return found, notes


def _below(files: list[str], folder: Path) -> list[str]:
    """Return absolute paths as those below the folder; a DataError if some are not there."""
    if not any(map(os.path.isabs, files)) or folder.absolute() == folder.absolute().parent:
        return files
    start = f"{os.path.abspath(folder)}/"
    others = [file for file in files if os.path.isabs(file) and not file.startswith(start)]
    there = [file for file in others if os.path.exists(file)]
    if there:
        home = os.path.commonpath([os.path.dirname(file) for file in files if os.path.isabs(file)])
        raise DataError(
            f"The images of the table of labels must be below '{folder}', but {len(others)} are"
            f" elsewhere, such as '{there[0]}'. Give `folder={home!r}` in `table`."
        )
    return [file.removeprefix(start) for file in files]


def _ending(
    folder: Path, file: str, suffix: str | None, stems: dict[str, dict[str, list[str]]]
) -> str:
    """Return what must be put behind a name, or ``""``."""
    if suffix is not None:
        return "" if file.lower().endswith(suffix.lower()) else suffix
    if file.lower().endswith(IMAGE_SUFFIXES):
        return ""
    parent, _, stem = file.rpartition("/")
    if parent not in stems:
        stems[parent] = _endings(folder / parent)
    endings = stems[parent].get(stem, [])
    if len(endings) > 1:
        files = [stem + ending for ending in endings]
        raise DataError(
            f"The file name '{file}' of the table of labels may mean {name_some(files)} in"
            f" '{folder / parent}'. Give `suffix` in `table`, such as '{endings[0]}'."
        )
    return endings[0] if endings else ""


def _endings(folder: Path) -> dict[str, list[str]]:
    """Return the extensions of the images in a folder by their names without it."""
    endings: dict[str, list[str]] = {}
    try:
        names = sorted(os.listdir(folder))
    except OSError:  # missing files are named later, all at once
        return {}
    for name in names:
        stem, ending = posixpath.splitext(name)
        if ending.lower() in IMAGE_SUFFIXES:
            endings.setdefault(stem, []).append(ending)
    return endings


def _refuse_other_folder(files: Sequence[str], folder: Path) -> None:
    """Refuse a folder if the first files are not there, but all lie in one near by."""
    tried = list(files[:_NUM_TRIED])
    # Not by `Path.exists`, which raises an error if a name is too long.
    if not tried or any(os.path.exists(folder / file) for file in tried) or not folder.is_dir():
        return
    places = [folder.resolve().parent, *(folder / name for name in inner_folders(folder))]
    for place in places[:_MAX_FOLDERS]:
        if all(os.path.exists(place / file) for file in tried):
            raise DataError(
                f"The images of the table of labels are not in '{folder}', but in '{place}', such"
                f" as '{tried[0]}'. Give `folder={str(place)!r}` in `table`."
            )
    bare = [posixpath.basename(file) for file in tried]
    if bare != tried and all(os.path.exists(folder / file) for file in bare):
        raise DataError(
            f"The images of the table of labels are in '{folder}' itself: there is no"
            f" '{tried[0]}', but '{bare[0]}'. Take the folders out of the file names."
        )
