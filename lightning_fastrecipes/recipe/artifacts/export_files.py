"""A trained model as two plain files, weights and a JSON description. Nothing is pickled.

What is read here may be a run folder, or the ``export`` folder in it.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from lightning_fastrecipes import formats, trust
from lightning_fastrecipes.data.common.files import atomic_path, write_atomically
from lightning_fastrecipes.errors import ConfigurationError, DataError, DataNotFoundError
from lightning_fastrecipes.old_names import translate_export

WEIGHTS, DESCRIPTION, ENSEMBLE = "model.safetensors", "model.json", "ensemble.json"

Model = TypeVar("Model", bound=nn.Module)


def write_export(folder: Path, model: nn.Module, description: Mapping[str, Any]) -> None:
    """Write weights and description into a folder.

    The description has plain values; ``task`` says what the model predicts.
    """
    state = model.state_dict()
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary)
    noted = {"format_version": formats.EXPORT, "weights_sha256": _digest(folder / WEIGHTS)}
    text = json.dumps({**noted, **description}, indent=2)
    write_atomically(folder / DESCRIPTION, text)


def read_description(folder: Path) -> dict[str, Any]:
    """Read the description of an export, in the names of today, always with a ``task``.

    Raise `DataNotFoundError` if there is no export, `DataError` if it is damaged or made by a newer
    version.
    """
    folder = export_home(folder)
    if not (folder / DESCRIPTION).is_file() or not (folder / WEIGHTS).is_file():
        raise DataNotFoundError(
            f"There is no exported model in {folder} (`{WEIGHTS}` and `{DESCRIPTION}`). Name the"
            " folder of a finished `fastrecipes run`."
        )
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        version = description["format_version"]
        is_newer = version > formats.EXPORT
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise _damaged(folder, error) from error
    if is_newer:
        raise DataError(
            f"{folder / DESCRIPTION} has format {version}, but this version reads up to"
            f" {formats.EXPORT}. Update lightning_fastrecipes."
        )
    return translate_export({"task": "", **description})


def load_model(
    folder: Path, build: Callable[[dict[str, Any]], Model]
) -> tuple[Model, dict[str, Any]]:
    """Load an exported model, as ``build`` builds it from its description; return both.

    The model is in eval mode. ``folder`` is a run folder or the ``export`` folder in it. Raise
    `DataNotFoundError` if there is no export, `DataError` if it is damaged, made by a newer
    version, or ``build`` says so.
    """
    description = read_description(folder)
    weights = export_home(folder) / WEIGHTS
    # Exports of earlier versions have no digest.
    if description.get("weights_sha256", digest := _digest(weights)) != digest:
        raise DataError(
            f"{weights} must hold the weights that were exported with {DESCRIPTION}, but holds"
            " others. Copy the whole export again."
        )
    try:
        model = build(description)
        model.load_state_dict(load_file(weights))
    except DataError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise _damaged(folder, error) from error
    return model.eval(), description


def export_home(folder: Path) -> Path:
    """Return the ``export`` folder of a run folder, or the folder itself if it is one."""
    return folder / "export" if (folder / "export").is_dir() else folder


def write_ensemble(folder: Path, members: Sequence[str], notes: Mapping[str, Any]) -> None:
    """Write which exported models predict together, and notes such as thresholds of their mean."""
    text = json.dumps({"members": list(members), **notes}, indent=2) + "\n"
    write_atomically(folder / ENSEMBLE, text)


def read_ensemble(folder: Path) -> dict[str, Any]:
    """Read what ``write_ensemble`` wrote; an empty dict where one model predicts."""
    path = export_home(folder) / ENSEMBLE
    ensemble = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return dict(ensemble)


def member_folders(folder: Path) -> list[Path]:
    """Return the exported models that predict together, or the one that predicts alone.

    Raise `DataError` if one is listed twice, or lies outside of the run folder.
    """
    home = export_home(folder)
    names = read_ensemble(folder).get("members", [""])
    run = home.resolve().parent if home.name == "export" else home.resolve()
    places = {(home / str(name)).resolve() for name in names}
    is_list = isinstance(names, list) and len(places) == len(names)
    if not is_list or not all(place.is_relative_to(run) for place in places):
        raise DataError(
            f"{home / ENSEMBLE} must list each exported model of the run folder once, but lists"
            f" {str(names)[:100]}. Copy the whole run folder."
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


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _damaged(folder: Path, error: Exception) -> DataError:
    return DataError(f"The exported model in {folder} is damaged: {error}")
