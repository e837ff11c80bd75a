"""Images become square as the model expects, and at random for training."""

import dataclasses

import pytest
import torch
from torchvision.transforms import v2

from lightning_fastrecipes.data.images import geometry
from lightning_fastrecipes.data.images.geometry import EvalTransform, Geometry
from lightning_fastrecipes.data.images.options import Augmentation
from lightning_fastrecipes.data.images.train_transform import TrainTransform
from lightning_fastrecipes.functional.images.augment import augment_batch
from lightning_fastrecipes.functional.random import seeded_generator
from lightning_fastrecipes.protocols import InputSpec

SPEC = InputSpec(interpolation="bicubic", crop_fraction=0.8)


def photo(height=30, width=47):
    return torch.randint(256, (3, height, width), generator=seeded_generator(1)).byte()


@pytest.mark.parametrize(("height", "width"), [(30, 47), (61, 33), (20, 20), (200, 90)])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_evaluation_equals_torchvisions_resize_and_centre_crop(height, width, interpolation):
    image = photo(height, width)
    mode = "nearest-exact" if interpolation == "nearest" else interpolation
    reference = v2.Compose(
        [v2.Resize(25, v2.InterpolationMode(mode), antialias=True), v2.CenterCrop(20)]
    )

    result = EvalTransform(20, Geometry(interpolation=interpolation), SPEC)(image, 0, 0)

    assert result.dtype == torch.uint8
    assert torch.equal(result, reference(image))


def test_squish_keeps_the_whole_image():
    image = photo()
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


def train_transform(preset="top_down", seed=0, max_zoom=1.1, **options):
    augmentation = Augmentation(preset, max_zoom)
    return TrainTransform(16, Geometry(**options), SPEC, augmentation=augmentation, seed=seed)


@pytest.mark.parametrize(
    ("shape", "most"), [((1, 400), 0), ((400, 1), 0), ((2, 300), 0), ((5, 700), 0), ((7, 1000), 60)]
)
def test_of_a_thin_image_only_what_is_shown_is_resized(monkeypatch, shape, most):
    """Beside it, the whole image is resized; where nothing is rounded, no bit differs."""
    image = photo(*shape)
    longest, interpolate = [], torch.nn.functional.interpolate
    monkeypatch.setattr(
        torch.nn.functional,
        "interpolate",
        lambda images, shape, **options: (
            longest.append(max(shape)) or interpolate(images, shape, **options)
        ),
    )
    for transform in (EvalTransform(20, Geometry(), SPEC), train_transform(max_zoom=1.0)):
        for index in range(5):
            monkeypatch.setattr(geometry, "_LONGEST", 10**9)
            whole = transform(image, 0, index).int()
            assert longest.pop() >= 2000
            monkeypatch.setattr(geometry, "_LONGEST", 1)
            assert (transform(image, 0, index) - whole).abs().max() <= most
            assert longest.pop() <= 200


def test_a_thin_image_needs_little_memory():
    thin = torch.randint(256, (3, 1, 100_000), generator=seeded_generator(1)).byte()

    result = EvalTransform(224, Geometry(), InputSpec())(thin, 0, 0)  # whole: 20 GB

    # One pixel is 256 wide, and the middle lies between two of them.
    middle = thin[:, 0, 49_999:50_001].float().mean(1)
    assert (result[:, 0, 111:113].float().mean(1) - middle).abs().max() <= 1


@pytest.mark.parametrize("resize", ["crop", "squish"])
def test_training_images_depend_on_seed_epoch_and_index_alone(resize):
    image, transform = photo(), train_transform(resize=resize)
    same = [transform(image, 3, 5), train_transform(resize=resize)(image, 3, 5)]
    others = [transform(image, 4, 5), transform(image, 3, 6), train_transform(seed=1)(image, 3, 5)]

    assert torch.equal(*same)
    assert all(not torch.equal(same[0], other) for other in others)
    assert same[0].shape == (3, 16, 16)
    assert same[0].dtype == torch.uint8


def test_zoom_shows_less_of_the_image():
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


