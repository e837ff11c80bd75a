"""Stages that keep their best epoch, and logs that go on from stage to stage."""

import csv
import json
from pathlib import Path

import pytest
import torch
from helpers.runs import StopError, run_recipe

from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.recipe.artifacts.history import read_history
from lightning_fastrecipes.recipe.images.export import load_export
from lightning_fastrecipes.recipe.loading import load_recipe

KEEP = ["stages.all.keep_best={monitor: val_loss, mode: max}"]
"""The worst epoch is surely not the last one of all."""


def figures(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())["stages"][2]


def test_the_record_says_which_epoch_was_kept_and_a_resumed_run_keeps_the_same(
    recipe_file, tmp_path
):
    whole = tmp_path / "whole"
    run_recipe(recipe_file, whole, *KEEP)
    rows = read_history(whole / "metrics.csv")
    losses = rows[rows["stage"] == "all"].set_index("epoch")["val_loss"]
    found = figures(whole)
    assert found["kept_epoch"] == losses.idxmax()
    assert found["metrics"]["val_loss"] == losses.max()
    assert found["metrics"]["epoch"] == losses.idxmax()

    stopped = tmp_path / "stopped"
    with pytest.raises(StopError):
        run_recipe(recipe_file, stopped, *KEEP, stop=(2, 1))
    run_recipe(recipe_file, stopped, *KEEP, resume=True)
    assert figures(stopped)["kept_epoch"] == found["kept_epoch"]
    ours, theirs = (load_export(folder)[0].state_dict() for folder in (stopped, whole))
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.all.keep_best=val_acuracy", "must be what the stage logs.*Did you mean"),
        ("stages.all.keep_best={mode: max}", "must be a metric, or"),
        ("stages.all.keep_best={monitor: val_loss, mode: best}", "must be a metric, or"),
    ],
)
def test_what_cannot_be_kept_is_named_before_training(recipe_file, tmp_path, override, message):
    with pytest.raises(RecipeError, match=message):
        run_recipe(recipe_file, tmp_path / "run", override)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_two_that_choose_the_weights_are_refused(recipe_file):
    both = ["stages.all.keep_best=val_loss", "stages.all.until_overfitting=1"]
    with pytest.raises(RecipeError, match="cannot stand beside `until_overfitting`"):
        load_recipe(recipe_file, both)


@pytest.mark.parametrize("is_stopped", [False, True], ids=["whole", "resumed"])
def test_steps_of_a_log_go_on_across_stages(recipe_file, tmp_path, is_stopped):
    folder = tmp_path / "run"
    log = (
        "trainer.logger={class_path: pytorch_lightning.loggers.CSVLogger,"
        " init_args: {save_dir: logs}}"
    )
    if is_stopped:
        with pytest.raises(StopError):
            run_recipe(recipe_file, folder, log, stop=(1, -1))
    run = run_recipe(recipe_file, folder, log, resume=is_stopped)
    # A process has a version of its own, as with any trainer of Lightning.
    files = sorted((folder / "logs").rglob("metrics.csv"))
    rows = [row for file in files for row in csv.DictReader(file.open())]
    steps = [int(row["step"]) for row in rows]
    by_stage = [plan.num_steps for plan in run.plans]
    assert steps == sorted(steps)
    ends = [sum(by_stage[:number]) for number in (1, 2, 3)]
    assert {end - 1 for end in ends} <= set(steps)
    # The evaluation stands behind the last step.
    assert [int(row["step"]) for row in rows if row.get("test_loss")] == [ends[-1]]
