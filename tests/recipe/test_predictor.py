"""Predictions in Python are those of the command line."""

import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from helpers.trainers import QUIET
from PIL import Image

import lightning_fastrecipes as fr
from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.errors import DataError, DataNotFoundError
from lightning_fastrecipes.recipe.images.reports import prediction_table

HOUSE_ONE = Path(__file__).parents[1] / "fixtures" / "house_one"


@pytest.fixture(scope="module")
def images(tmp_path_factory, shared_recipe_file):
    """A finished run, images that its training did not see, and what the command predicts."""
    folder = tmp_path_factory.mktemp("predictor")
    words = [f"--stages.{name}.max_epochs=1" for name in ("head", "augmented", "all")]
    assert main(["run", str(shared_recipe_file), "--out", str(folder / "run"), *words]) == 0
    (folder / "new").mkdir()
    draw = np.random.default_rng(5)
    for number in range(4):
        pixels = draw.integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "new" / f"{number}.png")
    out = folder / "found.csv"
    assert main(["predict", str(folder / "run"), str(folder / "new"), "--out", str(out)]) == 0
    return folder, pd.read_csv(out)


def test_a_folder_gives_the_table_of_the_command(images) -> None:
    folder, expected = images
    found = fr.load(folder / "run").predict(folder / "new")
    pd.testing.assert_frame_equal(found.reset_index(drop=True), expected, rtol=0, atol=0)


def test_an_image_is_the_same_in_whatever_form_it_comes(images) -> None:
    folder, expected = images
    path = folder / "new" / "2.png"
    predictor = fr.load(folder / "run")
    pixels = np.asarray(Image.open(path))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "BMP")
    row = expected.iloc[2]
    for item in (
        path,
        str(path),
        path.read_bytes(),
        buffer.getvalue(),
        Image.open(path),
        pixels,
        torch.from_numpy(pixels).permute(2, 0, 1),
    ):
        found = predictor.predict(item)
        assert found.value == row["prediction"]
        assert found.values == {name: row[name] for name in predictor.classes}
        assert "np." not in repr(found)


@pytest.mark.parametrize("mode", ["L", "LA", "PA", "RGBA", "RGBa", "P", "1", "CMYK", "I;16"])
def test_an_image_of_pillow_is_predicted_as_its_file_is(images, tmp_path, mode) -> None:
    draw = np.random.default_rng(1)
    pixels = draw.integers(0, 256, (24, 24, 4), np.uint8)
    image = Image.fromarray(pixels)
    if mode == "I;16":
        image = Image.fromarray(draw.integers(0, 65536, (24, 24)).astype(np.uint16))
    elif mode == "PA":
        image = image.convert("LA").convert(mode)
    elif mode == "P":  # of a palette without alpha, as files have it
        image = image.convert("RGB").convert(mode)
    elif mode != "RGBA":
        image = image.convert(mode)
    image.convert("RGBA" if mode in ("PA", "RGBa") else mode).save(tmp_path / "a.tif")
    predictor = fr.load(images[0] / "run")
    assert predictor.predict(image) == predictor.predict(tmp_path / "a.tif")


@pytest.mark.parametrize("mode", ["F", "I"])
def test_an_image_without_an_agreed_white_is_refused_as_its_file_is(images, mode) -> None:
    dark = Image.fromarray(np.full((24, 24), 0.5, np.float32)).convert(mode)
    with pytest.raises(DataError, match=f"of mode {mode}, which has no agreed white"):
        fr.load(images[0] / "run").predict(dark)


def test_several_keep_their_order_and_have_names(images) -> None:
    folder, expected = images
    pixels = np.stack([np.asarray(Image.open(folder / "new" / f"{i}.png")) for i in (3, 1)])
    predictor = fr.load(folder / "run")
    found = predictor.predict(pixels)
    assert found["file"].tolist() == ["image 0", "image 1"]
    assert found["red"].tolist() == expected["red"].iloc[[3, 1]].tolist()
    mixed = predictor.predict([folder / "new" / "0.png", pixels[0]])
    assert mixed["file"].tolist() == [str(folder / "new" / "0.png"), "image 1"]


def test_models_are_loaded_once(images, monkeypatch) -> None:
    folder, _ = images
    predictor = fr.load(folder / "run").to("cpu")
    shutil.copytree(folder / "run", folder / "gone")
    monkeypatch.setattr(predictor._modality, "load", pytest.fail)
    assert len(predictor.predict(folder / "new")) == 4


@pytest.mark.parametrize(
    "item", [np.zeros((4, 4, 3)), np.zeros((4, 4, 2), np.uint8), 5, {"a": 1}], ids=str
)
def test_what_is_no_image_is_refused(images, item) -> None:
    with pytest.raises(DataError, match="must be a path, bytes of a file, a PIL image"):
        fr.load(images[0] / "run").predict(item)


def test_a_single_image_that_cannot_be_read_is_an_error(images) -> None:
    predictor = fr.load(images[0] / "run")
    with pytest.raises(DataError, match=r"image 0: .* Give another"):
        predictor.predict(b"no image")
    with pytest.warns(UserWarning, match="1 files cannot be read and are left out: 'image 1"):
        found = predictor.predict([images[0] / "new" / "0.png", b"no image"])
    assert len(found) == 1


def test_what_is_no_run_is_refused(images, tmp_path) -> None:
    with pytest.raises(DataNotFoundError):
        fr.load(tmp_path)
    checkpoint = next((images[0] / "run" / "checkpoints").glob("*.ckpt"))
    with pytest.raises(DataError, match="A checkpoint does not know how its images"):
        fr.load(checkpoint)
    with pytest.raises(DataError, match="must be given the folder"):
        fr.load()


