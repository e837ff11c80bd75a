"""A trained model as plain files: weights, a JSON description, side tables. Nothing is pickled.

What is read here may be a run folder, or the ``export`` folder in it.
"""

import os
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from lightning_fastrecipes import formats, plain, trust
from lightning_fastrecipes.data.common.files import atomic_path
from lightning_fastrecipes.errors import ConfigurationError, DataError, DataNotFoundError
from lightning_fastrecipes.messages import shown
from lightning_fastrecipes.nn.sized_building import build_sized
from lightning_fastrecipes.old_names import translate_export
from lightning_fastrecipes.recipe.artifacts.reading import (
    EXPORT_CURE,
    file_digest,
    named_errors,
    read_json,
    write_sealed,
)

WEIGHTS, DESCRIPTION, ENSEMBLE = "model.safetensors", "model.json", "ensemble.json"
_MOST_MEMBERS = 1_000
_LARGEST_NUMBER = 1_000_000

Model = TypeVar("Model", bound=nn.Module)

_DIGEST = plain.text(r"[0-9a-f]{64}", "a SHA-256 of 64 digits")
THRESHOLDS = plain.maybe(plain.named(plain.number(0, 1)))
_TEMPERATURE = plain.maybe(plain.number(0.001, 1_000))
_TEMPERATURES = {"temperature": _TEMPERATURE, "plain_temperature": _TEMPERATURE}
_DESCRIPTION = plain.keys(
    {"format_version": plain.whole(1), "architecture": plain.named(plain.anything)},
    {"task": plain.text(), "weights_sha256": _DIGEST, "files": plain.named(_DIGEST)}
    | _TEMPERATURES,
)
_ENSEMBLE = plain.keys(
    {
        "members": plain.items(
            plain.text(r"[^\x00-\x1f\ud800-\udfff]{1,500}", "the name of a folder"),
            1,
            _MOST_MEMBERS,
        )
    },
    {"thresholds": THRESHOLDS, "plain_thresholds": THRESHOLDS} | _TEMPERATURES,
)


def write_export(
    folder: Path,
    model: nn.Module,
    description: Mapping[str, Any],
    files: Mapping[str, Path] | None = None,
) -> None:
    """Write weights and description into a folder, and copy other ``files`` there by their names.

    The description has plain values; ``task`` says what the model predicts.
    """
    state = model.state_dict()
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary)
    digests = {}
    for name, source in (files or {}).items():
        with atomic_path(folder / name) as temporary:
            shutil.copyfile(source, temporary)
        digests[name] = file_digest(folder / name)
    noted = {"format_version": formats.EXPORT, "weights_sha256": file_digest(folder / WEIGHTS)}
    write_sealed(folder / DESCRIPTION, {**noted, "files": digests, **description})


def read_description(folder: Path, check: plain.Check = plain.anything) -> dict[str, Any]:
    """Read the description of an export, in the names of today, always with a ``task``.

    ``check`` is for what the task needs. Raise `DataNotFoundError` if there is no export,
    `DataError` if it is damaged or made by a newer version.
    """
    folder = export_home(folder)
    if not os.path.isfile(folder / DESCRIPTION) or not os.path.isfile(folder / WEIGHTS):
        raise _no_export(folder)

    def check_all(description: Any, key: str) -> None:
        _DESCRIPTION(description, key)
        version = description["format_version"]
        if version > formats.EXPORT:
            raise DataError(
                f"{folder / DESCRIPTION} has format {version}, but this version reads up to"
                f" {formats.EXPORT}. Update lightning_fastrecipes."
            )
        # A network may count up to a number before it has any part that could be counted.
        shape = {k: v for k, v in description["architecture"].items() if k != "spec"}
        plain.modest(_LARGEST_NUMBER)(shape, "architecture")
        check(description, key)

    def translate(description: Mapping[str, Any]) -> dict[str, Any]:
        return translate_export({"task": "", **description})

    return read_json(folder / DESCRIPTION, check_all, EXPORT_CURE, translate)


