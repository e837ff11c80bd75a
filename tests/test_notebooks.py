"""What objects show of themselves in a notebook or at a prompt: short, and true."""

import logging
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.runs import run_recipe
from helpers.trainers import QUIET
from PIL import Image

import lightning_fastrecipes as fr
from lightning_fastrecipes.callbacks.engine.lr_curve import LRCurve
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.recipe.loading import load_recipe
from lightning_fastrecipes.recipe.run.plan import build_parts, plan_stages

PNG = b"\x89PNG"


@pytest.fixture
def images(squares: Path) -> fr.ImageFolderDataModule:
    split = fr.FractionSplit(0.25, 0.25)
    return fr.ImageFolderDataModule(
        squares, split=split, image_size=32, augmentation="side_on", num_workers=0
    )


def test_images_say_whether_they_are_read_and_what_they_are(images, tmp_path) -> None:
    assert repr(images) == "ImageFolderDataModule(not read yet)"
    figure = images.show_batch(num_images=2, num_epochs=1)
    assert figure._repr_png_().startswith(PNG)
    assert len(figure.axes) == 4
    said = repr(images)
    assert "train: 14 images; val: 8 images; test: 6 images" in said
    assert "2 classes: blue, red; image size: 32 px" in said
    model = fr.ImageClassifier(backbone="resnet10t", num_classes=2)
    model.freeze()
    features = fr.FeatureDataModule(images, model)
    for one in (images, features):
        assert str(one) == repr(one)
    images.show_batch(2, 1, tmp_path / "batch")
    assert (tmp_path / "batch.png").read_bytes().startswith(PNG)
    shown = images._repr_html_()
    assert "<th>train</th><td>14 images</td>" in shown
    with pytest.raises(ValueError, match="`num_images` must be at least 1"):
        images.show_batch(0)


@pytest.mark.parametrize(("types", "path"), [(False, None), (False, "a.png"), (True, None)])
def test_a_script_is_told_how_to_see_a_figure(
    images, types, path, tmp_path, monkeypatch, caplog
) -> None:
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    if not types:
        monkeypatch.delattr(sys, "ps1")
    with caplog.at_level(logging.INFO):
        images.show_batch(2, 1, path and tmp_path / path)
    assert ("give `path='figure.png'` to write it" in caplog.text) is (not types and path is None)


def test_a_table_names_its_columns_and_rows() -> None:
    frame = pd.DataFrame({"x": range(40), "k": list("ab") * 20, "y": [1.0, 2.0] * 20})
    columns = fr.TableColumns(target="y", categorical=["k"], continuous=["x"])
    table = fr.TabularDataModule(frame, columns, cache="off")
    assert repr(table) == "TabularDataModule(not read yet)"
    table.setup("fit")
    assert repr(table) == (
        "TabularDataModule(train: 32 rows; val: 8 rows; target: y; categorical: k; continuous: x)"
    )


def test_a_table_shows_rows_in_its_own_units() -> None:
    frame = pd.DataFrame({"km": [1.0, None, 3.5, 1e6] * 10, "shop": ["a", "b"] * 20})
    frame["sales"] = np.geomspace(1, 1e4, 40)
    columns = fr.TableColumns("sales", ["shop"], ["km"], log_target=True)
    table = fr.TabularDataModule(frame, columns, cache="off")
    shown = table.show_batch(12)
    assert len(shown) == 12
    assert shown.columns.tolist() == ["shop", "km", "sales"]
    for name in ("km", "sales"):
        own = frame.loc[shown.index, name].tolist()
        assert shown[name].tolist() == pytest.approx(own, rel=1e-4, nan_ok=True)
    assert shown["km"].isna().any()
    assert shown["shop"].tolist() == frame.loc[shown.index, "shop"].tolist()
    assert len(table.show_batch(99)) == 32
    with pytest.raises(ValueError, match="`num_rows` must be at least 1"):
        table.show_batch(0)


def test_a_table_of_classes_and_numbers_shows_both() -> None:
    frame = pd.DataFrame({"x": range(40), "y": [1.0, 2.0] * 20, "k": ["p", "q"] * 20})
    columns = fr.TableColumns(["y", "k"], [], ["x"], {"y": "regression", "k": "classes"})
    shown = fr.TabularDataModule(frame, columns, cache="off").show_batch(5)
    expected = frame.loc[shown.index]
    assert shown["k"].tolist() == expected["k"].tolist()
    assert shown["y"].tolist() == expected["y"].tolist()
    assert shown["x"].tolist() == pytest.approx(expected["x"].tolist(), abs=1e-4)


def test_a_plan_is_a_line_and_a_table(shared_recipe_file) -> None:
    recipe = load_recipe(shared_recipe_file)
    head, _, last = plan_stages(recipe, *build_parts(recipe))
    assert repr(last) == (
        "StagePlan(Stage all: 3 epochs of 4 steps (12), 32 px, batches of 4, augmentation top_down,"
        " SGDR(cycle_len=1))"
    )
    shown = head._repr_html_()
    assert "on precomputed pooled features" in shown
    assert shown.count("<td>frozen</td>") == 2
    assert "<td>1.00e-02</td>" in shown


@pytest.mark.parametrize("falls", [True, False])
def test_a_curve_is_a_picture_and_one_line(falls) -> None:
    lrs = np.geomspace(1e-6, 1.0, 80)
    losses = 2 / (1 + 500 * lrs) + (3 * lrs) ** 4 if falls else np.ones(80)
    curve = LRCurve(tuple(lrs), tuple(losses), {"head": 1.0})
    said = repr(curve)
    assert len(said) < 400
    assert said.startswith("LRCurve(80 steps, suggestion" if falls else "LRCurve(80 steps, no sug")
    assert curve._repr_png_().startswith(PNG)


def test_fine_tuning_shows_a_row_for_each_stage() -> None:
    frame = pd.DataFrame({"x": range(40), "y": [1.0, 2.0] * 20})
    columns = fr.TableColumns(target="y", categorical=[], continuous=["x"])
    table = fr.TabularDataModule(frame, columns, cache="off")
    done = fr.fine_tune(fr.TabularRegressor(), table, 1, lr=1e-2, **QUIET)
    assert repr(done).startswith("FineTuned(all; ")
    assert done.table()["stage"].tolist() == ["all"]
    assert "<td>all</td>" in done._repr_html_()


def test_a_predictor_says_what_it_knows_and_shows_what_it_sees(
    recipe_file, squares, tmp_path
) -> None:
    run_recipe(recipe_file, tmp_path / "run", "stages.all.max_epochs=1")
    predictor = fr.load(tmp_path / "run", tta=False)
    assert "2 classes: blue, red; views: off; device: cpu" in repr(predictor)
    assert "<th>views</th><td>off</td>" in predictor._repr_html_()
    files = sorted((squares / "red").iterdir())[:5]
    figure = predictor.show_results([*files, Image.open(files[0])], num_images=6)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert len(titles) == 6
    predicted = predictor.predict(files[0])
    share = f"{predicted.values[predicted.value]:.0%}"
    assert titles[0] == f"{files[0].name}\n{predicted.value} {share}"
    assert titles[5] == f"image 5\n{predicted.value} {share}"
    predictor.show_results(files[0], path=tmp_path / "results.png")
    assert (tmp_path / "results.png").read_bytes().startswith(PNG)
    (tmp_path / "bad.png").write_text("no image")
    with pytest.raises(DataError, match="no image to show"):
        predictor.show_results(tmp_path / "bad.png")
