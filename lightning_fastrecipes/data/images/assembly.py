"""From named images to checked splits with one class map."""

import os
from collections import Counter
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from lightning_fastrecipes._lightning import rank_zero_info, rank_zero_warn
from lightning_fastrecipes.data.common.split_choice import Split
from lightning_fastrecipes.data.images.decoding import MAX_MEGAPIXELS
from lightning_fastrecipes.data.images.drawn_splits import draw_splits
from lightning_fastrecipes.data.images.label_sets import label_lists, labels_of, refuse_joiner
from lightning_fastrecipes.data.images.likeness import looks_of_arrays, shared_images
from lightning_fastrecipes.data.images.listing import ImageSplit, Listing
from lightning_fastrecipes.data.images.manifest import scan_images
from lightning_fastrecipes.data.images.number_labels import fit_targets
from lightning_fastrecipes.data.images.options import OnBadFile
from lightning_fastrecipes.data.images.samples import Samples, Targets
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.labels.classes import in_order
from lightning_fastrecipes.functional.labels.numbers import NumberTarget, describe_targets
from lightning_fastrecipes.functional.labels.spellings import look_alikes
from lightning_fastrecipes.messages import name_some
from lightning_fastrecipes.protocols import LabelKind

_MAX_SAME = 3
_MIN_SIDE = 32  # pixels, below which images that are not the same look alike
_MAX_LIKE = 10
_LEVELS = {255: 8, 1023: 10, 4095: 12, 16383: 14}  # white, by bits of the data


@dataclass(frozen=True)
class Images:
    """Checked samples by split, with class names in the order of the target.

    A split without images is empty. ``skipped_files`` has the path and reason of each file that
    cannot be read; ``label_reason`` and ``reading`` are as in ``Listing``. ``shared`` says which
    images are in two splits, and is empty if none are. ``peak`` is the largest value in 16-bit
    training files, 0 without such. Where images have numbers, there are ``number_targets`` in place
    of ``classes``.
    """

    splits: dict[ImageSplit, Samples]
    classes: list[str]
    skipped_files: list[tuple[str, str]]
    label_kind: LabelKind = "single"
    label_reason: str = ""
    reading: str = ""
    shared: str = ""
    peak: int = 0
    number_targets: tuple[NumberTarget, ...] = ()


def say_what_was_decided(images: Images, white_level: int | Literal["auto"]) -> None:
    """Report how a folder or table was read, the kind of its labels, and what may be wrong."""
    if images.reading:
        rank_zero_info(f"Read: {images.reading}")
    if images.label_reason:
        rank_zero_info(f"Labels: {images.label_reason}")
    if images.number_targets:
        rank_zero_info(f"Numbers: {describe_targets(images.number_targets)}")
    if images.shared:
        rank_zero_warn(
            f"Splits share images: {images.shared}. What is measured on them is too good. Remove"
            " them from one of the two, or keep them together with a `GroupSplit`."
        )
    if doubt := _doubt_white(images.peak, white_level):
        rank_zero_warn(doubt)
    if images.skipped_files:
        names = [f"{file}: {reason}" for file, reason in images.skipped_files]
        rank_zero_warn(
            f"{len(names)} unreadable files are left out: {name_some(names)}."
            " Replace or remove them, or see `skipped_files`."
        )


def _doubt_white(peak: int, white_level: int | Literal["auto"]) -> str:
    """Return a warning if 16-bit grey is darker or brighter than its white, else nothing."""
    if white_level != "auto":
        cut = f"16-bit training images reach {peak}, above `white_level={white_level}`: what is"
        return f"{cut} above it becomes white. Set it to {peak} or more." * (peak > white_level)
    level = next((level for level in _LEVELS if 0 < peak <= level), None)
    if level is None:
        return ""
    return (
        f"No 16-bit training image has a value above {peak}, as data of {_LEVELS[level]} bits have,"
        f" but white is 65535: all of them are dark. Set `geometry=Geometry(white_level={level})`"
        " (`geometry.white_level` in a recipe), or 65535 if they are to be dark."
    )


