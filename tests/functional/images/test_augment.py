"""Augmentation follows the laws of the course's presets, whatever the batch."""

import dataclasses
import math
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_fastrecipes.data.images.geometry import Geometry
from lightning_fastrecipes.data.images.options import Augmentation
from lightning_fastrecipes.data.images.train_transform import TrainTransform
from lightning_fastrecipes.functional.images import pixels as pixels_module
from lightning_fastrecipes.functional.images.augment import (
    AugmentationParameters,
    Preset,
    augment,
    augment_batch,
    draw_parameters,
)
from lightning_fastrecipes.functional.images.pixels import dihedral
from lightning_fastrecipes.functional.random import seeded_generator
from lightning_fastrecipes.protocols import InputSpec

DRAWS = 20_000


def test_no_image_is_turned_further_than_asked_for() -> None:
    generator = seeded_generator(0)
    assert draw_parameters(400, "basic", 1.1, generator, max_angle=3).angle.abs().max() <= 3
    assert not draw_parameters(400, "top_down", 1.1, generator, max_angle=0).angle.any()


def test_a_negative_angle_is_refused() -> None:
    with pytest.raises(ValueError, match="`max_angle` must be at least 0 degrees, got -1"):
        draw_parameters(1, "basic", 1.1, seeded_generator(0), max_angle=-1)


def draw(augmentation, count=DRAWS, max_zoom=1.2, seed=0):
    return draw_parameters(count, augmentation, max_zoom, seeded_generator(seed))


def photos(count, size=16, seed=0):
    return torch.randint(256, (count, 3, size, size), generator=seeded_generator(seed)).byte()


def neutral(count) -> AugmentationParameters:
    return draw("none", count)


@pytest.mark.parametrize("preset", ["basic", "side_on", "top_down"])
def test_three_of_four_images_are_turned_by_up_to_ten_degrees(preset):
    angle = draw(preset).angle

    assert (angle != 0).float().mean().item() == pytest.approx(0.75, abs=0.015)
    assert angle.abs().max().item() == pytest.approx(10, abs=0.01)
    assert angle.mean().item() == pytest.approx(0, abs=0.15)
    turned = angle[angle != 0]
    assert turned.std().item() == pytest.approx(20 / math.sqrt(12), rel=0.02)


@pytest.mark.parametrize("preset", ["basic", "side_on", "top_down"])
def test_brightness_is_uniform_and_contrast_is_balanced_around_one(preset):
    drawn = draw(preset)

    assert drawn.brightness.min().item() == pytest.approx(-0.05, abs=1e-4)
    assert drawn.brightness.max().item() == pytest.approx(0.05, abs=1e-4)
    assert drawn.brightness.std().item() == pytest.approx(0.1 / math.sqrt(12), rel=0.02)
    assert drawn.contrast.min().item() == pytest.approx(1 / 1.05, abs=1e-4)
    assert drawn.contrast.max().item() == pytest.approx(1.05, abs=1e-4)
    assert (drawn.contrast < 1).float().mean().item() == pytest.approx(0.5, abs=0.015)
    # The factors below 1 are 1 / (1 + c) with c uniform in [0, 0.05].
    inverse = 1 / drawn.contrast[drawn.contrast < 1] - 1
    assert inverse.mean().item() == pytest.approx(0.025, rel=0.03)


def test_three_of_four_images_are_zoomed_and_crops_lie_anywhere():
    drawn = draw("basic", max_zoom=1.4)

    assert (drawn.zoom > 1).float().mean().item() == pytest.approx(0.75, abs=0.015)
    assert drawn.zoom[drawn.zoom > 1].mean().item() == pytest.approx(1.2, abs=0.005)
    assert drawn.zoom.max().item() <= 1.4
    for share in (drawn.crop_top, drawn.crop_left):
        assert 0 <= share.min() < 0.001
        assert 0.999 < share.max() < 1
        assert share.mean().item() == pytest.approx(0.5, abs=0.015)
    assert torch.corrcoef(torch.stack([drawn.crop_top, drawn.crop_left]))[0, 1].abs() < 0.03


@pytest.mark.parametrize(
    ("preset", "elements"),
    [
        pytest.param("none", {0}, id="none"),
        pytest.param("basic", {0}, id="basic"),
        pytest.param("side_on", {0, 4}, id="side-on-mirrors"),
        pytest.param("top_down", set(range(8)), id="top-down-takes-all-eight"),
    ],
)
def test_symmetries_are_uniform_over_those_of_the_preset(preset, elements):
    counts = torch.bincount(draw(preset).dihedral, minlength=8) / DRAWS

    for element in range(8):
        expected = 1 / len(elements) if element in elements else 0
        assert counts[element].item() == pytest.approx(expected, abs=0.015)


def test_the_preset_none_changes_no_bit():
    images = photos(5)

    result = augment(images, neutral(5))

    assert torch.equal(result, images)
    assert result.data_ptr() != images.data_ptr()
    assert neutral(5).zoom.tolist() == [1.0] * 5


def test_the_input_is_left_as_it_was():
    images = photos(4)
    before = images.clone()

    augment(images, draw("top_down", 4))

    assert torch.equal(images, before)