def test_random_crops_reach_both_ends_of_a_long_image():
    ramp = torch.arange(64).byte().expand(3, 16, 64)
    starts = [train_transform("basic", max_zoom=1.0)(ramp, 0, index).min() for index in range(200)]

    assert min(starts) <= 3
    assert max(starts) >= 44


def windows(transform, image, count):
    return torch.stack([transform.window(image, 0, position, count) for position in range(count)])


@pytest.mark.parametrize("resize", ["crop", "squish"])
@pytest.mark.parametrize("max_zoom", [1.4, 2.0])
def test_far_zooms_on_the_device_leave_as_much_detail_as_in_the_loader(max_zoom, resize):
    """Detail that is left out instead of averaged turns to noise, which has more contrast."""
    noise, count = photo(160, 240), 200
    transform = TrainTransform(
        64, Geometry(resize), InputSpec(), augmentation=Augmentation("side_on", max_zoom), seed=0
    )
    in_loader = torch.stack([transform(noise, 0, index) for index in range(count)])
    made = windows(transform, noise, count)
    on_device = transform.batch(made, 0, torch.arange(count), count)

    contrast = [photos.float().std().item() for photos in (in_loader, on_device)]
    assert contrast[1] == pytest.approx(contrast[0], rel=0.04)


@pytest.mark.parametrize("max_zoom", [1.1, 2.0, 3.0])
def test_on_the_device_an_image_does_not_depend_on_its_batch(max_zoom):
    transform, count = train_transform(max_zoom=max_zoom), 40
    made = windows(transform, photo(100, 140), count)
    together = transform.batch(made, 0, torch.arange(count), count)

    for rows in (torch.tensor([7]), torch.arange(count).flip(0), torch.arange(3, count, 5)):
        assert torch.equal(transform.batch(made[rows], 0, rows, count), together[rows])


def test_on_the_device_far_zooms_show_the_same_part_as_one_resample_of_the_window():
    transform, count = train_transform(max_zoom=2.0), 60
    ramp = torch.stack([torch.arange(128), torch.arange(128).flip(0), torch.arange(128)])
    image = ramp.byte()[:, None].expand(3, 128, 128).contiguous()
    made = windows(transform, image, count)
    found = transform.batch(made, 0, torch.arange(count), count)

    drawn = transform._drawn_for(0, count)
    expected = augment_batch(made, drawn, 16)
    middle = (found.float() - expected.float())[..., 4:-4, 4:-4]
    assert middle.abs().mean() < 0.5


@pytest.mark.parametrize("max_zoom", [1.0, 1.1, 1.25])
def test_near_zooms_on_the_device_are_one_resample_of_the_window(max_zoom):
    transform, count = train_transform(max_zoom=max_zoom, crop_fraction=1.0), 40
    made = windows(transform, photo(), count)
    expected = augment_batch(made, transform._drawn_for(0, count), 16)

    assert torch.equal(transform.batch(made, 0, torch.arange(count), count), expected)


def test_a_gpu_is_given_floats_to_average(monkeypatch):
    """PyTorch resizes ``uint8`` on the CPU alone; the meta device stands for a GPU."""
    seen, interpolate = [], torch.nn.functional.interpolate
    monkeypatch.setattr(
        torch.nn.functional,
        "interpolate",
        lambda images, *args, **options: (
            seen.append(images.dtype) or interpolate(images, *args, **options)
        ),
    )
    on_gpu = torch.empty(2, 3, 64, 64, dtype=torch.uint8, device="meta")

    result = train_transform(max_zoom=2.0)._resize(on_gpu, 20)
    assert seen == [torch.float32]
    assert (result.dtype, result.shape) == (torch.uint8, (2, 3, 20, 20))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resize": "pad"}, "`resize` must be 'crop' or 'squish', but is 'pad'"),
        ({"interpolation": "lanczos"}, "`interpolation` must be one of nearest, bilinear, bicubic"),
        ({"crop_fraction": 1.2}, r"`crop_fraction` must lie in \(0, 1\], got 1\.2"),
        ({"crop_fraction": 0.0}, r"`crop_fraction` must lie in \(0, 1\]"),
        ({"background": "no colour"}, "`background` must be a colour"),
        ({"max_megapixels": 0}, "`max_megapixels` must be above 0, got 0"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_geometry_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(Geometry(), **options)
