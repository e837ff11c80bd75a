"""Models that a script has trained predict, from memory and from an export, as the command does."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.number_images import draw_numbers
from helpers.trainers import quiet_trainer
from pytorch_lightning.demos.boring_classes import BoringModel
from torch import nn

import lightning_fastrecipes as fr
from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.errors import ConfigurationError, DataError

OPTIONS = {"split": 0.25, "image_size": 32, "batch_size": 4, "num_workers": 0, "cache": "off"}
NETWORK = "test_resnet.r160_in1k"


def photos(folder: Path) -> fr.ImageFolderDataModule:
    return fr.ImageFolderDataModule(folder, augmentation="side_on", **OPTIONS)


def table(folder: Path) -> fr.TabularDataModule:
    draw = np.random.default_rng(0)
    count = 90
    sales = pd.DataFrame(
        {
            "shop": draw.integers(1, 4, count),
            "day": pd.date_range("2024-01-01", periods=count).strftime("%Y-%m-%d"),
            "kind": draw.choice(["low", "high"], count),
        }
    )
    folder.mkdir()
    sales.to_csv(folder / "sales.csv", index=False)
    shops = pd.DataFrame({"shop": [1, 2, 3], "size": [0.5, 1.5, 2.5]})
    shops.to_csv(folder / "shops.csv", index=False)
    return fr.TabularDataModule(
        folder / "sales.csv",
        fr.TableColumns("kind", ["shop", "dayMonth"], ["size"], task="classes"),
        steps=[
            {"join": {"table": "shops.csv", "keys": ["shop"]}},
            {"date_parts": {"column": "day"}},
        ],
        batch_size=16,
        cache="off",
    )


def unread(data):
    """Return a datamodule of the same settings that no trainer has had."""
    if isinstance(data, fr.TabularDataModule):
        return fr.TabularDataModule(data.folder / "sales.csv", data.columns, steps=data.steps)
    if isinstance(data, fr.ImageCSVDataModule):
        return fr.ImageCSVDataModule(data.csv, table=data.table, **OPTIONS)
    return photos(data.root)


@pytest.fixture(params=["classes", "tags", "numbers", "table"])
def trained(request, squares, tagged_images, tmp_path):
    """A model that was trained on a datamodule, and a path to predict."""
    head = {"hidden": 4}
    if request.param == "classes":
        data, new = photos(squares), squares / "red"
        model = fr.ImageClassifier(NETWORK, head=head, lr=1e-2)
        model.freeze()
        quiet_trainer(max_epochs=1).fit(model, datamodule=fr.FeatureDataModule(data, model))
    elif request.param == "tags":
        labels = fr.LabelTable(file_column="image", labels="tags")
        data = fr.ImageCSVDataModule(tagged_images / "tags.csv", table=labels, **OPTIONS)
        new, model = tagged_images, fr.ImageClassifier(NETWORK, head=head, lr=1e-2)
    elif request.param == "numbers":
        new = draw_numbers(tmp_path / "numbers")
        labels = fr.LabelTable(labels=fr.Numbers(["red", "blue"]))
        data = fr.ImageCSVDataModule(new / "numbers.csv", table=labels, **OPTIONS)
        model = fr.ImageRegressor(NETWORK, head=head, lr=1e-2)
    else:
        data = table(tmp_path / "tables")
        new = data.folder
        model = fr.TabularClassifier(network=fr.TabularNetwork([8]))
    torch.manual_seed(0)
    quiet_trainer(max_epochs=1).fit(model, datamodule=data)
    return model, data, sorted(new.glob("*.png"))[:6] or [data.folder / "sales.csv"]


@pytest.mark.filterwarnings("ignore")
def test_memory_export_checkpoint_and_command_predict_the_same(trained, tmp_path, capsys) -> None:
    model, data, new = trained
    model.trainer.save_checkpoint(tmp_path / "m.ckpt")
    exported = fr.export(model, tmp_path / "export")
    capsys.readouterr()
    assert main(["predict", str(tmp_path / "export"), *map(str, new), "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)["predictions"]
    again = unread(data)
    for predictor in (
        exported,
        fr.load(tmp_path / "export"),
        fr.load(model),
        fr.load(model, data=again),
        fr.load(tmp_path / "m.ckpt", data=again),
    ):
        found = predictor.predict([str(path) for path in new])
        assert len(found) >= 6
        assert json.loads(found.to_json(orient="records", double_precision=15)) == expected


@pytest.mark.filterwarnings("ignore")
def test_predictions_are_those_of_the_trainer(trained) -> None:
    model, data, _ = trained
    rows = torch.cat(quiet_trainer().predict(model, data.eval_dataloader("val")))
    if isinstance(model, fr.TabularClassifier):
        frame = pd.read_csv(data.folder / "sales.csv").iloc[data.row_names("val")["row"]]
        found = fr.load(model, data=data).predict(frame)
    else:
        files = [str(file) for file in data.eval_dataset("val").files]
        found = fr.load(model, data=data).predict(files)
    assert found.iloc[:, -rows.shape[1] :].to_numpy() == pytest.approx(
        rows.numpy(), rel=1e-4, abs=1e-5
    )


def fitted(folder: Path, backbone="test_resnet.r160_in1k"):
    model, data = fr.ImageClassifier(backbone, head={"hidden": 4}, lr=1e-2), photos(folder)
    quiet_trainer(max_epochs=1).fit(model, datamodule=data)
    return model, data


def test_labels_are_decided_by_the_thresholds_of_the_model(tagged_images) -> None:
    labels = fr.LabelTable(file_column="image", labels="tags")
    data = fr.ImageCSVDataModule(tagged_images / "tags.csv", table=labels, **OPTIONS)
    model = fr.ImageClassifier(NETWORK, head={"hidden": 4})
    quiet_trainer(max_epochs=1).fit(model, datamodule=data)
    model.thresholds.copy_(torch.tensor([0.0, 2.0, 2.0, 0.0]).clamp(max=1))
    found = fr.load(model).predict(tagged_images / "3.png")
    assert found.value == "blue red"


def test_views_are_those_of_the_training(squares) -> None:
    model, _ = fitted(squares)
    image = squares / "red" / "0.png"
    plain, viewed = (fr.load(model, tta=tta).predict(image).values for tta in (None, True))
    assert plain != viewed
    assert fr.load(model, tta=False).predict(image).values == plain


def test_a_loaded_model_stays_as_it_was(squares) -> None:
    model, _ = fitted(squares)
    image, predictor = squares / "red" / "0.png", fr.load(model)
    before = predictor.predict(image)
    assert model.training
    nn.init.zeros_(model.head[-1].weight)
    assert predictor.predict(image) == before
    assert "ImageClassifier" in repr(predictor)


def test_a_network_given_as_an_object_predicts_but_has_no_name_for_files(squares, tmp_path) -> None:
    network = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU()),
        nn.Sequential(nn.Conv2d(4, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU()),
    )
    model, data = fitted(squares, network)
    rows = torch.cat(quiet_trainer().predict(model, data.eval_dataloader("val")))
    files = [str(file) for file in data.eval_dataset("val").files]
    found = fr.load(model, data=data).predict(files)
    assert found[model.classes].to_numpy() == pytest.approx(rows.numpy(), abs=1e-5)
    with pytest.raises(ConfigurationError, match=r"Sequential was given as an object.*class_path"):
        fr.export(model, tmp_path / "export", data)
    assert not (tmp_path / "export").exists()


def test_what_is_not_known_is_said_with_its_cure(squares, tmp_path) -> None:
    model, data = fitted(squares)
    model.trainer.save_checkpoint(tmp_path / "m.ckpt")
    with pytest.raises(DataError, match=r"A checkpoint does not know.*load\(.*m.ckpt', data=data"):
        fr.load(tmp_path / "m.ckpt")
    quiet_trainer().test(model, data.eval_dataloader("val"), verbose=False)
    with pytest.raises(ConfigurationError, match=r"`ImageDataModule`, got NoneType. Give it as"):
        fr.load(model)
    with pytest.raises(ConfigurationError, match="must be the datamodule of the model's images"):
        fr.export(model, tmp_path / "export", table(tmp_path / "tables"))
    with pytest.raises(ConfigurationError, match=r"Call `model.set_classes\(\[...\]\)`"):
        fr.load(fr.ImageClassifier(NETWORK, 2), data=data)
    with pytest.raises(ConfigurationError, match=r"task of this package.*got BoringModel"):
        fr.load(BoringModel(), data=data)
    own = quiet_trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=0)
    own.fit(BoringModel())
    own.save_checkpoint(tmp_path / "own.ckpt")
    with pytest.raises(DataError, match=r"own.ckpt' must be a checkpoint of a task"):
        fr.load(tmp_path / "own.ckpt", data=data)
    (tmp_path / "run" / "export").mkdir(parents=True)
    with pytest.raises(DataError, match=r"has an `export` in it, as runs do. Name another"):
        fr.export(model, tmp_path / "run", data)
