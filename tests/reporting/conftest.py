"""A finished run whose names are markup."""

from pathlib import Path

import pytest
import yaml
from PIL import Image

from lightning_fastrecipes.cli.main import main

EVIL = ["<img src=x onerror=alert(1)>", "<!--<script>alert(2)"]


@pytest.fixture(scope="session")
def run(tmp_path_factory, shared_recipe_file) -> Path:
    """A run of one stage on two classes."""
    home = tmp_path_factory.mktemp("reported")
    for place, name in enumerate(EVIL):
        (home / "images" / name).mkdir(parents=True)
        for number in range(14):
            colour = (10 * number, 90, 200 if place else 10)
            Image.new("RGB", (24, 24), colour).save(home / "images" / name / f"{number}<b>.png")
    document = yaml.safe_load(shared_recipe_file.read_text())
    document["data"]["init_args"]["root"] = str(home / "images")
    document["stages"] = {"head": {"max_epochs": 1, "freeze_to": -1, "lr": 0.01}}
    recipe = home / "evil.yaml"
    recipe.write_text(yaml.safe_dump(document, sort_keys=False))
    assert main(["run", str(recipe), "--out", str(home / "run")]) == 0
    return home / "run"


@pytest.fixture
def evil() -> list[str]:
    """Names of the classes."""
    return EVIL
