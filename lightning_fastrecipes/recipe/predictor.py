"""Finished runs that predict in Python, exactly as ``fastrecipes predict`` does."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
import torch
from typing_extensions import override

from lightning_fastrecipes._lightning import rank_zero_warn
from lightning_fastrecipes.data.common.self_description import DescribesItself
from lightning_fastrecipes.errors import DataError, check_at_least
from lightning_fastrecipes.messages import name_some
from lightning_fastrecipes.recipe.artifacts.environment import default_device
from lightning_fastrecipes.recipe.artifacts.export_files import member_folders
from lightning_fastrecipes.recipe.loading import modality_of_export
from lightning_fastrecipes.recipe.shared.predictions import Predictions
from lightning_fastrecipes.trust import Trust

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Prediction:
    """What is predicted of one image or row.

    Args:
        value: The class, the labels that are decided for, joined by a space, or the number.
        values: Every column beside it: probabilities by class, or numbers by name.
    """

    value: Any
    values: dict[str, float]


class Predictor(DescribesItself):
    """Finished runs, kept in memory, that predict images or rows; made by ``load``.

    Args:
        folders: Run folders, or the ``export`` folders in them; several predict their mean.
        tta: Whether views of each image predict as well; as each run was evaluated if ``None``.
        trust: Modules whose networks the exports may name, besides those of known packages.

    Raises:
        DataNotFoundError: If there is no export.
        DataError: If one is damaged, or made by a newer version.

    Example:
        >>> Prediction("cat", {"cat": 0.75, "dog": 0.25}).value
        'cat'
    """

    def __init__(
        self, folders: Sequence[str | Path], *, tta: bool | None = None, trust: Trust = ()
    ) -> None:
        self.folders = [Path(folder) for folder in folders]
        for folder in self.folders:
            if folder.is_file():
                raise DataError(
                    f"'{folder}' must be a run folder, or the `export` folder in it, but is a file."
                    " A checkpoint does not know how its images or tables were prepared: name the"
                    " folder of its run, or use `load_from_checkpoint` of its class."
                )
        self.tta = tta
        self.trust = trust
        self._modality = modality_of_export(self.folders[0])
        self._models: dict[Path, tuple[Any, dict[str, Any]]] = {}
        self._device = default_device()
        # What is damaged is said now, not at the first prediction.
        model, _ = self._load(member_folders(self.folders[0])[0])
        self.classes: list[str] | None = getattr(model, "classes", None)
        self.spec = getattr(model, "spec", None) or getattr(model, "input_spec", None)

    def to(self, device: str | torch.device) -> Self:
        """Predict on another device from now on, and return the predictor."""
        self._device = torch.device(device)
        for model, _ in self._models.values():
            model.to(self._device)
        return self

    def predict(
        self, items: Any, *, keep: Sequence[str] = (), agreement: bool = False
    ) -> "Prediction | pd.DataFrame":
        """Predict images or rows.

        Args:
            items: Of images a path, a folder, bytes of a file, a PIL image, an array ``(height,
                width)`` or ``(height, width, 3)`` of 8 bits, a tensor ``(3, height, width)`` of 8
                bits, or a list of such. Of rows a path, a pattern, a frame, a mapping of columns or
                of one row, or a list of rows.
            keep: Columns of the tables to put beside the predictions.
            agreement: Whether to say how far several models agree.

        Returns:
            A ``Prediction`` for one image or one row; else the table that ``fastrecipes predict``
            writes. Files that cannot be read are named in a warning, and left out.

        Raises:
            DataError: If a single image cannot be read, or rows are not like those of the training.
            DataNotFoundError: If a path does not exist.
        """
        with tempfile.TemporaryDirectory() as folder:
            found, names, is_single = self._predict(items, Path(folder), keep, agreement)
        bad = [f"{names.get(file, file)}: {reason}" for file, reason in found.bad]
        if bad and is_single:
            raise DataError(f"The image cannot be read: {bad[0]}. Give another.")
        if bad:
            rank_zero_warn(f"{len(bad)} files cannot be read and are left out: {name_some(bad)}.")
        table = found.table
        if "file" in table:
            table["file"] = [names.get(file, file) for file in table["file"]]
        if not is_single:
            return table
        row = table.iloc[0]
        place = list(table.columns).index("prediction") if "prediction" in table else -1
        rest = {str(name): row[name] for name in table.columns[place + 1 :] if name not in keep}
        rest = {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in rest.items()
            if name not in ("file", "row")
        }
        return Prediction(row["prediction"] if place >= 0 else rest, rest)

    def show_results(self, items: Any, num_images: int = 12) -> "Figure":
        """Draw images with what is predicted of them, and the highest probability.

        Args:
            items: Images, as for ``predict``.
            num_images: How many of them at most, the first ones, at least 1.

        Returns:
            The figure, which a notebook shows.

        Raises:
            DataError: If the runs predict rows of tables, or no image can be read.
        """
        if self._modality.unit != "images":
            raise DataError("Only images can be shown. `predict` returns a table of the rows.")
        check_at_least("num_images", num_images, 1)
        from lightning_fastrecipes.recipe.images.items import draw_predicted

        with tempfile.TemporaryDirectory() as folder:
            found, names, _ = self._predict(items, Path(folder))
            return draw_predicted(found.table.head(num_images), names)

    @override
    def _about(self) -> dict[str, str]:
        folders = ", ".join(f"'{folder}'" for folder in self.folders)
        views = {None: "as evaluated", True: "on", False: "off"}[self.tta]
        names = self.classes or []
        few = f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
        what = {f"{len(names)} classes": few} if names else {}
        return {"runs": folders, **what, "views": views, "device": str(self._device)}

    def _predict(
        self, items: Any, folder: Path, keep: Sequence[str] = (), agreement: bool = False
    ) -> tuple[Predictions, dict[str, str], bool]:
        """Return predictions, names of what was written into the folder, and whether it is one."""
        source, names, is_single = self._modality.as_source(items, folder)
        found = self._modality.predict(
            self.folders,
            source,
            tta=self.tta,
            keep=keep,
            agreement=agreement,
            trust=self.trust,
            load=self._load,
        )
        return found, names, is_single

    def _load(self, path: Path) -> tuple[Any, dict[str, Any]]:
        if path not in self._models:
            model, description = self._modality.load(path, trust=self.trust)
            self._models[path] = model.to(self._device), description
        return self._models[path]


def load(*folders: str | Path, tta: bool | None = None, trust: Trust = ()) -> Predictor:
    """Load finished runs to predict with in Python.

    Args:
        *folders: Run folders, or the ``export`` folders in them; several predict their mean.
        tta: Whether views of each image predict as well; as each run was evaluated if ``None``.
        trust: Modules whose networks the exports may name, besides those of known packages.

    Returns:
        The ``Predictor``: ``load("runs/solar_cells").predict("cell.png")``.

    Raises:
        DataNotFoundError: If there is no export.
        DataError: If one is damaged or made by a newer version, or no folder is named.
    """
    if not folders:
        raise DataError("`load` must be given the folder of a finished run, such as 'runs/photos'.")
    return Predictor(folders, tta=tta, trust=trust)
