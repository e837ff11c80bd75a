"""Recipes for tables: how their parts are built, described, evaluated and exported."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.types import is_scalar
from torch import Tensor, nn
from typing_extensions import override

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes.data.common.files import write_atomically
from lightning_fastrecipes.data.tables.columns import TableColumns
from lightning_fastrecipes.data.tables.datamodule import TabularDataModule
from lightning_fastrecipes.data.tables.reading import as_reading
from lightning_fastrecipes.data.tables.steps import parse_steps
from lightning_fastrecipes.errors import ConfigurationError, DataNotFoundError, RecipeError
from lightning_fastrecipes.functional.labels.merging import running_mean
from lightning_fastrecipes.functional.tables.predictions import prediction_agreement
from lightning_fastrecipes.functional.tables.spec import TableSpec
from lightning_fastrecipes.recipe.config.building import build
from lightning_fastrecipes.recipe.config.documents import Place
from lightning_fastrecipes.recipe.config.schema import Evaluation, Recipe
from lightning_fastrecipes.recipe.shared.modality import Modality
from lightning_fastrecipes.recipe.shared.predictions import Predicted, Predictions
from lightning_fastrecipes.recipe.tables.export import (
    TASKS,
    describe_table_model,
    load_table_export,
    predict_tables,
    side_tables,
)
from lightning_fastrecipes.recipe.tables.reports import write_table_predictions, write_table_reports
from lightning_fastrecipes.tasks.table_task import TabularTask
from lightning_fastrecipes.trust import Trust

_STAGE_KEYS_FOR_IMAGES = {"image_size": None, "augmentation": None, "precompute": False}
"""Keys of a stage that only images have, and their values where they are left out."""

_CALLBACKS_FOR_IMAGES = (
    "MultiLabelSwitch", "ImageMixing", "ProgressiveResizing", "TestTimeAugmentation",
)  # fmt: skip


class Tables(Modality):
    """A table and a regressor or classifier of its rows."""

    unit = "rows"
    datamodule = TabularDataModule
    stage_names = size_names = ("batch_size",)
    exports_last_member = True

    @override
    def check(self, recipe: Recipe) -> None:
        asked = []
        for stage in recipe.stages:
            keys = [k for k, value in _STAGE_KEYS_FOR_IMAGES.items() if getattr(stage, k) != value]
            names = [spec.name for spec in stage.callbacks if spec.name in _CALLBACKS_FOR_IMAGES]
            asked += [f"{stage.key}: `{name}`" for name in keys + names]
        for key in ("image_size", "crop_fraction", "tta"):
            if getattr(recipe.evaluation, key) is not None:
                asked.append(f"evaluation.{key}:")
        if asked:
            raise RecipeError(
                f"{recipe.path}: {asked[0]} is for images, not for tables. Leave it out."
            )
        given = recipe.data.init_args
        try:
            parse_steps(given.get("steps") or [])
            as_reading(given.get("reading"))
            columns = given.get("columns")
            task = TableColumns(**columns).spec_task if isinstance(columns, Mapping) else None
        except (TypeError, ValueError) as error:
            raise RecipeError(f"{recipe.path}: data: {error}") from error
        if not issubclass(recipe.model.load(), TabularTask):
            raise RecipeError(
                f"{recipe.path}: model.class_path: a table needs `TabularRegressor`,"
                " `TabularClassifier`, for several targets `TabularMultiTarget`, or a subclass of"
                f" these, but got {recipe.model.class_path!r}."
            )
        if task is not None:
            try:
                recipe.model.load().check_task(task)
            except ConfigurationError as error:
                raise RecipeError(f"{recipe.path}: model: {error}") from error

    @override
    def read_data(self, recipe: Recipe) -> TabularDataModule:
        data = build(recipe.data, TabularDataModule, Place(recipe.path, "data"))
        data.prepare_data()
        data.setup("fit")
        return data

    @override
    def build_parts(self, recipe: Recipe) -> tuple[TabularDataModule, TabularTask]:
        data = self.read_data(recipe)
        model: Any = build(recipe.model, pl.LightningModule, Place(recipe.path, "model"))
        try:
            model.set_spec(data.spec)
        except (ConfigurationError, TypeError) as error:
            raise RecipeError(f"{recipe.path}: model: {error}") from error
        return data, model

    @override
    def build_unread(self, recipe: Recipe) -> tuple[Any, Any]:
        model = build(recipe.model, pl.LightningModule, Place(recipe.path, "model"))
        try:
            return build(recipe.data, TabularDataModule, Place(recipe.path, "data")), model
        except DataNotFoundError:
            return None, model

    @override
    def fold_strata(self, recipe: Recipe) -> str | None:
        columns = recipe.data.init_args.get("columns")
        known = TableColumns(**columns) if isinstance(columns, Mapping) else columns
        if not isinstance(known, TableColumns) or known.spec_task != "classes":
            return None
        return known.targets[0]

    @override
    def num_samples(self, data: Any, split: str) -> int:
        return int(data.num_rows(split))

    @override
    def describe(self, data: Any, model: Any) -> list[str]:
        counts = [f"{data.num_rows(split):,} {split}" for split in ("train", "val", "test")]
        spec = data.spec
        sizes = spec.embedding_sizes(model.network.embedding_rule)
        columns = zip(spec.categorical, spec.cardinalities, sizes, strict=True)
        vectors = [f"{name} {cardinality}x{size}" for name, cardinality, size in columns]
        return [
            f"Data: {', '.join(counts)} rows; {_described(model)}",
            *str(data.report).splitlines(),
            f"Categorical columns and their vectors: {', '.join(vectors) or 'none'}",
            f"Continuous columns: {', '.join(spec.continuous_columns) or 'none'}",
            f"Model: {type(model).__name__}, hidden layers {model.network.layers}; batch norm"
            f" `{model.norm_policy}`",
        ]

    @override
    def write_findings(self, data: Any, folder: Path) -> None:
        write_atomically(folder / "table_report.txt", f"{data.report}\n")

    @override
    def apply_evaluation(self, evaluation: Evaluation, data: Any) -> None:
        if evaluation.batch_size is not None:
            data.eval_batch_size = evaluation.batch_size

    @override
    def merge(self, predictions: Iterable[Tensor]) -> Tensor:
        """Return the mean in the user's units: its error is never above the mean of the errors."""
        return running_mean(predictions)

    @override
    def agreement(
        self, model: Any, members: Tensor, merged: Tensor, thresholds: Tensor | None
    ) -> dict[str, Tensor]:
        return prediction_agreement(model.require_spec(), members, merged)

    @override
    def write_predictions(self, folder: Path, data: Any, model: Any, predicted: Predicted) -> None:
        write_table_predictions(folder, data, model, predicted)

    @override
    def describe_export(
        self, recipe: Recipe | None, data: Any, model: Any, tta: Any
    ) -> dict[str, Any]:
        return describe_table_model(model, data)

    @override
    def side_files(self, data: Any) -> dict[str, Path]:
        return side_tables(data)

    @override
    def write_reports(self, recipe: Recipe, folder: Path, data: Any, model: Any) -> None:
        write_table_reports(folder, data, model, recipe.seed)

    @override
    def load(
        self, folder: Path, *, trust: Trust, network: nn.Module | None = None
    ) -> tuple[Any, dict[str, Any]]:
        return load_table_export(folder)

    @override
    def task_of(self, saved: Mapping[str, Any]) -> type[Any]:
        spec = TableSpec.from_dict(saved["table_spec"])
        return TASKS[f"table {spec.task}"]

    @override
    def as_source(self, items: Any, folder: Path) -> tuple[Any, dict[str, str], bool]:
        if isinstance(items, pd.Series):
            items = items.to_dict()
        is_row = isinstance(items, Mapping) and all(is_scalar(value) for value in items.values())
        if isinstance(items, (list, tuple)) and items and isinstance(items[0], Mapping):
            return pd.DataFrame(items), {}, False
        return pd.DataFrame([dict(items)]) if is_row else items, {}, is_row

    @override
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
        if tta:
            raise RecipeError("`--tta` is for images, not for tables. Leave it out.")
        found = predict_tables(
            folders, source, keep, agreement=agreement, calibrated=calibrated, load=load
        )
        return Predictions(found.table, found.content, notes=found.notes)


def _described(model: Any) -> str:
    """Return what the targets are, and the unit that they are predicted in."""
    columns = model.require_spec().target_columns
    named = [f"log({column.name})" if column.log else column.name for column in columns]
    for place, column in enumerate(columns):
        if column.classes:
            named[place] += f", {len(column.classes)} classes"
        elif column.scaled:
            zero, one = column.unit
            named[place] += f", predicted in deviations of {one:.6g} from its mean {zero:.6g}"
    if len(columns) > 1:
        weights = {name: model.loss_weights.get(name, 1.0) for name in model.spec.targets}
        said = ", ".join(f"{name} {weight:g}" for name, weight in weights.items())
        return (
            f"targets {'; '.join(named)}; the loss is the mean of theirs, each about 1 before"
            f" training, with the weights {said}; metrics are in the table's own units"
        )
    if columns[0].scaled:
        named[0] += "; losses are mean squared errors in this unit, metrics are in the table's own"
    return f"target {named[0]}"
