"""The page of layers: its numbers are torch's, its images the true first ones, its names text."""

import base64
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

import lightning_fastrecipes as fr
from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.protocols import InputSpec
from lightning_fastrecipes.reporting.finished_run import read_run
from lightning_fastrecipes.reporting.looks.layers import layers_page


def data_of(page: str) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.S).group(1))


def unpacked(grid: dict) -> np.ndarray:
    levels = np.frombuffer(base64.b64decode(grid["values"]), "<u2").astype(float)
    values = grid["low"] + levels * (grid["high"] - grid["low"]) / 65535
    return values.reshape(grid["height"], grid["width"])


def outputs_of(model, images: torch.Tensor) -> dict[str, torch.Tensor]:
    found = {}
    handles = [
        module.register_forward_hook(
            lambda _m, _i, output, own=own: found.update(
                {own.removeprefix("backbone.model."): output.clone()}
            )
        )
        for own, module in model.named_modules()
    ]
    with torch.no_grad():
        found["probabilities"] = model.probabilities(model(images))
    for handle in handles:
        handle.remove()
    return found


@pytest.fixture(scope="module")
def seen(run):
    """A finished run of two classes, its page for one of its images, and what it holds."""
    finished = read_run(run)
    image = finished.data.eval_dataset("train").files[0]
    return finished, Path(image), layers_page(run, image)


def test_numbers_are_those_of_torch(seen) -> None:
    finished, _, page = seen
    found, dataset = data_of(page), finished.data.eval_dataset("train")
    wanted = outputs_of(finished.model, dataset[0][0][None])
    assert {step["kind"] for step in found["steps"]} >= {"Conv2d", "ReLU", "Linear"}
    for step in found["steps"]:
        output = wanted[step["name"]][0]
        output = output[:, None, None] if output.ndim == 1 else output
        assert step["shape"] == list(output.shape)
        assert step["factor"] == 1
        for channel in step["channels"]:
            maps = output[channel["number"]].numpy()
            span = float(np.abs(maps).max())
            assert unpacked(channel["map"]) == pytest.approx(maps, abs=3e-5 * span + 1e-9)
            assert channel["peak"] == pytest.approx(maps.max(), rel=1e-5, abs=1e-9)
    rows = {row[0]: row for row in found["decision"]["rows"]}
    for name, share in zip(finished.model.classes, wanted["probabilities"][0], strict=True):
        assert rows[name][1] == pytest.approx(share.item(), rel=1e-4)
    powers = sum(row[3] for row in rows.values())
    assert all(row[1] == pytest.approx(row[3] / powers, rel=1e-4) for row in rows.values())


def test_probabilities_follow_the_image_as_it_is_shifted(seen) -> None:
    finished, _, page = seen
    pixels = finished.data.eval_dataset("train")[0][0]
    right = torch.cat([pixels[..., :1], pixels[..., :1], pixels[..., :-2]], dim=-1)
    left = torch.cat([pixels[..., 3:], *[pixels[..., -1:]] * 3], dim=-1)
    with torch.no_grad():
        batch = torch.stack([pixels, right, left])
        wanted = finished.model.probabilities(finished.model(batch)).numpy()
    curves = {one["name"]: dict(one["points"]) for one in data_of(page)["shifts"]["series"]}
    for place, name in enumerate(finished.model.classes):
        values = [curves[name][shift] for shift in (0, 2, -3)]
        assert values == pytest.approx(wanted[:, place], rel=1e-4)


