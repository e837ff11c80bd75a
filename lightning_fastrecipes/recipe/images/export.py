"""A trained classifier of images in files, and its predictions of other images."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_fastrecipes.data.images.datamodules import ImageDataModule, prediction_dataset
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.images.views import mean_of_views
from lightning_fastrecipes.functional.labels.merging import (
    columns_by_name,
    merge_predictions,
    weigh,
)
from lightning_fastrecipes.protocols import InputSpec
from lightning_fastrecipes.recipe.artifacts.export_files import (
    ENSEMBLE,
    export_home,
    member_folders,
    read_export,
    write_export,
)
from lightning_fastrecipes.recipe.images.views import exported_views
from lightning_fastrecipes.recipe.shared.predictions import prediction_table
from lightning_fastrecipes.tasks.image import ImageClassifier

TASK = "image classification"


def export_model(
    folder: Path, model: ImageClassifier, images: ImageDataModule, views: Mapping[str, Any]
) -> None:
    """Write weights and description.

    Args:
        folder: Where the two files go.
        model: The trained model.
        images: Its datamodule, at the size and batch size of the evaluation.
        views: As ``describe_views`` gives them, with ``thresholds`` where others than the model's
            own hold, and ``plain_thresholds`` for predictions without views.
    """
    description = {
        "task": TASK,
        "architecture": model.architecture,
        "classes": model.classes,
        "label_kind": model.label_kind,
        "thresholds": named_thresholds(model),
        "input": asdict(model.input_spec),
        "geometry": images.eval_transform_key(),
        "batch_size": images.batch_size,
        **views,
    }
    write_export(folder, model, description)


def named_thresholds(
    model: ImageClassifier, thresholds: Tensor | None = None
) -> dict[str, float] | None:
    """Return each label's threshold by its name, for a model of several labels per image.

    Args:
        model: A model that knows its classes.
        thresholds: Others, in place of the model's own.

    Returns:
        Name to threshold, or ``None`` for one label per image.
    """
    if model.thresholds is None:
        return None
    # The shortest text that gives the same number again.
    found = model.thresholds if thresholds is None else thresholds
    values = [float(str(value)) for value in found.cpu().numpy()]
    return dict(zip(model.classes or [], values, strict=True))


def load_export(folder: Path) -> tuple[ImageClassifier, dict[str, Any]]:
    """Build the model that ``export_model`` wrote.

    Args:
        folder: A run folder, or the ``export`` folder in it.

    Returns:
        The model in eval mode, and its description.

    Raises:
        DataNotFoundError: If there is no export.
        DataError: If it is damaged, or made by a newer version.
    """
    description, weights = read_export(folder)
    if description["task"] != TASK:
        raise DataError(
            f"The export in {folder} must be of a model of images, but is of a"
            f" {description['task']}. Give it a table to predict."
        )
    try:
        model = ImageClassifier.from_architecture(description["architecture"])
        model.set_classes(description["classes"], description["label_kind"])
        model.load_state_dict(weights)
    except (KeyError, TypeError, RuntimeError) as error:
        raise DataError(f"The exported model in {folder} is damaged: {error}") from error
    spec = description["input"]
    spec |= {"mean": tuple(spec["mean"]), "std": tuple(spec["std"])}
    model.set_input_spec(InputSpec(**spec))
    return model.eval(), description


def predict_files(
    folders: Path | Sequence[Path],
    paths: Sequence[Path],
    device: torch.device | None = None,
    *,
    tta: bool | None = None,
) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Predict images with exported models, in 32-bit arithmetic as the evaluation does.

    Several models are merged: the mean of their probabilities, classes matched by name. Each sees
    the images in its own size and geometry, and one is in memory at a time. Where images have
    several labels, those are given whose probability reaches their threshold: the one that was
    tuned with the export, or the mean of those of several exports.

    Args:
        folders: Run folders, or the ``export`` folders in them; one may hold an ensemble.
        paths: Files, or folders that are searched with all below them.
        device: Where to compute; a CUDA card if there is one, else the CPU, if ``None``.
        tta: Whether views of each image predict as well; as each run was evaluated if ``None``.

    Returns:
        The table of ``prediction_table``, and what could not be read: file name and reason.

    Raises:
        DataNotFoundError: If a path or an export is missing.
        DataError: If the models do not know the same classes, or have no views to predict with.
    """
    where = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    listed = [folders] if isinstance(folders, Path) else folders
    found = _Predicted()
    members = [member for folder in listed for member in member_folders(folder)]
    try:
        merged = merge_predictions(
            _predict_with(member, paths, where, found, tta) for member in members
        )
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"The models cannot predict together: {error}") from error
    thresholds = _mean_thresholds(listed, found)
    table = prediction_table(found.files, merged, found.classes, thresholds=thresholds)
    return table, found.bad


