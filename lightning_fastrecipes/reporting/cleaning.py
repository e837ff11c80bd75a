"""Mend the labels of a run by what its report was told: a new table, the same images."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lightning_fastrecipes.data.common.files import atomic_path, write_atomically
from lightning_fastrecipes.data.common.sources import resolve_source
from lightning_fastrecipes.data.images.arrays import read_npz
from lightning_fastrecipes.data.images.datamodules import (
    ImageArrayDataModule,
    ImageCSVDataModule,
    ImageFolderDataModule,
)
from lightning_fastrecipes.data.images.label_table import (
    LabelTable,
    Numbers,
    SingleLabel,
    SoftLabels,
    Tags,
)
from lightning_fastrecipes.data.images.table_files import find_files
from lightning_fastrecipes.data.images.table_listing import home_of, read_label_table
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.messages import name_some, shown
from lightning_fastrecipes.recipe.config.documents import dump_document
from lightning_fastrecipes.reporting.finished_run import FinishedRun, read_run, read_text_table
from lightning_fastrecipes.reporting.label_sources import image_folder, image_key
from lightning_fastrecipes.reporting.review_section import joiner_of
from lightning_fastrecipes.trust import Trust

ACTIONS = ("relabel", "keep", "unsure", "remove")
_COLUMNS = ("file", "action", "label")
_SPLIT_COLUMNS = ("split", "split_of_run")
_SPLITS = ("train", "val", "test")
_SEPARATORS = (",", ";", "|", " ")


@dataclass(frozen=True)
class Cleaned:
    """What was written: the mended table, a recipe that trains on it, and how much changed."""

    labels: Path
    recipe: Path
    relabelled: int
    removed: int
    left: int


def clean(run: str | Path, relabel: str | Path, *, trust: Trust = ()) -> Cleaned:
    """Apply the decisions of a report to the labels of a run of images.

    Write ``clean/labels.csv`` into the run folder (of arrays ``clean/labels.npz``): the labels with
    every correction, without what is to be removed, and with the splits of the run, so that
    results can be compared. Beside it lies ``recipe.yaml``, the recipe on these labels. What the
    labels were read from, and the images, stay as they are. Raise `DataError` if a decision is
    none, or names an image or a label that there is not; `DataNotFoundError` if files are missing.
    """
    path = Path(run)
    found = read_run(path, trust)
    if found.data is None:
        raise DataError(f"The labels must be read to be mended, but the data fail: {found.missing}")
    decisions = read_decisions(Path(relabel), found)
    folder = path / "clean"
    if not folder.resolve().is_relative_to(path.resolve()):
        raise DataError(
            f"'{folder}' must lie in the run folder, but is a link to {shown(os.readlink(folder))}."
            " Remove it."
        )
    changes = {key: one for key, one in decisions.items() if one.action in ("relabel", "remove")}
    if isinstance(found.data, ImageArrayDataModule):
        labels, data = _clean_arrays(found, changes, folder / "labels.npz")
    else:
        labels, data = _clean_table(found, changes, folder / "labels.csv")
    document = {key: value for key, value in found.recipe.source.items() if key != "parts"}
    document["name"] = f"{found.recipe.name}-clean"
    write_atomically(folder / "recipe.yaml", dump_document({**document, "data": data}))
    counts = [sum(one.action == action for one in decisions.values()) for action in ACTIONS]
    return Cleaned(labels, folder / "recipe.yaml", counts[0], counts[3], counts[1] + counts[2])


@dataclass(frozen=True)
class Decision:
    """What was decided of an image."""

    action: str
    labels: tuple[str, ...]


def read_decisions(path: Path, run: FinishedRun) -> dict[str, Decision]:
    """Read ``relabel.csv``; a `DataError` names what is no decision of this run."""
    table = read_text_table(resolve_source(path, "--apply"))
    if not set(_COLUMNS) <= set(table):
        raise DataError(
            f"{path} must have the columns {name_some(_COLUMNS)}, but has"
            f" {name_some([str(name) for name in table])}. Save it from the report of the run."
        )
    if run.data.number_targets:
        raise DataError("Labels that are numbers cannot be mended by a table of classes.")
    classes = list(run.data.classes)
    several = run.data.label_kind == "multi"
    joiner = joiner_of(classes)
    found: dict[str, Decision] = {}
    for row in table.to_dict("records"):
        file, action, text = (str(row[name]) for name in _COLUMNS)
        labels = tuple(filter(None, text.split(joiner))) if several else (text,)
        if action not in ACTIONS:
            raise DataError(
                f"{path}: `action` of {file!r} must be one of {name_some(ACTIONS)}, but is"
                f" {action!r}. Correct it."
            )
        unknown = [label for label in labels if label not in classes]
        if action == "relabel" and unknown:
            raise DataError(
                f"{path}: the label of {file!r} must be one of {name_some(classes)}, but is"
                f" {name_some(unknown)}. Correct it."
            )
        decision = Decision(action, labels if action == "relabel" else ())
        # The same image may have a doubtful label, and be there twice: to remove it comes first.
        if file not in found or decision.action == "remove":
            found[file] = decision
    return found


def _membership(run: FinishedRun) -> dict[str, tuple[str, str]]:
    """Return the split and the label of every image, by how the user names it."""
    folder = image_folder(run.data)
    found = {}
    for split in _SPLITS:
        dataset = run.data.eval_dataset(split)
        targets = dataset.targets
        for place, file in enumerate(dataset.files):
            label = run.data.classes[int(targets[place])] if targets.ndim == 1 else ""
            found[image_key(str(file), folder)] = (split, label)
    return found


def _refuse_unknown(changes: Mapping[str, Decision], known: Any) -> None:
    unknown = [file for file in changes if file not in known]
    if unknown:
        raise DataError(
            f"Every image to change must be one of the run, but {len(unknown)} are not:"
            f" {name_some(unknown)}. Apply the table that the report of this run has saved."
        )


def _clean_table(
    run: FinishedRun, changes: Mapping[str, Decision], target: Path
) -> tuple[Path, dict[str, Any]]:
    """Write the labels of images in files; return the table and the data of the next recipe."""
    data, members = run.data, _membership(run)
    folder = image_folder(data)
    _refuse_unknown(changes, members)
    options = dict(run.recipe.data.init_args)
    if isinstance(data, ImageFolderDataModule):
        frame = pd.DataFrame(
            [(file, label, split) for file, (split, label) in members.items()],
            columns=["file", "label", "split"],
        )
        frame = _changed_column(frame, frame["file"], changes, "label", "")
        column = "split"
        table: dict[str, Any] = {"labels": {"class_path": _path(SingleLabel)}}
        for name in ("root", "layout"):
            options.pop(name, None)
    elif isinstance(data, ImageCSVDataModule):
        original, place, found = read_label_table(data.csv, data.table, data.split)
        names = original[found.file_column].astype(str).tolist()
        files, _ = find_files(names, place, found.suffix)
        keys = pd.Series([image_key(str(place.resolve() / file), folder) for file in files])
        frame = _changed_labels(original.reset_index(drop=True), keys, changes, found, data)
        column = next(name for name in _SPLIT_COLUMNS if name not in original)
        frame[column] = [members.get(keys[row], ("", ""))[0] for row in frame.index]
        frame = frame[frame[column] != ""]
        table = dict(options.get("table") or {})
        for name in ("separator", "column_names", "encoding"):
            table.pop(name, None)
        if isinstance(found.class_names, str | Path):
            table["class_names"] = str((home_of(data.csv) / found.class_names).absolute())
    else:
        raise DataError(f"Labels of a {type(data).__name__} cannot be mended in a table.")
    write_atomically(target, frame.to_csv(index=False))
    options |= {
        "csv": str(target.absolute()), "table": {**table, "folder": str(folder)}, "split": column,
    }  # fmt: skip
    return target, {"class_path": _path(ImageCSVDataModule), "init_args": options}


def _path(kind: type) -> str:
    return f"lightning_fastrecipes.{kind.__name__}"


def _changed_column(
    frame: pd.DataFrame,
    keys: "pd.Series[Any]",
    changes: Mapping[str, Decision],
    column: str,
    separator: str,
) -> pd.DataFrame:
    removed = [key for key, one in changes.items() if one.action == "remove"]
    labels = {k: separator.join(one.labels) for k, one in changes.items() if k not in removed}
    frame = frame.copy()
    frame[column] = frame[column].astype(object)
    rows = keys.isin(list(labels))
    frame.loc[rows, column] = keys[rows].map(labels)
    return frame[~keys.isin(removed)]


def _changed_labels(
    frame: pd.DataFrame,
    keys: "pd.Series[Any]",
    changes: Mapping[str, Decision],
    table: LabelTable,
    data: Any,
) -> pd.DataFrame:
    """Return a table of labels with what was decided, written as it is written elsewhere in it."""
    labels = table.labels
    if isinstance(labels, Numbers):
        raise DataError("Labels that are numbers cannot be mended by a table of classes.")
    named = getattr(labels, "columns", None) or getattr(labels, "one_hot", None)
    one_each = named if isinstance(named, list) else None
    if one_each is None and not isinstance(labels, SoftLabels):
        column = labels if isinstance(labels, str) else labels.column
        if column in frame:
            is_single = isinstance(labels, SingleLabel) or data.label_kind == "single"
            separator = "" if is_single else _separator(frame[column], labels, data.classes)
            # An image with a row for each label keeps one, which names them all.
            first = ~(keys.isin(list(changes)) & keys.duplicated())
            return _changed_column(frame[first], keys[first], changes, column, separator)
        one_each = list(data.classes)
    removed = [key for key, one in changes.items() if one.action == "remove"]
    frame = frame.copy()
    for key, one in changes.items():
        if one.action == "remove":
            continue
        rows = keys == key
        if isinstance(labels, SoftLabels) and labels.probability_column is not None:
            value = int(labels.classes[1] in one.labels)
            frame.loc[rows, labels.probability_column] = str(value)
            continue
        for name in one_each or list(data.classes):
            frame.loc[rows, name] = str(int(name in one.labels))
    return frame[~keys.isin(removed)]


def _separator(column: "pd.Series[Any]", labels: Any, classes: list[str]) -> str:
    """Return what stands between labels in a column."""
    if isinstance(labels, Tags) and labels.separator != "auto":
        return labels.separator
    text = "\n".join(column.dropna().astype(str))
    inside = "".join(classes)
    return next((s for s in _SEPARATORS if s in text and s not in inside), " ")


def _clean_arrays(
    run: FinishedRun, changes: Mapping[str, Decision], target: Path
) -> tuple[Path, dict[str, Any]]:
    """Write arrays with mended labels; return the file and the data of the next recipe."""
    source = run.data.source
    members = _membership(run)
    _refuse_unknown(changes, members)
    if not isinstance(source, str | Path) or run.data.label_kind != "single":
        raise DataError(
            "Labels of arrays are mended where each image has one, in an `.npz` file. Change"
            " `y_train` and so on yourself: `relabel.csv` names images SPLIT/NUMBER."
        )
    arrays: dict[str, Any] = read_npz(resolve_source(source, "source"))
    gone: dict[str, list[int]] = {}
    for key, one in changes.items():
        split, number = key.split("/")
        place = int(number)
        if one.action == "remove":
            gone.setdefault(split, []).append(place)
        else:
            labels = arrays[f"y_{split}"]
            labels[place] = labels.dtype.type(one.labels[0])
    for split, places in gone.items():
        for letter in "xy":
            name = f"{letter}_{split}"
            arrays[name] = np.delete(arrays[name], places, axis=0)
    with atomic_path(target) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
    options = {**run.recipe.data.init_args, "source": str(target.absolute())}
    return target, {"class_path": run.recipe.data.class_path, "init_args": options}