def assemble(
    listing: Listing,
    split: Split,
    on_bad_file: OnBadFile,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> Images:
    """Draw the missing splits, check every file, and number the classes of the training split.

    A DataError says that files are unreadable, an image is in two classes, a class is not in the
    training split, or a split comes out too small.
    """
    images = _assembled(listing, split, on_bad_file, max_megapixels)
    # The text of the scan is gone; Arrow keeps its memory for a next time that may never come.
    pa.default_memory_pool().release_unused()
    return images


def _assembled(
    listing: Listing, split: Split, on_bad_file: OnBadFile, max_megapixels: float
) -> Images:
    refuse_joiner(listing.classes or [])
    if listing.label_kind == "single":
        refuse_joiner(listing.rows["label"].unique())
    listing = replace(listing, rows=draw_splits(listing, split))
    scan = _scan(listing, max_megapixels, skip_missing=on_bad_file == "skip")
    bad = scan[scan["problem"] != ""]
    skipped = list(zip(_joined(listing, bad["file"]), bad["problem"], strict=True))
    if skipped and on_bad_file == "raise":
        raise DataError(
            f"{len(skipped)} files are no good images:"
            f" {name_some([f'{file}: {reason}' for file, reason in skipped])}."
            " Replace or remove them, or leave them out with `on_bad_file='skip'`."
        )
    is_good = (scan["problem"] == "").to_numpy()
    rows = listing.rows
    if not is_good.all():  # else they would only be copied
        rows, scan = rows[is_good].reset_index(drop=True), scan[is_good].reset_index(drop=True)
    _refuse_two_classes(rows, scan["digest"], listing)
    classes = list(listing.classes or [])
    if listing.label_kind != "soft":
        trained = _trained(rows)
        classes = [name for name in classes or in_order(trained) if name in trained]
        _refuse_like_names(rows)
    _refuse_unknown_classes(rows, classes)
    _check_training_split(listing.rows, rows)
    is_trained = (rows["split"] == "train").to_numpy()
    targets, number_targets = _targets(listing, rows, is_good, classes)
    samples: dict[ImageSplit, Samples] = {}
    for name in get_args(ImageSplit):
        chosen = np.flatnonzero(rows["split"] == name)
        files = _joined(listing, rows["file"].iloc[chosen])
        pixels = None if listing.pixels is None else listing.pixels[chosen]
        samples[name] = Samples.from_files(files, targets[chosen], pixels)
        if pixels is None:
            samples[name] = replace(
                samples[name],
                digests=scan["digest"].iloc[chosen].to_numpy(dtype=np.bytes_),
                shapes=scan[["height", "width"]].iloc[chosen].to_numpy(np.int64),
            )
    if "weight" in rows:
        weights = rows["weight"][is_trained].to_numpy(np.float64)
        if not weights.any():
            raise DataError("The weights of all training images are 0. Give some a larger one.")
        scaled = (weights / weights.mean()).astype(np.float32)
        samples["train"] = replace(samples["train"], weights=scaled)
    return Images(
        samples,
        classes,
        skipped,
        listing.label_kind,
        listing.label_reason,
        listing.reading,
        _shared(rows, scan, listing),
        int(scan["peak"][is_trained].max()),
        number_targets,
    )


def _targets(
    listing: Listing, rows: pd.DataFrame, is_good: npt.NDArray[np.bool_], classes: list[str]
) -> tuple[Targets, tuple[NumberTarget, ...]]:
    """Return the targets of all good images, and what their numbers are if they are numbers."""
    if listing.numbers is not None:
        numbers = listing.numbers[is_good]
        is_trained = (rows["split"] == "train").to_numpy()
        found = fit_targets(replace(listing, numbers=numbers), is_trained)
        return (numbers[:, 0] if len(found) == 1 else numbers), found
    if listing.probabilities is not None:
        return listing.probabilities[is_good], ()
    codes = {name: code for code, name in enumerate(classes)}
    if listing.label_kind != "multi":
        return np.array([codes.get(name, -1) for name in rows["label"]], dtype=np.int64), ()
    targets = np.zeros((len(rows), len(classes)), dtype=np.float32)
    for row, labels in enumerate(label_lists(rows)):
        targets[row, [codes[name] for name in labels]] = 1.0
    for row, text in enumerate(rows.get("unknown", ())):
        targets[row, [codes[name] for name in labels_of(text) if name in codes]] = np.nan
    return targets, ()


def _scan(listing: Listing, max_megapixels: float, *, skip_missing: bool) -> pd.DataFrame:
    """Find out which files are good, and which hold the same; arrays have nothing to go wrong."""
    files = listing.rows["file"].tolist()
    if listing.pixels is None:
        return scan_images(listing.folder, files, max_megapixels, skip_missing=skip_missing)
    digests = [blake2b(image.tobytes(), digest_size=16).hexdigest() for image in listing.pixels]
    looks = looks_of_arrays(listing.pixels) if min(listing.pixels.shape[1:3]) >= _MIN_SIDE else ""
    return pd.DataFrame({"file": files, "digest": digests, "look": looks, "peak": 0, "problem": ""})


def _joined(listing: Listing, files: pd.Series) -> list[str]:
    folder = os.fspath(listing.folder)
    return [os.path.join(folder, file) for file in files]


def _shared(rows: pd.DataFrame, scan: pd.DataFrame, listing: Listing) -> str:
    looks = scan["look"]
    if listing.pixels is None:
        looks = looks.where(scan[["width", "height"]].min(axis=1) >= _MIN_SIDE, "")
    return shared_images(rows[["file", "split"]].assign(digest=scan["digest"], look=looks))


def _trained(rows: pd.DataFrame) -> set[str]:
    distinct = rows["label"][(rows["split"] == "train").to_numpy()].unique()
    return {name for text in distinct for name in labels_of(text)}


def _refuse_two_classes(rows: pd.DataFrame, digests: pd.Series, listing: Listing) -> None:
    """Refuse the same bytes under two class names: one of the two must be wrong."""
    if listing.label_kind != "single":
        return
    labelled = rows.assign(digest=digests)[rows["split"] != "predict"]
    names = [
        _same(group["file"].tolist())
        for _, group in labelled[labelled.duplicated("digest", keep=False)].groupby("digest")
        if group["label"].nunique() > 1
    ]
    if names:
        raise DataError(
            f"{len(names)} images are the same, byte by byte, in two classes:"
            f" {name_some(names)}. Remove those in the wrong class."
        )


def _same(files: list[str]) -> str:
    rest = f" = ... ({len(files)} in all)" if len(files) > _MAX_SAME else ""
    return " = ".join(files[:_MAX_SAME]) + rest


def _refuse_like_names(rows: pd.DataFrame) -> None:
    """Refuse classes whose names differ by what hardly shows, such as case or blanks."""
    names = {name for text in rows["label"].unique() for name in labels_of(text)}
    like = [" = ".join(map(ascii, alike)) for alike in look_alikes(names)]
    if like:
        raise DataError(
            "Names of classes must differ by more than case, blanks, invisible signs, a full stop"
            " at the end, Unicode form, the alphabet of like letters or the '.0' of a whole number,"
            f" but {', '.join(like[:_MAX_LIKE])} do not ({len(like)} in all). Give each class one"
            " name."
        )


def _refuse_unknown_classes(rows: pd.DataFrame, classes: list[str]) -> None:
    counts: Counter[tuple[str, str]] = Counter()
    for split in ("val", "test"):
        for text, count in rows["label"][rows["split"] == split].value_counts(sort=False).items():
            counts.update(dict.fromkeys([(name, split) for name in labels_of(str(text))], count))
    names = [
        f"{label} ({count} in {split})"
        for (label, split), count in counts.items()
        if label not in classes
    ]
    if names:
        is_in_test = all(split == "test" for (label, split) in counts if label not in classes)
        hint = (
            " If these have no labels and are there to be predicted, put them straight into the"
            " folder of the test split."
        )
        raise DataError(
            f"The classes {name_some(names)} are not in the training split, which has"
            f" {name_some(classes) or 'no image'}. Rename or remove them, or add training images."
            f"{hint if is_in_test else ''}"
        )


def _check_training_split(before: pd.DataFrame, after: pd.DataFrame) -> None:
    lost = sorted(_trained(before) - _trained(after))
    if lost:
        raise DataError(
            f"No readable training image is left of the classes {name_some(lost)}. Replace the"
            " unreadable ones, or remove these classes."
        )
    num_train = int((after["split"] == "train").sum())
    if num_train < 2:
        raise DataError(
            f"Training needs at least 2 images, but the training split has {num_train}."
            " Add images, or lower the shares of `split`."
        )