def test_the_nine_images_are_the_true_first_ones(seen) -> None:
    finished, _, page = seen
    found, dataset = data_of(page), finished.data.eval_dataset("train")
    images = torch.stack([dataset[place][0] for place in range(len(dataset))])
    wanted = outputs_of(finished.model, images)
    names = ["/".join(Path(file).parts[-2:]) for file in dataset.files]
    assert found["notes"][-1].startswith(f"All {len(dataset)} training images were looked at")
    for step in found["steps"]:
        output = wanted[step["name"]]
        values = output if output.ndim == 2 else output.amax((2, 3))
        for channel in step["channels"]:
            own = values[:, channel["number"]].double().numpy()
            best = [(names.index(found["images"][k]["name"]), v) for k, v in channel["best"]]
            assert len({place for place, _ in best}) == 9
            assert [v for _, v in best] == pytest.approx(np.sort(own)[::-1][:9], rel=1e-3, abs=1e-5)
            for place, value in best:
                assert value == pytest.approx(own[place], rel=1e-3, abs=1e-5)
    assert len(found["images"]) <= len(dataset)
    assert {one["truth"] for one in found["images"]} <= set(finished.model.classes)


def test_names_are_text_and_nothing_is_asked_for(seen, evil) -> None:
    _, image, page = seen
    assert image.name in data_of(page)["told"]
    assert "<b>" in image.name
    assert "<img src" not in page
    assert "<b>" not in page
    assert not any(name in page for name in evil)
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    assert len(page) < 20_000_000


def test_first_filters_before_and_after(seen, run, tmp_path, monkeypatch) -> None:
    finished, image, page = seen
    filters = data_of(page)["filters"]
    layer = finished.model.get_submodule("backbone.model.conv1.0")
    assert "`conv1.0`. Before training they were random weights." in filters["told"]
    for item in filters["items"]:
        weight = layer.weight[item["number"]].detach().numpy().reshape(-1, 3)
        assert unpacked(item["after"]) == pytest.approx(weight, abs=1e-4)
        assert item["change"] == 0  # the head alone was trained
        assert item["before"] == item["after"]
    assert "None has changed: the layer was not trained." in filters["told"]
    folder = str(finished.recipe.data.init_args["root"])
    monkeypatch.setattr(
        "lightning_fastrecipes.reporting.finished_run._open_data",
        lambda _: (None, None, f"no {folder}"),
    )
    gone = data_of(layers_page(run, image))
    assert "compared with those after stage head" in gone["filters"]["told"][0]
    assert gone["filters"]["items"][0]["before"] == gone["filters"]["items"][0]["after"]
    assert gone["notes"][-1].startswith("The training images are not to be had")
    assert gone["images"] == []


def test_training_images_are_drawn_where_there_are_many(run, seen) -> None:
    _, image, page = seen
    few = layers_page(run, image, num_images=10)
    told = r"10 of \d+ training images, drawn at random, were looked at"
    assert re.match(told, data_of(few)["notes"][-1])
    assert len(data_of(few)["images"]) == 10
    assert few == layers_page(run, image, num_images=10)
    assert len(data_of(page)["images"]) > 10


def test_an_export_has_no_training_images_and_no_earlier_weights(run, seen, tmp_path) -> None:
    _, image, _ = seen
    place = tmp_path / "page.html"
    assert main(["look", "layers", str(run / "export"), str(image), "--out", str(place)]) == 0
    found = data_of(place.read_text())
    assert "An export has no training images" in found["notes"][-1]
    assert found["steps"][0]["channels"][0]["best"] == []
    assert found["filters"]["items"][0]["before"] is None
    assert "does not hold the weights that training began with" in found["filters"]["told"][0]


