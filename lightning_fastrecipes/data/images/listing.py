"""Read a folder of images: which files there are, in which split, with which label."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from lightning_fastrecipes.data.common.sources import list_files
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.protocols import LabelKind

ImageSplit = Literal["train", "val", "test", "predict"]

_VAL_NAMES = ("val", "valid")
_CURES = {
    ".csv": "For a table of labels use `ImageCSVDataModule`.",
    ".npz": "For arrays use `ImageArrayDataModule`.",
    ".zip": "Unpack it, and name the folder that comes out.",
}
_RESERVED = {"train", "test", *_VAL_NAMES}


@dataclass(frozen=True)
class Listing:
    """Images of a data set as they were named, before anything is decoded.

    ``rows`` has one row per image, sorted by file, with the text columns ``file`` (relative to the
    folder, forward slashes), ``split`` (``train``, ``val``, ``test`` or ``predict``), ``label``
    (empty without one, several joined by ``LABEL_JOINER``), ``stratum`` (what a drawn split keeps
    the mix of), and for a split by groups ``group``. In the same order are ``probabilities``, with
    columns in the order of ``classes``, and ``pixels``, as in ``Samples``. ``classes`` is ``None``
    if the source gives no order. ``label_reason`` says for people why labels are of this kind; it
    is empty where there was nothing to decide.
    """

    folder: Path
    rows: pd.DataFrame
    classes: list[str] | None = None
    probabilities: npt.NDArray[np.float32] | None = None
    pixels: npt.NDArray[np.uint8] | None = None
    label_kind: LabelKind = "single"
    label_reason: str = ""


def list_folder(root: Path) -> Listing:
    """Read ``root/{train,val,test}/<class>/*``, or ``root/<class>/*``.

    The folder ``valid`` is another word for ``val``. A folder ``test`` that holds files and no
    folders is unlabelled: its images are there to be predicted.

    Images of ``root/<class>/*`` are all in the split ``train``. A DataError says that there are no
    class folders, that one of the training split is empty, or that both ``val`` and ``valid`` are
    there.
    """
    if not root.is_dir():
        raise DataError(
            f"'{root}' must be a folder of images, but is a file."
            f" {_CURES.get(root.suffix.lower(), 'Name the folder it is in.')}"
        )
    folders = _folders(root)
    val = [name for name in _VAL_NAMES if name in folders]
    if len(val) > 1:
        raise DataError(f"'{root}' has both 'val' and 'valid'. Keep one of the two.")
    if "train" in folders:
        rows = _rows(root, "train", "train")
        for name in val:
            rows += _rows(root, name, "val")
    else:
        if val:
            raise DataError(
                f"'{root}' has a folder '{val[0]}' but no 'train'. Add 'train/<class>/<image>',"
                f" or move the classes straight into '{root}' to have the split drawn."
            )
        rows = _rows(root, "", "train")
    if "test" in folders:
        if _folders(root / "test"):
            rows += _rows(root, "test", "test")
        else:
            rows += [(f"test/{file}", "predict", "") for file in list_files(root / "test")]
    frame = pd.DataFrame(rows, columns=["file", "split", "label"], dtype=str)
    frame = frame.sort_values("file", ignore_index=True)
    return Listing(root, frame.assign(stratum=frame["label"]))


def _folders(folder: Path) -> list[str]:
    return sorted(
        entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."
    )


def _rows(root: Path, part: str, split: str) -> list[tuple[str, str, str]]:
    """List the images of the class folders in one part of the root."""
    place = root / part
    classes = [name for name in _folders(place) if part or name not in _RESERVED]
    if not classes:
        num_files = sum(entry.is_file() for entry in place.iterdir())
        raise DataError(
            f"No class folders in '{place}' (found {num_files} files, 0 folders). Expected"
            f" '{place}/<class>/<image>'; for a table of labels use `ImageCSVDataModule`."
        )
    rows = []
    for name in classes:
        files = list_files(place / name)
        if not files and split == "train":
            raise DataError(
                f"The class folder '{place / name}' is empty. Add images, or remove the folder."
            )
        rows += [(Path(part, name, file).as_posix(), split, name) for file in files]
    return rows
