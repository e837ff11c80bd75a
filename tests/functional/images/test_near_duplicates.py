import torch
from torch.nn.functional import interpolate

from lightning_fastrecipes.functional.images.near_duplicates import grey_look, near_duplicates


def photos(count=12, seed=0):
    """Smooth random images, as photos are from afar."""
    generator = torch.Generator().manual_seed(seed)
    coarse = 255 * torch.rand(count, 3, 7, 7, generator=generator)
    return interpolate(coarse, (120, 120), mode="bicubic").clamp(0, 255)


def pairs(images) -> set[tuple[int, int]]:
    return {pair[:2] for pair in near_duplicates(grey_look(images.to(torch.uint8)))}


def test_different_images_are_no_pair() -> None:
    assert pairs(photos(40)) == set()


def test_cut_mirrored_brighter_and_copied_images_are_found() -> None:
    images = photos()
    cut = interpolate(images[:1, :, 6:114, 6:114], (120, 120), mode="bilinear")
    corner = interpolate(images[1:2, :, :108, 12:], (120, 120), mode="bilinear")
    changed = [cut, corner, images[2:3].flip(3), images[3:4] * 0.8, images[4:5]]
    found = pairs(torch.cat([images, *changed]))
    assert found == {(number, 12 + number) for number in range(5)}


def test_upside_down_is_another_image() -> None:
    images = photos(2)
    assert pairs(torch.cat([images, images.flip(2)])) == set()


def test_flat_images_show_nothing() -> None:
    assert pairs(torch.full((3, 3, 40, 40), 90)) == set()


def test_images_of_one_kind_are_no_copies() -> None:
    kind = photos(1, seed=1)
    alike = (0.85 * kind + 0.15 * photos(60)).clamp(0, 255)
    looks = grey_look(alike).flatten(1)
    nearest = torch.corrcoef(looks).fill_diagonal_(0).amax(1)
    assert (nearest > 0.93).all()
    copies = [alike[:1] * 0.8, alike[1:2].flip(3), alike[2:3]]
    assert pairs(torch.cat([alike, *copies])) == {(0, 60), (1, 61), (2, 62)}


def test_a_dozen_copies_are_all_found() -> None:
    images = photos(3)
    copies = torch.cat([images[:1] * (0.8 + 0.01 * number) for number in range(12)])
    found = pairs(torch.cat([images, copies]))
    linked = {number for pair in found for number in pair}
    assert linked == {0, *range(3, 15)}
