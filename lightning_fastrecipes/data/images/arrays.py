"""Images that are decoded already: arrays, files of arrays, or folders read into memory."""

import math
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import numpy as np
import numpy.typing as npt
import pandas as pd

from lightning_fastrecipes.data.common.packed_files import check_content
from lightning_fastrecipes.data.common.workers import map_threads
from lightning_fastrecipes.data.images.decoding import Decoding, load_image
from lightning_fastrecipes.data.images.label_sets import LABEL_JOINER
from lightning_fastrecipes.data.images.label_table import Numbers, Tags
from lightning_fastrecipes.data.images.listing import Listing, list_folder
from lightning_fastrecipes.data.images.number_labels import numbered, numbers_of_array
from lightning_fastrecipes.data.images.table_labels import say_unknown
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.splits import rarest_labels
from lightning_fastrecipes.messages import bounded, name_some

_MAX_REASON = 300
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
Arrays = Mapping[str, npt.NDArray[Any]]

_SPLITS = ("train", "val", "test", "predict")
_KNOWN = [f"{letter}_{split}" for split in _SPLITS for letter in "xy"]
_LAYOUT = (
    "Expected `x_train` and `y_train`, and if there are such splits `x_val`, `y_val`,"
    " `x_test`, `y_test`; `x_test` or `x_predict` alone is there to be predicted."
)


