"""Recipes for tables: how their parts are built, set, described and evaluated."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes.data.common.files import write_atomically
from lightning_fastrecipes.data.tables.datamodule import TabularDataModule
from lightning_fastrecipes.errors import ConfigurationError, RecipeError
from lightning_fastrecipes.recipe.config.building import build
from lightning_fastrecipes.recipe.config.documents import Place
from lightning_fastrecipes.recipe.config.schema import Recipe, Stage
from lightning_fastrecipes.recipe.shared.modality import MakeTrainer, Modality
from lightning_fastrecipes.recipe.tables.evaluation import TableEvaluator
from lightning_fastrecipes.tasks.table_task import TabularTask
from lightning_fastrecipes.tasks.tabular import TabularClassifier, TabularRegressor

_FOR_IMAGES = {"image_size": None, "augmentation": None, "precompute": False}
"""Keys of a stage that say something of images, and what they are where they are left out."""

_CALLBACKS_FOR_IMAGES = (
    "MultiLabelSwitch", "ImageMixing", "ProgressiveResizing", "TestTimeAugmentation",
)  # fmt: skip


_OUT = "Leave it out."


class Tables(Modality):
    """A table and a regressor or classifier of its rows."""

    size_names = ("batch_size",)
    stage_names = ("batch_size",)
    unit = "rows"

    def check(self, recipe: Recipe) -> None:
        """Refuse what is for images alone, and a model of anything but tables."""
        for stage in recipe.stages:
            where = f"{recipe.path}: {stage.key}"
            for key, without in _FOR_IMAGES.items():
                if getattr(stage, key) != without:
                    raise RecipeError(f"{where}: `{key}` is for images, not for tables. {_OUT}")
            for spec in stage.callbacks:
                if spec.name in _CALLBACKS_FOR_IMAGES:
                    raise RecipeError(
                        f"{where}: `{spec.name}` is for images, not for tables. {_OUT}"
                    )
        evaluation = recipe.evaluation
        for key in ("image_size", "crop_fraction", "tta"):
            if getattr(evaluation, key) is not None:
                raise RecipeError(
                    f"{recipe.path}: evaluation.{key}: is for images, not for tables. {_OUT}"
                )
        if not issubclass(recipe.model.load(), (TabularRegressor, TabularClassifier)):
            raise RecipeError(
                f"{recipe.path}: model.class_path: a table needs a subclass of `TabularRegressor`"
                f" or `TabularClassifier`, but got {recipe.model.class_path!r}."
            )

    def build_parts(self, recipe: Recipe) -> tuple[TabularDataModule, TabularTask]:
        """Build datamodule and model; the data says how the table becomes numbers."""
        data = build(recipe.data, TabularDataModule, Place(recipe.path, "data"))
        data.prepare_data()
        data.setup("fit")
        model: Any = build(recipe.model, pl.LightningModule, Place(recipe.path, "model"))
        try:
            model.set_spec(data.spec)
        except ConfigurationError as error:
            raise RecipeError(f"{recipe.path}: model: {error}") from error
        return data, model

    def num_samples(self, data: Any, split: Any) -> int:
        """Count the rows of a split."""
        return int(data.num_rows(split))

    def check_stage(self, stage: Stage, data: Any, model: Any) -> None:
        """Accept every stage: what is not for tables was refused before."""

    def resizing(
        self, stage: Stage, callbacks: Sequence[pl.Callback], data: Any, model: Any
    ) -> Callable[[int], None]:
        """Return a function that does nothing: rows have no size."""
        return lambda _epoch: None

    def check_evaluation(self, recipe: Recipe, data: Any, model: Any) -> None:
        """Accept every evaluation: what is not for tables was refused before."""

    def training_data(self, stage: Stage, data: Any, model: Any) -> pl.LightningDataModule:
        """Return the datamodule."""
        table: pl.LightningDataModule = data
        return table

    def describe(self, data: Any, model: Any) -> list[str]:
        """Return how many rows there are, what their columns become, and what was found in them."""
        counts = [f"{data.num_rows(split):,} {split}" for split in ("train", "val", "test")]
        spec = data.spec
        sizes = spec.embedding_sizes(model.network.embedding_rule)
        columns = zip(spec.categorical, spec.cardinalities, sizes, strict=True)
        named = [f"{name} {cardinality}x{size}" for name, cardinality, size in columns]
        target = f"log({spec.target})" if spec.log_target else spec.target
        if spec.classes:
            target = f"{target}, {len(spec.classes)} classes"
        return [
            f"Data: {', '.join(counts)} rows; target {target}",
            *str(data.report).splitlines(),
            f"Categorical columns and their vectors: {', '.join(named) or 'none'}",
            f"Continuous columns: {', '.join(spec.continuous_columns) or 'none'}",
            f"Model: {type(model).__name__}, hidden layers {model.network.layers}; batch norm"
            f" `{model.norm_policy}`",
        ]

    def write_findings(self, data: Any, folder: Path) -> None:
        """Write what was noticed: unmatched keys, unknown values, gaps."""
        write_atomically(folder / "table_report.txt", f"{data.report}\n")

    def evaluator(
        self, recipe: Recipe, folder: Path, data: Any, model: Any, make_trainer: MakeTrainer
    ) -> TableEvaluator:
        """Build what evaluates."""
        return TableEvaluator(recipe, folder, data, model, make_trainer)
