"""A list of transforms in a datamodule: loader and device, arrays, resume, YAML, views."""

import hashlib

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from torchvision.transforms import v2

from lightning_fastrecipes import Augmentation, ImageArrayDataModule, ImageFolderDataModule
from lightning_fastrecipes.data.images import train_transform
from lightning_fastrecipes.data.images.dataset import PixelDataset, prediction_dataset
from lightning_fastrecipes.data.images.geometry import Geometry
from lightning_fastrecipes.data.images.module import ImageDataModule
from lightning_fastrecipes.data.images.train_transform import TrainTransform, view_transforms
from lightning_fastrecipes.functional.images.views import Views
from lightning_fastrecipes.functional.random import seeded_generator
from lightning_fastrecipes.protocols import InputSpec

SOLARIZE = {"class_path": "torchvision.transforms.v2.RandomSolarize"}
SOLARIZE["init_args"] = {"threshold": 100}
LIST = ["flip", {"rotate": {"degrees": 20, "p": 0.75}}, "zoom", "hue", "erase", SOLARIZE]


def images_of(data, epoch: int) -> torch.Tensor:
    dataset = data.train_dataloader().dataset
    places = [epoch * len(dataset) + place for place in range(len(dataset))]
    if isinstance(dataset, PixelDataset):
        return dataset.__getitems__(places)[0]
    return torch.stack([dataset[place][0] for place in places])


def module(root, **options):
    data = ImageFolderDataModule(root, image_size=16, num_workers=0, **options)
    data.setup("fit")
    return data


def test_draws_follow_seed_epoch_and_place_alone(pets) -> None:
    data = module(pets, augmentation=LIST)
    first, second = images_of(data, 0), images_of(data, 1)
    assert not torch.equal(first, second)
    assert torch.equal(images_of(module(pets, augmentation=LIST), 1), second)
    assert not torch.equal(images_of(module(pets, augmentation=LIST, seed=1), 1), second)


def test_a_list_stands_alone_or_beside_a_preset(pets) -> None:
    data = module(pets, augmentation=["flip"])
    assert data.augmentation == Augmentation(transforms=["flip"])
    data.augmentation = "side_on"
    assert data.augmentation == Augmentation("side_on", transforms=["flip"])
    data.augmentation = [{"rotate": 3}]
    assert data.augmentation == Augmentation(transforms=[{"rotate": 3}])
    data.augmentation = "none"
    assert data.augmentation == Augmentation()
    assert data.augmentation.is_none
    assert str(Augmentation("basic", transforms=LIST)).startswith("basic, flip, rotate, zoom")
    assert str(Augmentation(transforms=[SOLARIZE])) == "RandomSolarize"


def test_yaml_takes_short_forms_and_class_paths(pets) -> None:
    for given in (LIST, {"preset": "basic", "transforms": LIST}):
        parser = ArgumentParser(exit_on_error=False)
        parser.add_subclass_arguments(ImageDataModule, "data")
        init_args = {"root": str(pets), "augmentation": given}
        spec = {"class_path": "lightning_fastrecipes.ImageFolderDataModule", "init_args": init_args}
        data = parser.instantiate(parser.parse_object({"data": spec})).data
        assert data.augmentation.transforms == tuple(LIST)
        assert [type(t).__name__ for t in data.augmentation.listed][-1] == "Foreign"


def test_grey_arrays_get_colours_where_a_transform_has_some() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 12, 12), np.uint8)
    arrays = {"x_train": pixels, "y_train": np.arange(6) % 2}

    def served(*transforms):
        data = ImageArrayDataModule(arrays, image_size=12, augmentation=list(transforms), split=0)
        data.setup("fit")
        return images_of(data, 0)

    coloured = served({"channel_jitter": {"strength": 0.5, "p": 1}})
    assert coloured.shape == (6, 3, 12, 12)
    assert not torch.equal(coloured[:, 0], coloured[:, 1])
    grey = served({"brightness": {"strength": 0.5, "p": 1}}, v2.RandomInvert(1.0))
    assert torch.equal(grey[:, 0], grey[:, 2])


