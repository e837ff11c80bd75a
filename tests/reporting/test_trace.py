"""Networks as spreadsheets: their formulas give what PyTorch gives, layer by layer."""

import csv
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from helpers.spreadsheet import Workbook
from PIL import Image
from torch import nn

import lightning_fastrecipes as fr
from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.nn.small import SmallCNN, SmallMLP
from lightning_fastrecipes.reporting.looks import trace as tracing
from lightning_fastrecipes.reporting.looks.trace import write_trace

OFFICE = shutil.which("soffice")
ODD = (
    "INPUT -> CONV(3, 3, stride=2, padding=2, dilation=2) -> ELU -> AVERAGE_POOL(3, 2, padding=1)"
    " -> CONV(4, 2) -> TANH -> POOL(3, 3, padding=1) -> FC(5) -> LEAKY_RELU -> FC"
)
NETWORKS = {
    "pairs with batch norm": lambda: SmallCNN(
        8, [2, 3], hidden=4, batch_norm=True, dropout=0.5, convolution={"padding": "same"}
    ),
    "odd settings": lambda: SmallCNN(25, pattern=ODD, in_channels=1),
    "maxout": lambda: SmallMLP(6, hidden=[4, 3], activation="maxout"),
    "sigmoid": lambda: SmallMLP(6, hidden=[4], activation="sigmoid"),
}


def classifier(name: str, **options) -> fr.ImageClassifier:
    torch.manual_seed(0)
    model = fr.ImageClassifier(NETWORKS[name](), 3, head="linear", num_groups=2, **options)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for tensor in (module.running_mean, module.weight.data, module.bias.data):
                tensor.normal_()
            module.running_var.uniform_(0.5, 2)
    return model.eval()


def images_for(model: fr.ImageClassifier) -> torch.Tensor:
    side, channels = model.backbone.input_spec.image_size, len(model.input_spec.mean)
    return torch.randint(256, (1, channels, side, side), dtype=torch.uint8)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_computes_what_torch_computes(name: str, tmp_path: Path) -> None:
    model = classifier(name)
    images, outputs = images_for(model), []

    def note(layer: nn.Module, _inputs, output) -> None:
        if not list(layer.children()) and not isinstance(layer, (nn.Dropout, nn.Identity)):
            outputs.append((type(layer).__name__, output))

    handles = [layer.register_forward_hook(note) for layer in model.modules()]
    with torch.no_grad():
        wanted = model.probabilities(model(images))[0]
    for handle in handles:
        handle.remove()
    book = Workbook(write_trace(model, images, tmp_path / "trace.xlsx"))
    for number, (kind, output) in enumerate(outputs, start=1):
        sheet = f"{number} {kind}"
        grid = output[0] if output.ndim == 4 else output[0][None, :, None]
        _, height, _ = grid.shape
        for channel, values in enumerate(grid):
            for row, line in enumerate(values.tolist()):
                place = channel * (height + 2) + 2 + row
                found = [
                    book.value(sheet, cell.coordinate)
                    for cell in book.book[sheet][place][: len(line)]
                ]
                assert found == pytest.approx(line, abs=1e-5), (sheet, channel, row)
    for row, probability in enumerate(wanted.tolist(), start=2):
        assert book.value("probabilities", f"B{row}") == pytest.approx(probability, abs=1e-5)
        assert abs(book.value("probabilities", f"D{row}")) < 1e-5


def test_a_changed_pixel_changes_what_follows(tmp_path: Path) -> None:
    model = classifier("sigmoid")
    images = images_for(model)
    book = Workbook(write_trace(model, images, tmp_path / "trace.xlsx"))
    spec = model.input_spec
    pixel = (0 / 255 - spec.mean[0]) / spec.std[0]
    book.book["0 input"]["A2"].value = pixel
    images[0, 0, 0, 0] = 0
    with torch.no_grad():
        wanted = model.probabilities(model(images))[0].tolist()
    found = [book.value("probabilities", f"B{row}") for row in (2, 3, 4)]
    assert found == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(("kind", "num_classes"), [("multi", 3), ("single", 2), ("soft", 2)])
