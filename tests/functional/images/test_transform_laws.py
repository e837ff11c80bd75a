"""Each transform of a list has the law of torchvision's own, in the loader and on the device."""

import math

import pytest
import torch
from torchvision import transforms as v1
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from lightning_fastrecipes.data.images.geometry import Geometry
from lightning_fastrecipes.data.images.options import Augmentation
from lightning_fastrecipes.data.images.train_transform import TrainTransform
from lightning_fastrecipes.functional.images.augment import draw_parameters, make_view
from lightning_fastrecipes.functional.images.draws import apply_listed, listed
from lightning_fastrecipes.functional.images.transform_list import TRANSFORMS, read_transforms
from lightning_fastrecipes.functional.random import seeded_generator
from lightning_fastrecipes.protocols import InputSpec

DRAWS = 10_000
SIZE = 48
LINEAR = v2.InterpolationMode.BILINEAR


def picture() -> torch.Tensor:
    """Return a colourful image whose margin is black, as far as borders are ever seen."""
    content = torch.rand(1, 3, 5, 4, generator=seeded_generator(1))
    content = torch.nn.functional.interpolate(content, (20, 18), mode="bilinear")[0]
    image = torch.zeros(3, SIZE, SIZE)
    image[:, 13:33, 17:35] = content
    return (image * 255).round().byte()


def uniform(name: str, *arguments) -> list[torch.Tensor]:
    """Return what torchvision draws for a large image, one tensor for each parameter."""
    large = torch.zeros(3, 1000, 1000, dtype=torch.uint8)
    return list(zip(*(PARAMETERS[name](large) for _ in range(DRAWS)), strict=True))


def shares(image, fraction: float = 0.3) -> list[float]:
    drawn = v2.RandomAffine(0, translate=(fraction, fraction)).make_params([image])["translate"]
    return [drawn[1] / 1000, drawn[0] / 1000]


def corners(image) -> list[float]:
    _, moved = v1.RandomPerspective.get_params(1000, 1000, 0.4)
    inward = []
    for (x, y), right, low in zip(moved, (0, 1, 1, 0), (0, 0, 1, 1), strict=True):
        inward += [abs(x - 999 * right) / 500, abs(y - 999 * low) / 500]
    return inward


def shifted(image: torch.Tensor) -> torch.Tensor:
    """Shift by what torchvision draws, but to 1/1000 of the side.

    By itself it rounds to whole pixels: up to 0.15 * 48 = 7.2 becomes one of -7 to 7, which no
    bilinear resample blurs, so that the deviation of pixels stays 53.9 for every draw; ours are
    between pixels, and have 51.9 to 53.9.
    """
    down, right = shares(torch.zeros(3, 1000, 1000, dtype=torch.uint8), 0.15)
    return tv.affine(image, 0, [SIZE * right, SIZE * down], 1, [0, 0], interpolation=LINEAR)


