"""Bring together what the models of several folds have left in their run folders."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lightning_fastrecipes.data.common.files import copy_folder, write_atomically, write_json
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.recipe.artifacts.environment import is_first_process, package_versions
from lightning_fastrecipes.recipe.artifacts.kept_predictions import KeptPredictions, read_folds
from lightning_fastrecipes.recipe.artifacts.reading import RUN_CURE
from lightning_fastrecipes.recipe.artifacts.run_folder import RunFolder
from lightning_fastrecipes.recipe.run.parts import describe_parts
from lightning_fastrecipes.recipe.run.runner import Run
from lightning_fastrecipes.recipe.shared.evaluator import Evaluator

Results = dict[str, Any]


def finish_folds(run: Run, folders: Mapping[str, Path], measured: Mapping[str, Results]) -> Results:
    """Bring the models of several folds together, and write and return their results.

    ``run`` is prepared, as of the first fold, in the folder of them all; ``folders`` and
    ``measured`` are run folder and results of each fold by its name. Of several processes the
    first alone measures, since it has written what the folds have kept.
    """
    if not is_first_process():
        return {"val": {}, "test": {}}
    run.evaluator.set_up({}, is_rehearsal=False)
    results: Results = {"recipe": run.recipe.name, "seed": run.recipe.seed, "stages": []}
    results |= measure_folds(run.evaluator, folders, measured)
    results["versions"] = package_versions()
    describe_parts(run.recipe, run.folder, results)
    write_folds(run.evaluator, run.folder, folders)
    write_json(run.folder.results, results)
    return results


def measure_folds(
    evaluator: Evaluator, folders: Mapping[str, Path], measured: Mapping[str, Results]
) -> Results:
    """Return the results of all folds together, with thresholds and temperatures set by them.

    ``val`` is the mean over the folds, ``standard_errors`` its error; ``out_of_fold`` is measured
    on the rows of all folds at once, each predicted by the model that has not seen it. ``test`` is
    of the mean of what the models predict.
    """
    of_folds = {name: results["val"] for name, results in measured.items()}
    mean, errors = mean_and_error(list(of_folds.values()))
    results: Results = {"folds": len(folders), "val": mean, "test": {}}
    results |= {"standard_errors": {"val": errors}, "members": {"val": of_folds}}
    parts = read_folds(folders, "val")
    joined = KeptPredictions(
        *(torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0]))
    )
    pooled = evaluator.measure_merged("val", joined.plain, joined.merged, joined.targets)
    # The loss of numbers is in deviations from the mean of each fold.
    results["out_of_fold"] = {k: v for k, v in pooled.items() if not k.startswith("loss")}
    evaluator.measure_baseline("val", joined.targets, results)
    of_test = {name: found["test"] for name, found in measured.items() if found["test"]}
    if of_test:
        kept = read_folds(folders, "test")
        results["test"] = evaluator.measure_together(
            "test", [one.plain for one in kept], [one.merged for one in kept], kept[0].targets
        )
        results["members"]["test"] = of_test
        evaluator.measure_baseline("test", kept[0].targets, results)
    return results


def write_folds(evaluator: Evaluator, folder: RunFolder, folders: Mapping[str, Path]) -> None:
    """Write the predictions of all folds as one table, and their exports as one."""
    tables = {name: path / "predictions_val.csv" for name, path in folders.items()}
    write_atomically(folder.path / "predictions_val.csv", join_tables(tables))
    exports = {name: RunFolder(path).export for name, path in folders.items()}
    copy_folder(list(exports.values())[-1], folder.export)
    for name, source in exports.items():
        copy_folder(source, folder.export / "members" / name)
    names = [f"members/{name}" for name in folders]
    # Out of fold each row is predicted by one model, whose temperature is not that of their mean.
    evaluator.write_ensemble_of(names, folder.export, with_temperatures=False)


def mean_and_error(
    rows: Sequence[Mapping[str, float]],
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the mean of each metric over several models, and the standard error of the mean.

    >>> mean_and_error([{"accuracy": 0.5}, {"accuracy": 0.7}])
    ({'accuracy': 0.6}, {'accuracy': 0.1})
    """
    means, errors = {}, {}
    for name in rows[0]:
        values = np.array([row.get(name, math.nan) for row in rows])
        error = np.std(values, ddof=1) / math.sqrt(len(values))
        means[name], errors[name] = (round(float(one), 12) for one in (values.mean(), error))
    return means, errors


def join_tables(files: Mapping[str, Path]) -> str:
    """Return tables of one header as one, with a last column ``fold`` that names the file."""
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    first: list[str] | None = None
    for name, path in files.items():
        try:
            with path.open(encoding="utf-8", newline="") as file:
                head, *rows = csv.reader(file)
        except (OSError, ValueError, csv.Error) as error:
            raise DataError(f"{path} cannot be read: {error}. {RUN_CURE}") from error
        if first is None:
            first = head
            writer.writerow([*head, "fold"])
        if head != first:
            raise DataError(
                f"{path} must have the columns {first}, as the other folds, but has {head}."
                f" {RUN_CURE}"
            )
        writer.writerows([*row, name.removeprefix("fold-")] for row in rows)
    return content.getvalue()
