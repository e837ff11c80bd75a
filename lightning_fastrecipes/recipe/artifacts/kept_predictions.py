"""What a model of a fold predicted, as it was measured, to be brought together with the others."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lightning_fastrecipes.data.common.files import atomic_path
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.recipe.artifacts.reading import RUN_CURE

_SEAL = "sha256"


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
            save_file(tensors, temporary, metadata={_SEAL: _digest(tensors)})


def has_kept(folder: Path, split: str) -> bool:
    """Return whether a run of a fold has kept its predictions."""
    return _file(folder, split).is_file()


def read_kept(folder: Path, split: str) -> KeptPredictions:
    """Read what a run of a fold has kept; a `DataError` if the file is missing or damaged."""
    path = _file(folder, split)
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            seal = (file.metadata() or {}).get(_SEAL)
        kept = KeptPredictions(**tensors)
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}. {RUN_CURE}") from error
    if seal != _digest(tensors):
        raise DataError(
            f"{path} must hold what was written, but it was changed: its digest differs. {RUN_CURE}"
        )
    return kept


def read_folds(folders: Mapping[str, Path], split: str) -> list[KeptPredictions]:
    """Read what runs of several folds have kept.

    Raise `DataError` if a file is missing or damaged, or does not fit that of the first fold.
    """
    parts = [read_kept(folder, split) for folder in folders.values()]
    for folder, part in zip(folders.values(), parts, strict=True):
        if _shapes(part, split) != _shapes(parts[0], split):
            raise DataError(
                f"{_file(folder, split)} must fit what the first fold predicted, but is of other"
                f" classes, targets or rows. {RUN_CURE}"
            )
    return parts


def _shapes(kept: KeptPredictions, split: str) -> list[tuple[int, ...]]:
    """Return what all folds have in common: each has rows of its own to validate on."""
    start = 1 if split == "val" else 0
    return [tuple(tensor.shape[start:]) for tensor in vars(kept).values()]


def _digest(tensors: Mapping[str, Tensor]) -> str:
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {[*tensor.shape]}".encode())
        found.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def _file(folder: Path, split: str) -> Path:
    return folder / f"predictions_{split}.safetensors"