def test_probabilities_of_each_kind_of_labels(kind: str, num_classes: int, tmp_path: Path) -> None:
    network = NETWORKS["maxout"]()
    model = fr.ImageClassifier(
        network, num_classes, head="linear", num_groups=2, labels=fr.Labels(kind=kind)
    )
    model.set_classes(["=1+1", "b", "c"][:num_classes], kind)
    book = Workbook(write_trace(model, images_for(model), tmp_path / "trace.xlsx"))
    for row in range(2, num_classes + 2):
        assert abs(book.value("probabilities", f"D{row}")) < 1e-6
    assert not str(book.book["probabilities"]["A2"].value).startswith("=")


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(values) + values)


def test_what_is_no_row_of_small_layers_is_refused(tmp_path: Path, monkeypatch) -> None:
    place = tmp_path / "trace.xlsx"
    with pytest.raises(ConfigurationError, match=r"'second' .* does not take what 'first' gives"):
        write_trace(Branches().eval(), torch.randn(1, 4), place)
    resnet = timm.create_model("test_resnet.r160_in1k").eval()
    with pytest.raises(ConfigurationError, match="SmallCNN"):
        write_trace(resnet, torch.randn(1, 3, 32, 32), place)
    model = classifier("maxout")
    monkeypatch.setattr(tracing, "_MOST_CELLS", 100)
    with pytest.raises(ConfigurationError, match="must fit into 100 cells"):
        write_trace(model, images_for(model), place)
    assert not place.exists()


def test_the_command_traces_a_run(tmp_path: Path, capsys) -> None:
    network = {
        "class_path": "lightning_fastrecipes.nn.small.SmallMLP",
        "init_args": {"image_size": 6, "hidden": [4]},
    }
    model = fr.ImageClassifier(network, 3, head="linear", num_groups=2)
    model.set_classes(["a", "b", "c"], "single")
    folder = tmp_path / "photos"
    for name in "abc":
        (folder / name).mkdir(parents=True)
        for number in range(4):
            pixels = np.random.default_rng(number).integers(0, 256, (6, 6, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    data = fr.ImageFolderDataModule(
        folder, image_size=6, split=0.25, geometry=fr.Geometry("squish")
    )
    predictor = fr.export(model, tmp_path / "run", data=data)
    image, place = folder / "a" / "0.png", tmp_path / "out.xlsx"
    assert main(["look", "trace", str(tmp_path / "run"), str(image), "--xlsx", str(place)]) == 0
    assert str(place) in capsys.readouterr().out.replace("\n", "")
    book = Workbook(place)
    wanted = predictor.predict(image).values
    found = {book.value("probabilities", f"A{row}"): f"B{row}" for row in (2, 3, 4)}
    for name, cell in found.items():
        assert book.value("probabilities", cell) == pytest.approx(wanted[name], abs=1e-5)
    assert main(["look", "trace", str(tmp_path / "no"), str(image), "--out", str(place)]) == 1
    assert main(["look", "trace", str(tmp_path / "run"), str(tmp_path / "no.png")]) == 1


@pytest.mark.slow
@pytest.mark.skipif(OFFICE is None, reason="there is no LibreOffice")
@pytest.mark.parametrize("name", NETWORKS)
def test_libreoffice_computes_what_torch_computes(name: str, tmp_path: Path) -> None:
    model = classifier(name)
    file = write_trace(model, images_for(model), tmp_path / "trace.xlsx")
    sheets = "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,true,false,false,false,-1"
    words = [OFFICE, "--headless", "--convert-to", sheets, "--outdir", str(tmp_path), str(file)]
    home = f"-env:UserInstallation=file://{tmp_path / 'home'}"
    subprocess.run([words[0], home, *words[1:]], check=True, capture_output=True, timeout=300)
    with (tmp_path / "trace-probabilities.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == 3
    for row in rows:
        assert float(row["here"]) == pytest.approx(float(row["PyTorch"]), abs=1e-6)
