"""Pictures become square as the model expects, and at random for training."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2

from lightning_fastrecipes.data.geometry import EvalTransform, Geometry, WholeTransform
from lightning_fastrecipes.data.train_transform import TrainTransform
from lightning_fastrecipes.functional.augment import seeded_generator
from lightning_fastrecipes.protocols import InputSpec

SPEC = InputSpec(interpolation="bicubic", crop_fraction=0.8)


def picture(height=30, width=47):
    return torch.randint(256, (3, height, width), generator=seeded_generator(1)).byte()


@pytest.mark.parametrize(("height", "width"), [(30, 47), (61, 33), (20, 20), (200, 90)])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_evaluation_equals_torchvisions_resize_and_centre_crop(height, width, interpolation):
    image = picture(height, width)
    mode = "nearest-exact" if interpolation == "nearest" else interpolation
    reference = v2.Compose(
        [v2.Resize(25, v2.InterpolationMode(mode), antialias=True), v2.CenterCrop(20)]
    )

    result = EvalTransform(20, Geometry(interpolation=interpolation), SPEC)(image, 0, 0)

    assert result.dtype == torch.uint8
    assert torch.equal(result, reference(image))


def test_squish_keeps_the_whole_picture():
    image = picture()
    result = EvalTransform(16, Geometry(resize="squish"), SPEC)(image, 0, 0)

    expected = v2.functional.resize(image, [16, 16], v2.InterpolationMode.BICUBIC, antialias=True)
    assert torch.equal(result, expected)


def test_what_the_geometry_leaves_open_comes_from_the_model():
    assert EvalTransform(20, Geometry(), SPEC).key() == {
        "image_size": 20,
        "resize": "crop",
        "interpolation": "bicubic",
        "crop_fraction": 0.8,
        "background": "white",
    }


def test_what_the_geometry_says_wins_over_the_model():
    key = EvalTransform(20, Geometry(interpolation="nearest", crop_fraction=1.0), SPEC).key()

    assert (key["interpolation"], key["crop_fraction"]) == ("nearest", 1.0)


@given(
    height=st.integers(5, 70),
    width=st.integers(5, 70),
    size=st.integers(2, 40),
    fraction=st.floats(0.4, 1.0),
    resize=st.sampled_from(["crop", "squish"]),
)
@settings(max_examples=200, deadline=None)
def test_the_middle_of_whole_pictures_is_what_the_evaluation_sees(
    height, width, size, fraction, resize
):
    geometry, image = Geometry(resize, crop_fraction=fraction), picture(height, width)
    evaluation, transform = (kind(size, geometry, SPEC) for kind in (EvalTransform, WholeTransform))
    side = transform.whole_size
    whole = transform(image, 0, 0)

    assert whole.shape == (3, side, side)
    assert torch.equal(transform.middle(whole), evaluation(image, 0, 0))
    assert torch.equal(transform.batch(image[None], 0, torch.zeros(1), 1)[0], whole)
    assert transform.side == evaluation.side
    assert transform.key() != evaluation.key()


def test_the_middle_of_pictures_of_another_size_is_refused():
    transform = WholeTransform(16, Geometry(), SPEC)
    with pytest.raises(ValueError, match="Whole pictures must be 20 x 20 px, but are 20 x 24"):
        transform.middle(picture(20, 24))


def test_whole_pictures_are_all_of_the_shorter_side():
    whole = WholeTransform(16, Geometry(), SPEC)(picture(30, 47), 0, 0)

    expected = v2.functional.resize(picture(30, 47), [20], v2.InterpolationMode.BICUBIC)
    assert whole.shape == (3, 20, 20)
    assert torch.equal(whole, expected[..., 6:26])


def train_transform(augmentation="top_down", seed=0, **geometry):
    return TrainTransform(16, Geometry(**geometry), SPEC, augmentation=augmentation, seed=seed)


@pytest.mark.parametrize("resize", ["crop", "squish"])
def test_training_pictures_depend_on_seed_epoch_and_index_alone(resize):
    image, transform = picture(), train_transform(resize=resize)
    same = [transform(image, 3, 5), train_transform(resize=resize)(image, 3, 5)]
    others = [transform(image, 4, 5), transform(image, 3, 6), train_transform(seed=1)(image, 3, 5)]

    assert torch.equal(*same)
    assert all(not torch.equal(same[0], other) for other in others)
    assert same[0].shape == (3, 16, 16)
    assert same[0].dtype == torch.uint8


def test_zoom_shows_less_of_the_picture():
    # Columns rise from 0 to 255, so the range of a crop is the share of the width that it shows.
    ramp = torch.arange(256).byte().expand(3, 256, 256)
    ranges = []
    for zoom in (1.0, 2.0):
        transform = train_transform("basic", max_zoom=zoom)
        crops = [transform(ramp, 0, index).float() for index in range(60)]
        ranges.append(sum((crop.max() - crop.min()).item() for crop in crops) / 60)

    # A quarter is not zoomed; the mean of 1/zoom over [1, 2] is ln 2.
    expected = 0.25 + 0.75 * torch.log(torch.tensor(2.0)).item()
    assert ranges[1] / ranges[0] == pytest.approx(expected, abs=0.07)


def test_random_crops_reach_both_ends_of_a_long_picture():
    ramp = torch.arange(64).byte().expand(3, 16, 64)
    starts = [train_transform("basic", max_zoom=1.0)(ramp, 0, index).min() for index in range(200)]

    assert min(starts) <= 3
    assert max(starts) >= 44


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resize": "pad"}, "`resize` must be 'crop' or 'squish', got 'pad'"),
        ({"interpolation": "lanczos"}, "`interpolation` must be one of nearest, bilinear, bicubic"),
        ({"crop_fraction": 1.2}, r"`crop_fraction` must lie in \(0, 1\], got 1\.2"),
        ({"crop_fraction": 0.0}, r"`crop_fraction` must lie in \(0, 1\]"),
        ({"max_zoom": 0.5}, r"`max_zoom` must be at least 1, got 0\.5"),
        ({"max_angle": -1}, "`max_angle` must be at least 0 degrees, got -1"),
        ({"background": "no colour"}, "`background` must be a colour"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_geometry_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(Geometry(), **options)
