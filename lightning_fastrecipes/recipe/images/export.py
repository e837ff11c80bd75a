"""A trained model of images in files, and its predictions of other images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_fastrecipes.data.images.dataset import ImageDataset, prediction_dataset
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.images.views import Views, mean_of_views
from lightning_fastrecipes.functional.labels.calibration import at_temperature
from lightning_fastrecipes.functional.labels.classes import columns_by_name
from lightning_fastrecipes.functional.labels.decisions import average_thresholds, choose_thresholds
from lightning_fastrecipes.functional.labels.merging import (
    merge_predictions,
    named_agreement,
    stack_predictions,
    weigh,
)
from lightning_fastrecipes.functional.labels.numbers import NumberTarget, read_targets
from lightning_fastrecipes.life_signs import track
from lightning_fastrecipes.protocols import InputSpec
from lightning_fastrecipes.recipe.artifacts.environment import default_device
from lightning_fastrecipes.recipe.artifacts.export_files import (
    DESCRIPTION,
    checked_architecture,
    export_home,
    load_model,
    member_folders,
    read_ensemble,
    read_temperature,
)
from lightning_fastrecipes.recipe.artifacts.reading import EXPORT_CURE, named_errors
from lightning_fastrecipes.recipe.images.description import TASK, Model, read_image_description
from lightning_fastrecipes.recipe.images.number_reports import number_table
from lightning_fastrecipes.recipe.images.reports import DECIMALS, prediction_table
from lightning_fastrecipes.recipe.images.views import exported_views
from lightning_fastrecipes.recipe.shared.predictions import append_columns, check_finite
from lightning_fastrecipes.tasks.image import ImageClassifier
from lightning_fastrecipes.tasks.image_regressor import ImageRegressor
from lightning_fastrecipes.trust import Trust

_KEYS = ("backbone", "head", "num_groups", "norm_policy")


def load_export(
    folder: Path, *, trust: Trust = (), network: nn.Module | None = None
) -> tuple[Model, dict[str, Any]]:
    """Load an exported model of images, whose network may be of the modules in ``trust``.

    A ``network`` is taken in place of the one that would be built.
    """
    description = read_image_description(folder)
    is_classifier = description["task"] == TASK
    keys = [*_KEYS, "num_classes", "labels"] if is_classifier else _KEYS
    architecture = checked_architecture(folder, description, keys, trust)
    if network is not None:
        architecture["backbone"] = network
        trust = (*trust, type(network).__module__)

    def build() -> Model:
        model: Model
        if is_classifier:
            model = ImageClassifier.from_architecture(architecture)
            model.set_classes(description["classes"], description["label_kind"])
        else:
            model = ImageRegressor.from_architecture(architecture)
            model.set_numbers(description["numbers"])
        spec = InputSpec.from_plain(description["input"])
        if shape := description.get("mean_image"):
            spec = replace(spec, mean_image=torch.zeros(shape))
        model.set_input_spec(spec)
        return model

    model = load_model(folder, description, build, trust)
    with named_errors(export_home(folder) / DESCRIPTION, EXPORT_CURE):
        model.backbone.check_image_size(description["geometry"]["image_size"])
    if model.has_mean_image:
        # It has come with the weights.
        spec = replace(model.input_spec, mean_image=model.pixel_mean[0] / 255)
        model.set_input_spec(spec)
    return model.to(default_device(), memory_format=torch.channels_last), description


def predict_files(
    folders: Path | Sequence[Path],
    paths: Sequence[Path],
    *,
    tta: bool | None = None,
    agreement: bool = False,
    calibrated: bool = False,
    trust: Trust = (),
    load: Callable[[Path], Any] | None = None,
) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Predict images with exported models, in 32-bit arithmetic as the evaluation does.

    Several models are merged: the mean of their probabilities or numbers, matched by name. Each
    sees the images in its own size and geometry, and one is in memory at a time. Where images have
    several labels, those are given whose probability reaches their threshold: the one that was
    tuned with the export, or the mean of those of several exports.

    ``folders`` are run folders or the ``export`` folders in them; one may hold an ensemble.
    ``paths`` are files, or folders that are searched with all below them. With ``tta`` views of
    each image predict as well; ``None`` is as each run was evaluated. With ``agreement`` a column
    more says how many of the models decide as they do together; ``calibrated`` probabilities of one
    run are at the temperature that fits its validation split. ``trust`` names modules whose
    networks may be built besides those of known packages. ``load`` gives model and description of
    an export, as ``load_export`` does, on the device to predict on. Return the table of
    ``prediction_table``, and name and reason of each file that cannot be read. Raise
    `DataNotFoundError` if a path or an export is missing, `DataError` if the models do not know the
    same classes, or have no views to predict with.
    """
    listed = [folders] if isinstance(folders, Path) else folders
    runs = [
        [_member(path, paths, tta, trust) for path in member_folders(folder)] for folder in listed
    ]
    members = [member for run in runs for member in run]
    names = _shared_names(members)
    has_views = bool(members) and members[0].views is not None
    temperature = read_temperature(listed, with_views=has_views) if calibrated else None
    load = load or (lambda path: load_export(path, trust=trust))
    predictions = (_predict_with(member, names, *load(member.path)) for member in members)
    # All are held at a time only where each is asked for.
    each = stack_predictions(predictions) if agreement else None
    merged = merge_predictions(predictions if each is None else each)
    if temperature is not None:
        merged = torch.from_numpy(at_temperature(merged.double().numpy(), temperature))
    thresholds = None
    if members[0].thresholds is not None:
        rows = [_run_thresholds(*run, names) for run in zip(listed, runs, strict=True)]
        thresholds = torch.tensor(rows).mean(dim=0)
    files = [str(name) for name in members[0].dataset.files]
    if members[0].numbers:
        agree = {} if each is None else named_agreement(each, merged, numbers=names)
        return number_table(files, merged, members[0].numbers, agreement=agree), members[0].bad
    table = prediction_table(files, merged, names, thresholds=thresholds)
    if each is not None:
        table = append_columns(table, named_agreement(each, merged, thresholds), DECIMALS)
    return table, members[0].bad


