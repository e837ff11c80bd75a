"""Recipes that predict numbers from images: run, resume, export, predict."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from helpers.number_images import REDNESS, draw_numbers
from helpers.runs import StopError, run_recipe

from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.errors import ConfigurationError, DataError
from lightning_fastrecipes.recipe.images.export import load_export, predict_files
from lightning_fastrecipes.recipe.loading import load_recipe
from lightning_fastrecipes.recipe.run.runner import Run

LABELS = {"class_path": "lightning_fastrecipes.Numbers", "init_args": {"columns": ["red"]}}
BOTH = {
    "class_path": "lightning_fastrecipes.Numbers",
    "init_args": {"columns": ["red", "blue"], "log": ["blue"]},
}


def document(images: Path, labels: dict = LABELS) -> dict:
    """Return a recipe of two stages that trains in seconds."""
    callbacks = [
        {"class_path": "lightning_fastrecipes.SGDR", "init_args": {"cycle_len": 1}},
        {"class_path": "lightning_fastrecipes.CycleSnapshots", "init_args": {"keep": 2}},
    ]
    return {
        "description": "Numbers.",
        "data": {
            "class_path": "lightning_fastrecipes.ImageCSVDataModule",
            "init_args": {
                "csv": str(images / "numbers.csv"),
                "table": {"labels": labels},
                "split": {"val": 0.25, "test": 0.25},
                "image_size": 32,
                "batch_size": 4,
                "num_workers": 0,
            },
        },
        "model": {
            "class_path": "lightning_fastrecipes.ImageRegressor",
            "init_args": {"backbone": "test_resnet.r160_in1k", "head": {"hidden": 8}},
        },
        "trainer": {"accelerator": "cpu", "precision": "32-true"},
        "stages": {
            "head": {"max_epochs": 2, "freeze_to": -1, "lr": 0.01, "precompute": True},
            "all": {"max_epochs": 2, "lr": 0.01, "lr_ratio": 3, "callbacks": callbacks},
        },
    }


def write(folder: Path, content: dict) -> Path:
    path = folder / "numbers" / "recipe.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    return draw_numbers(tmp_path_factory.mktemp("numbers") / "images")


@pytest.fixture(scope="module")
def whole(images, tmp_path_factory) -> Run:
    """One whole run that no test may change."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTRECIPES_CACHE", str(folder / "cache"))
        return run_recipe(write(folder, document(images)), folder / "run")


def test_results_and_predictions_are_in_the_units_of_the_data(whole, images):
    folder = whole.folder.path
    results = json.loads((folder / "results.json").read_text())
    assert set(results["test"]) == {"loss", "mae", "rmse", "r2"}
    table = pd.read_csv(folder / "predictions_test.csv")
    assert list(table) == ["file", "prediction", "target"]
    truth = pd.read_csv(images / "numbers.csv").set_index("file")["red"]
    names = [Path(file).name for file in table["file"]]
    assert table["target"].tolist() == truth[names].tolist()
    error = (table["prediction"] - table["target"]).abs().mean()
    assert results["test"]["mae"] == pytest.approx(error, abs=0.01)
    assert (folder / "predictions_test.png").is_file()
    assert not (folder / "confusion_matrix.png").exists()


def test_predictions_of_the_export_are_those_of_the_evaluation(whole, tmp_path):
    expected = pd.read_csv(whole.folder.path / "predictions_test.csv")
    found, bad = predict_files(whole.folder.path, [Path(file) for file in expected["file"]])
    assert (list(found), bad) == (["file", "prediction"], [])
    np.testing.assert_allclose(found["prediction"], expected["prediction"], rtol=0, atol=0.01)
    out = tmp_path / "out.csv"
    files = expected["file"].tolist()
    assert main(["predict", str(whole.folder.path), *files, "--out", str(out)]) == 0
    assert pd.read_csv(out)["prediction"].tolist() == found["prediction"].tolist()
    model, description = load_export(whole.folder.path)
    assert description["task"] == "image regression"
    assert model.numbers == whole.model.numbers


