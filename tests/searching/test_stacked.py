"""Stacked heads: each is the head of a run of its own."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.recipe.artifacts.history import read_history
from lightning_fastrecipes.recipe.config.documents import Place
from lightning_fastrecipes.recipe.config.merging import searched_document
from lightning_fastrecipes.searching.definition import Definition, define
from lightning_fastrecipes.searching.stacked import train_heads, why_not_stacked
from lightning_fastrecipes.searching.trials import PausingRun

SEARCHED = {
    "stages.head.lr": [1e-3, 1e-2, 0.1, 0.03],
    "model.optim.weight_decay": [0.0, 0.1, 1.0, 0.01],
    "model.head.dropout": [0.0, 0.2, 0.2, 0.5],
    "model.labels.loss.smoothing": [0.0, 0.1, 0.0, 0.2],
}


@pytest.fixture
def recipe(squares: Path, tmp_path: Path) -> Path:
    """A recipe of one stage that trains a linear head on features."""
    sgdr = {"class_path": "lightning_fastrecipes.SGDR", "init_args": {"cycle_len": 3}}
    document = {
        "description": "Squares.",
        "initial_checks": False,
        "validation_guard": False,
        "report": False,
        "data": {
            "class_path": "lightning_fastrecipes.ImageFolderDataModule",
            "init_args": {
                "root": str(squares), "split": {"val": 0.4}, "image_size": 32, "batch_size": 4,
                "num_workers": 0,
            },
        },
        "model": {
            "class_path": "lightning_fastrecipes.ImageClassifier",
            "init_args": {
                "backbone": "test_resnet.r160_in1k",
                "head": {"layout": "linear", "dropout": 0.0},
            },
        },
        "trainer": {"accelerator": "cpu", "precision": "32-true"},
        "stages": {
            "head": {
                "max_epochs": 3, "freeze_to": -1, "lr": 0.01, "precompute": True,
                "callbacks": [sgdr],
            }
        },
    }  # fmt: skip
    path = tmp_path / "heads.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def definition_of(recipe: Path, *overrides: str) -> Definition:
    place = Place(recipe)
    document, _ = searched_document(place, overrides)
    return define(document, place, 4)


def ranges(*names: str) -> list[str]:
    return [f"{name}={{uniform: [{min(SEARCHED[name])}, {max(SEARCHED[name])}]}}" for name in names]


@pytest.mark.parametrize("names", [[*SEARCHED][:2], [*SEARCHED]], ids=["plain", "all"])
def test_each_head_is_that_of_its_own_run(names, recipe: Path, tmp_path: Path) -> None:
    definition = definition_of(recipe, *ranges(*names))
    assert why_not_stacked(definition, recipe) == ""
    by_name = zip(*(SEARCHED[name] for name in definition.names), strict=True)
    values = [list(one) for one in by_name]
    heads = train_heads(definition, values, recipe)
    losses = []
    for number, (one, head) in enumerate(zip(values, heads, strict=True)):
        run = PausingRun(definition.recipe(one, recipe), tmp_path / str(number), 3)
        run.prepare()
        run.run_stage(0)
        alone = read_history(run.folder.metrics).iloc[-1]
        assert head.loss == pytest.approx(alone["val_loss"], rel=1e-4)
        assert head.figure == pytest.approx(alone["val_accuracy"])
        losses.append(head.loss)
    assert len({round(loss, 6) for loss in losses}) > 1


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["data.batch_size={choice: [4, 8]}"], "other keys"),
        (["stages.head.precompute=false"], "not one stage on precomputed"),
        (["stages.head.keep_best=val_loss"], "chooses its rate or its epochs"),
        (["stages.head.freeze_to=1"], "more than the head"),
        (["model.head.layout=course"], "more than one layer"),
        (["model.optim.optimizer=torch.optim.SGD"], "the optimizer"),
        (["trainer.gradient_clip_val=1.0"], "the trainer"),
        (["model.labels.loss.class_weight=balanced"], "weighted"),
    ],
)
def test_other_recipes_are_trained_one_by_one(overrides, reason, recipe: Path) -> None:
    definition = definition_of(recipe, *ranges("stages.head.lr"), *overrides)
    assert reason in why_not_stacked(definition, recipe)


def test_a_search_of_heads_trains_the_best_one_alone(recipe: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    words = [f"--{one}" for one in ranges("stages.head.lr", "model.optim.weight_decay")]
    assert main(["search", str(recipe), *words, "--trials=8", f"--out={out}"]) == 0
    said = capsys.readouterr().out
    assert said.count("heads: 4 trials as stacked weights in one pass") == 2
    table = pd.read_csv(out / "trials.csv")
    assert (table["state"] == "done").all()
    choice = json.loads((out / "choice.json").read_text())
    best = table.loc[choice["trial"]]
    history = read_history(out / "metrics.csv")
    assert history["val_loss"].iloc[-1] == pytest.approx(best["val_loss"], rel=1e-4)
    assert [path.name for path in (out / "trials").glob("*/checkpoints")] == ["checkpoints"]
    assert (out / "export").is_dir()


def test_a_head_that_goes_astray_loses(recipe: Path, tmp_path: Path) -> None:
    words = ["--stages.head.lr={choice: [0.01, 1e38]}", "--trials=4", f"--out={tmp_path / 'out'}"]
    assert main(["search", str(recipe), *words]) == 0
    table = pd.read_csv(tmp_path / "out/trials.csv").set_index("stages.head.lr")
    assert {*table.loc[[1e38], "state"]} == {"failed"}
    assert {*table.loc[[0.01], "state"]} == {"done"}