@pytest.mark.parametrize("run", ["sales", "kinds"])
def test_rows_are_predicted_as_the_command_does(run, tmp_path, monkeypatch) -> None:
    house = shutil.copytree(HOUSE_ONE, tmp_path / "house")
    monkeypatch.chdir(house)
    shutil.copy("data/shops.csv", ".")  # exports of that time have no side tables in them
    table = Path("data/more_sales.csv")
    assert main(["predict", f"run_folders/{run}", str(table), "--out", "found.csv"]) == 0
    expected = pd.read_csv("found.csv")
    predictor = fr.load(f"run_folders/{run}")
    frame = pd.read_csv(table)
    for source in (table, str(table), frame, frame.to_dict("list"), frame.to_dict("records")):
        found = predictor.predict(source)
        pd.testing.assert_frame_equal(found, expected, rtol=1e-5, check_dtype=False)
    one = predictor.predict(frame.iloc[3].to_dict())
    other = predictor.predict(frame.iloc[3])
    assert one == other
    row = found.iloc[3]
    assert one.value == (row["prediction"] if run == "kinds" else pytest.approx(row["prediction"]))
    assert one.values == pytest.approx({n: row[n] for n in predictor.classes or ()}, abs=1e-6)
    assert "np." not in repr(one)


def test_of_single_rows_only_what_is_odd_is_said(tmp_path, monkeypatch, caplog) -> None:
    house = shutil.copytree(HOUSE_ONE, tmp_path / "house")
    monkeypatch.chdir(house)
    shutil.copy("data/shops.csv", ".")
    predictor = fr.load("run_folders/sales")
    row = pd.read_csv("data/more_sales.csv").iloc[3].to_dict()
    with caplog.at_level("INFO"):
        predictor.predict(row)
        assert "predict: " not in caplog.text
        predictor.predict([row, row])
        assert "predict: 2 rows" in caplog.text
        predictor.predict(row | {"Shop": 99})
        assert "predict: 1 rows; values unknown to training: 'Shop' 1" in caplog.text


def test_the_command_prints_rows_as_whole_numbers_and_predictions_as_they_are_known(
    tmp_path, monkeypatch, capsys
) -> None:
    house = shutil.copytree(HOUSE_ONE, tmp_path / "house")
    monkeypatch.chdir(house)
    shutil.copy("data/shops.csv", ".")
    assert main(["predict", "run_folders/sales", "data/more_sales.csv"]) == 0
    lines = [re.findall(r"[\w.]+", line) for line in capsys.readouterr().out.splitlines()]
    rows = [line for line in lines if len(line) == 2 and line[0].isdigit()]
    assert [row[0] for row in rows] == [str(number) for number in range(len(rows))]
    assert len(rows) >= 4
    assert all(len(row[1].replace(".", "")) <= 7 for row in rows)


@pytest.mark.parametrize("run", ["photos", "tags", "soft", "digits", "sales", "kinds"])
def test_every_kind_of_run_predicts_the_very_numbers_of_the_command(
    run, images, tmp_path, monkeypatch, capsys
) -> None:
    house = shutil.copytree(HOUSE_ONE, tmp_path / "house")
    monkeypatch.chdir(house)
    shutil.copy("data/shops.csv", ".")  # exports of that time have no side tables in them
    source = "data/more_sales.csv" if run in ("sales", "kinds") else str(images[0] / "new")
    capsys.readouterr()
    assert main(["predict", f"run_folders/{run}", source, "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)["predictions"]
    found = fr.load(f"run_folders/{run}").predict(source)
    assert len(expected) >= 4
    assert json.loads(found.to_json(orient="records", double_precision=15)) == expected


def test_classes_that_are_called_as_other_columns_keep_their_probabilities(tmp_path) -> None:
    names = ["agreement", "prediction", "row", "target"]
    rows = pd.DataFrame({"x": np.arange(32.0), "y": names * 8})
    columns = fr.TableColumns("y", [], ["x"], task="classes")
    data = fr.TabularDataModule(rows, columns, cache="off")
    model = fr.TabularClassifier(network={"layers": [4], "dropout": 0.0})
    pl.Trainer(max_epochs=1, **QUIET).fit(model, data)
    predictor = fr.export(model, tmp_path / "export")
    found = predictor.predict({"x": 3.0})
    assert found.value in names
    assert list(found.values) == names
    assert sum(found.values.values()) == pytest.approx(1)
    table = predictor.predict(rows)
    assert table.columns.tolist() == [
        "row",
        "prediction",
        *(f"probability of {name}" for name in names),
    ]
    table = table.assign(target=rows["y"])
    assert fr.confusion(table).index.tolist() == names
    own = fr.top_losses(table[["row", "prediction", "target", *table.columns[2:-1]]], 32)
    assert own["probability"].between(0, 1).all()
    for name in ("row", "prediction", "target"):
        with pytest.raises(DataError, match=f"must not be called '{name}'"):
            predictor.predict(rows.assign(**{name: 1}), keep=[name])


def test_photos_of_classes_that_are_called_as_other_columns_are() -> None:
    table = prediction_table(["a"], torch.tensor([[0.2, 0.8]]), ["file", "sky"], torch.tensor([0]))
    assert table.columns.tolist() == ["file", "prediction", "target", "probability of file", "sky"]
    assert fr.top_losses(table)["probability"].tolist() == [0.2]


def test_an_address_of_the_network_is_no_file_and_is_shown_as_it_was_typed(images) -> None:
    address = "https://example.org/cat.jpg"
    with pytest.raises(DataNotFoundError, match=f"'{address}' is an address of the network. Fetch"):
        fr.load(images[0] / "run").predict(address)
