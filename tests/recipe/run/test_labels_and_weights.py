"""A recipe with a loss of its own, unknown labels and weights of rows, stopped and resumed."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from helpers.runs import StopError, run_recipe
from PIL import Image

NAMES = ["red", "green", "blue"]


@pytest.fixture
def recipe(tmp_path):
    generator = np.random.default_rng(0)
    cells = (generator.random((30, 3)) < 0.5).astype(float)
    for number, row in enumerate(cells):
        pixels = generator.integers(0, 80, (32, 32, 3)) + (150 * row).astype(int)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{number}.png")
    cells[generator.random((30, 3)) < 0.25] = np.nan
    table = pd.DataFrame(cells, columns=NAMES)
    table.insert(0, "file", [f"{number}.png" for number in range(30)])
    table["quality"] = generator.choice([0.5, 1, 2], 30)
    table.to_csv(tmp_path / "labels.csv", index=False)
    document = {
        "description": "labels",
        "data": {"class_path": "lightning_fastrecipes.ImageCSVDataModule", "init_args": {
            "csv": str(tmp_path / "labels.csv"), "image_size": 32, "batch_size": 8,
            "table": {"labels": {"columns": NAMES}, "weight": "quality"},
            "split": {"val": 0.2, "test": 0.2},
        }},
        "model": {"class_path": "lightning_fastrecipes.ImageClassifier", "init_args": {
            "backbone": "test_efficientnet.r160_in1k", "head": {"layout": "linear", "dropout": 0.0},
            "labels": {"pos_weight": "balanced", "loss": {"smoothing": 0.1, "focal_gamma": 1}},
        }},
        "trainer": {"accelerator": "cpu", "devices": 1},
        "stages": [{"name": "head", "freeze_to": -1, "precompute": True, "max_epochs": 1},
                   {"name": "all", "freeze_to": 0, "max_epochs": 2}],
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(document))
    return tmp_path / "recipe.yaml"


def test_a_resumed_run_ends_as_one_that_was_not_stopped(recipe, tmp_path) -> None:
    wanted = run_recipe(recipe, tmp_path / "whole").results
    with pytest.raises(StopError):
        run_recipe(recipe, tmp_path / "stopped", stop=(1, 0))
    found = run_recipe(recipe, tmp_path / "stopped", resume=True).results
    assert found["test"] == wanted["test"]
    tables = [tmp_path / name / "predictions_test.csv" for name in ("whole", "stopped")]
    first, second = (pd.read_csv(table) for table in tables)
    pd.testing.assert_frame_equal(first, second)
    assert "unknown" in first
    weights = [torch.load(tmp_path / name / "checkpoints" / "all.ckpt", weights_only=True)
               for name in ("whole", "stopped")]  # fmt: skip
    for name, tensor in weights[0]["state_dict"].items():
        assert torch.equal(tensor, weights[1]["state_dict"][name])
    described = json.loads((tmp_path / "whole" / "export" / "model.json").read_text())
    assert described["architecture"]["labels"]["loss"]["focal_gamma"] == 1