def warped(image: torch.Tensor) -> torch.Tensor:
    """Move the corners by what torchvision draws, but to 1/1000 of the side.

    By itself it moves a corner, counted from the middle of its pixel, by 0, 1, ... or
    int(0.4 * 48 / 2) = 9 pixels: 4.5 on average. Ours move from the edge by up to 9.6, and 4.8 on
    average, so that less of the content is left.
    """
    inward = SIZE / 2 * torch.tensor(corners(image)).view(4, 2)
    start = SIZE * torch.tensor([[0, 0], [1, 0], [1, 1], [0, 1]])
    end = start + inward * torch.tensor([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    return tv.perspective(image, start.tolist(), end.tolist(), interpolation=LINEAR)


def jitter(name: str, strength: float):
    made = v2.ColorJitter(**{name: strength})
    return lambda image: [made.make_params([image])[f"{name}_factor"]]


STRENGTHS = {
    "zoom": {"max_zoom": 1.4, "min_zoom": 0.8},
    "rotate": {"degrees": 30},
    "shift": {"fraction": 0.3},
    "warp": {"distortion": 0.4},
    "brightness": {"strength": 0.4},
    "contrast": {"strength": 1.5},
    "saturation": {"strength": 0.4},
    "hue": {"turn": 0.3},
    "blur": {"max_sigma": 3, "min_sigma": 0.5},
    "channel_jitter": {"strength": 0.3},
}
PARAMETERS = {
    "zoom": lambda image: [v2.RandomAffine(0, scale=(0.8, 1.4)).make_params([image])["scale"]],
    "rotate": lambda image: [v2.RandomRotation(30).make_params([image])["angle"]],
    "shift": shares,
    "warp": corners,
    "brightness": jitter("brightness", 0.4),
    "contrast": jitter("contrast", 1.5),
    "saturation": jitter("saturation", 0.4),
    "hue": jitter("hue", 0.3),
    "blur": lambda image: v2.GaussianBlur(9, (0.5, 3.0)).make_params([image])["sigma"][:1],
    "channel_jitter": lambda image: [jitter("brightness", 0.3)(image)[0] for _ in range(3)],
}


def same_law(found: torch.Tensor, expected: torch.Tensor, slack=0.0, floor=1e-9) -> None:
    """Compare mean, deviation and extremes, to five times what chance makes of them."""
    found, expected = found.double(), expected.double()
    reach = max((expected.max() - expected.min()).item(), floor)
    chance = 5 * expected.std().item() * math.sqrt(2 / len(expected)) + slack * reach
    assert found.mean().item() == pytest.approx(expected.mean().item(), abs=chance)
    assert found.std().item() == pytest.approx(expected.std().item(), abs=chance)
    rare = (50 / len(expected) + slack) * reach  # uniform numbers; others are given slack
    assert found.min().item() == pytest.approx(expected.min().item(), abs=rare)
    assert found.max().item() == pytest.approx(expected.max().item(), abs=rare)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_have_the_law_of_torchvision(name) -> None:
    transforms = read_transforms([{name: {**STRENGTHS[name], "p": 1}}])
    drawn = draw_parameters(DRAWS, "none", 1.0, seeded_generator(0), transforms=transforms)
    ((_, happens, values),) = listed(drawn, transforms)
    assert happens.all()
    torch.manual_seed(0)
    theirs = uniform(name)
    assert values.shape[1] == len(theirs)
    for found, expected in zip(values.T, theirs, strict=True):
        same_law(found, torch.tensor(expected), slack=0.005 if name in ("warp", "shift") else 0)


@pytest.mark.parametrize("draws", [500, pytest.param(DRAWS, marks=pytest.mark.slow)])
def test_the_loader_draws_image_by_image_what_the_device_draws_at_once(draws) -> None:
    """All transforms, each with its default: columns are whether it happens, and its values."""
    transforms = read_transforms(list(TRANSFORMS))
    asked = {"augmentation": "none", "max_zoom": 1.0, "transforms": transforms}
    together = draw_parameters(draws, **asked, generator=seeded_generator(0)).listed
    alone = torch.cat(
        [
            draw_parameters(1, **asked, generator=seeded_generator(0, 0, index)).listed
            for index in range(draws)
        ]
    )
    for found, expected in zip(alone.T, together.T, strict=True):
        same_law(found, expected, slack=0.02)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_happens_with_its_probability(name) -> None:
    transforms = read_transforms([{name: {"p": 0.3}}, name])
    drawn = draw_parameters(DRAWS, "none", 1.0, seeded_generator(1), transforms=transforms)
    (_, first, _), (default, second, _) = listed(drawn, transforms)
    assert first.float().mean().item() == pytest.approx(0.3, abs=0.025)
    assert second.float().mean().item() == pytest.approx(default.p, abs=0.025)
    both = (first & second).float().mean().item()
    assert both == pytest.approx(0.3 * default.p, abs=0.025)


def erased(images: torch.Tensor) -> torch.Tensor:
    """Return height, width, top and left of what is black in white images; zeros if nothing."""
    rows, columns = ((images[:, 0] == 0).any(axis).int() for axis in (2, 1))
    starts = rows.argmax(1), columns.argmax(1)
    return torch.stack([rows.sum(1), columns.sum(1), *starts], dim=1)


def test_erased_rectangles_have_the_law_of_torchvision() -> None:
    white = torch.full((1, 32, 40), 255, dtype=torch.uint8)
    transforms = read_transforms([{"erase": {"p": 1, "max_area": 0.6}}])
    drawn = draw_parameters(DRAWS, "none", 1.0, seeded_generator(0), transforms=transforms)
    images = make_view(white.expand(DRAWS, -1, -1, -1), drawn, transforms=transforms)
    found = erased(images)
    torch.manual_seed(0)
    theirs = v2.RandomErasing(p=1, scale=(0.02, 0.6), ratio=(1 / 3.3, 3.3))
    rows = [theirs.make_params([white]) for _ in range(DRAWS)]
    expected = torch.tensor([[float(row[key]) for key in "hwij"] for row in rows])
    expected[[row["v"] is None for row in rows]] = 0
    for ours, other in zip(found.T, expected.T, strict=True):
        same_law(ours, other, slack=0.06)


THEIRS = {
    "zoom": v2.RandomAffine(0, scale=(0.8, 1.4), interpolation=LINEAR),
    "rotate": v2.RandomRotation(30, interpolation=LINEAR),
    "shift": shifted,
    "warp": warped,
    "flip": v2.RandomHorizontalFlip(),
    "flip_vertical": v2.RandomVerticalFlip(),
    "brightness": v2.ColorJitter(brightness=0.4),
    "contrast": v2.ColorJitter(contrast=1.5),
    "saturation": v2.ColorJitter(saturation=0.4),
    "hue": v2.ColorJitter(hue=0.3),
    "grey": v2.RandomGrayscale(0.4),
    "blur": v2.GaussianBlur(19, (0.5, 3.0)),
    "erase": v2.RandomErasing(p=1, scale=(0.02, 0.33), ratio=(1 / 3.3, 3.3)),
    "channel_jitter": v2.Lambda(
        lambda image: torch.cat([v2.ColorJitter(brightness=0.3)(c[None]) for c in image])
    ),
}
OURS = STRENGTHS | {"shift": {"fraction": 0.15}, "flip": {"p": 0.5}, "flip_vertical": {"p": 0.5}}
OURS |= {"grey": {"p": 0.4}, "erase": {}}


def statistics(images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Describe each image by numbers that its brightness, contrast, colour and place change."""
    pixels = images.float()
    places = torch.arange(SIZE) / SIZE
    total = pixels.sum((1, 2, 3)).clamp(min=1)
    return {
        "mean": pixels.mean((1, 2, 3)),
        "deviation": pixels.std((1, 2, 3)),
        "red over blue": (pixels[:, 0] - pixels[:, 2]).mean((1, 2)),
        "column": (pixels.sum((1, 2)) * places).sum(1) / total,
        "row": (pixels.sum((1, 3)) * places).sum(1) / total,
    }


@pytest.mark.parametrize("path", ["loader", "device"])
@pytest.mark.parametrize("draws", [300, pytest.param(DRAWS, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", THEIRS)
def test_pixels_have_the_law_of_torchvision(name, draws, path) -> None:
    assert set(THEIRS) == set(TRANSFORMS)
    image = picture()
    augmentation = Augmentation(transforms=[{name: {"p": 1, **OURS[name]}}])
    transform = TrainTransform(
        SIZE, Geometry(), InputSpec(crop_fraction=1.0), augmentation=augmentation, seed=0
    )
    if path == "loader":
        found = torch.stack([transform(image, 0, index) for index in range(draws)])
    else:
        images = image.expand(draws, -1, -1, -1)
        found = transform.batch(images, 0, torch.arange(draws), draws)
    torch.manual_seed(0)
    expected = torch.stack([THEIRS[name](image) for _ in range(draws)])
    for key, ours in statistics(found).items():
        if name == "zoom" and key in ("column", "row"):
            continue  # theirs stays in the middle, ours is cropped at random
        # They truncate to whole grey levels, and tails are thin.
        theirs, floor = statistics(expected)[key], 0.02 if key in ("column", "row") else 5.0
        same_law(ours, theirs, 0.1 if draws == DRAWS else 0.15, floor)


@pytest.mark.parametrize(
    ("spec", "uniform", "expected"),
    [
        ({"rotate": 30}, [0.9], lambda x: tv.rotate(x, 24.0, interpolation=LINEAR)),
        ({"shift": 0.25}, [1.0, 0.25], lambda x: tv.affine(x, 0, [-6, 12], 1.0, [0, 0])),
        ({"brightness": 0.4}, [0.9], lambda x: tv.adjust_brightness(x, 1.32)),
        ({"contrast": 0.4}, [0.1], lambda x: tv.adjust_contrast(x, 0.68)),
        ({"saturation": 0.4}, [0.1], lambda x: tv.adjust_saturation(x, 0.68)),
        ({"hue": 0.4}, [0.1], lambda x: tv.adjust_hue(x, -0.32)),
        ({"hue": 0.4}, [0.8], lambda x: tv.adjust_hue(x, 0.24)),
        ({"grey": 1}, [], lambda x: tv.rgb_to_grayscale(x, 3)),
        ({"blur": 2}, [0.5], lambda x: tv.gaussian_blur(x, 13, [1.05, 1.05])),
        ({"flip": 1}, [], tv.hflip),
        ({"flip_vertical": 1}, [], tv.vflip),
    ],
    # A function's text is its address, which differs between processes.
    ids=lambda value: "-" if callable(value) else str(value),
)
def test_one_draw_changes_pixels_as_torchvision_does(spec, uniform, expected) -> None:
    transforms = read_transforms([spec])
    plain = draw_parameters(1, "none", 1.0, seeded_generator(0))
    drawn = apply_listed(plain, transforms, [torch.tensor([[0.0, *uniform]])])
    image = picture()[None]
    found = make_view(image, drawn, transforms=transforms)
    assert (found.int() - expected(image).int()).abs().max() <= 1
    assert not torch.equal(found, image)


def test_a_warp_moves_the_corners_to_where_they_were_drawn() -> None:
    inward = torch.tensor([0.9, 0.1, 0.2, 0.8, 0.5, 0.5, 0.3, 0.7])
    transforms = read_transforms([{"warp": {"distortion": 0.5, "p": 1}}])
    plain = draw_parameters(1, "none", 1.0, seeded_generator(0))
    drawn = apply_listed(plain, transforms, [torch.cat([torch.zeros(1), inward])[None]])
    image = torch.nn.functional.interpolate(picture()[None].float(), 96, mode="bilinear").byte()
    found = make_view(image, drawn, transforms=transforms)
    x, y = (0.5 * 48 * inward).view(4, 2).unbind(1)
    start = [[0, 0], [96, 0], [96, 96], [0, 96]]
    signs = torch.tensor([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    end = (torch.tensor(start) + signs * torch.stack([x, y], 1)).tolist()
    # torchvision's grid counts from the edges of the image, not from the middle of its pixels.
    expected = tv.perspective(image, start, end, interpolation=LINEAR)
    assert (found.int() - expected.int()).abs().max() <= 2
