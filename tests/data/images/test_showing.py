"""Each transform is drawn alone, as strong as it ever is."""

import pytest
import torch
from torchvision.transforms.v2 import RandomInvert

from lightning_fastrecipes import Augmentation, ImageFolderDataModule, show_transforms
from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.functional.images.extremes import extremes
from lightning_fastrecipes.functional.images.pixels import dihedral
from lightning_fastrecipes.functional.images.transform_list import TRANSFORMS, read_transforms
from lightning_fastrecipes.functional.random import seeded_generator

IMAGE = torch.randint(256, (3, 16, 16), generator=seeded_generator(0)).byte()


@pytest.mark.parametrize("name", TRANSFORMS)
def test_extremes_are_the_ends_of_what_is_drawn(name) -> None:
    (transform,) = read_transforms([{name: {"p": 0.01}}])
    shown = extremes("none", 1.1, 10, [transform], [name])
    changed = [not torch.equal(one.apply(IMAGE), IMAGE) for one in shown]
    assert any(changed)
    if transform.num_draws == 1:
        drawn = transform.values(torch.rand(2000, 1, generator=seeded_generator(0)))
        labels = [float(one.label) for one in shown]
        reach = labels[1] - labels[0]
        assert labels == pytest.approx([drawn.min().item(), drawn.max().item()], abs=0.01 * reach)


def test_parts_of_a_preset_are_alone() -> None:
    shown = extremes("top_down", 1.5, 20, [], [])
    names = [one.transform for one in shown]
    assert names == [
        *["rotate", "rotate", "zoom", "zoom", "brightness", "brightness"],
        *["contrast", "contrast", *["flip and turn"] * 7],
    ]
    for element, one in enumerate(shown[-7:], start=1):
        assert torch.equal(one.apply(IMAGE), dihedral(IMAGE, element))
    assert [float(shown[place].parameters.angle) for place in (0, 1)] == [-20, 20]
    assert [float(shown[place].parameters.zoom) for place in (2, 3)] == [1.5, 1.5]
    assert not extremes("none", 1.1, 10, [], [])


def test_a_row_for_each_transform_is_drawn(pets, tmp_path) -> None:
    augmentation = Augmentation("side_on", transforms=["hue", RandomInvert(1.0), "erase"])
    data = ImageFolderDataModule(pets, image_size=16, num_workers=0, augmentation=augmentation)
    data.setup("fit")
    figure = show_transforms(data, tmp_path / "a.png", index=3)
    assert (tmp_path / "a.png").stat().st_size > 1000
    rows = [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()]
    parts = ["rotate", "zoom", "brightness", "contrast", "flip and turn"]
    assert rows == [*parts, "hue", "RandomInvert", "erase"]
    with pytest.raises(ConfigurationError, match="`index` must lie in"):
        show_transforms(data, tmp_path / "a.png", index=99)
    data.augmentation = "none"
    with pytest.raises(ConfigurationError, match="There must be an augmentation to show"):
        show_transforms(data, tmp_path / "a.png")
