"""Training metrics of a recipe's stages: beside the others, exact on resume, of no influence."""

import pandas as pd
import pytest
import torch
import yaml
from helpers.runs import StopError, run_recipe

from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.recipe.loading import load_recipe

CLEAN = ["train_clean_loss", "train_clean_accuracy"]


@pytest.fixture
def short_file(recipe_file):
    """The tiny recipe with two stages, of which the first trains on precomputed features."""
    document = yaml.safe_load(recipe_file.read_text())
    head, _, last = document["stages"]
    document["stages"] = [head | {"max_epochs": 1}, last | {"max_epochs": 2}]
    recipe_file.write_text(yaml.safe_dump(document, sort_keys=False))
    return recipe_file


def test_they_are_measured_and_change_nothing_and_are_exact_on_resume(short_file, tmp_path):
    run_recipe(short_file, tmp_path / "plain")
    run_recipe(short_file, tmp_path / "whole", "train_metrics=5")
    with pytest.raises(StopError):
        run_recipe(short_file, tmp_path / "cut", "train_metrics=5", stop=(1, 0))
    run_recipe(tmp_path / "cut" / "recipe.yaml", tmp_path / "cut", resume=True)
    tables = {path.name: pd.read_csv(path / "metrics.csv").drop(columns="seconds") for path in (
        tmp_path / "plain", tmp_path / "whole", tmp_path / "cut",
    )}  # fmt: skip
    assert tables["whole"][CLEAN].notna().all().all()
    assert tables["whole"]["train_clean_accuracy"].mul(5).round(5).mod(1).eq(0).all()
    pd.testing.assert_frame_equal(tables["cut"], tables["whole"])
    pd.testing.assert_frame_equal(tables["whole"].drop(columns=CLEAN), tables["plain"])
    states = [
        torch.load(tmp_path / name / "checkpoints" / "all.ckpt", weights_only=True)["state_dict"]
        for name in ("plain", "whole")
    ]
    torch.testing.assert_close(*states, rtol=0, atol=0)


def test_their_number_is_checked(recipe_file):
    with pytest.raises(RecipeError, match="train_metrics: must be a number of samples"):
        load_recipe(recipe_file, ["train_metrics=-1"])
