"""What a model of a fold predicted, as it was measured, to be brought together with the others."""

from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lightning_fastrecipes.data.common.files import atomic_path
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.recipe.artifacts.reading import RUN_CURE


@dataclass(frozen=True)
class KeptPredictions:
    """Predictions of one split in the order of its rows: ``plain`` ones, and those with views.

    ``merged`` are ``plain`` where the evaluation has no views.
    """

    plain: Tensor
    merged: Tensor
    targets: Tensor

    def write(self, folder: Path, split: str) -> None:
        """Write them into a run folder."""
        tensors = {name: value.contiguous().clone() for name, value in vars(self).items()}
        with atomic_path(_file(folder, split)) as temporary:
            save_file(tensors, temporary)


def has_kept(folder: Path, split: str) -> bool:
    """Return whether a run of a fold has kept its predictions."""
    return _file(folder, split).is_file()


def read_kept(folder: Path, split: str) -> KeptPredictions:
    """Read what a run of a fold has kept; a `DataError` if the file is missing or damaged."""
    path = _file(folder, split)
    try:
        return KeptPredictions(**load_file(path))
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}. {RUN_CURE}") from error


def _file(folder: Path, split: str) -> Path:
    return folder / f"predictions_{split}.safetensors"