def read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays of an ``.npz`` file; a DataError refuses other files and Python objects."""
    try:
        _check_headers(path)
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except DataError:
        raise
    except Exception as error:  # a damaged header makes numpy raise anything
        reason = str(error)[:_MAX_REASON]
    raise DataError(
        f"'{path}' must be an `.npz` file of plain arrays, but cannot be read: {reason}."
        " Write it with `numpy.savez_compressed`."
    )


def _check_headers(path: Path) -> None:
    """Raise a ValueError if the arrays are not as long as their headers say, or fill the memory.

    Nothing is read but the headers.
    """
    if not is_zipfile(path):
        with path.open("rb") as file:
            is_array = file.read(6) == b"\x93NUMPY"
        found = "holds one array without a name" if is_array else "is no zip archive"
        raise ValueError(f"it {found}")
    total = 0
    with ZipFile(path) as archive:
        for member in archive.infolist():
            name = member.filename
            if not name.endswith(".npy"):
                raise ValueError(f"'{name[:100]}' in it is no array")
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                read = _HEADERS.get(version)
                if read is None:
                    raise ValueError(f"'{name[:100]}' has the unknown format {version}")
                shape, _, dtype = read(file)
                num_bytes = file.tell() + math.prod(shape) * dtype.itemsize
            if dtype.hasobject:
                raise ValueError(f"'{name[:100]}' holds Python objects, which are not loaded")
            if num_bytes != member.file_size:
                raise ValueError(
                    f"'{name[:100]}' says that it is of shape {str(shape)[:100]} and {dtype}, but"
                    f" has {member.file_size:,} bytes in place of {num_bytes:,}"
                )
            total += num_bytes
    check_content(path, total)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if total > memory:
        raise ValueError(
            f"it needs {total / 2**30:,.1f} GiB of memory, and this machine has"
            f" {memory / 2**30:,.1f}"
        )


def list_arrays(
    arrays: Arrays,
    name: str = "arrays",
    labels: Tags | Numbers | None = None,
    channels: int | None = None,
) -> Listing:
    """Name the images of arrays ``SPLIT/NUMBER``; a DataError refuses other arrays than these.

    Each split has ``x_SPLIT`` with ``uint8`` images, ``(images, height, width)`` or ``(images,
    height, width, 3)``, or with other ``channels`` if given, and ``y_SPLIT`` with their labels,
    integers or text. Classes are those of ``y_train``, in numeric order where labels are numbers,
    unless ``labels`` says that these are to be predicted, or 0 and 1 for each label, ``(images,
    labels)``. Messages call the source ``name``.
    """
    unknown = sorted(map(str, set(arrays) - set(_KNOWN)))
    lacking = [key for key in ("x_train", "y_train") if key not in arrays]
    if lacking or unknown:
        wrong = f"`{lacking[0]}` is missing" if lacking else f"{name_some(unknown)} is not known"
        held = name_some(sorted(map(str, arrays))) or "nothing"
        raise DataError(f"'{name}' holds {held}: {wrong}. {_LAYOUT}")
    rows: list[pd.DataFrame] = []
    pixels: list[npt.NDArray[np.uint8]] = []
    numbers: list[npt.NDArray[np.float64]] = []
    for split in _SPLITS:
        if f"x_{split}" not in arrays:
            if f"y_{split}" in arrays:
                raise DataError(f"'{name}': `y_{split}` has labels, but `x_{split}` is missing.")
            continue
        images = _images(arrays[f"x_{split}"], f"'{name}': `x_{split}`", channels or 3)
        is_labelled = f"y_{split}" in arrays
        if not is_labelled and split == "val":
            raise DataError(f"'{name}': `x_val` needs labels, but `y_val` is missing.")
        texts = [""] * len(images)
        found = _array(arrays[f"y_{split}" if is_labelled else "y_train"], f"'{name}': labels")
        if isinstance(labels, Tags) and found.dtype == bool:
            found = found.astype(np.int8)
        what = f"'{name}': `y_{split}`"
        if labels is not None:
            unknown_numbers = np.full((len(images), *found.shape[1:]), np.nan)
            values = found if is_labelled else unknown_numbers
            numbers.append(numbers_of_array(values, len(images), what))
        elif is_labelled:
            texts = _labels(found, len(images), what)
        width = len(str(len(images)))
        columns = {
            "file": [f"{split}/{number:0{width}}" for number in range(len(images))],
            "split": split if is_labelled else "predict",
            "label": texts,
        }
        rows.append(pd.DataFrame(columns, dtype=str))
        pixels.append(images)
    shapes = sorted({part.shape[1:] for part in pixels})
    if len(shapes) > 1:
        raise DataError(
            f"'{name}': all images must have one shape, but the splits have {shapes}. Resize or"
            " convert them."
        )
    frame = pd.concat(rows, ignore_index=True)
    frame = frame.assign(stratum=frame["label"])
    listing = Listing(folder=Path(name), rows=frame, pixels=np.concatenate(pixels))
    if isinstance(labels, Tags):
        return _tagged(listing, labels, _joined(numbers, name))
    if labels is not None:
        return numbered(listing, labels.for_columns(numbers[0].shape[1]), _joined(numbers, name))
    classes = np.unique(np.asarray(arrays["y_train"])).tolist()
    return replace(listing, classes=[str(label) for label in classes])


def _tagged(listing: Listing, tags: Tags, cells: npt.NDArray[np.float64]) -> Listing:
    """Read 0 and 1 for each label, -1 or NaN if unknown; leave images without a known one out."""
    rows, names = listing.rows, tags.columns or []
    if len(names) != cells.shape[1]:
        raise DataError(
            f"'{listing.folder}': `labels` must name each of the {cells.shape[1]} columns of"
            f" `y_train`, but names {len(names)}. Give `Tags(columns=[...])`."
        )
    has_labels = (rows["split"] != "predict").to_numpy()
    unknown = np.isnan(cells) | (cells == -1)
    is_wrong = ~(unknown | np.isin(cells, (0, 1))).all(axis=1)
    if is_wrong.any():
        raise DataError(
            f"'{listing.folder}': labels must be 0 or 1, or -1 or NaN if unknown, but those of"
            f" {name_some(rows['file'][is_wrong].tolist())} are not. Correct them."
        )
    sets = [tuple(np.array(names)[row].tolist()) for row in cells == 1]
    joined = [LABEL_JOINER.join(labels) for labels in sets]
    rows = rows.assign(label=joined, stratum=rarest_labels(sets))
    if unknown[has_labels].any():
        rows["unknown"] = [LABEL_JOINER.join(np.array(names)[row].tolist()) for row in unknown]
    is_kept = ~(unknown.all(axis=1) & has_labels)
    return replace(
        listing,
        rows=rows[is_kept].reset_index(drop=True),
        pixels=None if listing.pixels is None else listing.pixels[is_kept],
        classes=list(names),
        label_kind="multi",
        label_reason="multi, since `labels` says so",
        reading="; ".join(say_unknown(unknown[has_labels])),
    )


def _joined(numbers: list[npt.NDArray[np.float64]], name: str) -> npt.NDArray[np.float64]:
    counts = sorted({part.shape[1] for part in numbers})
    if len(counts) > 1:
        raise DataError(
            f"'{name}': every split must have as many numbers per image, but they have {counts}."
        )
    return np.concatenate(numbers)


def list_into_memory(root: Path, decoding: Decoding) -> Listing:
    """Read a folder as ``list_folder`` does, and its images, all of one shape, into memory."""
    listing = list_folder(root)
    files = [root / file for file in listing.rows["file"]]
    images = map_threads(partial(load_image, decoding=decoding), files, "Reading images")
    expected = images[0].shape
    odd = [str(f) for f, p in zip(files, images, strict=True) if p.shape != expected]
    if odd:
        height, width = expected[1:]
        raise DataError(
            f"Images in memory must have one shape, but {len(odd)} are not {width} x {height} as"
            f" the first one: {name_some(odd)}. Resize them, or use `ImageFolderDataModule`."
        )
    pixels = np.stack([image.permute(1, 2, 0).numpy() for image in images])
    is_grey = decoding.channels != 4 and bool((pixels == pixels[..., :1]).all())
    kept = np.ascontiguousarray(pixels[..., 0]) if is_grey else pixels
    return Listing(listing.folder, listing.rows, listing.classes, pixels=kept)


def _array(given: Any, what: str) -> npt.NDArray[Any]:
    if np.ma.is_masked(given):
        raise DataError(
            f"{what} must have no masked values: what lies below the mask would be taken. Leave"
            " these images out, or fill the values by `.filled(...)`."
        )
    try:
        return np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:  # such as parts of several lengths
        raise DataError(
            f"{what} must be an array, but NumPy makes none of it:"
            f" {bounded(str(error), 200).rstrip('.')}. Give all images one shape."
        ) from error


def _images(given: Any, what: str, channels: int) -> npt.NDArray[np.uint8]:
    array = _array(given, what)
    if array.dtype != np.uint8:
        is_number = array.dtype.kind in "biuf" and array.size
        ends = f" from {array.min():g} to {array.max():g}" if is_number else ""
        raise DataError(
            f"{what} must be `uint8` in 0 to 255, but is {array.dtype}{ends}. Scale it to 0 to 255,"
            " and convert it by `.astype('uint8')`."
        )
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    is_grey = array.ndim == 3 and channels in (1, 3)
    if not is_grey and not (array.ndim == 4 and array.shape[3] == channels):
        grey = "(images, height, width) or " * (channels in (1, 3))
        raise DataError(
            f"{what} must have shape {grey}(images, height, width, {channels}), but has"
            f" {array.shape}. Reshape or transpose it, or say how many channels there are:"
            " `geometry=Geometry(channels=...)`."
        )
    if not array.size:
        raise DataError(f"{what} has no images: its shape is {array.shape}. Leave it out.")
    return array


def _labels(array: npt.NDArray[Any], num_images: int, what: str) -> list[str]:
    if array.shape != (num_images,):
        is_column = array.shape == (num_images, 1)
        cure = "Give one for each image."
        if array.shape[:1] == (num_images,):
            cure = "Of one-hot labels take `argmax(1)`; several labels of 0 and 1 are"
            cure += " `labels=Tags(columns=[...])`."
        cure = "Take its column, `[:, 0]`." if is_column else cure
        raise DataError(
            f"{what} must have one label per image, shape ({num_images},), but has"
            f" {array.shape}. {cure}"
        )
    if array.dtype.kind not in "iuUb":
        raise DataError(
            f"{what} must be integers or text, but is {array.dtype}. Convert it, such as by"
            " `.astype(str)`, or give `labels=Numbers()` for numbers that an `ImageRegressor`"
            " predicts."
        )
    labels = [str(label) for label in array.tolist()]
    if empty := [str(place) for place, label in enumerate(labels) if not label.strip()]:
        raise DataError(
            f"{what} must have a label for every image, but has empty text at"
            f" {name_some(empty)}. Name these classes, or leave the images out."
        )
    return labels
