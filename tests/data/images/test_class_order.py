"""Classes that are numbers come in their order, and what was trained keeps its own."""

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch

from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.data.images.class_order import in_order_of
from lightning_fastrecipes.data.images.datamodules import ImageCSVDataModule, ImageFolderDataModule
from lightning_fastrecipes.data.images.label_table import LabelTable, Tags
from lightning_fastrecipes.recipe.loading import load_recipe
from lightning_fastrecipes.recipe.run.plan import build_parts
from lightning_fastrecipes.tasks.image import ImageClassifier
from tests.helpers.runs import StopError, run_recipe

NUMBERS = [str(number) for number in range(12)]


def tables(folder, draw, labels):
    files = [draw(folder / f"{number}.png").name for number in range(len(labels))]
    frame = pd.DataFrame({"file": files, "label": labels})
    frame.to_csv(folder / "labels.csv", index=False)
    return folder / "labels.csv"


@pytest.mark.parametrize("source", ["folders", "list", "table", "tags"])
def test_classes_that_are_numbers_come_in_their_order(tmp_path, draw, source) -> None:
    labels = NUMBERS * 2
    if source == "folders":
        for place, label in enumerate(labels):
            draw(tmp_path / label / f"{place}.png")
        data = ImageFolderDataModule(tmp_path, image_size=16, split=0.5)
    elif source == "list":
        tables(tmp_path, draw, labels)
        text = "".join(f"{place}.png, {label}\n" for place, label in enumerate(labels))
        (tmp_path / "labels.csv").unlink()
        (tmp_path / "train.txt").write_text(text)
        data = ImageFolderDataModule(tmp_path, image_size=16, split=0.5)
    else:
        kind = Tags(separator=" ") if source == "tags" else "label"
        rows = [f"{a} {b}" for a, b in zip(labels, labels[1:] + labels[:1], strict=True)]
        csv = tables(tmp_path, draw, rows if source == "tags" else labels)
        data = ImageCSVDataModule(csv, image_size=16, split=0.0, table=LabelTable(labels=kind))
    data.setup()
    assert data.classes == NUMBERS


@pytest.mark.parametrize("several", [False, True])
def test_targets_follow_another_order_of_classes(tmp_path, draw, several) -> None:
    labels = ["2", "10", "1", "10", "2", "1"]
    rows = ["1 2", "10 1", "10 2", "1", "2", "10"] if several else labels
    csv = tables(tmp_path, draw, rows)
    kind = Tags(separator=" ") if several else "label"
    data = ImageCSVDataModule(csv, image_size=16, split=0.0, table=LabelTable(labels=kind))
    data.setup()
    assert data.classes == ["1", "2", "10"]
    before = data.train_targets
    data.follow_classes(["1", "10", "2"])
    assert data.classes == ["1", "10", "2"]
    moved = before[:, [0, 2, 1]] if several else torch.tensor([0, 2, 1])[before]
    assert torch.equal(data.train_targets, moved)
    if not several:
        assert [data.classes[target] for target in data.train_targets] == labels
    data.follow_classes(["1", "10", "3"])  # others are for the model to refuse
    assert data.classes == ["1", "10", "2"]


def test_images_without_a_label_stay_so(tmp_path, draw) -> None:
    for place, label in enumerate(["9", "10"] * 3):
        draw(tmp_path / "train" / label / f"{place}.png")
    draw(tmp_path / "test" / "a.png")
    data = ImageFolderDataModule(tmp_path, image_size=16, split=0.0)
    data.setup()
    moved = in_order_of(data._assembled, ["10", "9"])
    assert moved.splits["predict"].targets.tolist() == [-1]
    assert (moved.splits["train"].targets == 1 - data.train_targets.numpy()).all()


@pytest.fixture
def numbered(squares):
    (squares / "blue").rename(squares / "10")
    (squares / "red").rename(squares / "9")
    return squares


def in_text_order(monkeypatch) -> pytest.MonkeyPatch:
    """Order classes as earlier versions did."""
    monkeypatch.setattr("lightning_fastrecipes.data.images.assembly.in_order", sorted)
    return monkeypatch


def test_a_model_that_was_trained_in_text_order_is_tested_as_it_was(
    numbered, tmp_path, monkeypatch
) -> None:
    def data():
        return ImageFolderDataModule(numbered, image_size=32, split=0.5, num_workers=0)

    def trainer(epochs):
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        return pl.Trainer(accelerator="cpu", max_epochs=epochs, default_root_dir=tmp_path, **quiet)

    with monkeypatch.context() as patch:
        in_text_order(patch)
        model = ImageClassifier("test_resnet.r160_in1k")
        fitted = trainer(1)
        fitted.fit(model, datamodule=data())
        fitted.save_checkpoint(tmp_path / "old.ckpt")
        [before] = fitted.validate(model, datamodule=data(), verbose=False)
    assert model.classes == ["10", "9"]
    again = ImageClassifier.load_from_checkpoint(tmp_path / "old.ckpt")
    images = data()
    [after] = trainer(1).validate(again, datamodule=images, verbose=False)
    assert after == before
    assert images.classes == ["10", "9"]
    # A fit that goes on knows the classes of the data before those of its checkpoint.
    images, new = data(), ImageClassifier("test_resnet.r160_in1k")
    trainer(2).fit(new, datamodule=images, ckpt_path=tmp_path / "old.ckpt", weights_only=True)
    assert new.classes == images.classes == ["10", "9"]


def test_runs_and_exports_keep_the_order_that_they_were_trained_in(
    numbered, recipe_file, tmp_path, monkeypatch
) -> None:
    whole, halted = tmp_path / "whole", tmp_path / "halted"
    photos = [str(path) for path in sorted(numbered.rglob("*.png"))]
    words = ["predict", str(whole), *photos, "--out"]
    with monkeypatch.context() as patch:
        in_text_order(patch)
        run_recipe(recipe_file, whole)
        with pytest.raises(StopError):
            run_recipe(recipe_file, halted, stop=(2, 0))
        assert main([*words, str(tmp_path / "before.csv")]) == 0
    assert main([*words, str(tmp_path / "after.csv")]) == 0
    assert (tmp_path / "after.csv").read_text() == (tmp_path / "before.csv").read_text()
    assert main(["run", "--resume", str(halted)]) == 0
    old, new = (pd.read_csv(run / "predictions_test.csv") for run in (whole, halted))
    pd.testing.assert_frame_equal(old, new)
    data, model = build_parts(load_recipe(whole / "recipe.yaml"))
    assert data.classes == model.classes == ["10", "9"]
    # A recipe elsewhere has the order of today.
    data, model = build_parts(load_recipe(recipe_file))
    assert data.classes == model.classes == ["9", "10"]
    assert np.isin(old["target"].astype(str), data.classes).all()