def _mean_thresholds(folders: Sequence[Path], found: "_Predicted") -> Tensor | None:
    """Average the thresholds of exports; those of an ensemble were tuned for its members' mean."""
    if not found.thresholds:
        return None
    rows = []
    for folder in folders:
        place = export_home(folder)
        noted: dict[str, Any] = {}
        if (place / ENSEMBLE).is_file():
            noted = json.loads((place / ENSEMBLE).read_text(encoding="utf-8"))
        members = [found.thresholds[member] for member in member_folders(folder)]
        together = _chosen_thresholds(noted, found.sees_views)
        named = members if together is None else [together]
        rows += [[sum(row[name] for row in named) / len(named) for name in found.classes]]
    return torch.tensor(rows).mean(dim=0)


def _chosen_thresholds(noted: Mapping[str, Any], sees_views: bool) -> dict[str, float] | None:
    """Take those of predictions with views, or without where there are some of their own."""
    with_views: dict[str, float] | None = noted.get("thresholds")
    without: dict[str, float] | None = noted.get("plain_thresholds")
    return with_views if sees_views or without is None else without


@dataclass
class _Predicted:
    """What all members have in common."""

    classes: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    bad: list[tuple[str, str]] = field(default_factory=list)
    loaded: set[Path] = field(default_factory=set)
    thresholds: dict[Path, dict[str, float]] = field(default_factory=dict)
    sees_views: bool = False


def _predict_with(
    folder: Path,
    paths: Sequence[Path],
    device: torch.device,
    found: _Predicted,
    tta: bool | None,
) -> Tensor:
    model, description = load_export(folder)
    views = exported_views(description, tta)
    dataset, found.bad = prediction_dataset(paths, **description["geometry"])
    found.files = [str(name) for name in dataset.files]
    classes = list(model.classes or [])
    found.classes = found.classes or classes
    columns = columns_by_name(found.classes, classes)
    found.sees_views = views is not None
    thresholds = _chosen_thresholds(description, found.sees_views)
    found.loaded.add(folder)
    if thresholds is not None:
        found.thresholds[folder] = thresholds
    if found.thresholds and set(found.thresholds) != found.loaded:
        raise ValueError("some give one label per image, and others several")
    loader = DataLoader(dataset, batch_size=description["batch_size"])
    model.to(device, memory_format=torch.channels_last)
    chunks = [torch.empty(0, model.num_classes)]

    def predict(images: Tensor) -> Tensor:
        return model.probabilities(model(images))

    with torch.inference_mode():
        for served, _ in loader:
            seen = served.to(device)
            probabilities = predict(seen)
            if views is not None:
                start = sum(map(len, chunks))
                places = torch.arange(start, start + len(seen))
                mean = mean_of_views(views, predict, seen, places, model.input_spec)
                probabilities = weigh(probabilities, mean, views.weight)
            chunks.append(probabilities.cpu())
    return torch.cat(chunks)[:, columns]
