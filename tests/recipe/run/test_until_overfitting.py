"""Stages that train cycle after cycle until they over-fit."""

import pandas as pd
import pytest
import torch
import yaml
from helpers.runs import run_recipe

from lightning_fastrecipes.callbacks.overfitting_stop import OverfittingStop
from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.recipe.loading import load_recipe
from lightning_fastrecipes.recipe.run.plan import build_parts, plan_stages


@pytest.fixture
def stopping_file(recipe_file):
    """The tiny recipe, whose last stage over-fits soon: its rate is far too high."""
    document = yaml.safe_load(recipe_file.read_text())
    document["stages"][-1] |= {"max_epochs": 12, "until_overfitting": 1, "lr": 0.3, "lr_ratio": 1}
    recipe_file.write_text(yaml.safe_dump(document))
    return recipe_file


@pytest.mark.filterwarnings("ignore:`ValidationGuard`")
def test_the_stage_stops_and_its_checkpoint_holds_the_best_weights(stopping_file, tmp_path):
    job = run_recipe(stopping_file, tmp_path / "run")
    rows = pd.read_csv(tmp_path / "run" / "metrics.csv")
    losses = rows[rows["stage"] == "all"]["val_loss"].tolist()
    assert 2 <= len(losses) < 12
    assert losses[-1] > min(losses)
    assert losses.index(min(losses)) == len(losses) - 2
    checkpoint = torch.load(tmp_path / "run/checkpoints/all.ckpt", weights_only=True)
    saved = checkpoint["state_dict"]
    (best,) = [s["best"] for k, s in checkpoint["callbacks"].items() if "OverfittingStop" in k]
    for name, value in job.model.state_dict().items():
        assert torch.equal(saved[name], value), name
        assert torch.equal(best[name], value), name


def test_explain_says_so(stopping_file, capsys):
    assert main(["explain", str(stopping_file)]) == 0
    assert "until over-fitting" in capsys.readouterr().out.replace("\n", " ")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        pytest.param("stages.head.until_overfitting=1", "the stage has none. Add", id="no-cycles"),
        pytest.param(
            "stages.all.until_overfitting=-1", "must be a number of cycles", id="negative"
        ),
    ],
)
def test_what_cannot_stop_is_refused_before_anything_runs(override, message, stopping_file):
    with pytest.raises(RecipeError, match=message):
        load_recipe(stopping_file, [override])


def test_without_a_validation_split_it_is_refused_before_anything_runs(stopping_file):
    recipe = load_recipe(stopping_file, ["data.split=0"])
    with pytest.raises(RecipeError, match=r"stages\.all: .* needs a validation split"):
        plan_stages(recipe, *build_parts(recipe))


def test_default_is_to_train_all_epochs(recipe_file):
    assert {stage.until_overfitting for stage in load_recipe(recipe_file).stages} == {0}
    assert OverfittingStop().patience == 1
