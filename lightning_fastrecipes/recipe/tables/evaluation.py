"""Evaluate a model of a table: predictions row by row, vectors of categories, importance."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lightning_fastrecipes.data.common.files import write_atomically
from lightning_fastrecipes.data.common.split_choice import SplitName
from lightning_fastrecipes.data.tables.datamodule import TabularDataModule
from lightning_fastrecipes.data.tables.encoding import EncodedSplit
from lightning_fastrecipes.functional.labels.merging import running_mean
from lightning_fastrecipes.functional.tables.embeddings import embedding_table
from lightning_fastrecipes.functional.tables.importance import permutation_importance
from lightning_fastrecipes.functional.tables.spec import FLAG_SUFFIX, TableSpec
from lightning_fastrecipes.plots.runs import draw_confusion_matrix
from lightning_fastrecipes.plots.tables import (
    draw_embeddings,
    draw_importance,
    draw_predictions,
)
from lightning_fastrecipes.protocols import TableInputs
from lightning_fastrecipes.recipe.artifacts.environment import is_first_process
from lightning_fastrecipes.recipe.config.schema import Recipe
from lightning_fastrecipes.recipe.shared.ensembles import (
    choose_members,
    each_member,
    export_members,
    load_average,
    load_member,
    measure,
)
from lightning_fastrecipes.recipe.shared.modality import Evaluator, MakeTrainer
from lightning_fastrecipes.recipe.shared.predictions import (
    PredictionCollector,
    Split,
    confusion_counts,
    evaluate,
)
from lightning_fastrecipes.recipe.tables.export import export_table_model, predicted_columns, to_csv
from lightning_fastrecipes.tasks.table_task import TabularTask

NUM_SAMPLED_ROWS = 2000
"""Rows that the importance of columns is measured on, so that it takes seconds."""

NUM_REPEATS = 3


class TableEvaluator(Evaluator):
    """Measure a model of a table.

    Args:
        recipe: The recipe.
        folder: The run folder.
        data: The datamodule.
        model: The model.
        make_trainer: Takes callbacks and arguments of ``Trainer``.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        data: TabularDataModule,
        model: TabularTask,
        make_trainer: MakeTrainer,
    ) -> None:
        self.recipe = recipe
        self.folder = folder
        self.data = data
        self.model = model
        self._trainer = make_trainer
        self._members: dict[str, Path] = {}

    def begin(self, members: Mapping[str, Path], is_rehearsal: bool) -> None:
        """Set the batch size, and find the models that predict together."""
        if self.recipe.evaluation.batch_size is not None:
            self.data.eval_batch_size = self.recipe.evaluation.batch_size
        self._members = choose_members(self.recipe, self.folder, members, is_rehearsal)
        if self._members and self.recipe.evaluation.ensemble == "average":
            load_average(self._members.values(), self.model, self.data, self._trainer)
            self._members = {}

    def measure(self, split: Split, results: dict[str, Any]) -> None:
        """Measure one split, and write each row's place in the source, target and prediction.

        Models that predict together predict the mean in the user's units, as ``fastrecipes predict
        --with`` does: its absolute, squared and percentage error is never above their mean error.
        """
        if not self._members:
            results[split], found = self._predict_split(split)
            self._write_predictions(split, found.predictions, found.targets)
            return
        alone: dict[str, dict[str, float]] = {}
        each = []
        for name in each_member(self._members, self.model):
            alone[name], found = self._predict_split(split)
            each.append(found.predictions)
        merged = running_mean(each)
        self._write_predictions(split, merged, found.targets)
        results[split] = measure(self.model, merged, found.targets, self.model.logits(merged))
        results.setdefault("members", {})[split] = alone

    def export(self, folder: Path) -> None:
        """Write the model, the vectors of its categories, and how much each column matters.

        Of models that predict together vectors and importance are those of the last one.
        """
        if self._members:
            load_member(list(self._members.values())[-1], self.model)

        def export(place: Path) -> None:
            export_table_model(place, self.model, self.data)

        export(folder)
        export_members(folder, self._members, self.model, export)
        spec = self.model.require_spec()
        if spec.categorical:
            self._write_embeddings(spec)
        splits: tuple[SplitName, ...] = ("val", "test", "train")
        split = next(name for name in splits if self.data.num_rows(name))
        importance = column_importance(self.model, self.data.encoded(split), self.recipe.seed)
        importance.insert(1, "split", split)
        write_atomically(self.folder / "importance.csv", to_csv(importance))
        error = error_name(spec)
        draw_importance(importance, self.folder / "importance.png", error=f"{error}, {split} split")

    def _predict_split(self, split: Split) -> tuple[dict[str, float], PredictionCollector]:
        collector = PredictionCollector(self.data.num_rows(split))
        trainer = self._trainer([collector], precision="32-true", enable_checkpointing=False)
        return evaluate(trainer, self.model, self.data, split), collector

    def _write_predictions(self, split: Split, predictions: Tensor, encoded: Tensor) -> None:
        if not is_first_process():
            return
        targets = self.model.metric_targets(encoded)
        spec = self.model.require_spec()
        # A rehearsal predicts the first batch alone.
        table = self.data.row_names(split).head(len(predictions))
        if spec.classes is None:
            table["target"] = shown_targets(spec, targets)
        else:
            table["target"] = [spec.classes[index] for index in targets.tolist()]
        table = pd.concat([table, predicted_columns(spec, predictions)], axis=1)
        write_atomically(self.folder / f"predictions_{split}.csv", to_csv(table))
        if spec.classes is None:
            draw_predictions(
                table["target"], table["prediction"], spec.target,
                self.folder / f"predictions_{split}.png", split=split, log=spec.log_target,
            )  # fmt: skip
            return
        counts = confusion_counts(predictions, targets, len(spec.classes))
        name = "confusion_matrix.png" if split == "test" else "confusion_matrix_val.png"
        draw_confusion_matrix(counts, spec.classes, self.folder / name)

    def _write_embeddings(self, spec: TableSpec) -> None:
        table = embedding_table(spec, self.model.embedding_weights())
        for place, name in enumerate(spec.categorical):
            rows = table[table["column"] == name].dropna(axis="columns", how="all")
            # Two names may differ in signs that a file cannot bear.
            plain = re.sub(r"[^\w-]", "_", name)
            content = to_csv(rows.drop(columns="column"))
            write_atomically(self.folder / "embeddings" / f"{place:02d}_{plain}.csv", content)
        draw_embeddings(table, self.folder / "embeddings.png")


