"""Paths in a recipe are those beside it, from wherever it is run."""

from pathlib import Path

import pytest
import yaml

from lightning_fastrecipes.recipe.config.paths import from_beside
from lightning_fastrecipes.recipe.loading import load_recipe


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("photos", "months", "elsewhere"):
        (tmp_path / name).mkdir()
    for name in ("tags.csv", "months/1.csv"):
        (tmp_path / name).write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"init_args": {"root": "photos"}}, "root"),
        ({"init_args": {"csv": "../{name}/tags.csv"}}, "csv"),
        ({"init_args": {"csv": {"train": "tags.csv"}}}, "csv"),
        ({"init_args": {"source": "months/*.csv"}}, "source"),
        ({"init_args": {"source": ["months/1.csv"]}}, "source"),
        ({"init_args": {"table": {"folder": "photos"}}}, "folder"),
    ],
)
def test_what_lies_beside_the_recipe_is_taken_from_there(data, key, home, monkeypatch) -> None:
    data = yaml.safe_load(yaml.safe_dump(data).replace("{name}", home.name))
    monkeypatch.chdir(home / "elsewhere")
    text = str(from_beside({"data": data}, home)["data"])
    assert str(home) in text
    # Variants may name it by a dotted key.
    variants = {"v": {f"data.{key}": "photos"}}
    assert str(home) in str(from_beside({"variants": variants}, home)["variants"])
    monkeypatch.chdir(home)
    assert from_beside({"data": data}, home)["data"] == data


@pytest.mark.parametrize("value", ["package:elpv/images", "not_there", "/photos", "", None, 3])
def test_others_stay_as_they_are(value, home, monkeypatch) -> None:
    monkeypatch.chdir(home / "elsewhere")
    document = {"data": {"root": value}, "description": "photos", "model": {"backbone": "photos"}}
    assert from_beside(document, home) == document


def test_a_recipe_beside_its_images_is_read_from_elsewhere(
    recipe_file, squares, tmp_path, monkeypatch
) -> None:
    document = yaml.safe_load(recipe_file.read_text())
    document["data"]["init_args"]["root"] = "../squares"
    recipe_file.write_text(yaml.safe_dump(document))
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(Path("tiny/recipe.yaml"))
    assert Path(recipe.data.init_args["root"]).resolve() == squares.resolve()
    assert recipe.source["data"]["init_args"]["root"] == recipe.data.init_args["root"]
    # What is typed is relative to where one stands.
    typed = load_recipe(Path("tiny/recipe.yaml"), ["data.root=squares"])
    assert typed.data.init_args["root"] == "squares"
