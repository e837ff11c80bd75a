"""Where in a folder of images its splits and classes are."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from lightning_fastrecipes.data.common.sources import is_folder, is_ignored, list_files
from lightning_fastrecipes.data.common.split_names import SplitName, split_name, split_within
from lightning_fastrecipes.data.images.label_table import Numbers
from lightning_fastrecipes.data.images.name_labels import NamePattern
from lightning_fastrecipes.errors import ConfigurationError, DataError, check_choice
from lightning_fastrecipes.messages import name_some
from lightning_fastrecipes.typed import check_types

FoldersAre = Literal["auto", "splits", "classes"]
"""Whether sub-folders are splits or classes: their names decide, or the user does."""

_MAX_WRAPPERS = 3
_COPY = re.compile(r"(?:(?: -)? copy)(?: ?\(?\d+\)?)?\Z| \(\d+\)\Z|\Acopy of ", re.IGNORECASE)
_OF_IMAGES = {"image", "images", "img", "imgs"}
_OF_MASKS = {
    "mask", "masks", "label", "labels", "annotation", "annotations", "annots", "gt", "groundtruth",
    "ground_truth",
}  # fmt: skip
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")
_CHOICE = "`layout='splits'` reads them as splits, `layout='classes'` all folders as classes."
_CURES = {
    ".csv": "For a table of labels use `ImageCSVDataModule`.",
    ".npz": "For arrays use `ImageArrayDataModule`.",
    ".zip": "Unpack it, and name the folder that comes out.",
}


@dataclass(frozen=True)
class FolderLayout:
    """What folders, names and lists mean in a folder of images.

    Args:
        folders: Whether folders named as splits are ``splits`` or ``classes``; ``auto`` reads them
            as splits and refuses what may be either, such as ``bus``, ``car`` and ``train``.
        label_pattern: Regular expression (RE2) whose group ``label``, or first group, is the label
            in the name of each file, wherever it lies; with a slash in it, in its path below the
            folder. Such as ``"^(cat|dog)"`` for ``cat.0.jpg``.
        lists: Text files by split, with a path and perhaps a label per line; these paths, and those
            of the lists, are relative to the folder.
        labels: ``Numbers()`` if names of class folders, or what the pattern or a list gives for
            labels, are numbers to be predicted.
        class_names: Names of classes that are numbers: a list of them, counted from 0, or a file
            relative to the folder, such as ``classes.csv``, with a number and a name in each line,
            or a name alone.

    Raises:
        ConfigurationError: If ``folders`` is something else, or the pattern cannot be used, or
            there are ``class_names`` for ``labels``.
    """

    folders: FoldersAre = "auto"
    label_pattern: str | None = None
    lists: dict[str, str | Path] | None = None
    labels: Numbers | None = None
    class_names: str | Path | list[str] | None = None

    def __post_init__(self) -> None:
        check_types(self)
        if self.class_names is not None and self.labels is not None:
            raise ConfigurationError(
                "`class_names` names classes, but `labels` are numbers to be predicted. Leave one"
                " out."
            )
        check_choice("folders", self.folders, get_args(FoldersAre))
        if self.label_pattern is not None:
            NamePattern(self.label_pattern)


def as_layout(choice: FoldersAre | FolderLayout) -> FolderLayout:
    """Return what a word stands for: a layout that says no more than that."""
    return choice if isinstance(choice, FolderLayout) else FolderLayout(choice)


@dataclass(frozen=True)
class FoundLayout:
    """What was found in a folder: splits, or classes alone.

    ``place`` is the folder below those that merely wrap another. ``splits`` are the folders of
    splits in it; without ``train``, the folders ``classes`` are trained on. ``reading`` says for
    people what was found and what is left unused, and is empty if that goes without saying.
    """

    place: Path
    splits: dict[SplitName, str]
    classes: list[str]
    reading: str


def read_layout(root: Path, folders_are: FoldersAre, *, has_classes: bool) -> FoundLayout:
    """Find the splits and classes of a folder; a DataError says why they cannot be told.

    Without ``has_classes``, labels come from elsewhere, and images may lie in any folder.
    """
    if not root.is_dir():
        cure = _CURES.get(root.suffix.lower(), "Name the folder it is in.")
        raise DataError(f"'{root}' must be a folder of images, but is a file. {cure}")
    place = root if folders_are == "classes" else _unwrapped(root)
    folders = inner_folders(place)
    splits = {} if folders_are == "classes" else _splits(place, folders)
    others = [name for name in folders if name not in splits.values()]
    inside = {} if "train" in splits else {name: inner_folders(place / name) for name in others}
    if "train" in splits and folders_are == "auto" and has_classes:
        _refuse_classes_beside(place, splits, others)
    elif folders_are == "splits" and "train" not in splits:
        raise DataError(
            f"'{root}' must have a folder 'train' for `layout='splits'`, but has"
            f" {name_some(folders)}. Rename one, or leave `layout` out."
        )
    elif "val" in splits and "train" not in splits:
        raise DataError(
            f"'{place}' has a folder '{splits['val']}' but no 'train'. Add"
            f" 'train/<class>/<image>', or move the classes straight into '{place}' to have the"
            " split drawn; `layout='classes'` takes all folders for classes."
        )
    elif folders_are == "auto" and has_classes:
        _refuse_splits_in_disguise(place, others)
        _refuse_splits_within(place, inside)
        _refuse_classes_within(place, inside)
    if folders_are == "auto" and has_classes:
        is_split = "train" in splits
        _refuse_no_classes(place / splits["train"] if is_split else place, is_split=is_split)
        _refuse_splits_as_classes(place, splits)
    unused = others if "train" in splits else []
    with_classes = [place, *(place / name for name in splits.values())] if has_classes else []
    num_loose = sum(len(loose_files(x)) for x in with_classes if inner_folders(x))
    reading = _reading(root, place, splits, inside, unused, num_loose)
    return FoundLayout(place, splits, [] if unused else others, reading)


def inner_folders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, in order, but nothing of ``is_ignored``."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if not is_ignored(e.name) and is_folder(e))


def loose_files(folder: Path) -> list[str]:
    """Return the names of the files right in a folder, in order, but nothing of ``is_ignored``."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if not is_ignored(e.name) and not is_folder(e))