def error_name(spec: TableSpec) -> str:
    """Name the error that ``column_importance`` measures.

    Args:
        spec: How the table becomes numbers.

    Returns:
        Words for an axis.
    """
    if spec.classes is not None:
        return f"cross entropy of {spec.target}"
    return f"rmse of {'log ' if spec.log_target else ''}{spec.target}"


def shown_targets(spec: TableSpec, targets: Tensor) -> npt.NDArray[np.float64]:
    """Return targets in the user's units without the digits that a logarithm in 32 bits has lost.

    Args:
        spec: How the table becomes numbers.
        targets: In the user's units. Shape ``(rows,)``.

    Returns:
        Shape ``(rows,)``; of six digits if the logarithm was kept.
    """
    values = targets.double().numpy()
    if not spec.log_target:
        return values
    scale = 10.0 ** (5 - np.floor(np.log10(values)))
    return cast(npt.NDArray[np.float64], np.round(values * scale) / scale)


def column_importance(model: TabularTask, split: EncodedSplit, seed: int) -> pd.DataFrame:
    """Measure how much the error of a model grows when a column is shuffled.

    The error is the root of the mean squared error in transformed units, or for classes the cross
    entropy. A column's flag of missing values is shuffled with it.

    Args:
        model: The model.
        split: Rows with targets; ``NUM_SAMPLED_ROWS`` of them are drawn.
        seed: Of the draws.

    Returns:
        As ``permutation_importance`` gives it.
    """
    spec = model.require_spec()
    generator = np.random.default_rng(seed)
    num_rows = min(NUM_SAMPLED_ROWS, len(split.rows))
    drawn = np.sort(generator.choice(len(split.rows), num_rows, replace=False))
    codes = pd.DataFrame(split.codes[drawn], columns=pd.Index(spec.categorical, dtype=object))
    names = pd.Index(spec.continuous_columns, dtype=object)
    frame = pd.concat([codes, pd.DataFrame(split.continuous[drawn], columns=names)], axis=1)
    groups = {name: [name] for name in spec.categorical}
    for name in spec.continuous:
        flag = f"{name}{FLAG_SUFFIX}"
        groups[name] = [name, flag] if flag in spec.continuous_columns else [name]
    was_training = model.training
    model.eval()

    def predict(rows: pd.DataFrame) -> npt.NDArray[Any]:
        inputs = TableInputs(
            torch.tensor(rows[spec.categorical].to_numpy(np.int64)),
            torch.tensor(rows[spec.continuous_columns].to_numpy(np.float32)),
        )
        inputs = TableInputs(*(part.to(model.device) for part in inputs))
        with torch.inference_mode():
            found = cast(Tensor, model(inputs)).float().cpu()
        return found.numpy()

    def error(predictions: npt.NDArray[Any], targets: npt.NDArray[Any]) -> float:
        ours, theirs = torch.from_numpy(predictions), torch.from_numpy(targets)
        if spec.classes is not None:
            return float(F.cross_entropy(ours, theirs))
        return float(F.mse_loss(ours, theirs).sqrt())

    try:
        return permutation_importance(
            predict,
            frame,
            np.asarray(split.target)[drawn],
            groups,
            error,
            num_repeats=NUM_REPEATS,
            seed=seed,
        )
    finally:
        model.train(was_training)