@pytest.mark.parametrize("preset", get_args(Preset))
def test_a_batch_equals_its_images_one_by_one(preset):
    images, drawn = photos(16), draw(preset, 16, seed=3)

    batch = augment(images, drawn)

    for index in range(16):
        alone = AugmentationParameters(
            **{
                field.name: getattr(drawn, field.name)[index : index + 1]
                for field in dataclasses.fields(drawn)
            }
        )
        assert torch.equal(augment(images[index : index + 1], alone)[0], batch[index])


def test_symmetries_move_pixels_of_a_batch_without_resampling():
    images = photos(8)
    drawn = dataclasses.replace(neutral(8), dihedral=torch.arange(8))

    result = augment(images, drawn)

    for element in range(8):
        assert torch.equal(result[element], dihedral(images[element], element))


def test_an_image_that_is_not_turned_is_not_resampled():
    images = photos(2)
    drawn = dataclasses.replace(neutral(2), angle=torch.tensor([0.0, 9.0]))

    result = augment(images, drawn)

    assert torch.equal(result[0], images[0])
    assert not torch.equal(result[1], images[1])


def test_a_quarter_turn_by_resampling_equals_the_exact_turn():
    images = photos(3, size=12)
    drawn = dataclasses.replace(neutral(3), angle=torch.full((3,), 90.0))

    difference = augment(images, drawn).int() - dihedral(images, 1).int()

    assert difference.abs().max().item() <= 1


def test_an_oblong_image_keeps_its_shapes_when_turned():
    image = torch.zeros(1, 3, 40, 80, dtype=torch.uint8)
    image[..., 18:22, 20:60] = 255  # a bar of length 40, to be turned upright
    drawn = dataclasses.replace(neutral(1), angle=torch.tensor([90.0]))

    bar = augment(image, drawn)[0, 0, :, 30:50] > 127  # beyond lie reflections

    assert bar.any(dim=0).sum().item() == 4
    assert bar.any(dim=1).sum().item() == 40


def test_borders_are_reflected_when_turned():
    flat = torch.full((1, 3, 20, 20), 200, dtype=torch.uint8)
    drawn = dataclasses.replace(neutral(1), angle=torch.tensor([10.0]))

    assert torch.equal(augment(flat, drawn), flat)


@settings(max_examples=25)
@given(brightness=st.floats(-0.05, 0.05), contrast=st.floats(0.95, 1.05))
def test_lighting_is_the_courses_formula(brightness, contrast):
    images = photos(1, size=8)
    drawn = dataclasses.replace(
        neutral(1), brightness=torch.tensor([brightness]), contrast=torch.tensor([contrast])
    )

    pixels = images.double() / 255
    expected = ((pixels - pixels.mean()) * contrast + pixels.mean() + brightness).clip(0, 1) * 255

    assert (augment(images, drawn) - expected).abs().max().item() <= 0.51


def test_draws_depend_on_the_whole_key():
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1)]
    draws = [torch.rand(4, generator=seeded_generator(*key)) for key in keys]

    assert len({tuple(drawn.tolist()) for drawn in draws}) == len(keys)
    assert torch.equal(draws[3], torch.rand(4, generator=seeded_generator(*keys[3])))


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()

    augment(photos(2), draw("top_down", 2))

    assert torch.equal(torch.get_rng_state(), before)


def test_what_cannot_be_augmented_is_refused():
    with pytest.raises(ValueError, match="`images` must be `uint8`"):
        augment(torch.rand(1, 3, 8, 8), neutral(1))
    oblong = torch.zeros(1, 3, 8, 9, dtype=torch.uint8)
    quarter_turn = dataclasses.replace(neutral(1), dihedral=torch.tensor([1]))
    with pytest.raises(ValueError, match="`images` must be square"):
        augment(oblong, quarter_turn)
    with pytest.raises(ValueError, match="`augmentation` must be one of none, basic"):
        draw("sideways", 1)
    with pytest.raises(ValueError, match=r"`max_zoom` must be at least 1, got 0\.9"):
        draw("basic", 1, max_zoom=0.9)


# A batch in one resample


def smooth_images(count: int, size: int) -> torch.Tensor:
    """Return images that a resample hardly blurs."""
    coarse = torch.rand(count, 3, 4, 4, generator=seeded_generator(3))
    fine = torch.nn.functional.interpolate(coarse, size, mode="bicubic", align_corners=True)
    return (fine.clamp(0, 1) * 255).round().byte()


@pytest.mark.parametrize("shape", [(16, 16), (16, 20)], ids=["square", "oblong"])
def test_in_one_resample_nothing_drawn_changes_nothing(shape: tuple[int, int]) -> None:
    images = torch.randint(256, (3, 1, *shape), generator=seeded_generator(0)).byte()
    found = augment_batch(images, draw("none", 3), image_size=16)
    spare = (shape[1] - 16) // 2
    assert torch.equal(found, images[..., spare : spare + 16])


