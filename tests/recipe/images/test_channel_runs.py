"""Recipes of images with one channel, or four: run, export, predict."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from helpers.runs import run_recipe
from PIL import Image

from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.recipe.images.export import load_export, predict_files


def write(recipe_file: Path, data: dict, **model) -> Path:
    document = yaml.safe_load(recipe_file.read_text())
    document["data"]["init_args"] |= data
    document["model"]["init_args"] |= model
    document["stages"] = document["stages"][:2]
    recipe_file.write_text(yaml.safe_dump(document, sort_keys=False))
    return recipe_file


@pytest.mark.parametrize("channels", [1, 4])
def test_a_run_predicts_files_as_it_was_evaluated(recipe_file, tmp_path, channels):
    backbone = {"name": "test_resnet.r160_in1k", "in_channels": channels}
    geometry = {"channels": channels, "normalize": "dataset" if channels == 1 else "weights"}
    recipe = write(recipe_file, {"geometry": geometry}, backbone=backbone)
    assert main(["check", str(recipe)]) == 0
    assert main(["show-batch", str(recipe), "--out", str(tmp_path / "batch.png")]) == 0
    folder = tmp_path / "run"
    run_recipe(recipe, folder)
    expected = pd.read_csv(folder / "predictions_test.csv")
    found, bad = predict_files(folder, [Path(file) for file in expected["file"]])
    assert bad == []
    np.testing.assert_allclose(found[["blue", "red"]], expected[["blue", "red"]], atol=2e-6)
    model, description = load_export(folder)
    assert model.backbone.num_channels == channels
    assert description["geometry"]["channels"] == channels
    # The pixels are of so many channels: what is grey is the same to a model of grey images.
    file = Path(expected["file"][0])
    with Image.open(file) as image:
        image.convert("L").save(tmp_path / "grey.png")
    grey, _ = predict_files(folder, [tmp_path / "grey.png"])
    is_same = np.allclose(grey[["blue", "red"]], found[["blue", "red"]][:1], atol=2e-6)
    assert is_same == (channels == 1)


def test_an_export_of_other_channels_says_that_it_does_not_read_files(recipe_file, tmp_path):
    folder = tmp_path / "run"
    run_recipe(recipe_file, folder, "stages.all.max_epochs=1")
    path = folder / "export" / "model.json"
    description = json.loads(path.read_text())
    del description["sha256"]
    assert "channels" not in description["geometry"]
    for channels, said in (
        (5, "of 1, 3 or 4 channels to predict files"),
        (0, "`geometry.channels`"),
    ):
        description["geometry"]["channels"] = channels
        path.write_text(json.dumps(description))
        with pytest.raises(DataError, match=said):
            predict_files(folder, [tmp_path / "squares"])


def test_channels_that_do_not_fit_end_a_run_in_one_sentence(recipe_file, tmp_path, capsys):
    recipe = write(recipe_file, {"geometry": {"channels": 1}})
    assert main(["run", str(recipe), "--out", str(tmp_path / "run")]) != 0
    said = capsys.readouterr().err
    assert "The images have 1 channels, but the backbone takes 3" in said
    assert "data.geometry.channels=3" in said
