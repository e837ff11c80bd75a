"""A recipe's training images can be looked at before any training."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.data.images import showing
from lightning_fastrecipes.plots.runs import draw_batch


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict:
    """Keep the images that are drawn first; transforms alone follow."""
    kept: dict = {}

    def keep(rows, names, path, *titles):
        if not kept:
            kept.update(rows=rows, names=names)
        return draw_batch(rows, names, path, *titles)

    monkeypatch.setattr(showing, "draw_batch", keep)
    return kept


def test_rows_are_images_and_columns_are_epochs(recipe_file, tmp_path, drawn, capsys) -> None:
    out = tmp_path / "grid.png"
    assert main(["show-batch", str(recipe_file), "--out", str(out)]) == 0
    assert "Images of the stage augmented in" in capsys.readouterr().out
    assert np.asarray(Image.open(out)).std() > 10
    assert list(drawn["names"]) == ["blue"] * 3 + ["red"] * 3
    for plain, *epochs in drawn["rows"]:
        assert len(epochs) == 5
        assert all(image.shape == (3, 32, 32) for image in (plain, *epochs))
        pairs = itertools.pairwise(epochs)
        assert not any(torch.equal(one, other) for one, other in pairs)


def test_each_transform_is_drawn_alone_beside_it(recipe_file, tmp_path, capsys) -> None:
    words = ["show-batch", str(recipe_file), "--out", str(tmp_path / "a.png")]
    listed = "--stages.augmented.augmentation=[flip, {rotate: 30}]"
    assert main([*words, listed]) == 0
    beside = tmp_path / "a_transforms.png"
    assert f"each transform alone in {beside}" in capsys.readouterr().out
    assert np.asarray(Image.open(beside)).std() > 10
    assert main([*words, "--stage", "head"]) == 0
    assert "alone" not in capsys.readouterr().out
    assert not beside.exists()


def test_a_stage_without_augmentation_shows_plain_images(recipe_file, tmp_path, drawn) -> None:
    words = ["show-batch", str(recipe_file), "--stage", "head", "--out", str(tmp_path / "a.png")]
    assert main(words) == 0
    for plain, *epochs in drawn["rows"]:
        assert all(torch.equal(plain, image) for image in epochs)


def test_an_unknown_stage_is_named(recipe_file, capsys) -> None:
    assert main(["show-batch", str(recipe_file), "--stage", "al"]) == 2
    assert "there is no stage 'al'. Stages: head, augmented, all" in capsys.readouterr().err


def test_titles_and_names_stand_beside_the_images(tmp_path: Path) -> None:
    images = [[torch.zeros(3, 4, 4, dtype=torch.uint8)] * 3] * 2
    figure = draw_batch(images, ["a", "b"], tmp_path / "a.png")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["not augmented", "epoch 0", "epoch 1", "", "", ""]
    assert [figure.axes[place].get_ylabel() for place in (0, 3)] == ["a", "b"]
