"""A trained classifier of images in files, and its predictions of other images."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_fastrecipes.data.images.dataset import ImageDataset, prediction_dataset
from lightning_fastrecipes.data.images.module import ImageDataModule
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.images.views import Views, mean_of_views
from lightning_fastrecipes.functional.labels.classes import columns_by_name
from lightning_fastrecipes.functional.labels.decisions import average_thresholds, choose_thresholds
from lightning_fastrecipes.functional.labels.merging import merge_predictions, weigh
from lightning_fastrecipes.protocols import InputSpec
from lightning_fastrecipes.recipe.artifacts.environment import default_device
from lightning_fastrecipes.recipe.artifacts.export_files import (
    checked_architecture,
    load_model,
    member_folders,
    read_description,
    read_ensemble,
)
from lightning_fastrecipes.recipe.images.reports import prediction_table
from lightning_fastrecipes.recipe.images.views import exported_views
from lightning_fastrecipes.tasks.image import ImageClassifier
from lightning_fastrecipes.trust import Trust

TASK = "image classification"
_KEYS = ("backbone", "num_classes", "head", "num_groups", "norm_policy")


def describe_classifier(model: ImageClassifier, images: ImageDataModule) -> dict[str, Any]:
    """Return what ``load_export`` must know of a model besides its weights, as plain values.

    The thresholds of several labels are filled in by the evaluation.
    """
    return {
        "task": TASK,
        "architecture": model.architecture,
        "classes": model.classes,
        "label_kind": model.label_kind,
        "thresholds": None,
        "input": asdict(model.input_spec),
        "geometry": images.eval_transform_key(),
        "batch_size": images.batch_size,
    }


def load_export(folder: Path, *, trust: Trust = ()) -> tuple[ImageClassifier, dict[str, Any]]:
    """Load an exported classifier of images, whose network may be of the modules in ``trust``."""

    def build(description: dict[str, Any]) -> ImageClassifier:
        _check_task(folder, description)
        architecture = checked_architecture(folder, description, _KEYS, trust)
        model = ImageClassifier.from_architecture(architecture)
        model.set_classes(description["classes"], description["label_kind"])
        spec = description["input"]
        spec |= {"mean": tuple(spec["mean"]), "std": tuple(spec["std"])}
        model.set_input_spec(InputSpec(**spec))
        return model

    return load_model(folder, build)


def predict_files(
    folders: Path | Sequence[Path],
    paths: Sequence[Path],
    *,
    tta: bool | None = None,
    trust: Trust = (),
) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Predict images with exported models, in 32-bit arithmetic as the evaluation does.

    Several models are merged: the mean of their probabilities, classes matched by name. Each sees
    the images in its own size and geometry, and one is in memory at a time. Where images have
    several labels, those are given whose probability reaches their threshold: the one that was
    tuned with the export, or the mean of those of several exports.

    ``folders`` are run folders or the ``export`` folders in them; one may hold an ensemble.
    ``paths`` are files, or folders that are searched with all below them. With ``tta`` views of
    each image predict as well; ``None`` is as each run was evaluated. ``trust`` names modules whose
    networks may be built besides those of known packages. Return the table of
    ``prediction_table``, and name and reason of each file that cannot be read. Raise
    `DataNotFoundError` if a path or an export is missing, `DataError` if the models do not know the
    same classes, or have no views to predict with.
    """
    listed = [folders] if isinstance(folders, Path) else folders
    runs = [
        [_member(path, paths, tta, trust) for path in member_folders(folder)] for folder in listed
    ]
    members = [member for run in runs for member in run]
    classes = _shared_classes(members)
    merged = merge_predictions(_predict_with(member, classes, trust) for member in members)
    thresholds = None
    if members[0].thresholds is not None:
        rows = [_run_thresholds(*run, classes) for run in zip(listed, runs, strict=True)]
        thresholds = torch.tensor(rows).mean(dim=0)
    files = [str(name) for name in members[0].dataset.files]
    return prediction_table(files, merged, classes, thresholds=thresholds), members[0].bad


@dataclass(frozen=True)
class _Member:
    """An exported model, and the images as it expects them."""

    path: Path
    description: dict[str, Any]
    views: Views | None
    dataset: ImageDataset
    bad: list[tuple[str, str]]

    @property
    def thresholds(self) -> dict[str, float] | None:
        return choose_thresholds(self.description, with_views=self.views is not None)


def _member(path: Path, images: Sequence[Path], tta: bool | None, trust: Trust) -> _Member:
    description = read_description(path)
    _check_task(path, description)
    views = exported_views(description, tta, trust)
    dataset, bad = prediction_dataset(images, **description["geometry"], views=views)
    return _Member(path, description, views, dataset, bad)


def _shared_classes(members: Sequence[_Member]) -> list[str]:
    """Return the classes of the first member, which the others must know as well."""
    if not members:
        raise DataError("`folders` must name at least one run, got none.")
    classes: list[str] = members[0].description["classes"]
    reason = None
    try:
        for member in members:
            columns_by_name(classes, member.description["classes"])
    except ValueError as error:
        reason = str(error)
    if len({member.thresholds is None for member in members}) > 1:
        reason = "some give one label per image, and others several"
    if reason is not None:
        raise DataError(f"The models cannot predict together: {reason}")
    return classes


def _predict_with(member: _Member, classes: Sequence[str], trust: Trust) -> Tensor:
    device = default_device()
    model, description = load_export(member.path, trust=trust)
    columns = columns_by_name(classes, description["classes"])
    loader = DataLoader(member.dataset, batch_size=description["batch_size"])
    model.to(device, memory_format=torch.channels_last)
    chunks = [torch.empty(0, model.require_classes())]

    def predict(images: Tensor) -> Tensor:
        return model.probabilities(model(images))

    views, start = member.views, 0
    with torch.inference_mode():
        for served, _, *loaded in loader:
            images = served.to(device)
            probabilities = predict(images)
            if views is not None:
                places = torch.arange(start, start + len(images))
                made = loaded[0].to(device) if loaded else None
                mean = mean_of_views(views, predict, images, places, model.input_spec, made)
                probabilities = weigh(probabilities, mean, views.weight)
            chunks.append(probabilities.cpu())
            start += len(images)
    return torch.cat(chunks)[:, columns]


def _run_thresholds(folder: Path, run: Sequence[_Member], classes: Sequence[str]) -> list[float]:
    """Return the thresholds of a run: those tuned for its members' mean, or else their mean."""
    together = choose_thresholds(read_ensemble(folder), with_views=run[0].views is not None)
    rows = [together] if together else [member.thresholds or {} for member in run]
    return average_thresholds(rows, classes)


def _check_task(folder: Path, description: Mapping[str, Any]) -> None:
    if description["task"] != TASK:
        raise DataError(
            f"The export in {folder} must be of a model of images, but is of a"
            f" {description['task']}. Give it a table to predict."
        )
