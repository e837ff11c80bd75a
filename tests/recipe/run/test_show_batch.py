"""A recipe's training images can be looked at before any training."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.data.images import showing
from lightning_fastrecipes.plots.images import draw_batch


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict:
    """Keep the images that are drawn first; transforms alone follow."""
    kept: dict = {}

    def keep(rows, names, path, *titles, title):
        if not kept:
            kept.update(rows=rows, names=names, title=title)
        return draw_batch(rows, names, path, *titles, title=title)

    monkeypatch.setattr(showing, "draw_batch", keep)
    return kept


def test_rows_are_images_and_columns_are_epochs(recipe_file, tmp_path, drawn, capsys) -> None:
    out = tmp_path / "grid.png"
    assert main(["show-batch", str(recipe_file), "--out", str(out)]) == 0
    assert "Images of the stage augmented in" in capsys.readouterr().out
    assert np.asarray(Image.open(out)).std() > 10
    assert drawn["title"] == "Training images of stage augmented: augmentation side_on"
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


def test_a_stage_without_augmentation_shows_plain_images_once(recipe_file, tmp_path, drawn) -> None:
    words = ["show-batch", str(recipe_file), "--stage", "head", "--out", str(tmp_path / "a.png")]
    assert main(words) == 0
    assert [len(row) for row in drawn["rows"]] == [1] * 6
    assert drawn["title"].endswith("stage head: augmentation none, so all epochs are the same")


def test_an_unknown_stage_is_named(recipe_file, capsys) -> None:
    assert main(["show-batch", str(recipe_file), "--stage", "al"]) == 2
    assert "there is no stage 'al'. Stages: head, augmented, all" in capsys.readouterr().err
