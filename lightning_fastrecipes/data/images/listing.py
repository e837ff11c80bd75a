"""Read a folder of images: which files there are, in which split, with which label."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from lightning_fastrecipes.data.common.sources import list_files
from lightning_fastrecipes.data.common.split_names import SplitName
from lightning_fastrecipes.data.images.folder_layout import (
    FolderLayout,
    FoundLayout,
    inner_folders,
    loose_files,
    read_layout,
)
from lightning_fastrecipes.data.images.label_table import Numbers
from lightning_fastrecipes.data.images.name_labels import NamePattern
from lightning_fastrecipes.data.images.split_lists import find_lists, named_lists, read_lists
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.messages import name_some
from lightning_fastrecipes.protocols import LabelKind

_AUTO = FolderLayout()

ImageSplit = Literal["train", "val", "test", "predict"]
Row = tuple[str, ImageSplit, str]
"""A file, its split and its label."""


@dataclass(frozen=True)
class Listing:
    """Images of a data set as they were named, before anything is decoded.

    ``rows`` has one row per image, sorted by file, with the text columns ``file`` (relative to the
    folder, forward slashes), ``split`` (``train``, ``val``, ``test`` or ``predict``), ``label``
    (empty without one, several joined by ``LABEL_JOINER``), ``stratum`` (what a drawn split keeps
    the mix of), for a split by groups ``group``, where some of several labels are unknown
    ``unknown``, joined likewise, and where images count differently ``weight``, a number. In the
    same order are ``probabilities``, with columns in the order of ``classes``, or ``numbers``, with
    columns as ``number_labels`` names them and NaN where there are none, and ``pixels``, as in
    ``Samples``. ``classes`` is ``None``
    if the source gives no order. ``label_reason`` says for people why labels are of this kind, and
    ``reading`` how a folder or a table was read; they are empty where there was nothing to decide.
    """

    folder: Path
    rows: pd.DataFrame
    classes: list[str] | None = None
    probabilities: npt.NDArray[np.float32] | None = None
    pixels: npt.NDArray[np.uint8] | None = None
    label_kind: LabelKind = "single"
    label_reason: str = ""
    reading: str = ""
    numbers: npt.NDArray[np.float64] | None = None
    number_labels: Numbers | None = None


def list_folder(root: Path, layout: FolderLayout = _AUTO) -> Listing:
    """Read ``root/{train,val,test}/<class>/*``, or ``root/<class>/*``.

    Splits are called as in ``split_names.split_name``, and may lie below folders that merely wrap
    one another. A folder ``test`` that holds files and no folders is unlabelled: its images are
    there to be predicted. Where a class folder holds folders, their images belong to the class.
    With a pattern, labels are in the names of files, wherever these are; with lists, or files such
    as ``train.txt`` beside the images, these say which image is in which split.

    Images of ``root/<class>/*`` are all in the split ``train``. A DataError says that there are no
    class folders, that one of the training split is empty, that folders may be splits or classes,
    or that two folders mean the same split.
    """
    pattern = None if layout.label_pattern is None else NamePattern(layout.label_pattern)
    # What folders are called says nothing where the user names lists.
    folders = "classes" if layout.lists else layout.folders
    has_classes = pattern is None and not layout.lists
    found = read_layout(root, folders, has_classes=has_classes)
    place, reading = found.place, found.reading
    named = named_lists(root, layout.lists) if layout.lists else {}
    beside = {} if named or "train" in found.splits else find_lists(place, loose_files(place))
    if named or beside:
        place = root if named else place
        files = list_files(place)
        rows: list[Row] = [*read_lists(named or beside, files, pattern)]
        reading = _reading_of_lists(root, named or beside, rows, files)
    elif pattern is not None:
        rows = _rows_by_name(found, pattern)
    else:
        rows = _rows_by_folder(found)
    if place != root:
        prefix = place.relative_to(root).as_posix()
        rows = [(f"{prefix}/{file}", split, label) for file, split, label in rows]
    frame = pd.DataFrame(rows, columns=["file", "split", "label"], dtype=str)
    frame = frame.sort_values("file", ignore_index=True)
    return Listing(root, frame.assign(stratum=frame["label"]), reading=reading)


def _rows_by_folder(found: FoundLayout) -> list[Row]:
    rows: list[Row] = []
    for split in ("train", "val"):
        if split in found.splits:
            part = found.splits[split]
            rows += _class_rows(found.place, part, split, inner_folders(found.place / part))
    if "train" not in found.splits:
        rows += _class_rows(found.place, "", "train", found.classes)
    if "test" in found.splits:
        part = found.splits["test"]
        if classes := inner_folders(found.place / part):
            rows += _class_rows(found.place, part, "test", classes)
        else:
            files = list_files(found.place / part)
            rows += [(f"{part}/{file}", "predict", "") for file in files]
    return rows


def _class_rows(place: Path, part: str, split: ImageSplit, classes: list[str]) -> list[Row]:
    """List the images of the class folders in one part of a folder."""
    if not classes:
        raise DataError(
            f"No class folders in '{place / part}' (found {len(loose_files(place / part))} files,"
            f" 0 folders). Expected '{place / part}/<class>/<image>'; for a table of labels use"
            " `ImageCSVDataModule`, for labels in the names of files give `label_pattern`."
        )
    rows: list[Row] = []
    for name in classes:
        files = list_files(place / part / name)
        if not files and split == "train":
            raise DataError(
                f"The class folder '{place / part / name}' is empty. Add images, or remove the"
                " folder."
            )
        prefix = f"{part}/{name}" if part else name
        rows += [(f"{prefix}/{file}", split, name) for file in files]
    return rows


def _rows_by_name(found: FoundLayout, pattern: NamePattern) -> list[Row]:
    """Label files by their names; images of ``test`` without a label are to be predicted."""
    rows: list[Row] = []
    parts = dict(found.splits)
    in_parts = tuple(f"{name}/" for name in parts.values())
    for split in ("train", "val", "test"):
        if split in parts:
            files = [f"{parts[split]}/{file}" for file in list_files(found.place / parts[split])]
        elif split == "train":
            files = [file for file in list_files(found.place) if not file.startswith(in_parts)]
        else:
            continue
        labels = pattern.labels(files)
        if split == "test" and not any(labels):
            rows += [(file, "predict", "") for file in files]
            continue
        without = [file for file, label in zip(files, labels, strict=True) if label is None]
        if without or (split == "train" and not files):
            raise DataError(
                f"{len(without)} of {len(files)} files in '{found.place}' have no label by"
                f" `label_pattern` {pattern.pattern!r}: {name_some(without)}. Correct the pattern,"
                " or move them elsewhere."
            )
        rows += [(file, split, str(label)) for file, label in zip(files, labels, strict=True)]
    return rows


def _reading_of_lists(
    root: Path, lists: Mapping[SplitName, Path], rows: Sequence[Row], files: Sequence[str]
) -> str:
    parts = [f"{split} from the list '{path.name}'" for split, path in lists.items()]
    listed = {file for file, _, _ in rows} | {str(path) for path in lists.values()}
    num_unused = sum(file not in listed and str(root / file) not in listed for file in files)
    unused = f"; left unused: {num_unused} files that are not listed" if num_unused else ""
    return ", ".join(parts) + unused