def load_model(
    folder: Path,
    description: Mapping[str, Any],
    build: Callable[[], Model],
    trusted: trust.Trust = (),
) -> Model:
    """Load an exported model, as ``build`` builds it, in eval mode.

    ``description`` is what ``read_description`` returned for the folder. Raise `DataError` if
    weights or other files are damaged or do not fit, or ``build`` says so.
    """
    home = export_home(folder)
    # Exports of earlier versions have no digests.
    digests = {WEIGHTS: description.get("weights_sha256"), **description.get("files", {})}
    for name, wanted in digests.items():
        path = file_in(home, name)
        if wanted not in (None, file_digest(path)):
            raise DataError(
                f"{path} must hold what was exported with {DESCRIPTION}, but holds something else."
                f" {EXPORT_CURE}"
            )
    with named_errors(home / WEIGHTS, EXPORT_CURE):
        try:
            with safe_open(home / WEIGHTS, "pt") as tensors:
                names = tensors.keys()
                shapes = {name: tuple(tensors.get_slice(name).get_shape()) for name in names}
        except SafetensorError as error:
            raise ConfigurationError(f"it is no safetensors file ({error}).") from error
    with named_errors(home / DESCRIPTION, EXPORT_CURE):
        model = build_sized(build, shapes, trusted=bool(trusted))
    with named_errors(home / WEIGHTS, EXPORT_CURE):
        model.load_state_dict(load_file(home / WEIGHTS))
    return model.eval()


def export_home(folder: Path) -> Path:
    """Return the ``export`` folder of a run folder, or the folder itself if it is one."""
    return folder / "export" if os.path.isdir(folder / "export") else folder


def _no_export(folder: Path) -> DataNotFoundError:
    return DataNotFoundError(
        f"There is no exported model in {folder} (`{WEIGHTS}` and `{DESCRIPTION}`). Name the folder"
        " of a finished `fastrecipes run`."
    )


def file_in(home: Path, name: str) -> Path:
    """Return a file of an export by its name; raise `DataError` if it lies elsewhere or is not."""
    path = home / name
    if not path.resolve().is_relative_to(home.resolve()):
        raise DataError(f"{home / DESCRIPTION} must name files of its folder, not {shown(name)}.")
    if not os.path.isfile(path):
        raise DataNotFoundError(f"{path} is missing, which belongs to the export. {EXPORT_CURE}")
    return path


def write_ensemble(folder: Path, members: Sequence[str], notes: Mapping[str, Any]) -> None:
    """Write which exported models predict together, and notes such as thresholds of their mean."""
    write_sealed(folder / ENSEMBLE, {"members": list(members), **notes})


def read_ensemble(folder: Path) -> dict[str, Any]:
    """Read what ``write_ensemble`` wrote; an empty dict where one model predicts."""
    path = export_home(folder) / ENSEMBLE
    return read_json(path, _ENSEMBLE, EXPORT_CURE) if os.path.lexists(path) else {}


def read_temperature(folders: Sequence[Path], *, with_views: bool) -> float:
    """Return the temperature of what a run predicts, with or without views, from its validation.

    Raise `DataError` if it has none, or several runs predict together.
    """
    if len(folders) > 1:
        raise DataError(
            f"Calibrated probabilities are those of one run, got {len(folders)}. Name one, or"
            " leave `calibrated` out."
        )
    notes = read_ensemble(folders[0]) or read_description(member_folders(folders[0])[0])
    plain_one = notes.get("plain_temperature")
    found: float | None = notes.get("temperature")
    found = found if with_views or plain_one is None else plain_one
    if found is None:
        raise DataError(
            f"{folders[0]} has no temperature to calibrate probabilities with. A run of one class"
            " per sample has one if it evaluated a validation split in which something was wrong."
            " Predict without `calibrated`, or run it again with such a split."
        )
    return found


def member_folders(folder: Path) -> list[Path]:
    """Return the exported models that predict together, or the one that predicts alone.

    Raise `DataError` if one is listed twice, or lies outside of the run folder.
    """
    home = export_home(folder)
    if not os.path.isdir(home):
        raise _no_export(home)
    names = read_ensemble(folder).get("members", [""])
    # Not by `Path.resolve`, which raises an error of its own at a link to itself.
    real = Path(os.path.realpath(home))
    run = real.parent if home.name == "export" else real
    places = {Path(os.path.realpath(home / name)) for name in names}
    if len(places) < len(names) or not all(place.is_relative_to(run) for place in places):
        raise DataError(
            f"{home / ENSEMBLE} must list each exported model of the run folder once, but lists"
            f" {shown(names)}. {EXPORT_CURE}"
        )
    return [home / name for name in names]


def checked_architecture(
    folder: Path, description: Mapping[str, Any], keys: Collection[str], trusted: trust.Trust
) -> dict[str, Any]:
    """Return the architecture; raise `DataError` if it has other keys, or classes not trusted."""
    try:
        return trust.check_architecture(description["architecture"], trusted, keys)
    except ConfigurationError as error:
        raise DataError(f"The exported model in {folder} is not loaded: {error}") from error
