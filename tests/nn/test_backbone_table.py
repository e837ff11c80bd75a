"""The table of backbones: counted, not remembered, and in step with timm."""

import io

import pytest
import timm
import torch
from torch import nn

import lightning_fastrecipes as fr
from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.cli.output import PlainConsole
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.nn import backbone_table
from lightning_fastrecipes.nn.backbone_table import _CHOICES, _multiply_adds, backbones
from lightning_fastrecipes.nn.weights import PACKAGES
from lightning_fastrecipes.recipe.run.terminal import print_backbones


@pytest.mark.parametrize("choice", _CHOICES, ids=lambda choice: choice.name)
def test_the_weights_are_those_that_timm_takes(choice):
    config = timm.get_pretrained_cfg(choice.name)
    assert config.tag == choice.weights
    assert choice.image_size in (config.input_size[1], (config.test_input_size or [0, 0])[1])
    assert 60 < choice.accuracy < 90


def test_multiply_adds_are_counted():
    # Worked out by hand: 3 x 3 x 3 x 8 for each of 16 x 16 places, then 8 x 5.
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)]
    network = nn.Sequential(*layers).to("meta")
    assert _multiply_adds(network, 16) == 3 * 3 * 3 * 8 * 16 * 16 + 8 * 5
    with torch.device("meta"):
        resnet = timm.create_model("resnet34")
    # As torchvision publishes it for 224 pixels, in billions.
    assert _multiply_adds(resnet, 224) / 1e9 == pytest.approx(3.66, abs=0.02)


def test_a_part_of_the_name_filters_and_the_cheapest_comes_first():
    table = fr.backbones("resnet")
    assert table["name"].tolist() == ["resnet18", "resnet34", "resnet50"]
    assert table["parameters"].round(1).tolist() == [11.7, 21.8, 25.6]
    assert table["multiply_adds"].is_monotonic_increasing
    assert "seconds" not in table
    assert table.attrs["recommended"] in {choice.name for choice in _CHOICES}
    assert "resnet34" in {choice.name for choice in _CHOICES}
    with pytest.raises(ConfigurationError, match="got 'vgg'"):
        backbones("vgg")


def test_what_needs_no_hub_is_marked(monkeypatch):
    table = backbones("lite")
    assert dict(zip(table["offline"], table["name"], strict=True)) == PACKAGES


def test_the_command_prints_and_measures(capsys, monkeypatch):
    monkeypatch.setattr(backbone_table, "_seconds", lambda network, size: 0.123)
    assert main(["backbones", "lite0", "--measure"]) == 0
    printed = capsys.readouterr().out
    for text in ("tf_efficientnet_lite0", "0.39", "74.8", "0.123", "package:efficientnet-lite0"):
        assert text in printed
    assert "results-imagenet.csv" in printed
    assert main(["backbones", "nothing"]) == 1
    assert "`timm.list_models()`" in capsys.readouterr().err


def test_seconds_are_of_one_image():
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
    assert 0 < backbone_table._seconds(network, 8) < 1


@pytest.mark.parametrize("width", [80, 140])
def test_the_table_fits_the_terminal_and_cuts_no_word(width):
    console = PlainConsole(width=width, file=io.StringIO())
    print_backbones(console, backbones("mobilenetv3").assign(seconds=0.1234))
    table = console.file.getvalue().split("Accuracies")[0]
    assert max(map(len, table.splitlines())) <= width
    assert {"mobilenetv3_large_100", "0.123", "multiply-adds:", "phones,", "CPUs"} <= {
        *table.split()
    }