@pytest.mark.parametrize("zoom", [{"max_zoom": 1.5, "p": 1}, {"max_zoom": 0.9, "min_zoom": 0.6}])
def test_loader_and_device_zoom_and_move_alike(zoom, monkeypatch) -> None:
    """The same draws give nearly the same images, but for what lies beyond the crop."""
    small = torch.rand(8, 3, 5, 5, generator=seeded_generator(0))
    images = torch.nn.functional.interpolate(small, 48, mode="bicubic").clamp(0, 1)
    images = (images * 255).byte()
    augmentation = Augmentation(transforms=[{"zoom": zoom}, "rotate", "shift", "warp", "flip"])
    transform = TrainTransform(48, Geometry(), InputSpec(), augmentation=augmentation, seed=1)
    drawn = transform._drawn_for(0, 8)
    whole = transform.batch(images, 0, torch.arange(8), 8)
    transform._draw = lambda count, generator: drawn.rows(torch.tensor([generator]))
    monkeypatch.setattr(train_transform, "seeded_generator", lambda seed, epoch, index: index)
    alone = torch.stack([transform(images[place], 0, place) for place in range(8)])
    middle = slice(14, -14)
    difference = (whole.float() - alone.float())[..., middle, middle].abs().mean((1, 2, 3))
    # Crops of the loader lie at whole pixels; what is left out changes these images by 20 or more.
    assert difference.max() < 8


def test_views_of_training_are_draws_of_training() -> None:
    """View 2 of an image is what training makes of it in epoch 2, from the whole image."""
    image = torch.randint(256, (3, 30, 44), generator=seeded_generator(0)).byte()
    geometry, spec = Geometry(), InputSpec()
    views = Views("training", 3, "side_on", transforms=LIST, seed=5)
    makers = view_transforms(20, geometry, spec, views)
    asked = Augmentation("side_on", transforms=LIST)
    trained = TrainTransform(20, geometry, spec, augmentation=asked, seed=5)
    for view, make in enumerate(makers):
        assert torch.equal(make(image, view, 7), trained(image, view, 7))
    # Some views show what the plain image has cropped away.
    marked = torch.zeros(3, 30, 44, dtype=torch.uint8)
    marked[..., :7] = 255
    shown = torch.stack([make(marked, v, i) for i in range(20) for v, make in enumerate(makers)])
    assert (shown > 200).any()


def test_an_image_has_the_same_views_alone_and_among_others(squares) -> None:
    files, views = sorted(squares.rglob("*.png"))[:6], Views("training", 2, "side_on")
    whole, _ = prediction_dataset(files[::-1], image_size=16, views=views)
    together = {file: whole[place][2] for place, file in enumerate(whole.files)}
    for file in files:
        alone, _ = prediction_dataset([file], image_size=16, views=views)
        assert torch.equal(alone[0][2], together[str(file)])
    assert len({made.numpy().tobytes() for made in together.values()}) == len(files)


def test_presets_are_what_they_were() -> None:
    generator = seeded_generator(0)
    images = torch.randint(256, (4, 3, 40, 56), generator=generator).byte()
    digest = hashlib.sha256()
    for preset in ("basic", "side_on", "top_down"):
        transform = TrainTransform(
            24, Geometry(), InputSpec(), augmentation=Augmentation(preset, 1.6), seed=3
        )
        drawn = transform._drawn_for(1, 40)
        for values in vars(drawn).values():
            digest.update(values.mul(1000).round().int().numpy().tobytes())
        alone = torch.stack([transform(images[place], 2, place) for place in range(4)])
        whole = transform.batch(images, 1, torch.arange(4), 40)
        # Means of 8 by 8 pixels, so that a last bit of another machine does not matter.
        means = torch.cat([alone, whole]).float().mean((1, 2, 3))
        digest.update((means / 4).round().int().numpy().tobytes())
    assert digest.hexdigest() == GOLDEN


GOLDEN = "4d647e60e45b64b22841e1bbf87042275046d73791a5d238377e6d294b92cb8a"
