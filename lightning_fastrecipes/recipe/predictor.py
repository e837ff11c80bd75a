"""Finished runs and trained models that predict in Python, exactly as ``fastrecipes predict``."""

import copy
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
import torch
from torch import nn
from typing_extensions import override

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import rank_zero_warn
from lightning_fastrecipes.data.common.self_description import DescribesItself, say_how_to_see
from lightning_fastrecipes.errors import ConfigurationError, DataError, check_at_least
from lightning_fastrecipes.functional.labels.classes import probability_columns
from lightning_fastrecipes.functional.labels.decisions import describe_thresholds
from lightning_fastrecipes.messages import name_some
from lightning_fastrecipes.recipe.artifacts.environment import default_device
from lightning_fastrecipes.recipe.artifacts.export_files import (
    ENSEMBLE,
    member_folders,
    write_export,
)
from lightning_fastrecipes.recipe.loading import (
    modality_of_export,
    modality_of_model,
    task_of_checkpoint,
)
from lightning_fastrecipes.recipe.shared.predictions import Predictions
from lightning_fastrecipes.tasks.base import LayerGroupTask
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
        folders: Run folders, exports, checkpoints, or trained models, as for ``load``.
        data: For checkpoints and models, as for ``load``.
        tta: Whether views of each image predict as well; as each run was evaluated if ``None``.
        trust: Modules whose networks the exports may name, besides those of known packages.

    Raises:
        DataNotFoundError: If there is no export.
        DataError: If one is damaged, or made by a newer version.
        ConfigurationError: If a model does not know what it predicts, or its data are not known.

    Example:
        >>> Prediction("cat", {"cat": 0.75, "dog": 0.25}).value
        'cat'
    """

    def __init__(
        self,
        folders: Sequence[str | Path | LayerGroupTask],
        *,
        data: Any = None,
        tta: bool | None = None,
        trust: Trust = (),
    ) -> None:
        self.trust = trust
        self._networks: dict[Path, nn.Module | None] = {}
        self._names: list[str] = []
        self.folders = [self._at_hand(one, data) for one in folders]
        self.tta = tta
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
        self,
        items: Any,
        *,
        keep: Sequence[str] = (),
        agreement: bool = False,
        calibrated: bool = False,
    ) -> "Prediction | pd.DataFrame":
        """Predict images or rows.

        Args:
            items: Of images a path, a folder, bytes of a file, a PIL image, an array ``(height,
                width)`` or ``(height, width, 3)`` of 8 bits, a tensor ``(3, height, width)`` of 8
                bits, or a list of such. Of rows a path, a pattern, a frame, a mapping of columns or
                of one row, or a list of rows.
            keep: Columns of the tables to put beside the predictions.
            agreement: Whether to say how far several models agree.
            calibrated: Whether probabilities are those at the temperature that fits the validation
                split of the run; decisions are the same.

        Returns:
            A ``Prediction`` for one image or one row; else the table that ``fastrecipes predict``
            writes. Files that cannot be read are named in a warning, and left out.

        Raises:
            DataError: If a single image cannot be read, rows are not like those of the training, or
                the run has no temperature.
            DataNotFoundError: If a path does not exist.
        """
        with tempfile.TemporaryDirectory() as folder:
            found, names, is_single = self._predict(
                items, Path(folder), keep=keep, agreement=agreement, calibrated=calibrated
            )
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
        named = dict(zip(probability_columns(self.classes or ()), self.classes or (), strict=True))
        others = [name for name in table.columns[place + 1 :] if name not in {"file", "row", *keep}]
        rest = {named.get(name, str(name)): _plain(row[name]) for name in others}
        return Prediction(_plain(row["prediction"]) if place >= 0 else rest, rest)

    def show_results(
        self, items: Any, num_images: int = 12, path: str | Path | None = None
    ) -> "Figure":
        """Draw images with what is predicted of them, and the highest probability.

        Args:
            items: Images, as for ``predict``.
            num_images: How many of them at most, the first ones, at least 1.
            path: Where the figure goes, PNG without a suffix; nothing is written if ``None``.

        Returns:
            The figure, which a notebook shows; in a script give ``path``.

        Raises:
            DataError: If the runs predict rows of tables, or no image can be read.
        """
        if self._modality.unit != "images":
            raise DataError("Only images can be shown. `predict` returns a table of the rows.")
        check_at_least("num_images", num_images, 1)
        from lightning_fastrecipes.recipe.images.items import draw_predicted

        with tempfile.TemporaryDirectory() as folder:
            found, names, _ = self._predict(items, Path(folder))
            figure = draw_predicted(found.table.head(num_images), names, path)
        if path is None:
            say_how_to_see()
        return figure

    @override
    def _about(self) -> dict[str, str]:
        views = {None: "as evaluated", True: "on", False: "off"}[self.tta]
        names = self.classes or []
        few = f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
        what = {f"{len(names)} classes": few} if names else {}
        return {"runs": ", ".join(self._names), **what, "views": views, "device": str(self._device)}

    def _predict(
        self, items: Any, folder: Path, **options: Any
    ) -> tuple[Predictions, dict[str, str], bool]:
        """Return predictions, names of what was written into the folder, and whether it is one."""
        source, names, is_single = self._modality.as_source(items, folder)
        found = self._modality.predict(
            self.folders,
            source,
            tta=self.tta,
            trust=self.trust,
            load=self._load,
            **options,
        )
        return found, names, is_single

    def _load(self, path: Path) -> tuple[Any, dict[str, Any]]:
        if path not in self._models:
            model, description = self._modality.load(
                path, trust=self.trust, network=self._networks.get(path)
            )
            self._models[path] = model.to(self._device), description
        return self._models[path]

    def _at_hand(self, run: Any, data: Any) -> Path:
        """Return the folder of a run, or that of an export of a model, kept while this lives."""
        is_path = isinstance(run, (str, Path))
        self._names.append(f"'{run}'" if is_path else type(run).__name__)
        if is_path and not Path(run).is_file():
            return Path(run)
        if is_path and data is None:
            raise DataError(
                f"'{run}' must be a run folder, or an export, but is a file. A checkpoint does not"
                " know how its images or tables were prepared: name the folder of its run, or give"
                f" its datamodule as well: `load('{run}', data=data)`."
            )
        if is_path:
            run = task_of_checkpoint(Path(run)).load_from_checkpoint(run, trust=self.trust)
        folder = Path(tempfile.mkdtemp())
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        _write(run, folder, data)
        self._networks[folder] = _network_of(run)
        return folder


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def load(
    *runs: str | Path | LayerGroupTask,
    data: Any = None,
    tta: bool | None = None,
    trust: Trust = (),
) -> Predictor:
    """Load finished runs, or models that a script has trained, to predict with in Python.

    Args:
        *runs: Run folders, the ``export`` folders in them, what ``export`` has written, checkpoints
            of this package's models, or trained models, copied as they are now; several predict
            their mean.
        data: For checkpoints and models, the datamodule that says how images or rows are prepared,
            which need not be read; for models that of the last trainer if ``None``.
        tta: Whether views of each image predict as well; as each run was evaluated if ``None``, of
            checkpoints and models without.
        trust: Modules whose networks the exports may name, besides those of known packages.

    Returns:
        The ``Predictor``: ``load("runs/solar_cells").predict("cell.png")``.

    Raises:
        DataNotFoundError: If there is no export.
        DataError: If one is damaged or made by a newer version, or nothing is named.
        ConfigurationError: If a model does not know what it predicts, or its data are not known.
    """
    if not runs:
        raise DataError(
            "`load` must be given the folder of a finished run, such as 'runs/photos', or a trained"
            " model."
        )
    return Predictor(runs, data=data, tta=tta, trust=trust)


def export(model: LayerGroupTask, folder: str | Path, data: Any = None) -> Predictor:
    """Write a trained model as plain files, which ``load`` and ``fastrecipes predict`` read.

    Args:
        model: A trained task of this package, such as ``ImageClassifier`` or ``TabularRegressor``.
        folder: Where weights (safetensors), one JSON and side tables go; an export that is there
            is replaced.
        data: The datamodule that says how images or rows are prepared, which need not be read; that
            of the trainer which the model had last if ``None``.

    Returns:
        What the folder predicts: ``export(model, "pets").predict("new.jpg")``.

    Raises:
        ConfigurationError: If the model does not know what it predicts, its data are not known, or
            its network cannot be built anew from names.
        DataError: If the folder is that of a run.

    References:
        fast.ai course (2018): ``learn.save``; ``Learner.export`` of fastai 2, which pickles.
    """
    home = Path(folder)
    if (home / "export").exists():
        raise DataError(
            f"'{home}' must be a folder for this export alone, but has an `export` in it, as runs"
            " do. Name another."
        )
    if _network_of(model) is not None:
        _check_rebuilt(model)
    _write(model, home, data)
    return Predictor([home])


def _write(model: Any, folder: Path, data: Any) -> None:
    if not isinstance(model, LayerGroupTask):
        raise ConfigurationError(
            "A model must be a task of this package, such as `ImageClassifier` or"
            f" `TabularRegressor`, got {type(model).__name__}. Give a task your network as"
            " `backbone`, or predict by your own module; several runs are given one by one."
        )
    modality = modality_of_model(model)
    found = pl.datamodule_of(getattr(model, "_trainer", None)) if data is None else data
    found = getattr(found, "images", found)  # those whose features were trained on
    if not isinstance(found, modality.datamodule):
        raise ConfigurationError(
            f"`data` must be the datamodule of the model's {modality.unit}, which says how they are"
            f" prepared, such as `{modality.datamodule.__name__}`, got {type(found).__name__}. Give"
            " it as `data=...`; it need not be read."
        )
    description = modality.describe_export(None, found, model, None)
    names = getattr(model, "classes", None) or []
    description |= describe_thresholds(getattr(model, "thresholds", None), None, names)
    write_export(folder, model, description, modality.side_files(found))
    (folder / ENSEMBLE).unlink(missing_ok=True)


def _network_of(model: Any) -> nn.Module | None:
    """Return a copy of a network that was given as an object, which no file names."""
    if not getattr(model, "has_own_network", False):
        return None
    network: nn.Module = copy.deepcopy(model.backbone.model)
    return network


def _check_rebuilt(model: LayerGroupTask) -> None:
    architecture: Any = model.architecture
    try:
        twin = type(model).from_architecture(architecture)
        twin.backbone.load_state_dict(model.backbone.state_dict())
    except (ConfigurationError, ValueError, RuntimeError) as error:
        raise ConfigurationError(
            f"`backbone` must be written in files by its name, but the {architecture['backbone']}"
            " was given as an object. Build the model with `backbone={'class_path':"
            " 'my_module.MyNetwork', 'init_args': {...}}`, or predict in this script by"
            " `load(model)`."
        ) from error