def loose_images(folder: Path) -> list[str]:
    """Return those of ``loose_files`` that are images by their names."""
    return [name for name in loose_files(folder) if name.lower().endswith(IMAGE_SUFFIXES)]


def _unwrapped(root: Path) -> Path:
    """Step into a folder that is alone, as zip archives make them, if it holds folders."""
    place = root
    for _ in range(_MAX_WRAPPERS):
        folders = inner_folders(place)
        if len(folders) != 1 or split_name(folders[0]) or loose_images(place):
            break
        place = place / folders[0]
    inner = inner_folders(place)
    return place if len(inner) > 1 or any(map(split_name, inner)) else root


def _splits(place: Path, folders: list[str]) -> dict[SplitName, str]:
    splits: dict[SplitName, str] = {}
    for name in folders:
        split = split_name(name)
        if split in splits:
            raise DataError(
                f"'{place}' has both '{splits[split]}' and '{name}', which mean the same split,"
                f" '{split}'. Keep one of the two."
            )
        if split is not None:
            splits[split] = name
    return {split: splits[split] for split in get_args(SplitName) if split in splits}


def _refuse_classes_beside(place: Path, splits: dict[SplitName, str], others: list[str]) -> None:
    """Refuse folders of images beside ``train`` if that may be a class as they are."""
    inner = set(inner_folders(place / splits["train"]))
    if inner and (len(splits) > 1 or not others):
        return
    alike = [
        name
        for name in others
        if (not inner or inner <= set(inner_folders(place / name))) and list_files(place / name)
    ]
    if alike:
        raise DataError(
            f"'{place}' has {name_some(sorted(splits.values()))}, named as splits are, beside"
            f" {name_some(alike)}. Are these splits, or classes? {_CHOICE}"
        )


def _refuse_splits_in_disguise(place: Path, classes: list[str]) -> None:
    """Refuse ``train1`` beside ``test1``, and folders that are all folds or parts of ``train``."""
    meant = {name: split_within(name) for name in classes}
    found = set(meant.values())
    are_shards = len(classes) > 1 and found in ({"fold"}, {"train"})
    if ("train" in found and found & {"val", "test"}) or are_shards:
        named = [name for name in classes if meant[name]]
        raise DataError(
            f"'{place}' has {name_some(named)}, whose names say splits or folds. Classes must be"
            " folders inside of splits: call these 'train', 'val' and 'test', or put all images of"
            " a class into one folder to have the split drawn. `layout='classes'` takes them for"
            " classes."
        )


