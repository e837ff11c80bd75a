"""What differs between recipes for images and recipes for tables."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes.callbacks.test_time_augmentation import TestTimeAugmentation
from lightning_fastrecipes.functional.labels.merging import named_agreement
from lightning_fastrecipes.nn.operations import Operations
from lightning_fastrecipes.recipe.config.schema import Evaluation, Recipe, Stage
from lightning_fastrecipes.recipe.shared.predictions import Predicted, Predictions
from lightning_fastrecipes.trust import Trust


class Modality(ABC):
    """How the data and the model of a recipe are built, set for a stage, evaluated and exported.

    Attributes:
        unit: The plural of a sample, such as ``images``, for speeds and descriptions.
        datamodule: What its data are instances of.
        stage_names: Attributes of the datamodule that a stage may set.
        size_names: Attributes of the datamodule that callbacks may have changed by a stage's end.
        exports_last_member: Whether the last of several models that predict together is exported
            as the model of the run, in place of the model that the run itself trained.
    """

    unit: str
    datamodule: type[Any]
    stage_names: tuple[str, ...]
    size_names: tuple[str, ...]
    exports_last_member = False

    def check(self, recipe: Recipe) -> None:  # noqa: B027
        """Raise `RecipeError`, with file and key path, for a key that is not for this modality."""

    @abstractmethod
    def read_data(self, recipe: Recipe) -> Any:
        """Build the datamodule and set it up; a `DataError` says what is wrong with the data."""

    @abstractmethod
    def build_parts(self, recipe: Recipe) -> tuple[Any, Any]:
        """Build datamodule (set up) and model; the data says what the model must know of it.

        Raise `RecipeError` if arguments do not fit, or a class is none that the runner can drive.
        """

    @abstractmethod
    def build_unread(self, recipe: Recipe) -> tuple[Any, Any]:
        """Build datamodule and model without reading the data; two classes if they say how many.

        The datamodule is ``None`` if it cannot be built without its files, and these are missing.

        Raise `RecipeError` if arguments do not fit.
        """

    @abstractmethod
    def num_samples(self, data: Any, split: str) -> int:
        """Count the samples of a split, 0 if there is no such split."""

    @abstractmethod
    def describe(self, data: Any, model: Any) -> list[str]:
        """Return what data and model are, a line each."""

    @abstractmethod
    def write_findings(self, data: Any, folder: Path) -> None:
        """Write problems that were found in the data into the run folder."""

    def fold_strata(self, recipe: Recipe) -> str | None:
        """Return the column whose values every fold should have in the same mix, if there is one.

        Images are drawn class by class in any case.
        """
        return None

    # Stages.

    def check_stage(self, stage: Stage, data: Any, model: Any) -> None:  # noqa: B027
        """Refuse what a stage asks of data and model that are set for it, by a ``ValueError``."""

    def training_data(self, stage: Stage, data: Any, model: Any) -> pl.LightningDataModule:
        """Return what a stage trains on."""
        datamodule: pl.LightningDataModule = data
        return datamodule

    def describe_training_data(self, stage: Stage, data: Any, model: Any) -> str:
        """Return what a stage reads in place of its samples, in words; empty if it reads them."""
        return ""

    def operations(self, data: Any, model: Any) -> Operations:
        """Count the arithmetic of a sample as the model is frozen now; none where it is little."""
        return Operations()

    def num_precomputed_views(self, stage: Stage, data: Any, model: Any) -> int:
        """Return how many views of each training sample a stage computes ahead."""
        return 1

    def num_views(self, recipe: Recipe, data: Any) -> int:
        """Return how many views of each sample the evaluation predicts, the plain one aside."""
        return 0

    def resizing(
        self, stage: Stage, callbacks: Sequence[pl.Callback], data: Any, model: Any
    ) -> Callable[[int], None]:
        """Return a function of the epoch that sets the datamodule to its sizes, as callbacks will.

        Raise `ValueError` if the model does not take a size, or the stage cannot change it.
        """
        return lambda _epoch: None

    # Evaluation.

    def check_evaluation(self, recipe: Recipe, data: Any, model: Any) -> None:  # noqa: B027
        """Refuse an evaluation that data and model cannot be put to, by a ``RecipeError``."""

    def build_tta(self, recipe: Recipe, data: Any) -> TestTimeAugmentation | None:
        """Build the test-time augmentation that the evaluation asks for, if it does.

        Raise `RecipeError` if the views cannot be made, or their weight cannot be learned.
        """
        return None

    @abstractmethod
    def apply_evaluation(self, evaluation: Evaluation, data: Any) -> None:
        """Set the datamodule to the sizes of the evaluation."""

    @abstractmethod
    def merge(self, predictions: Iterable[Tensor]) -> Tensor:
        """Return the mean of what several models predict."""

    def agreement(
        self, model: Any, members: Tensor, merged: Tensor, thresholds: Tensor | None
    ) -> dict[str, Tensor]:
        """Return by its name how far members agree on each sample, as ``named_agreement``."""
        return named_agreement(members, merged, thresholds)

    @abstractmethod
    def write_predictions(self, folder: Path, data: Any, model: Any, predicted: Predicted) -> None:
        """Write what was predicted of one split, as tables and figures, into the run folder."""

    def side_files(self, data: Any) -> dict[str, Path]:
        """Return the files that an export must hold besides the model, by their names in it."""
        return {}

    @abstractmethod
    def describe_export(
        self, recipe: Recipe | None, data: Any, model: Any, tta: TestTimeAugmentation | None
    ) -> dict[str, Any]:
        """Return the description of the model for an export, as plain values.

        Without a recipe the model was trained by a script. Raise `ConfigurationError` if it does
        not know what it predicts.
        """

    def write_reports(self, recipe: Recipe, folder: Path, data: Any, model: Any) -> None:  # noqa: B027
        """Write further reports on the exported model into the run folder."""

    @abstractmethod
    def load(
        self, folder: Path, *, trust: Trust, network: nn.Module | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Load an exported model, and its description; a ``network`` is the backbone of images."""

    @abstractmethod
    def task_of(self, saved: Mapping[str, Any]) -> type[Any]:
        """Return the class of the task that saved its part of a checkpoint.

        Raise `ValueError` if no task of this package did.
        """

    @abstractmethod
    def as_source(self, items: Any, folder: Path) -> tuple[Any, dict[str, str], bool]:
        """Return what ``predict`` takes for what people have in Python.

        Beside it the names of what was written into a folder, by its paths, and whether it is a
        single image or row.
        """

    @abstractmethod
    def predict(
        self,
        folders: Sequence[Path],
        source: Any,
        *,
        tta: bool | None,
        keep: Sequence[str] = (),
        agreement: bool = False,
        calibrated: bool = False,
        trust: Trust = (),
        load: Callable[[Path], Any] | None = None,
    ) -> Predictions:
        """Predict with exported models, several of which predict their mean.

        ``folders`` are run folders or the ``export`` folders in them; ``source`` are paths of
        images and folders of them, or tables; ``load`` is that of the modality with a memory.
        ``tta`` is for images: whether views of each predict as well, or as each run was evaluated
        if ``None``; ``keep`` is for tables: columns to put beside the predictions. Raise
        `RecipeError` if one is asked for of the other. With ``agreement`` a column more says how
        far the models agree on each; ``calibrated`` probabilities are at the run's temperature.
        ``trust`` names modules whose networks may be built besides those of known packages.
        """