class Pools(nn.Module):
    """Grey images, with pooling of an odd shape."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3)
        self.pool = nn.MaxPool2d(3, (2, 1), padding=1)
        self.input_spec = InputSpec(image_size=12, mean=(0.5,), std=(0.2,))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.pool(self.first(images))


@pytest.fixture
def image(tmp_path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "0.png")
    return tmp_path / "0.png"


def page_of(model, image: Path, channels: int = 1) -> tuple:
    """Return what the page of a model in memory holds, and what is predicted."""
    geometry = fr.Geometry("squish", channels=channels)
    data = fr.ImageFolderDataModule(image.parent, image_size=12, geometry=geometry)
    predictor = fr.load(model, data=data, trust=[Pools.__module__])
    found = data_of(layers_page(predictor.folders[0], image, trust=[Pools.__module__]))
    return found, predictor.predict(image)


def own(name: str) -> dict:
    return {"class_path": f"{Pools.__module__}.{name}", "init_args": {}}


def test_a_network_of_ones_own_with_pooling_and_one_channel(image) -> None:
    model = fr.ImageClassifier(own("Pools"), 2, head="linear", num_groups=2)
    model.set_classes(["a", "b"], "single")
    found, predicted = page_of(model, image)
    assert {row[0]: row[1] for row in found["decision"]["rows"]} == pytest.approx(predicted.values)
    steps = {step["name"]: step for step in found["steps"]}
    pool = steps["pool"]
    assert pool["window"] == {
        "size": [3, 3], "stride": [2, 1], "padding": [1, 1], "dilation": [1, 1]
    }  # fmt: skip
    for place, channel in enumerate(pool["channels"]):
        if place >= 4:
            assert channel["taken"] is None
            continue
        taken = torch.tensor(unpacked(channel["taken"]))[None, None]
        given = nn.functional.max_pool2d(taken, 3, (2, 1), padding=1)[0, 0].numpy()
        assert unpacked(channel["map"]) == pytest.approx(given, abs=1e-4)
    assert found["filters"]["colour"] is False
    assert found["filters"]["items"][0]["after"]["height"] == 3


def test_several_labels_and_numbers_are_decided_in_their_own_way(image) -> None:
    labels = fr.Labels(kind="multi")
    model = fr.ImageClassifier(own("Pools"), 3, head="linear", num_groups=2, labels=labels)
    model.set_classes(["a", "b", "c"], "multi")
    model.tune_thresholds(torch.rand(20, 3), torch.randint(2, (20, 3)))
    found, predicted = page_of(model, image)
    assert found["decision"]["title"] == "Sigmoid"
    for name, share, z, threshold in found["decision"]["rows"]:
        assert share == pytest.approx(1 / (1 + np.exp(-z)), abs=1e-5)
        assert share == pytest.approx(predicted.values[name], abs=1e-5)
        assert 0 <= threshold <= 1
    model = fr.ImageRegressor(own("Pools"), head="linear", num_groups=2)
    model.set_numbers([{"name": "age", "mean": 40.0, "std": 10.0, "log": False}])
    found, predicted = page_of(model, image)
    assert found["decision"]["rows"] == [["age", pytest.approx(predicted.value, rel=1e-4)]]
    assert "unit_y" not in found["shifts"]


def test_a_run_of_a_table_is_refused(image, tmp_path) -> None:
    frame = pd.DataFrame({"size": range(40), "price": np.arange(40) * 2.0})
    data = fr.TabularDataModule(frame, fr.TableColumns("price", [], ["size"]), cache="off")
    data.prepare_data()
    data.setup("fit")
    model = fr.TabularRegressor(data.spec)
    fr.export(model, tmp_path / "table", data=data)
    with pytest.raises(DataError, match=r"must be of images, but is of a table"):
        layers_page(tmp_path / "table", image)


def test_what_is_no_image_or_run_is_refused_before_anything_is_written(
    run, tmp_path, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.jpg").write_text("no image")
    Path("photos").mkdir()
    refused = {
        ("no_run", "notes.jpg"): "There is no folder 'no_run'",
        ("photos", "notes.jpg"): "There is no exported model in photos",
        (str(run), "no.jpg"): "`image` must name something that exists, got 'no.jpg'",
        (str(run), "notes.jpg"): "The image cannot be read",
        (str(run), "photos"): "`image` must be one image, but 'photos' is a folder",
    }
    for words, message in refused.items():
        assert main(["look", "layers", *words]) == 1
        assert message in " ".join(capsys.readouterr().err.split())
    assert not Path("layers.html").exists()
    assert main(["look", "layers", str(run), "x.png", "--images", "0"]) == 2
    assert "must be a whole number from 1, got '0'" in capsys.readouterr().err