def _refuse_splits_within(place: Path, within: dict[str, list[str]]) -> None:
    """Refuse ``<class>/train/<image>``: its splits would be trained on and lost."""
    classes = list(within)
    inside = {name: [x for x in within[name] if split_within(x)] for name in classes}
    meant = {name: {split_within(folder) for folder in inside[name]} for name in classes}
    with_splits = [name for name in classes if "train" in meant[name] and len(meant[name]) > 1]
    if not with_splits and classes and all("train" in splits for splits in meant.values()):
        with_splits = classes
    if with_splits:
        found = sorted({folder for name in with_splits for folder in inside[name]})
        raise DataError(
            f"'{place}' has {name_some(found)} inside {name_some(with_splits)}, named as splits"
            " are. Splits must be outside: 'train/<class>/<image>'. Move them, or give"
            " `layout='classes'` to take all images of a folder for one class."
        )


def _refuse_classes_within(place: Path, within: dict[str, list[str]]) -> None:
    """Refuse a folder of masks or copies, with folders named as the classes, as one more class."""
    inside = {name: {*folders} & {*within} - {name} for name, folders in within.items()}
    copies = [name for name in within if len(inside[name]) > 1]
    if copies:
        found = sorted(set().union(*(inside[name] for name in copies)))
        raise DataError(
            f"'{place}' has {name_some(found)} as classes, and again inside {name_some(copies)}."
            " Move copies, masks and the like out of the folder, or give `layout='classes'` to"
            " take all images of a folder for one class."
        )


def _refuse_no_classes(place: Path, *, is_split: bool) -> None:
    """Refuse folders that are no classes by their names: a split again, copies, masks."""
    names = inner_folders(place)
    words = {name.lower() for name in names}
    way_out = f"`layout='{'splits' if is_split else 'classes'}'` takes all of them for classes."
    if is_split and len(names) == 1 and split_name(names[0]):
        raise DataError(
            f"'{place}' must have a folder for each class, but has '{names[0]}' alone, named as a"
            f" split is. Move what is in it one folder up; {way_out}"
        )
    copies = [
        name for name in names if _COPY.sub("", name) != name and _COPY.sub("", name) in names
    ]
    if copies:
        raise DataError(
            f"'{place}' has {name_some(copies)} beside a folder of the same name without it, as"
            f" copies are called. Bring together what is one class; {way_out}"
        )
    if words & _OF_IMAGES and words & _OF_MASKS:
        named = [name for name in names if name.lower() in _OF_IMAGES | _OF_MASKS]
        raise DataError(
            f"'{place}' has {name_some(named)}, named as images and what belongs to them, such as"
            f" masks. Classes must be a folder of images each; {way_out}"
        )


def _refuse_splits_as_classes(place: Path, splits: dict[SplitName, str]) -> None:
    """Refuse ``train/val`` beside classes, unless every other split has a class of that name."""
    inside = {name: inner_folders(place / name) for name in splits.values()}
    trained = inside.pop(splits.get("train", ""), [])
    alike = [
        name
        for name in trained
        if split_name(name) and not (inside and all(name in folders for folders in inside.values()))
    ]
    if alike:
        raise DataError(
            f"'{place / splits['train']}' has {name_some(alike)} beside its classes, named as"
            " splits are. Move it one folder up if it is a split;"
            " `layout='splits'` takes it for a class."
        )


def _reading(
    root: Path,
    place: Path,
    splits: dict[SplitName, str],
    within: dict[str, list[str]],
    unused: list[str],
    num_loose: int,
) -> str:
    parts = [f"{split} from '{name}'" for split, name in splits.items()]
    if place != root:
        parts.append(f"found in '{place.relative_to(root)}'")
    parts = [", ".join(parts)] if parts else []
    left = [f"'{name}'" for name in unused[:20]]
    left += [f"{len(unused)} folders in all"] if len(unused) > 20 else []
    left += [f"{num_loose} files beside the folders"] if num_loose else []
    if left:
        parts.append(f"left unused: {', '.join(left)}")
    inside = {*map(tuple, within.values())}
    if len(within) > 1 and len(inside) == 1 and len(shared := next(iter(inside))) > 1:
        parts.append(f"{name_some(shared)} in every class are parts of it")
    return "; ".join(parts)
