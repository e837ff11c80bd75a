"""Views depend on seed, view and place alone, and equal views give the plain prediction."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from lightning_fastrecipes.functional.images.augment import augment_batch, make_view
from lightning_fastrecipes.functional.images.pixels import dihedral_batch
from lightning_fastrecipes.functional.images.views import (
    NUM_DRAWS,
    Views,
    image_numbers,
    mean_of_views,
)
from lightning_fastrecipes.functional.labels.merging import (
    best_weight,
    row_losses,
    running_mean,
    weigh,
    weight_losses,
)
from lightning_fastrecipes.functional.random import seeded_generator
from lightning_fastrecipes.protocols import InputSpec

SPEC = InputSpec(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
TOP_DOWN = Views("augmentation", 3, "top_down", max_zoom=1.3)


def photos(count: int, size: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randint(256, (count, 3, size, size), generator=seeded_generator(seed)).byte()


def normalised(images: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (SPEC.mean, SPEC.std))
    return (images.float() / 255 - mean) / std


def places(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers)


@pytest.mark.parametrize(
    ("num_views", "weight"),
    [(1, 1 / 2), (2, 1 / 3), (4, 1 / 5), (5, 2 / 7), (8, 1 / 5), (9, 3 / 12)],
)
def test_the_course_counts_the_plain_image_once_for_four_views(num_views, weight):
    assert Views("augmentation", num_views).weight == pytest.approx(weight)


@given(order=st.permutations(range(5)), cut=st.integers(0, 5))
@settings(max_examples=25)
def test_the_views_of_an_image_are_its_own_in_any_batch(order, cut):
    images = photos(5)
    for dtype in (torch.uint8, torch.float32, torch.float16):
        given = images.to(dtype)[order]
        together = mean_of_views(TOP_DOWN, lambda views: views.float(), given)
        parts = [
            mean_of_views(TOP_DOWN, lambda views: views.float(), part)
            for part in (given[:cut], given[cut:])
            if len(part)
        ]
        assert torch.equal(together, torch.cat(parts))


def test_numbers_of_images_are_spread():
    """Photos that differ by one pixel have as many of the draws as chance gives."""
    images = photos(1).repeat(600, 1, 1, 1)
    images.view(600, -1).fill_diagonal_(0)
    expected = NUM_DRAWS * (1 - (1 - 1 / NUM_DRAWS) ** 600)
    for kind in (images, images / 255):
        numbers = image_numbers(kind)
        assert numbers.min() >= 0
        assert numbers.max() < NUM_DRAWS
        assert len(numbers.unique()) == pytest.approx(expected, rel=0.1)


def test_views_seeds_and_images_differ():
    def draw(views=TOP_DOWN, view=0, place=0):
        return tuple(v.item() for v in vars(views.parameters(view, places(place))).values())

    other_seed = Views("augmentation", 3, "top_down", max_zoom=1.3, seed=1)
    drawn = {draw(), draw(view=1), draw(place=1), draw(place=256), draw(other_seed)}
    assert len(drawn) == 5


def test_flips_are_the_symmetries_of_the_square_each_once():
    image = torch.arange(9).view(1, 1, 3, 3).to(torch.uint8)
    views = Views("flips", 7)
    found = [make_view(image, views.parameters(v, places(0))) for v in range(7)]
    assert torch.equal(found[0], image.flip(-1))
    assert torch.equal(found[1], image.flip(-2))
    assert torch.equal(found[2], image.flip(-1, -2))
    assert len({tuple(view.flatten().tolist()) for view in [image, *found]}) == 8


def test_five_crops_are_the_corners_enlarged():
    """An image of 16 px: each crop shows 14 of them; pixels next to the corner are reflected."""
    ramp = torch.arange(16.0).expand(16, 16)
    image = torch.stack([ramp, ramp.T])[None]
    views = Views("five_crops")
    spots = (torch.arange(16) + 0.5) * 14 / 16 - 0.5
    for view, (down, right) in enumerate([(0, 0), (0, 2), (2, 0), (2, 2)]):
        found = make_view(image, views.parameters(view, places(5)))[0]
        torch.testing.assert_close(
            found[0, 8], (spots + right).abs().clamp_max(15.4), atol=0.2, rtol=0
        )
        torch.testing.assert_close(
            found[1, :, 8], (spots + down).abs().clamp_max(15.4), atol=0.2, rtol=0
        )


def test_scales_show_the_middle():
    ramp = torch.arange(16.0).expand(1, 1, 16, 16)
    views = Views("scales", 4)
    found = make_view(ramp, views.parameters(3, places(0)))[0, 0, 0]
    spots = (torch.arange(16) - 7.5) / 1.5 + 7.5
    torch.testing.assert_close(found, spots, atol=1e-4, rtol=0)


def test_the_views_of_training_are_made_as_in_training():
    images, where = photos(6), places(0, 1, 2, 3, 4, 300)
    parameters = TOP_DOWN.parameters(1, where)
    expected = augment_batch(images, parameters, 16)
    assert (make_view(images, parameters).int() - expected.int()).abs().max() <= 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_normalised_images_get_the_views_of_their_pixels(dtype):
    images, parameters = photos(6), TOP_DOWN.parameters(0, torch.arange(6))
    found = make_view(normalised(images).to(dtype), parameters, SPEC)
    assert found.dtype == dtype
    expected = normalised(make_view(images, parameters))
    tolerance = 0.5 / 255 / min(SPEC.std) + (0.02 if dtype == torch.float16 else 1e-3)
    torch.testing.assert_close(found.float(), expected, atol=tolerance, rtol=0)


def test_floats_of_unknown_scale_are_moved_but_not_lit():
    images = torch.full((4, 3, 8, 8), 7.0)
    found = make_view(images, Views("augmentation", 1, "basic").parameters(0, torch.arange(4)))
    torch.testing.assert_close(found, images)


def test_oblong_images_are_turned_without_shear():
    """A round spot stays round in an image that is twice as wide as high."""
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(64.0), indexing="ij")
    spot = torch.exp(-((rows - 15.5) ** 2 + (columns - 31.5) ** 2) / 40)[None, None]
    views = Views("augmentation", 1, "basic", max_zoom=1.0, max_angle=45.0)
    parameters = views.parameters(0, places(0, 1, 2, 3))
    assert parameters.angle.abs().max() > 20
    turned = make_view(spot.expand(4, -1, -1, -1), parameters)
    middle = (turned - spot)[..., 4:28, 20:44]  # further out, borders are reflected
    assert middle.abs().max() < 0.02


def test_oblong_images_are_mirrored_as_the_last_of_all():
    images, drawn = torch.rand(32, 3, 6, 12), Views("augmentation", 1, "side_on")
    parameters = drawn.parameters(0, torch.arange(32))
    assert set(parameters.dihedral[parameters.zoom != 1].tolist()) == {0, 4}
    upright = make_view(images, replace(parameters, dihedral=torch.zeros(32, dtype=torch.long)))
    torch.testing.assert_close(
        make_view(images, parameters),
        dihedral_batch(upright, parameters.dihedral),
        atol=1e-5,
        rtol=0,
    )


def test_oblong_images_are_not_turned_by_a_quarter():
    views = Views("flips", 7)
    make_view(torch.zeros(1, 3, 4, 8), views.parameters(2, places(0)))
    with pytest.raises(ValueError, match="must be square to be turned by a quarter, but are 4 x 8"):
        make_view(torch.zeros(1, 3, 4, 8), views.parameters(3, places(0)))


@given(num_views=st.integers(1, 9), weight=st.floats(0, 1), seed=st.integers(0, 99))
@settings(max_examples=50)
def test_equal_predictions_are_merged_into_exactly_themselves(num_views, weight, seed):
    plain = torch.rand(5, 3, generator=seeded_generator(seed)).softmax(dim=1)
    mean = running_mean(plain for _ in range(num_views))
    assert torch.equal(weigh(plain, mean, weight), plain)


@pytest.mark.parametrize("images", [photos(3), normalised(photos(3))], ids=["uint8", "float"])
def test_identity_views_are_the_very_pixels(images):
    views = Views("augmentation", 3, "none", max_zoom=1.5)
    assert torch.equal(make_view(images, views.parameters(2, torch.arange(3)), SPEC), images)
    assert torch.equal(
        mean_of_views(views, lambda x: x.float().mean((2, 3)), images, SPEC),
        images.float().mean((2, 3)),
    )


def test_log_losses_are_those_of_sklearn():
    probabilities = torch.rand(20, 3, generator=seeded_generator(1)).double().softmax(dim=1)
    targets = torch.arange(20) % 3
    expected = log_loss(targets, probabilities.numpy())
    assert row_losses(probabilities, targets).mean().item() == pytest.approx(expected)
    soft = torch.nn.functional.one_hot(targets).double()
    assert row_losses(probabilities, soft).mean().item() == pytest.approx(expected)
    several = (torch.rand(20, 3, generator=seeded_generator(2)) > 0.5).long()
    each = [log_loss(several[:, c], probabilities[:, c].numpy(), labels=[0, 1]) for c in range(3)]
    found = row_losses(probabilities, several, multi_label=True).mean().item()
    assert found == pytest.approx(sum(each) / 3)


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_learned_weight_has_the_smallest_loss(multi_label):
    generator = seeded_generator(3)
    plain, views = (torch.rand(200, 4, generator=generator).double() for _ in range(2))
    targets = (views * 2 + plain + torch.rand(200, 4, generator=generator)).argmax(dim=1)
    if multi_label:
        targets = torch.nn.functional.one_hot(targets, 4)
    else:
        plain, views = plain.softmax(1), views.softmax(1)
    halves = [
        weight_losses(plain[part], views[part], targets[part], multi_label=multi_label)
        for part in (slice(0, 77), slice(77, 200))
    ]
    found = best_weight(halves[0] + halves[1])

    def loss(weight):
        return row_losses(weigh(plain, views, weight), targets, multi_label=multi_label).sum()

    assert 0 <= found < 0.6
    fine = min((index / 1000 for index in range(1001)), key=lambda weight: loss(weight).item())
    assert found == pytest.approx(fine, abs=0.0101)


@pytest.mark.parametrize("n", [2.5, True, "4"])
def test_a_number_of_views_that_is_none_is_refused(n):
    with pytest.raises(TypeError, match=f"`n` must be a whole number, got {n!r}"):
        Views(n=n)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "mirror"}, "`preset` must be one of augmentation, flips, .* got 'mirror'"),
        ({"n": 0}, "`n` must be at least 1 for the preset 'augmentation', got 0"),
        ({"preset": "five_crops", "n": 5}, "`n` must be in 1 to 4 for .* 'five_crops', got 5"),
        ({"preset": "scales", "n": 9}, "`n` must be in 1 to 8 for .* 'scales', got 9"),
        ({"plain_weight": 1.5}, r"`plain_weight` must lie in \[0, 1\], got 1.5"),
        ({"plain_weight": math.nan}, r"`plain_weight` must lie in \[0, 1\], got nan"),
        ({"augmentation": "wild"}, "`augmentation` must be one of none, .* got 'wild'"),
        ({"seed": -1}, "`seed` must be at least 0, got -1"),
    ],
)
def test_wrong_views_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Views(**arguments)
