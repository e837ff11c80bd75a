"""A trained model of a table in files, and its predictions for other tables."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from lightning_fastrecipes import plain
from lightning_fastrecipes.batches import TableInputs
from lightning_fastrecipes.data.common.sources import resolve_source
from lightning_fastrecipes.data.tables.column_steps import Step
from lightning_fastrecipes.data.tables.datamodule import TabularDataModule
from lightning_fastrecipes.data.tables.frames import frame_files
from lightning_fastrecipes.data.tables.loader import TableLoader
from lightning_fastrecipes.data.tables.reading import Reading
from lightning_fastrecipes.data.tables.source import Source
from lightning_fastrecipes.data.tables.steps import Join, parse_steps, step_files, steps_to_list
from lightning_fastrecipes.errors import DataError, DataNotFoundError
from lightning_fastrecipes.functional.labels.calibration import at_temperature
from lightning_fastrecipes.functional.labels.merging import running_mean, stack_predictions
from lightning_fastrecipes.functional.tables.predictions import (
    far_predictions,
    num_digits,
    predicted_columns,
    prediction_agreement,
    to_csv,
)
from lightning_fastrecipes.functional.tables.spec import TableSpec
from lightning_fastrecipes.messages import name_some, shown
from lightning_fastrecipes.recipe.artifacts.environment import default_device
from lightning_fastrecipes.recipe.artifacts.export_files import (
    checked_architecture,
    export_home,
    load_model,
    member_folders,
    read_description,
    read_temperature,
)
from lightning_fastrecipes.recipe.artifacts.reading import EXPORT_CURE
from lightning_fastrecipes.recipe.config.bounds import MOST
from lightning_fastrecipes.recipe.shared.predictions import append_columns, check_finite
from lightning_fastrecipes.tasks.multi_target import TabularMultiTarget
from lightning_fastrecipes.tasks.table_task import TabularTask
from lightning_fastrecipes.tasks.tabular import TabularClassifier, TabularRegressor

_KEYS = ("spec", "network", "norm_policy", "y_range", "point_estimate", "loss", "loss_weights")
_SIDE = "side_tables"
_WORD = plain.maybe(plain.text(".{1,100}", "a word"))
_DESCRIPTION = plain.keys(
    {
        "steps": plain.items(plain.named(plain.anything), most=1_000),
        "folder": plain.text(".{0,4000}", "a folder"),
        "package": plain.maybe(plain.text(".{0,4000}", "a source")),
        "batch_size": plain.whole(1, MOST["batch_size"]),
    },
    {
        "reading": plain.all_of(
            plain.keys({"encoding": _WORD, "separator": _WORD}), plain.built(Reading)
        )
    },
)
TASKS: dict[str, type[TabularTask]] = {
    "table regression": TabularRegressor,
    "table classes": TabularClassifier,
    "table several": TabularMultiTarget,
}


def describe_table_model(model: TabularTask, data: TabularDataModule) -> dict[str, Any]:
    """Return the description of a model of a table, and of how that table is prepared."""
    spec = model.require_spec()
    package = next((text for text in data.source_names if text.startswith("package:")), None)
    steps, _ = _with_side_tables(parse_steps(data.steps), data.folder, {})
    return {
        "task": f"table {spec.task}",
        "architecture": model.architecture,
        "steps": steps_to_list(steps),
        "reading": asdict(data.reading),
        "folder": str(data.folder.absolute()),
        "package": package,
        "batch_size": data.eval_batch_size,
    }


def side_tables(data: TabularDataModule) -> dict[str, Path]:
    """Return the side tables of the steps by their names in the export."""
    return _with_side_tables(parse_steps(data.steps), data.folder, {})[1]


def load_table_export(folder: Path) -> tuple[TabularTask, dict[str, Any]]:
    """Load an exported model of a table: ``load_model``, which refuses models of images."""

    def check(description: dict[str, Any], key: str) -> None:
        if description["task"] not in TASKS:
            raise DataError(
                f"The export in {folder} must be of a model of a table, but is of"
                f" {shown(description['task'])}. Predict with runs of tables alone, or of images."
            )
        _DESCRIPTION(description, key)
        parse_steps(description["steps"])

    description = read_description(folder, check)
    architecture = checked_architecture(folder, description, _KEYS, ())
    task = TASKS[description["task"]]
    model = load_model(folder, description, lambda: task.from_architecture(architecture))
    if "files" in description:
        # Earlier versions left the side tables where they were.
        home = export_home(folder)
        for file in step_files(parse_steps(description["steps"]), home / _SIDE):
            name = os.path.relpath(file, home)
            if name not in description["files"]:
                raise DataError(
                    f"{home} must join tables that were exported with the model, but joins"
                    f" {shown(name)}. {EXPORT_CURE}"
                )
        description["folder"], description["package"] = str(home / _SIDE), None
    return model.to(default_device()), description


class TablePredictions(NamedTuple):
    """What models predict of rows, as a table and as CSV, and remarks, a line each."""

    table: pd.DataFrame
    content: str
    notes: list[str]


def predict_tables(
    folders: Sequence[Path],
    source: Source,
    keep: Sequence[str] = (),
    *,
    agreement: bool = False,
    calibrated: bool = False,
    load: Callable[[Path], Any] | None = None,
) -> TablePredictions:
    """Predict the rows of tables with exported models, in 32-bit arithmetic as the evaluation does.

    Several files or patterns are prepared as one table, one below the other. The target is ignored.
    Several models predict their mean, in the user's units. ``folders`` are run folders, or the
    ``export`` folders in them; ``load`` gives model and description of one, as
    ``load_table_export`` does, on the device to predict on.

    The table has the columns ``file`` (where there are several), ``row`` (from 0 in each file),
    those to ``keep`` of the tables as they were prepared, ``prediction``, for classes a probability
    each (``calibrated`` at the temperature that fits the run's validation split), and with
    ``agreement`` how far several models agree; remarks are on unknown and missing
    values. Raise `DataNotFoundError` if a table, a side table or an export is missing, `DataError`
    if the table is not like that of the training, or the models do not predict the same.
    """
    tables = _Tables(source, keep)
    load = load or load_table_export
    members = [member for folder in folders for member in member_folders(folder)]
    if not members:
        raise DataError("`folders` must name at least one run, got none.")
    temperature = read_temperature(folders, with_views=False) if calibrated else None
    first = load(members[0])[0].require_spec()
    predictions = (_predict_with(member, first, tables, *load(member)) for member in members)
    each = stack_predictions(predictions) if agreement else None
    mean = running_mean(predictions if each is None else each)
    if temperature is not None:
        mean = torch.from_numpy(at_temperature(mean.double().numpy(), temperature))
    found = predicted_columns(first, mean)
    if each is not None:
        found = append_columns(found, prediction_agreement(first, each, mean))
    table = pd.concat([tables.rows, found], axis=1)
    notes = [*tables.notes, *far_predictions(first, table)]
    return TablePredictions(table, to_csv(table, num_digits(first), keep), notes)


class _Tables:
    """The tables to predict, prepared once for all models that need them prepared alike."""

    def __init__(self, source: Source, keep: Sequence[str]) -> None:
        self._keep = keep
        # What was unknown or missing in the rows, a line each, in order.
        self.notes: dict[str, None] = {}
        # Where each row is in the tables.
        self.rows: pd.DataFrame | None = None
        self._source = source
        self._key: tuple[Any, ...] = ()
        self._loader: TableLoader

    def loader(self, spec: TableSpec, description: Mapping[str, Any]) -> TableLoader:
        """Return the batches as a model needs them."""
        # Side tables are the same by their digests, wherever each export has them.
        where = ("files",) if "files" in description else ("folder", "package")
        keys = ("steps", "reading", "batch_size", *where)
        key = (spec, *(description.get(key) for key in keys))
        if key != self._key:
            data = TabularDataModule.from_spec(
                spec,
                self._source,
                steps=description["steps"],
                reading=description.get("reading"),
                eval_batch_size=description["batch_size"],
            )
            # Where the rows are, unless the steps need tables that are elsewhere.
            data.folder = _side_folder(description, data.folder)
            self._loader, self._key = data.predict_dataloader(keep=self._keep), key
            self.rows = data.predict_rows if self.rows is None else self.rows
            self.notes |= dict.fromkeys(str(data.report).splitlines())
        return self._loader


def _predict_with(
    folder: Path,
    first: TableSpec,
    tables: _Tables,
    model: TabularTask,
    description: Mapping[str, Any],
) -> Tensor:
    device = model.device
    spec = model.require_spec()
    ours, theirs = (
        [(column.name, column.task, column.classes) for column in one.target_columns]
        for one in (first, spec)
    )
    if ours != theirs:
        raise DataError(
            f"The models must predict the same to be averaged, but one predicts"
            f" {name_some(first.targets)} and that of {folder} {name_some(spec.targets)}, or other"
            " classes."
        )
    chunks = []
    with torch.inference_mode():
        for batch in tables.loader(spec, description):
            inputs = TableInputs(*(part.to(device) for part in batch[0]))
            chunks.append(model.probabilities(model(inputs)).cpu())
    return check_finite(torch.cat(chunks), folder)


def _with_side_tables(
    steps: Sequence[Step], folder: Path, files: dict[str, Path]
) -> tuple[list[Step], dict[str, Path]]:
    """Name the side tables of steps as they lie in the export; return steps and files by name."""
    found: list[Step] = []
    for step in steps:
        if isinstance(step, Join):
            inner, _ = _with_side_tables(step.steps, folder, files)
            named: list[str] = []
            for item in [step.table] if isinstance(step.table, str) else step.table:
                paths = frame_files(item, folder, "table")
                is_below = all(path.is_relative_to(folder) for path in paths)
                if is_below and not item.startswith("package:") and ".." not in Path(item).parts:
                    names = {path.relative_to(folder).as_posix(): path for path in paths}
                    named.append(Path(item).as_posix())
                else:
                    names = {f"elsewhere_{len(files)}/{path.name}": path for path in paths[:1]}
                    for path in paths[1:]:
                        names[f"elsewhere_{len(files) + len(names)}/{path.name}"] = path
                    named += names
                files |= {f"{_SIDE}/{name}": path for name, path in names.items()}
            table = named[0] if isinstance(step.table, str) and len(named) == 1 else named
            step = replace(step, table=table, steps=inner)
        found.append(step)
    return found, files


def _side_folder(description: Mapping[str, Any], beside: Path) -> Path:
    """Find the folder of the side tables: beside the rows, in the export, or of the training."""
    steps = parse_steps(description["steps"])
    if "files" in description:
        with suppress(DataNotFoundError):
            step_files(steps, beside)
            return beside
    places = [Path(description["folder"])]
    if description["package"]:
        with suppress(DataNotFoundError):
            places.append(resolve_source(description["package"], "package").parent)
    places.append(beside)
    missing = ""
    for place in places:
        try:
            step_files(steps, place)
        except DataNotFoundError as error:
            missing = missing or str(error)
        else:
            return place
    looked = ", ".join(f"'{place.absolute()}'" for place in dict.fromkeys(places))
    raise DataNotFoundError(
        f"The steps that prepared the training's table join side tables that are not there. Looked"
        f" in {looked}. Put them into the folder of the rows to predict. The first that is missing:"
        f" {missing}"
    )
