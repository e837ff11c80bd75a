"""Stages that validate, keep and hand on an average of their weights."""

import json

import pytest
import torch
from helpers.runs import StopError, run_recipe

from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.recipe.artifacts.history import read_history
from lightning_fastrecipes.recipe.images.export import load_export
from lightning_fastrecipes.recipe.loading import load_recipe


@pytest.mark.parametrize("kind", ["{decay: 0.99}", "{kind: wise, share: 0.5}"])
def test_an_averaged_stage_is_measured_and_exported_as_it_was_validated(
    recipe_file, tmp_path, kind
) -> None:
    whole, plain = tmp_path / "whole", tmp_path / "plain"
    run_recipe(recipe_file, whole, f"stages.all.averaging={kind}")
    results = json.loads((whole / "results.json").read_text())
    rows = read_history(whole / "metrics.csv")
    last = rows[rows["stage"] == "all"]["val_loss"].iloc[-1]
    assert results["val"]["loss"] == pytest.approx(last, rel=1e-4), results["val"]

    run_recipe(recipe_file, plain)
    trained = read_history(plain / "metrics.csv")
    for stage in ("head", "all"):
        ours = rows[rows["stage"] == stage]["train_loss"].tolist()
        assert ours == trained[trained["stage"] == stage]["train_loss"].tolist()
    assert last != trained[trained["stage"] == "all"]["val_loss"].iloc[-1]

    stopped = tmp_path / "stopped"
    with pytest.raises(StopError):
        run_recipe(recipe_file, stopped, f"stages.all.averaging={kind}", stop=(2, 1))
    run_recipe(recipe_file, stopped, f"stages.all.averaging={kind}", resume=True)
    ours, theirs = (load_export(folder)[0].state_dict() for folder in (stopped, whole))
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name


def test_training_metrics_are_those_of_the_average(recipe_file, tmp_path) -> None:
    run_recipe(recipe_file, tmp_path / "run", "stages.all.averaging=ema", "train_metrics=8")
    rows = read_history(tmp_path / "run" / "metrics.csv")
    assert rows["train_clean_loss"].notna().all()


@pytest.mark.parametrize(
    ("averaging", "said"),
    [
        ("mean", "averaging: `kind` must be"),
        ("{kind: ema, decy: 0.9}", "decy.*decay"),
        ("{kind: ema, decay: 2}", "`decay` must be at least 0 and below 1"),
        ("soup", "averages the weights at the ends of cycles, but the stage has none"),
        ("3", "averaging"),
    ],
)
def test_what_is_no_average_is_refused_with_its_key(recipe_file, averaging, said) -> None:
    overrides = ["stages.all.callbacks=[]", f"stages.all.averaging={averaging}"]
    with pytest.raises(RecipeError, match=said):
        load_recipe(recipe_file, overrides)


def test_a_second_average_is_refused(recipe_file) -> None:
    second = "[{class_path: lightning_fastrecipes.Averaging, init_args: {kind: ema}}]"
    overrides = [f"stages.all.callbacks={second}", "stages.all.averaging=ema"]
    with pytest.raises(RecipeError, match="cannot stand beside the callback `Averaging`"):
        load_recipe(recipe_file, overrides)
