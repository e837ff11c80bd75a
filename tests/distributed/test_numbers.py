"""Numbers of images on two processes, with splits of odd length that samplers must pad."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
import yaml
from helpers.number_images import draw_numbers

pytestmark = pytest.mark.distributed


def test_a_run_measures_as_its_predictions_say(tmp_path) -> None:
    images = draw_numbers(tmp_path / "images", 41)
    labels = {"class_path": "lightning_fastrecipes.Numbers", "init_args": {"columns": "red"}}
    document = {
        "description": "Numbers.",
        "data": {
            "class_path": "lightning_fastrecipes.ImageCSVDataModule",
            "init_args": {
                "csv": str(images / "numbers.csv"),
                "table": {"labels": labels},
                "split": {"val": 0.22, "test": 0.25},
                "image_size": 32,
                "batch_size": 4,
                "num_workers": 0,
            },
        },
        "model": {
            "class_path": "lightning_fastrecipes.ImageRegressor",
            "init_args": {"backbone": "test_resnet.r160_in1k", "head": {"hidden": 8}},
        },
        "trainer": {
            "accelerator": "cpu", "precision": "32-true", "strategy": "ddp", "devices": 2
        },
        "stages": {"all": {"max_epochs": 2, "lr": 0.01}},
        "evaluation": {"tta": {"preset": "flips"}},
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(document))
    done = subprocess.run(
        [sys.executable, "-m", "lightning_fastrecipes", "run", "recipe.yaml", "--out", "run"],
        env=dict(os.environ), cwd=tmp_path, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    sizes = []
    for split in ("val", "test"):
        table = pd.read_csv(tmp_path / "run" / f"predictions_{split}.csv")
        sizes.append(len(table))
        assert table["file"].is_unique
        error = table["prediction"] - table["target"]
        spread = table["target"] - table["target"].mean()
        found = results[split]
        assert found["mae_tta"] == pytest.approx(error.abs().mean(), rel=1e-4)
        assert found["rmse_tta"] == pytest.approx((error**2).mean() ** 0.5, rel=1e-4)
        r2 = 1 - (error**2).sum() / (spread**2).sum()
        assert found["r2_tta"] == pytest.approx(r2, abs=1e-4)
    assert any(size % 2 for size in sizes)
