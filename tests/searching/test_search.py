"""`fastrecipes search`: its folder, its best recipe, and what it refuses."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from helpers.runs import run_recipe
from helpers.searches import write_table

import lightning_fastrecipes as fr
from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.recipe.loading import load_recipe


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_table(tmp_path / "late")


def test_a_search_leaves_the_run_of_its_best_trial(recipe: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert main(["search", str(recipe), "--trials=6", f"--out={out}"]) == 0
    said = capsys.readouterr().out
    table = pd.read_csv(out / "trials.csv")
    assert table["trial"].tolist() == [*range(6)]
    assert table["drawn"].tolist() == ["coarse"] * 3 + ["fine"] * 3
    # Of three trials one goes on at each rung; fine ones begin with the second.
    assert sorted(table["epochs"]) == [1, 1, 2, 2, 4, 4]
    assert table["stages.all.lr"].between(1e-4, 1e-1).all()
    assert said.count("after 1 of 4 epochs") == 3
    assert (out / "trials.png").read_bytes().startswith(b"\x89PNG")
    # What was chosen is the best of those that were trained in full.
    choice = json.loads((out / "choice.json").read_text())
    full = table[table["epochs"] == 4].sort_values(["val_accuracy", "val_loss"])
    full = full[full["val_accuracy"] == full["val_accuracy"].max()]
    assert choice["trial"] == full["trial"].iloc[0]
    document = yaml.safe_load((out / "recipe.yaml").read_text())
    assert document["stages"]["all"]["lr"] == choice["values"]["stages.all.lr"]
    # It is checked on rows that were held out: half of those to validate on.
    assert document["data"]["init_args"]["split"]["test"] == 0.2
    results = json.loads((out / "results.json").read_text())
    assert choice["unseen"] == results["test"]["accuracy"]
    assert "checked on 48 samples that were held out of the validation split" in said
    assert len(fr.load(out).predict(pd.read_csv(tmp_path / "late/late.csv"))) == 240
    # A trial that was paused twice is the run that was never paused.
    whole = run_recipe(out / "recipe.yaml", tmp_path / "again").results
    assert whole["val"] == results["val"]
    assert whole["test"] == results["test"]
    # Nothing is left to do.
    assert main(["search", f"--resume={out}"]) == 0
    assert "is finished" in capsys.readouterr().out


def test_a_test_split_is_measured_once_and_cycles_are_the_rungs(
    recipe: Path, tmp_path: Path, capsys
) -> None:
    words = ["--data.split={val: 0.2, test: 0.2}", "--stages.all.max_epochs=3", "--trials=2"]
    sgdr = "[{class_path: lightning_fastrecipes.SGDR, init_args: {cycle_mult: 2}}]"
    words += [f"--stages.all.callbacks={sgdr}", f"--out={tmp_path / 'out'}", "--monitor=val_loss"]
    assert main(["search", str(recipe), *words]) == 0
    said = capsys.readouterr().out
    assert "compared by: val_loss, the lowest is the best" in said
    assert "checked on the 48 samples of the test split, which no trial looks at" in said
    # The best one alone was tested.
    assert len(list((tmp_path / "out/trials").glob("*/predictions_test.csv"))) == 1
    rungs = json.loads((tmp_path / "out/trials/000/trial.json").read_text())["rungs"]
    assert [rung["epochs"] for rung in rungs] == [1, 3]


def test_values_that_cannot_be_trained_lose(recipe: Path, tmp_path: Path, capsys) -> None:
    words = ["--stages.all.lr={choice: [1e-2, 1e37]}", "--trials=4", f"--out={tmp_path / 'out'}"]
    assert main(["search", str(recipe), *words]) == 0
    table = pd.read_csv(tmp_path / "out/trials.csv")
    failed = table[table["state"] == "failed"]
    assert {*failed["stages.all.lr"]} == {1e37}
    assert failed["message"].str.len().min() > 20
    assert json.loads((tmp_path / "out/choice.json").read_text())["values"]["stages.all.lr"] == 1e-2
    words[0] = "--stages.all.lr={log_uniform: [1e36, 1e37]}"
    assert main(["search", str(recipe), *words[:2], f"--out={tmp_path / 'none'}"]) == 1
    assert "No trial could be trained. The first says: " in capsys.readouterr().err


@pytest.mark.parametrize("command", ["check", "explain", "run", "summary"])
def test_other_commands_name_the_first_range(command, recipe: Path, tmp_path: Path, capsys) -> None:
    assert main([command, str(recipe)]) == 2
    said = capsys.readouterr().err
    assert "model.network.dropout: must be one value here, but is the range" in said
    assert "`fastrecipes search`" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model.network.dropout=0.1", "--stages.all.lr=0.1"], "a search needs a range"),
        (["--stages.all.lr={log_uniform: [0, 1]}"], "stages.all.lr: a range `log_uniform` must"),
        (["--model.network.dropout={uniform: [0.0, 1.5]}"], "dropout"),
        (["--folds=3"], "folds: must be left out of a search"),
        (["--data.split.val={uniform: [0.1, 0.3]}"], "split.val: must not be searched: trials are"),
        (["--data.split={choice: [0.2, 0.3]}"], "split: must not be searched: trials are"),
        (
            ["--stages.all.max_epochs={int_uniform: [2, 8]}"],
            "stages.all.max_epochs: must not be searched: trials are compared after the same",
        ),
        (
            ["--stages.all.keep_best=val_loss", "--monitor=val_accuracy"],
            "`--monitor` must be `val_loss`, by which the last stage keeps its best weights",
        ),
        (["--seeds=3"], "seeds: must be left out of a search"),
        (["--monitor=val_acc"], "Did you mean `val_accuracy`?"),
        (["--data.split={val: 0.0, test: 0.2}"], "must leave rows to validate on"),
        (["--trainer.devices=2"], "devices"),
        (["--trials=10001"], "`--trials` must be from 1 to 10,000"),
        (["--variant=long"], "there is no variant 'long'"),
    ],
)
def test_what_cannot_be_searched_is_said_before_any_training(
    words, said, recipe: Path, tmp_path: Path, capsys
) -> None:
    assert main(["search", str(recipe), *words, f"--out={tmp_path / 'out'}"]) in (1, 2)
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_folders_that_do_not_fit_are_named(recipe: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/a.txt").write_text("a")
    for words, said in (
        ([str(recipe), f"--out={tmp_path / 'full'}"], "is not empty"),
        ([f"--resume={tmp_path / 'full'}"], "is no folder of a search"),
        ([str(recipe), f"--resume={tmp_path / 'full'}"], "leave out everything but"),
        ([], "Name a recipe"),
    ):
        assert main(["search", *words]) == 2
        assert said in capsys.readouterr().err


def test_a_range_may_stand_in_a_recipe_that_is_read_with_a_value(recipe: Path) -> None:
    given = ["stages.all.lr=0.01", "model.network.dropout=0.1"]
    assert load_recipe(recipe, given).stages[0].lr == 0.01


def test_damaged_files_of_a_search_are_named(recipe: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert main(["search", str(recipe), "--trials=1", f"--out={out}"]) == 0
    (out / "choice.json").unlink()
    path = out / "trials/000/trial.json"
    saved = json.loads(path.read_text())
    for values in ([0.1], ["a", "b"], [0.1, -1.0], [0.1, 0.0], [0.1, 1e9], [float("nan"), 0.01]):
        path.write_text(json.dumps(saved | {"values": values}))
        assert main(["search", f"--resume={out}"]) == 1
        assert "must lie in the ranges" in capsys.readouterr().err
    path.write_text("{")
    assert main(["search", f"--resume={out}"]) == 1
    assert "trial.json" in capsys.readouterr().err
    plain = yaml.safe_load((out / "search.yaml").read_text())
    plain["document"]["stages"]["all"]["lr"] = 0.01
    plain["document"]["model"]["init_args"]["network"]["dropout"] = 0.1
    for text in ("[", "a: 1", "num_trials: 3", yaml.safe_dump(plain)):
        (out / "search.yaml").write_text(text)
        assert main(["search", f"--resume={out}"]) == 1
        assert "search.yaml" in capsys.readouterr().err
