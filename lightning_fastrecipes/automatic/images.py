"""Write a recipe for images, in folders or named by a table: look at them, and decide."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from lightning_fastrecipes.automatic.draft import Draft
from lightning_fastrecipes.data.common.split_choice import ColumnSplit
from lightning_fastrecipes.data.common.split_names import may_be_split
from lightning_fastrecipes.data.images.class_names import find_names, with_class_names
from lightning_fastrecipes.data.images.file_facts import FileFacts, file_facts
from lightning_fastrecipes.data.images.folder_layout import inner_folders
from lightning_fastrecipes.data.images.label_sets import LABEL_JOINER, labels_of
from lightning_fastrecipes.data.images.label_table import LabelTable, Numbers, Tags
from lightning_fastrecipes.data.images.listing import Listing, list_folder
from lightning_fastrecipes.data.images.table_columns import LABEL_NAMES, file_columns
from lightning_fastrecipes.data.images.table_listing import list_table
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.decisions import Decision, counted
from lightning_fastrecipes.functional.images.sizing import ImageSizes, image_sizes
from lightning_fastrecipes.functional.splits import share_to_validate
from lightning_fastrecipes.functional.tables.target_choice import choose_task
from lightning_fastrecipes.messages import name_some
from lightning_fastrecipes.nn.weights import PACKAGED_MODEL, PACKAGED_WEIGHTS, is_packaged

_DATAMODULES = "lightning_fastrecipes.Image{}DataModule"
IMAGE_TABLES = _DATAMODULES.format("CSV")
"""The datamodule of a recipe for a table that names images."""


def draft_folder(root: Path, found: str = "in folders of their classes") -> Draft:
    """Look at a folder of images, which are ``found`` so, and write a recipe that trains on it."""
    listing, names, said = _named(list_folder(root), root)
    arguments: dict[str, Any] = {"root": str(root)}
    if names is not None:
        arguments["layout"] = {"class_names": names}
    draft = _draft(listing, _DATAMODULES.format("Folder"), arguments, found, None)
    return Draft(draft.document, [draft.decisions[0], *said, *draft.decisions[1:]])


def _named(listing: Listing, home: Path) -> tuple[Listing, str | None, list[Decision]]:
    """Return a listing with the names of classes that a file beside it gives, and that file."""
    labels = {label for text in listing.rows["label"] for label in labels_of(str(text))}
    name = find_names(labels, home) if listing.classes is None else None
    if name is None:
        return listing, None, []
    named = with_class_names(listing, name, home)
    said = named.reading.rpartition("; ")[2].removeprefix("labels are ")
    return named, name, [Decision("class names", f"'{name}' has them, {said}.")]


def file_column(frame: pd.DataFrame) -> str | None:
    """Return the column of a table that names images, ``None`` if there is none.

    >>> file_column(pd.DataFrame({"photo": ["a.jpg", "b.png"], "tag": ["sun", "sea"]}))
    'photo'
    """
    return next(iter(file_columns(frame)), None)


def image_folder(frame: pd.DataFrame, home: Path, given: Path | None = None) -> Path | None:
    """Return the folder below which a table names images, ``None`` if they are not found.

    It is looked for where the table is, in the folders there and in those beside; ``given`` is
    taken as it is.
    """
    if given is not None:
        return given
    name = str(frame[file_column(frame)].dropna().iloc[0]).strip()
    for place in (home, home.parent):
        with suppress(OSError):  # of a folder that may not be listed
            for folder in (place, *(place / inner for inner in inner_folders(place))):
                if os.path.isfile(folder / name):
                    return folder
    return None


def draft_image_table(
    frame: pd.DataFrame, csv: Path, folder: Path, target: str | None = None
) -> Draft:
    """Look at a table that names images below a folder, and write a recipe that trains on them."""
    files = file_column(frame)
    if files is None:
        raise DataError(f"No column of '{csv}' names images. Add one of file names.")
    splits = [str(name) for name in frame if may_be_split(frame[name])]
    others = [str(name) for name in frame if name not in (files, *splits)]
    labels, why = _labels(frame, others, target, csv.parent)
    table: dict[str, Any] = {"file_column": files}
    if folder != csv.parent:
        table["folder"] = str(folder)
    split = ColumnSplit(splits[0]) if splits else None
    numbers = {*frame[labels].dropna().astype(str)} if isinstance(labels, str) else set()
    named = find_names(numbers, csv.parent)  # then many numbers may be classes
    listing = list_table(csv, LabelTable(**table, labels=labels, class_names=named), split)
    listing, names, of_names = _named(listing, csv.parent)
    if names is not None:
        table["class_names"] = names
    written: Any = labels
    if isinstance(labels, Tags):
        written = {"columns": labels.columns}
    elif isinstance(labels, Numbers):
        written = {
            "class_path": "lightning_fastrecipes.Numbers",
            "init_args": {"columns": labels.columns, "log": labels.log},
        }
    arguments = {"csv": str(csv), "table": {**table, "labels": written}}
    said = [Decision("files", f"the column '{files}' names them, below {folder}."), why, *of_names]
    draft = _draft(
        listing,
        IMAGE_TABLES,
        arguments,
        "that a table names",
        splits[0] if splits else None,
    )
    return Draft(draft.document, [draft.decisions[0], *said, *draft.decisions[1:]])


def _labels(
    frame: pd.DataFrame, others: Sequence[str], target: str | None, home: Path
) -> tuple[str | Tags | Numbers, Decision]:
    """Return where the labels are, and why."""
    named = [name for name in others if name.lower() in LABEL_NAMES]
    flags = [name for name in others if set(frame[name].dropna().unique()) <= {0, 1}]
    if target is None and not named and len(flags) == len(others) > 1:
        return Tags(columns=flags), Decision(
            "labels", f"{len(flags)} columns of 0 and 1, any number of which hold for an image."
        )
    chosen = target or next(iter(named or others), None)
    if chosen is None or chosen not in frame:
        names = name_some([str(name) for name in frame])
        raise DataError(f"No column '{chosen}' of labels; the table has {names}.")
    why = "as was asked for" if target else "by its name" if named else "the first other column"
    column = frame[chosen]
    is_number = column.dtype.kind in "iuf" and choose_task(column).task == "regression"
    if is_number and find_names({*column.dropna().astype(str)}, home) is None:
        choice = choose_task(column)
        sentence = f"the column '{chosen}', {why}: {choice.reason}, learned {choice.log_reason}."
        return Numbers(chosen, choice.log), Decision("labels", sentence)
    return chosen, Decision("labels", f"the column '{chosen}', {why}; `--target` names another.")


def _draft(
    listing: Listing,
    class_path: str,
    arguments: dict[str, Any],
    source: str,
    split_column: str | None,
) -> Draft:
    rows = listing.rows
    counts = rows["split"].value_counts()
    facts = file_facts(listing.folder, rows["file"].tolist())
    said = [_size(listing, facts, source)]
    said += _of_labels(listing)
    given = {split: int(counts[split]) for split in ("train", "val", "test") if split in counts}
    num_train, has_val = given.get("train", 0), "val" in given
    share = share_to_validate(num_train)
    if not has_val:
        num_train -= round(share * num_train)
    split = split_column if split_column is not None else None if has_val else share
    said.append(_of_split(given, share, has_val=has_val, num_train=num_train))
    num_classes = rows["label"].nunique() if listing.label_kind == "single" else 1
    sizes = image_sizes(num_train, min(facts.sides), num_classes)
    said += _of_sizes(sizes, facts, num_train)
    data = {
        **arguments,
        **({} if split is None else {"split": split}),
        "image_size": sizes.image_size,
        "batch_size": sizes.batch_size,
        "augmentation": {"on_device": True},
    }
    backbone, why = _backbone()
    said.append(why)
    kind = "Regressor" if listing.label_kind == "numbers" else "Classifier"
    return Draft(
        {
            "description": f"Images {source}, by transfer learning.",
            "seed": 0,
            "data": {"class_path": class_path, "init_args": data},
            "model": {"class_path": f"lightning_fastrecipes.Image{kind}", "init_args": backbone},
            "stages": _stages(sizes),
        },
        said,
    )


def _stages(sizes: ImageSizes) -> Mapping[str, Any]:
    def cycle(length: int) -> list[dict[str, Any]]:
        return [{"class_path": "lightning_fastrecipes.SGDR", "init_args": {"cycle_len": length}}]

    stages: dict[str, Any] = {
        "head": {
            "max_epochs": sizes.head_epochs,
            "freeze_to": -1,
            "lr": sizes.head_lr,
            "precompute": True,
            "callbacks": cycle(sizes.head_epochs),
        }
    }
    if sizes.tuned_epochs:
        stages["all"] = {
            "max_epochs": sizes.tuned_epochs,
            "freeze_to": 0,
            "lr": sizes.tuned_lr,
            "lr_ratio": sizes.lr_ratio,
            "augmentation": "side_on",
            "callbacks": cycle(sizes.tuned_epochs),
        }
    return stages


def _size(listing: Listing, facts: FileFacts, source: str) -> Decision:
    width, height = facts.sides
    sentence = (
        f"{counted(len(listing.rows), 'image')} {source}, of {width} x {height} pixels in the"
        f" median, shorter sides from {facts.least} to {facts.most}"
    )
    if facts.num_repeated:
        sentence += f"; {counted(facts.num_repeated, 'file repeats', 'files repeat')} another"
    if facts.unreadable:
        sentence += f"; no images are {name_some(facts.unreadable)}"
    return Decision("data", f"{sentence}.")


def _of_labels(listing: Listing) -> list[Decision]:
    rows = listing.rows[listing.rows["split"] != "predict"]
    if listing.label_kind == "numbers":
        return [Decision("task", "numbers are predicted, in deviations from their training mean.")]
    names = Counter(n for label in rows["label"] for n in str(label).split(LABEL_JOINER) if n)
    (most, high), (least, low) = names.most_common(1)[0], names.most_common()[-1]
    kind = "one for each image" if listing.label_kind == "single" else "any number for an image"
    said = [
        Decision(
            "task",
            f"{counted(len(names), 'class', 'classes')}, {kind}: '{most}' in {high:,} images,"
            f" '{least}' in {low:,}{'; ' + listing.label_reason if listing.label_reason else ''}.",
        )
    ]
    if listing.label_kind == "single" and high > 5 * low:
        sentence = (
            f"{high / low:.0f} times as many of '{most}' as of '{least}'; images are drawn as they"
            " are, and `data.class_balanced=true` shows the rare as often."
        )
        said.append(Decision("imbalance", sentence))
    return said


def _of_split(given: Mapping[str, int], share: float, *, has_val: bool, num_train: int) -> Decision:
    counts = ", ".join(f"{count:,} {split}" for split, count in given.items())
    if has_val:
        return Decision("split", f"as the data have it: {counts}.")
    sentence = f"{share:.0%} of the training images, class by class, are validated on ({counts});"
    return Decision("split", f"{sentence} {num_train:,} are left to train on.")


def _of_sizes(sizes: ImageSizes, facts: FileFacts, num_train: int) -> list[Decision]:
    steps = -(-num_train // sizes.batch_size)
    said = [
        Decision(
            "image size",
            f"{sizes.image_size} pixels, for a median shorter side of {min(facts.sides)}.",
        ),
        Decision("batch size", f"{sizes.batch_size}, which is {counted(steps, 'step')} an epoch."),
        Decision(
            "head",
            f"first alone, on features of the frozen backbone: {sizes.head_epochs} epochs, which"
            f" are {sizes.head_epochs * steps:,} steps, at {sizes.head_lr:g}.",
        ),
    ]
    if not sizes.tuned_epochs:
        few = f"stays frozen, since {num_train:,} images are under 10 a class."
        return [*said, Decision("backbone", few)]
    return [
        *said,
        Decision(
            "fine-tuning",
            f"all layers for {sizes.tuned_epochs} epochs, which are {sizes.tuned_epochs * steps:,}"
            f" steps, at {sizes.tuned_lr:g}, each earlier group {sizes.lr_ratio:g} times slower.",
        ),
        Decision(
            "augmentation",
            "`side_on`, mirrored as photos may be; `top_down` also turns images from above, and"
            " `basic` mirrors nothing, as for digits.",
        ),
    ]


def _backbone() -> tuple[dict[str, Any], Decision]:
    if is_packaged(PACKAGED_WEIGHTS):
        how: dict[str, Any] = {"weights": PACKAGED_WEIGHTS}
        why = "whose ImageNet weights an installed package has"
    else:
        how, why = {"pretrained": True}, "whose ImageNet weights are fetched from timm's hub"
    sentence = f"{PACKAGED_MODEL}, {why}; `fastrecipes backbones` lists others."
    return {"backbone": PACKAGED_MODEL, **how}, Decision("model", sentence)
