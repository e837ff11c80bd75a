"""What a finished run has left in its folder, and the data it was trained on if they are there."""

import re
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes.data.common.sources import check_file
from lightning_fastrecipes.errors import (
    ConfigurationError,
    DataError,
    DataNotFoundError,
    RecipeError,
)
from lightning_fastrecipes.messages import shown
from lightning_fastrecipes.recipe.artifacts.export_files import member_folders, read_description
from lightning_fastrecipes.recipe.artifacts.history import read_history
from lightning_fastrecipes.recipe.artifacts.reading import RUN_CURE
from lightning_fastrecipes.recipe.artifacts.run_folder import RunFolder
from lightning_fastrecipes.recipe.config.schema import Recipe
from lightning_fastrecipes.recipe.loading import load_recipe, modality_of
from lightning_fastrecipes.recipe.shared.predictions import Split
from lightning_fastrecipes.trust import Trust

SPLITS: tuple[Split, ...] = get_args(Split)
_OLD_SPLITS = {"val": "valid"}


@dataclass(frozen=True)
class FinishedRun:
    """What a finished run has left.

    ``predictions`` are its tables as text, by split. ``description`` is that of the model that it
    exported, ``model`` this model. ``data`` is the datamodule, set up and set to the sizes of the
    evaluation, and ``start`` the model as it was before training; both are ``None`` where the data
    cannot be had, and ``missing`` says why.
    """

    folder: RunFolder
    recipe: Recipe
    results: dict[str, Any]
    history: pd.DataFrame
    predictions: Mapping[Split, pd.DataFrame]
    description: dict[str, Any]
    model: Any
    data: Any = None
    start: Any = None
    missing: str = ""

    @property
    def is_table(self) -> bool:
        """Whether the run is of a table, not of images."""
        return str(self.description["task"]).startswith("table ")


def read_run(path: Path, trust: Trust = ()) -> FinishedRun:
    """Read a run folder, and open its data if they are where they were.

    ``trust`` names modules whose code the recipe may use. Raise `DataNotFoundError` if the folder
    is none of a finished run, `DataError` if a file in it is damaged.
    """
    folder = RunFolder(path)
    if not folder.recipe.is_file() or not folder.results.is_file():
        raise DataNotFoundError(
            f"{path} must be the folder of a finished run, but has no `recipe.yaml` and"
            " `results.json`. Name one, or finish the run with `fastrecipes run --resume`."
        )
    recipe = load_recipe(folder.recipe, trust=trust)
    modality = modality_of(recipe)
    first = member_folders(path)[0]
    model, _ = modality.load(first, trust=trust)
    data, start, missing = _open_data(recipe)
    return FinishedRun(
        folder,
        recipe,
        folder.read_results(),
        read_history(folder.metrics),
        {split: found for split in SPLITS if (found := _read_predictions(path, split)) is not None},
        read_description(first),
        model,
        data,
        start,
        missing,
    )


def _open_data(recipe: Recipe) -> tuple[Any, Any, str]:
    """Build data and first model; what was to be said of them was said by the run."""
    if recipe.folds:
        # Each fold has data of its own: what a model has not seen, another was trained on.
        said = "the report of a fold, such as `fastrecipes report RUN/fold-0`, looks at its rows"
        return None, None, f"this run has {recipe.folds} folds; {said}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pl.seed_everything(recipe.seed, workers=True, verbose=False)
            modality = modality_of(recipe)
            data, start = modality.build_parts(recipe)
            modality.apply_evaluation(recipe.evaluation, data)
    except (DataNotFoundError, DataError, ConfigurationError, RecipeError) as error:
        return None, None, str(error)
    return data, start, ""


def _read_predictions(path: Path, split: Split) -> pd.DataFrame | None:
    for name in (split, _OLD_SPLITS.get(split, split)):
        file = path / f"predictions_{name}.csv"
        if file.is_file():
            return read_text_table(file)
    return None


def read_text_table(file: Path) -> pd.DataFrame:
    """Read a CSV of the run folder as text; a class may be called ``nan``, or as a column is."""
    try:
        # Names of classes may stand twice: pandas would number them, so that they go by place.
        found = pd.read_csv(check_file(file), dtype=str, keep_default_na=False, header=None)
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file} must be a table, but is not: {error}. {RUN_CURE}") from error
    found.columns = pd.Index(found.iloc[0].tolist(), dtype=object)
    return found.iloc[1:].reset_index(drop=True)


def numbers_in(column: "pd.Series[Any]", file: str) -> "pd.Series[float]":
    """Return a column of text as numbers; gaps are NaN, and a `DataError` names what is none."""
    values = pd.to_numeric(column.replace("", None), errors="coerce")
    odd = column[values.isna() & (column != "") & ~column.str.fullmatch("nan", flags=re.I)]
    if len(odd):
        raise DataError(f"{file} must hold numbers, but holds {shown(odd.iloc[0])}. {RUN_CURE}")
    return values.astype(float)
