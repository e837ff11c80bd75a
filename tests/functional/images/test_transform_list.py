"""A list of transforms is read from short forms, class paths and objects; draws follow seeds."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.functional.images.augment import (
    augment,
    augment_batch,
    draw_parameters,
    make_view,
)
from lightning_fastrecipes.functional.images.draws import apply_listed
from lightning_fastrecipes.functional.images.pixels import dihedral
from lightning_fastrecipes.functional.images.transform_list import (
    TRANSFORMS,
    name_of,
    read_transforms,
)
from lightning_fastrecipes.functional.images.transforms import Rotate
from lightning_fastrecipes.functional.random import seeded_generator
from lightning_fastrecipes.protocols import InputSpec

SOLARIZE = {
    "class_path": "torchvision.transforms.v2.RandomSolarize",
    "init_args": {"threshold": 100.0, "p": 1.0},
}
EVERYTHING = [*TRANSFORMS, SOLARIZE, v2.RandomPosterize(3), {"rotate": {"degrees": 40, "p": 1}}]


def photos(count: int = 12, size: int = 20, seed: int = 0) -> torch.Tensor:
    return torch.randint(256, (count, 3, size, size), generator=seeded_generator(seed)).byte()


def drawn_for(specs, count: int = 12, seed: int = 0, preset="none"):
    transforms = read_transforms(specs)
    generator = seeded_generator(seed)
    return draw_parameters(count, preset, 1.1, generator, transforms=transforms), transforms


def test_all_forms_of_one_transform_are_the_same() -> None:
    asked = [
        {"rotate": 15},
        {"rotate": {"degrees": 15}},
        Rotate(15.0),
        {"rotate": {"degrees": 15.0}},
    ]
    assert set(read_transforms(asked)) == {Rotate(15.0)}
    assert read_transforms(["rotate"]) == read_transforms([{"rotate": None}]) == (Rotate(),)
    assert [name_of(spec) for spec in [*asked[:3], SOLARIZE]] == [*["rotate"] * 3, "RandomSolarize"]


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (["rotat"], r"`transforms\[0\]` must be one of .*got 'rotat'\. Did you mean `rotate`"),
        ([{"rotate": {"degree": 3}}], r"`transforms\[0\]\.rotate` must have degrees, p alone"),
        (["flip", {"rotate": 200}], r"`transforms\[1\]\.rotate`: `degrees` must be in \[0, 180\]"),
        ([{"rotate": "far"}], "`degrees` must be .* got 'far'"),
        ([{"flip": 2}], r"`p` must be in \[0, 1\], got 2"),
        ([{"zoom": {"min_zoom": 1.5}}], "`min_zoom` must be at most `max_zoom`"),
        ([{"flip": 1, "grey": 1}], "must be one transform"),
        ("flip", "must be a list"),
        ([3], "must be one transform"),
        ([{"class_path": "torchvision.transforms.v2.Nothing"}], "cannot be built"),
        ([{**SOLARIZE, "init_args": {"threshhold": 3}}], "cannot be built: .*threshhold"),
        ([{**SOLARIZE, "q": 3}], "must have `class_path`, `init_args` and `p` alone, got 'q'"),
        ([{**SOLARIZE, "p": 3}], r"`p` must be in \[0, 1\], got 3"),
        ([v2.Resize(8)], r"must return an image of the shape \(3, 32, 32\) .*but returned \(3, 8"),
        ([v2.ToDtype(torch.float32)], "must return `uint8`, but returned torch.float32"),
        ([v2.Normalize([0.5], [0.5])], "must take a `uint8` image .*but fails"),
    ],
    ids=str,
)
def test_what_is_no_transform_is_refused(specs, message) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_transforms(specs)


def test_transforms_within_a_class_path_are_built() -> None:
    inner = {"class_path": "torchvision.transforms.v2.RandomApply"}
    inner["init_args"] = {"transforms": [SOLARIZE], "p": 1.0}
    drawn, transforms = drawn_for([inner])
    expected = v2.functional.solarize(photos(), 100.0)
    assert torch.equal(make_view(photos(), drawn, transforms=transforms), expected)


def test_a_preset_keeps_its_draws_beside_a_list() -> None:
    alone, _ = drawn_for([], preset="top_down")
    both, _ = drawn_for(["hue", "erase"], preset="top_down")
    for name, values in vars(alone).items():
        assert torch.equal(getattr(both, name), values)


@pytest.mark.parametrize("function", ["loader", "device", "view"])
def test_a_batch_equals_its_images_one_by_one(function) -> None:
    drawn, transforms = drawn_for(EVERYTHING, seed=3)
    images = photos()

    def run(images, drawn):
        if function == "loader":
            return augment(images, drawn, transforms)
        if function == "view":
            return make_view(images, drawn, transforms=transforms)
        return augment_batch(images, drawn, 20, transforms=transforms)

    together = run(images, drawn)
    assert (together != images).flatten(1).any(1).all()
    for row in range(len(images)):
        alone = run(images[row : row + 1], drawn.rows(torch.tensor([row])))
        assert (alone[0].int() - together[row].int()).abs().max() <= 1
        assert (alone[0] != together[row]).float().mean() < 0.01


def test_generators_of_the_process_are_left_alone_and_do_not_matter() -> None:
    def noisy(image: torch.Tensor) -> torch.Tensor:
        shift = int(torch.randint(256, ())) + random.randrange(256) + np.random.randint(256)
        return (image.int() + shift).remainder(256).byte()

    drawn, transforms = drawn_for([noisy])
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        before = torch.get_rng_state(), random.getstate(), np.random.get_state()[2]
        found.append(make_view(photos(), drawn, transforms=transforms))
        after = torch.get_rng_state(), random.getstate(), np.random.get_state()[2]
        assert torch.equal(before[0], after[0])
        assert before[1:] == after[1:]
    assert torch.equal(*found)
    shifts = (found[0].int() - photos().int()).remainder(256).flatten(1)
    assert (shifts == shifts[:, :1]).all()
    assert len(shifts[:, 0].unique()) > 6


@pytest.mark.parametrize("element", range(8))
def test_flips_come_after_the_symmetry_of_a_preset(element) -> None:
    images = photos(1)
    transforms = read_transforms([{"flip": 1}, {"flip_vertical": 1}])
    turned = replace(drawn_for([], count=1)[0], dihedral=torch.tensor([element]))
    both = apply_listed(turned, transforms, [torch.zeros(1, 1)] * 2)
    expected = dihedral(images, element).flip(-1).flip(-2)
    assert torch.equal(make_view(images, both, transforms=transforms), expected)


def test_moves_are_one_resample_in_a_fixed_order() -> None:
    moves = [{"warp": {"p": 1}}, {"shift": {"p": 1}}]
    drawn, transforms = drawn_for(moves)
    images = photos(size=24)
    found = make_view(images, drawn, transforms=transforms)
    other = replace(drawn, listed=torch.cat([drawn.listed[:, 9:], drawn.listed[:, :9]], dim=1))
    assert torch.equal(make_view(images, other, transforms=transforms[::-1]), found)


def test_normalised_images_are_changed_as_their_bytes_are() -> None:
    spec = InputSpec()
    drawn, transforms = drawn_for(["brightness", "hue", "blur", "erase", "warp", SOLARIZE])
    images = photos()
    expected = spec.normalised(make_view(images, drawn, transforms=transforms))
    found = make_view(spec.normalised(images), drawn, spec, transforms)
    assert (found - expected).abs().mean() < 0.01
    with pytest.raises(ValueError, match="it must be known how they were normalised"):
        make_view(spec.normalised(images), drawn, None, transforms)


def test_grey_images_stay_grey_and_what_needs_colours_says_so() -> None:
    images = photos()[:, :1]
    colours = ["saturation", "hue", "grey"]
    drawn, transforms = drawn_for([{name: {"p": 1}} for name in colours])
    assert (make_view(images, drawn, transforms=transforms).int() - images.int()).abs().max() <= 1
    drawn, transforms = drawn_for([{"channel_jitter": {"p": 1}}])
    with pytest.raises(ValueError, match="`channel_jitter` must have images of 3 channels, got 1"):
        make_view(images, drawn, transforms=transforms)
