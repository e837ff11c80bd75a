"""A batch of every stage of every recipe on two and on three processes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.processes import TESTS, load_script
from PIL import Image

from lightning_fastrecipes.recipe.config.catalog import recipes_folder
from lightning_fastrecipes.recipe.loading import load_recipe

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

RECIPES = sorted(path.parent.name for path in recipes_folder().glob("*/recipe.yaml"))
TINY = ["--model.backbone=test_resnet.r160_in1k", "--model.weights=null"]
"""In place of trained weights, which need the network."""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    """Draw photos of two classes, a table of their tags, digits, and tables of sales."""
    folder, draw = tmp_path_factory.mktemp("drawn"), np.random.default_rng(0)
    rows = ["file,label"]
    for name, colour in (("cats", (200, 80, 40)), ("dogs", (40, 80, 200))):
        (folder / "images" / name).mkdir(parents=True)
        for index in range(16):
            pixels = draw.normal(colour, 30, (72, 96, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "images" / name / f"{index}.jpg")
            rows.append(f"{name}/{index}.jpg,{name} {'late' if index % 2 else 'early'}")
    (folder / "tags.csv").write_text("\n".join(rows))
    digits, labels = draw.integers(0, 256, (420, 28, 28), dtype=np.uint8), np.arange(420) % 10
    splits = {"x_train": digits[:400], "y_train": labels[:400]}
    np.savez(folder / "digits.npz", **splits, x_test=digits[400:], y_test=labels[400:])
    load_script(TESTS / "recipes" / "rossmann_tables.py").write_rossmann(folder / "rossmann")
    return folder


def data_of(name: str, drawn: Path) -> list[str]:
    return {
        "cats_dogs": [f"--data.root={drawn}/images"],
        "course": [f"--data.root={drawn}/images"],
        "fashion_tags": [f"--data.csv={drawn}/tags.csv", f"--data.table.folder={drawn}/images"],
        "flights": [],
        "mnist_ladder": [f"--data.source={drawn}/digits.npz"],
        "rossmann": [f"--data.source={drawn}/rossmann/train_open.csv.gz"],
        "solar_cells": [],
    }[name]


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("name", RECIPES)
def test_a_batch_of_every_stage_runs_on_several_processes(name, count, drawn, tmp_path) -> None:
    recipe = load_recipe(recipes_folder() / name / "recipe.yaml")
    words = [*data_of(name, drawn), *(TINY if "weights" in recipe.model.init_args else [])]
    words += ["--trainer.accelerator=cpu", "--trainer.strategy=ddp", f"--trainer.devices={count}"]
    done = subprocess.run(
        [sys.executable, "-m", "lightning_fastrecipes", "run", name, *words, "--fast-dev-run",
         "--out=run"],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert list((tmp_path / "run").rglob("results.json"))
    assert "Traceback" not in done.stderr