def test_an_interrupted_run_ends_with_the_same_weights(whole, images, tmp_path):
    recipe = write(tmp_path, document(images))
    with pytest.raises(StopError):
        run_recipe(recipe, tmp_path / "run", stop=(1, 0))
    run_recipe(recipe, tmp_path / "run", resume=True)
    ours, theirs = (load_export(x)[0].state_dict() for x in (tmp_path / "run", whole.folder.path))
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


def test_several_numbers_and_snapshots_with_views(images, tmp_path):
    content = document(images, BOTH)
    content["evaluation"] = {
        "ensemble": "snapshots",
        "tta": {"preset": "flips", "plain_weight": "learn"},
    }
    results = run_recipe(write(tmp_path, content), tmp_path / "run").results
    assert {"mae_red", "r2_blue", "mae_red_tta", "deviation_red", "plain_weight"} <= set(
        results["val"]
    )
    table = pd.read_csv(tmp_path / "run" / "predictions_test.csv")
    columns = ["prediction_red", "target_red", "prediction_blue", "target_blue"]
    assert list(table) == ["file", *columns, "deviation_red", "deviation_blue"]
    assert bool((table["prediction_red"] > REDNESS / 2).all())
    files = [Path(file) for file in table["file"]]
    found, _ = predict_files(tmp_path / "run", files, agreement=True)
    assert list(found) == ["file", *columns[::2], "deviation_red", "deviation_blue"]
    np.testing.assert_allclose(found["prediction_blue"], table["prediction_blue"], rtol=1e-5)
    assert (tmp_path / "run" / "predictions_test_blue.png").is_file()


def test_explain_and_show_batch_say_what_is_predicted(images, tmp_path, capsys):
    recipe = write(tmp_path, document(images, BOTH))
    assert main(["check", str(recipe)]) == 0
    assert main(["explain", str(recipe)]) == 0
    said = capsys.readouterr().out
    assert "images; numbers red (mean 4" in said
    assert "blue (logarithms: mean -" in said
    assert "Units: metrics as the data, the loss in deviations from the mean" in said
    assert main(["show-batch", str(recipe), "--out", str(tmp_path / "batch.png")]) == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("model", "ImageClassifier"), "learns classes, but ImageCSVDataModule has numbers"),
        (("data", "place"), "predicts numbers, but ImageCSVDataModule has classes"),
    ],
)
def test_models_and_data_that_do_not_fit_are_refused(images, tmp_path, change, said, capsys):
    content = document(images)
    if change[0] == "model":
        content["model"]["class_path"] = f"lightning_fastrecipes.{change[1]}"
    else:
        frame = pd.read_csv(images / "numbers.csv").assign(kind=lambda x: x["place"] % 2)
        frame.to_csv(tmp_path / "kinds.csv", index=False)
        content["data"]["init_args"]["csv"] = str(tmp_path / "kinds.csv")
        content["data"]["init_args"]["table"] = {"labels": "kind", "folder": str(images)}
    recipe = write(tmp_path, content)
    assert main(["run", str(recipe), "--out", str(tmp_path / "run")]) != 0
    assert said in capsys.readouterr().err
    with pytest.raises(ConfigurationError, match=said):
        Run(load_recipe(recipe), tmp_path / "run").prepare()


def test_a_damaged_export_is_refused(whole, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(whole.folder.path / "export", tmp_path / "export"))
    description = json.loads((folder / "model.json").read_text())
    del description["sha256"]  # else it is the digest that differs
    red = {"name": "red"}
    far = {**red, "log": True, "mean": 1e300}
    for numbers in ([], [{**red, "std": -1.0}], [{**red, "evil": 1}], [red, red], [far], 3):
        (folder / "model.json").write_text(json.dumps({**description, "numbers": numbers}))
        with pytest.raises(DataError, match="numbers"):
            load_export(folder)


def test_models_of_numbers_and_of_classes_do_not_predict_together(whole, recipe_file, tmp_path):
    run_recipe(recipe_file, tmp_path / "classes", "stages.all.max_epochs=1")
    with pytest.raises(DataError, match=r"cannot predict together"):
        predict_files([whole.folder.path, tmp_path / "classes"], [])
