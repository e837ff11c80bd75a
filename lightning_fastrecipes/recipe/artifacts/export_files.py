"""A trained model as two plain files: weights and one JSON. Nothing is pickled."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lightning_fastrecipes.data.common.files import atomic_path, write_atomically
from lightning_fastrecipes.errors import DataError, DataNotFoundError
from lightning_fastrecipes.old_names import translate_export

FORMAT_VERSION = 1
WEIGHTS, DESCRIPTION, ENSEMBLE = "model.safetensors", "model.json", "ensemble.json"


def write_export(folder: Path, model: nn.Module, description: Mapping[str, Any]) -> None:
    """Write weights and description.

    Args:
        folder: Where the two files go.
        model: The trained model.
        description: Plain values; ``task`` says of what kind the model is.
    """
    tensors = {
        name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()
    }
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary)
    text = json.dumps({"format_version": FORMAT_VERSION, **description}, indent=2)
    write_atomically(folder / DESCRIPTION, text)


def read_export(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what ``write_export`` wrote.

    Args:
        folder: A run folder, or the ``export`` folder in it.

    Returns:
        The description, and the weights by name.

    Raises:
        DataNotFoundError: If there is no export.
        DataError: If it is damaged, or made by a newer version.
    """
    folder = export_home(folder)
    if not (folder / DESCRIPTION).is_file() or not (folder / WEIGHTS).is_file():
        raise DataNotFoundError(
            f"There is no exported model in {folder} (`{WEIGHTS}` and `{DESCRIPTION}`). Name the"
            " folder of a finished `fastrecipes run`."
        )
    try:
        description: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        version = description["format_version"]
        if version > FORMAT_VERSION:
            raise DataError(
                f"{folder / DESCRIPTION} has format {version}, but this version reads up to"
                f" {FORMAT_VERSION}. Update lightning_fastrecipes."
            )
        description.setdefault("task", "")
        return translate_export(description), load_file(folder / WEIGHTS)
    except (KeyError, TypeError, SafetensorError, json.JSONDecodeError) as error:
        raise DataError(f"The exported model in {folder} is damaged: {error}") from error


def export_home(folder: Path) -> Path:
    """Return the ``export`` folder of a run folder, or the folder itself if it is one."""
    return folder / "export" if (folder / "export").is_dir() else folder


def member_folders(folder: Path) -> list[Path]:
    """List the exported models that predict together.

    Args:
        folder: A run folder, or the ``export`` folder in it.

    Returns:
        The members of an exported ensemble, or the one exported model.
    """
    folder = export_home(folder)
    if not (folder / ENSEMBLE).is_file():
        return [folder]
    members = json.loads((folder / ENSEMBLE).read_text(encoding="utf-8"))["members"]
    return [folder / name for name in members]


def is_table_export(folder: Path) -> bool:
    """Return whether a run's model is of a table; without a readable export, it is not.

    Args:
        folder: A run folder, or the ``export`` folder in it.

    Returns:
        Whether the model is of a table.
    """
    try:
        description = json.loads((member_folders(folder)[0] / DESCRIPTION).read_text("utf-8"))
    except (OSError, json.JSONDecodeError, IndexError, KeyError):
        return False
    return isinstance(description, dict) and str(description.get("task")).startswith("table ")