@pytest.mark.parametrize("corner", [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)])
def test_in_one_resample_a_crop_is_where_it_was_drawn(corner: tuple[float, float]) -> None:
    images = photos(1, size=20)
    top, left = (torch.tensor([share]) for share in corner)
    drawn = dataclasses.replace(draw("none", 1), zoom=torch.tensor([1.25]))
    drawn = dataclasses.replace(drawn, crop_top=top, crop_left=left)
    # 20 pixels zoomed to 1.25 times 16 stay 20: the crop is cut and not resampled.
    y, x = (int(4 * share) for share in corner)
    expected = images[..., y : y + 16, x : x + 16]
    assert torch.equal(augment_batch(images, drawn, image_size=16), expected)


@pytest.mark.parametrize("augmentation", ["basic", "side_on", "top_down"])
@pytest.mark.parametrize("shape", [(40, 40), (40, 60)], ids=["square", "oblong"])
def test_one_resample_agrees_with_resize_crop_and_turn(augmentation, shape) -> None:
    """The same draws give the same images, but for the corners."""
    count, size = 64, 40
    images = smooth_images(count, 60)[..., : shape[0], : shape[1]]
    drawn = draw(augmentation, count, max_zoom=1.2)
    # Zooms and places that need no rounding to whole pixels.
    zoom = (drawn.zoom * 20).round() / 20
    spare = [(zoom * size * edge / 40 - size).round().clamp(min=1) for edge in shape]
    top, left = (
        (share * edge).floor() / edge
        for share, edge in zip((drawn.crop_top, drawn.crop_left), spare, strict=True)
    )
    drawn = dataclasses.replace(drawn, zoom=zoom, crop_top=top, crop_left=left)
    at_once = augment_batch(images, drawn, image_size=size)
    transform = TrainTransform(
        size, Geometry(), InputSpec(), augmentation=Augmentation(augmentation, 1.2), seed=0
    )
    differences = []
    for row in range(count):
        one = drawn.rows(torch.tensor([row]))
        resized = transform._resize(images[row : row + 1], round(size * one.zoom.item()))
        top, left = (
            int(share.item() * (edge - size + 1))
            for share, edge in zip((one.crop_top, one.crop_left), resized.shape[-2:], strict=True)
        )
        expected = augment(resized[..., top : top + size, left : left + size], one)[0]
        middle = slice(8, -8)
        difference = (expected.float() - at_once[row].float())[:, middle, middle]
        differences.append(difference.abs().mean().item())
    # To leave out what either does changes these images by more than five grey levels.
    assert max(differences) < 1


@pytest.mark.parametrize("element", range(8))
def test_in_one_resample_symmetries_move_pixels_exactly(element: int) -> None:
    images = photos(1)
    drawn = dataclasses.replace(neutral(1), dihedral=torch.tensor([element]))
    assert torch.equal(augment_batch(images, drawn, image_size=16)[0], dihedral(images[0], element))


def test_an_image_is_flipped_and_rotated_by_90_degrees_after_it_is_turned() -> None:
    images, drawn = photos(64), draw("top_down", 64)
    moved = augment_batch(images, drawn, image_size=16)
    upright = dataclasses.replace(drawn, dihedral=torch.zeros_like(drawn.dihedral))
    for found, turned, element in zip(
        moved, augment_batch(images, upright, image_size=16), drawn.dihedral, strict=True
    ):
        assert (found.int() - dihedral(turned, int(element)).int()).abs().max() <= 1


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_how_many_are_worked_on_together_does_not_matter(at_once, monkeypatch) -> None:
    images, drawn = photos(16), draw("top_down", 16)
    one_by_one = [drawn.rows(torch.tensor([row])) for row in range(16)]
    monkeypatch.setattr(pixels_module, "num_at_once", lambda *_: at_once)
    found = augment(images, drawn), augment_batch(images, drawn, image_size=12)
    for row, alone in enumerate(one_by_one):
        image = images[row : row + 1]
        assert torch.equal(augment(image, alone)[0], found[0][row])
        assert torch.equal(augment_batch(image, alone, image_size=12)[0], found[1][row])


def test_squished_images_are_zoomed_alike_on_both_sides() -> None:
    images = smooth_images(1, 40)[..., :20]
    found = augment_batch(images, draw("none", 1), image_size=40, squish=True)
    expected = torch.nn.functional.interpolate(images.float(), (40, 40), mode="bilinear")
    assert (found.float() - expected).abs().max() <= 1


def test_rows_of_parameters_go_together() -> None:
    drawn = draw("top_down", 10)
    chosen = drawn.rows(torch.tensor([7, 2]))
    for field in dataclasses.fields(drawn):
        values = getattr(drawn, field.name)
        assert getattr(chosen, field.name).tolist() == [values[7], values[2]]


def test_a_batch_of_no_images_stays_empty() -> None:
    found = augment_batch(photos(0), draw("basic", 0), image_size=5)
    assert found.shape == (0, 3, 5, 5)


def test_a_wrong_size_or_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="`image_size` must be at least 1, got 0"):
        augment_batch(photos(1), draw("none", 1), image_size=0)
    with pytest.raises(ValueError, match="must be `uint8`"):
        augment_batch(photos(1).float(), draw("none", 1), image_size=4)
