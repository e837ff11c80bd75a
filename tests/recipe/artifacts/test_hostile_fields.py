"""Every field of real exports and run folders with one hostile value: refused in words, or right.

By default one value in some; ``pytest -m slow`` tries each in each field.
"""

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.hostile_values import changes, forget_code, write_code

from lightning_fastrecipes import ImageClassifier, TabularRegressor
from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.errors import (
    ConfigurationError,
    DataError,
    DataNotFoundError,
    RecipeError,
)
from lightning_fastrecipes.recipe.artifacts.run_folder import RunFolder
from lightning_fastrecipes.recipe.images.export import predict_files
from lightning_fastrecipes.recipe.shared.predictions import check_finite
from lightning_fastrecipes.recipe.tables.export import predict_tables

HOUSE_ONE = Path(__file__).parents[2] / "fixtures" / "house_one"
RUNS, DATA = HOUSE_ONE / "run_folders", HOUSE_ONE / "data"
REFUSALS = (ConfigurationError, DataError, DataNotFoundError, RecipeError)
STRIDE = 23
"""Shares no divisor with the number of values, so that in time each field meets each value."""


def finite(table: pd.DataFrame) -> None:
    assert np.isfinite(table.select_dtypes("number").to_numpy()).all(), "no finite numbers"


def predict_images(export: Path) -> None:
    photos = sorted((DATA / "photos" / "red").glob("*.png"))[:3]
    has_views = json.loads((RUNS / export.name / "export" / "model.json").read_text()).get("tta")
    finite(predict_files(export, photos, tta=bool(has_views))[0])


def predict_rows(export: Path) -> None:
    finite(predict_tables([export], [DATA / "more_sales.csv"]).table)


def try_all(
    cases: Iterator[tuple[str, Any]], marker: Path, attempt: Callable[[Any], None]
) -> list[str]:
    """Return what is neither refused in a line of ours nor harmless."""
    findings, count = [], 0
    for count, (where, document) in enumerate(cases, start=1):  # noqa: B007
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                attempt(document)
        except REFUSALS as error:
            if len(str(error)) > 4_200:
                findings.append(f"{where}: a message of {len(str(error))} characters")
        except Exception as error:
            findings.append(f"{where}: {type(error).__name__}: {str(error)[:200]}")
        if marker.exists():
            findings.append(f"{where}: code has run")
            marker.unlink()
            forget_code()
    assert count > 30
    return findings


def sampled(cases: Iterator[tuple[str, Any]], stride: int) -> Iterator[tuple[str, Any]]:
    return islice(cases, 0, None, stride)


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that a stranger's code makes when it runs."""
    folder = tmp_path / "strange"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    yield write_code(folder)
    forget_code()


def strides(usual: int) -> list[Any]:
    return [usual, pytest.param(1, marks=pytest.mark.slow)]


@pytest.mark.parametrize("stride", strides(STRIDE))
@pytest.mark.parametrize("name", ["tags", "photos", "sales", "kinds"])
def test_a_field_of_an_export_is_checked(tmp_path, marker, name, stride) -> None:
    export = Path(shutil.copytree(RUNS / name / "export", tmp_path / name))
    description = export / "model.json"
    predict = predict_rows if name in ("sales", "kinds") else predict_images

    def attempt(document: Any) -> None:
        description.write_text(json.dumps(document))
        predict(export)

    whole = json.loads(description.read_text())
    attempt(whole)
    assert try_all(sampled(changes(whole, marker), stride), marker, attempt) == []


def test_what_is_no_number_or_nothing_at_all_is_told_apart(tmp_path) -> None:
    for empty in (torch.empty(0), torch.empty(0, 3)):
        assert check_finite(empty, tmp_path) is empty
    for wrong in (torch.tensor([0.5, float("nan")]), torch.tensor([[1.0, 0], [float("inf"), 0]])):
        with pytest.raises(DataError, match=r"does not for 1 of 2 rows, the first .* is row 1"):
            check_finite(wrong, tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    for place in (tmp_path / "loop", Path("a\0b"), Path("x" * 5000)):
        with pytest.raises(DataNotFoundError, match="no exported model"):
            predict_files(place, [])


@pytest.mark.parametrize("stride", strides(STRIDE // 3))
@pytest.mark.parametrize("name", ["progress.json", "results.json"])
def test_a_field_of_a_run_folder_is_checked(tmp_path, marker, name, stride) -> None:
    folder = RunFolder(tmp_path)

    def attempt(document: Any) -> None:
        (tmp_path / name).write_text(json.dumps(document))
        folder.read_progress() if name == "progress.json" else folder.read_results()

    whole = json.loads((RUNS / "photos" / name).read_text())
    attempt(whole)
    assert try_all(sampled(changes(whole, marker), stride), marker, attempt) == []


@pytest.mark.parametrize(
    "recipe", [{"stages": 3}, {"stages": [1]}, {"stages": {"all": 3}}, {"rungs": [3]}, {}, 3]
)
def test_a_recipe_in_the_progress_of_a_run_is_checked(tmp_path, capsys, recipe) -> None:
    (tmp_path / "recipe.yaml").write_text("description: x\n")
    whole = json.loads((RUNS / "photos" / "progress.json").read_text())
    (tmp_path / "progress.json").write_text(json.dumps({**whole, "recipe": recipe}))
    for word in ("--continue", "--resume"):
        assert main(["run", word, str(tmp_path)]) in (1, 2)
        said = capsys.readouterr().err
        assert str(tmp_path) in said
        assert "Traceback" not in said


@pytest.mark.parametrize("stride", strides(STRIDE))
@pytest.mark.parametrize(
    ("name", "model"), [("photos", ImageClassifier), ("sales", TabularRegressor)]
)
@pytest.mark.parametrize("part", ["hyper_parameters", "fastrecipes"])
def test_a_field_of_a_checkpoint_is_checked(tmp_path, marker, name, model, part, stride) -> None:
    path = tmp_path / "model.ckpt"
    whole = torch.load(RUNS / name / "checkpoints" / "all.ckpt", weights_only=True)
    whole = {key: value for key, value in whole.items() if "optimizer" not in key}

    def attempt(document: Any) -> None:
        torch.save({**whole, part: document}, path)
        model.load_from_checkpoint(path)

    attempt(whole[part])
    assert try_all(sampled(changes(whole[part], marker), stride), marker, attempt) == []