@dataclass(frozen=True)
class _Member:
    """An exported model, and the images as it expects them."""

    path: Path
    description: dict[str, Any]
    views: Views | None
    dataset: ImageDataset
    bad: list[tuple[str, str]]

    @property
    def numbers(self) -> tuple[NumberTarget, ...]:
        found = self.description.get("numbers")
        return () if found is None else read_targets(found)

    @property
    def names(self) -> list[str]:
        classes: list[str] = self.description.get("classes", [])
        return [number.name for number in self.numbers] or classes

    @property
    def thresholds(self) -> dict[str, float] | None:
        return choose_thresholds(self.description, with_views=self.views is not None)


def _member(path: Path, images: Sequence[Path], tta: bool | None, trust: Trust) -> _Member:
    description = read_image_description(path)
    # Views may name transforms of other modules, so that they are built where these are trusted.
    with named_errors(export_home(path) / DESCRIPTION, EXPORT_CURE):
        views = exported_views(description, tta, trust)
    dataset, bad = prediction_dataset(images, **description["geometry"], views=views)
    return _Member(path, description, views, dataset, bad)


def _shared_names(members: Sequence[_Member]) -> list[str]:
    """Return the classes or numbers of the first member, which the others must know as well."""
    if not members:
        raise DataError("`folders` must name at least one run, got none.")
    names, reason = members[0].names, None
    what = "numbers" if members[0].numbers else "classes"
    try:
        for member in members:
            columns_by_name(names, member.names, what)
    except ValueError as error:
        reason = str(error)
    if len({member.thresholds is None for member in members}) > 1:
        reason = "some give one label per image, and others several"
    if len({bool(member.numbers) for member in members}) > 1:
        reason = "some give numbers, and others classes"
    if reason is not None:
        raise DataError(f"The models cannot predict together: {reason}")
    return names


def _predict_with(
    member: _Member, names: Sequence[str], model: Model, description: Mapping[str, Any]
) -> Tensor:
    device = model.device
    columns = columns_by_name(names, member.names)
    loader = DataLoader(member.dataset, batch_size=description["batch_size"])
    chunks = [] if member.numbers else [torch.empty(0, len(columns))]

    def predict(images: Tensor) -> Tensor:
        return model.probabilities(model(images))

    views, count = member.views, len(member.dataset)
    with torch.inference_mode():
        for served, _, *loaded in track(loader, "Predicting images", count, _rows):
            images = served.to(device)
            probabilities = predict(images)
            if views is not None:
                made = loaded[0].to(device) if loaded else None
                mean = mean_of_views(views, predict, images, model.input_spec, made)
                probabilities = weigh(probabilities, mean, views.weight)
            chunks.append(probabilities.cpu())
    found = check_finite(torch.cat(chunks or [torch.empty(0)]), member.path)
    return found[:, columns] if found.ndim == 2 else found


def _rows(batch: Sequence[Tensor]) -> int:
    return len(batch[0])


def _run_thresholds(folder: Path, run: Sequence[_Member], classes: Sequence[str]) -> list[float]:
    """Return the thresholds of a run: those tuned for its members' mean, or else their mean."""
    together = choose_thresholds(read_ensemble(folder), with_views=run[0].views is not None)
    rows = [together] if together else [member.thresholds or {} for member in run]
    return average_thresholds(rows, classes)
