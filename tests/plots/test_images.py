"""Grids of images say what each row and each image is."""

import pytest
import torch

from lightning_fastrecipes.plots.images import draw_batch

IMAGE = torch.zeros(3, 8, 8, dtype=torch.uint8)


def test_titles_and_names_stand_beside_the_images(tmp_path) -> None:
    images = [[IMAGE] * 3] * 2
    figure = draw_batch(images, ["a", "b"], tmp_path / "a.png", title="Training images: none")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["not augmented", "epoch 0", "epoch 1", "", "", ""]
    assert [figure.axes[place].get_ylabel() for place in (0, 3)] == ["a", "b"]
    assert figure.get_suptitle() == "Training images: none"


def test_several_labels_are_level_lines_beside_their_row() -> None:
    labels = ", ".join(f"label {number}" for number in range(40))
    figure = draw_batch([[IMAGE]], [labels], None)
    name = figure.axes[0].yaxis.label
    assert name.get_rotation() == 0
    lines = name.get_text().split("\n")
    assert len(lines) == 8
    assert max(map(len, lines)) <= 24
    assert lines[-1].endswith("…")


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_images_of_any_channels_are_drawn(channels: int) -> None:
    figure = draw_batch([[IMAGE[:1].expand(channels, -1, -1)]], ["a"], None)
    assert figure.axes[0].images[0].get_array().shape == (8, 8, 3)


def test_several_words_of_a_title_are_broken_and_a_long_one_is_cut() -> None:
    long = "x" * 60
    figure = draw_batch([[IMAGE]], [""], None, [[f"{long}\nblue casual summer women bottomwear"]])
    first, *others = figure.axes[0].get_title().split("\n")
    assert first.endswith("…")
    assert len(others) > 1
    assert " ".join(others) == "blue casual summer women bottomwear"
