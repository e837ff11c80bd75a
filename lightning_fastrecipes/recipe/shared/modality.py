"""What differs between recipes for images and recipes for tables."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes.recipe.config.schema import Recipe, Stage
from lightning_fastrecipes.recipe.shared.predictions import Split

MakeTrainer = Callable[..., pl.Trainer]


class Evaluator(ABC):
    """Measure a trained model, and write what it predicts and what it is."""

    @abstractmethod
    def begin(self, members: Mapping[str, Path], is_rehearsal: bool) -> None:
        """Set data and model as the evaluation wants them.

        Args:
            members: Name to checkpoint of the models that predict together, if there are any.
            is_rehearsal: Whether the run is one batch of everything.
        """

    @abstractmethod
    def measure(self, split: Split, results: dict[str, Any]) -> None:
        """Measure one split that has rows, and write its predictions.

        Args:
            split: ``val`` or ``test``.
            results: What ``results.json`` will hold; the metrics go in here.
        """

    @abstractmethod
    def export(self, folder: Path) -> None:
        """Write the model, once everything is measured; by the first process alone.

        Args:
            folder: The ``export`` folder.
        """


class Modality(ABC):
    """How the data and the model of a recipe are built, set for a stage, described and evaluated.

    Attributes:
        size_names: Attributes of the datamodule that a stage may end with other values of.
        stage_names: Attributes of the datamodule that a stage may set.
        unit: What the samples are called in the figures of a run.
    """

    size_names: tuple[str, ...]
    stage_names: tuple[str, ...]
    unit: str

    @abstractmethod
    def check(self, recipe: Recipe) -> None:
        """Refuse keys that are not for this modality, before anything is built.

        Args:
            recipe: The recipe.

        Raises:
            RecipeError: If there is one, with file and key path.
        """

    @abstractmethod
    def build_parts(self, recipe: Recipe) -> tuple[Any, Any]:
        """Build datamodule and model; the data says what the model must know of it.

        Args:
            recipe: The recipe.

        Returns:
            The datamodule, set up, and the model.

        Raises:
            RecipeError: If arguments do not fit, or a class is none that the runner can drive.
        """

    @abstractmethod
    def num_samples(self, data: Any, split: str) -> int:
        """Count the samples of a split, 0 if there is no such split."""

    @abstractmethod
    def check_stage(self, stage: Stage, data: Any, model: Any) -> None:
        """Refuse what a stage asks of data and model that are set for it, by a ``ValueError``."""

    @abstractmethod
    def resizing(
        self, stage: Stage, callbacks: Sequence[pl.Callback], data: Any, model: Any
    ) -> Callable[[int], None]:
        """Return what sets the datamodule to the sizes of an epoch, as callbacks will.

        Args:
            stage: The stage.
            callbacks: Those of the stage.
            data: The datamodule.
            model: The model.

        Returns:
            A function of the epoch.

        Raises:
            ValueError: If the model does not take a size, or the stage cannot change it.
        """

    @abstractmethod
    def check_evaluation(self, recipe: Recipe, data: Any, model: Any) -> None:
        """Refuse an evaluation that data and model cannot be put to, by a ``RecipeError``."""

    @abstractmethod
    def training_data(self, stage: Stage, data: Any, model: Any) -> pl.LightningDataModule:
        """Return what a stage trains on."""

    @abstractmethod
    def describe(self, data: Any, model: Any) -> list[str]:
        """Return what data and model are, a line each."""

    @abstractmethod
    def write_findings(self, data: Any, folder: Path) -> None:
        """Write what was noticed while the data was read into the run folder."""

    @abstractmethod
    def evaluator(
        self, recipe: Recipe, folder: Path, data: Any, model: Any, make_trainer: MakeTrainer
    ) -> Evaluator:
        """Build what evaluates, so that mistakes show before training.

        Args:
            recipe: The recipe.
            folder: The run folder.
            data: The datamodule.
            model: The model.
            make_trainer: Takes callbacks and arguments of ``Trainer``.

        Returns:
            The evaluator.

        Raises:
            RecipeError: If the evaluation cannot be made as the recipe says.
        """
