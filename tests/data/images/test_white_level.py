"""16-bit grey of fewer bits is said to be dark, and shown as bright as it is told to be."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_fastrecipes import Geometry, ImageFolderDataModule
from lightning_fastrecipes.data.images.dataset import prediction_dataset
from lightning_fastrecipes.data.images.decoding import Decoding, inspect_image, load_image
from lightning_fastrecipes.data.images.geometry import CachedSize, EvalTransform
from lightning_fastrecipes.protocols import InputSpec

VALUES = [0, 8, 2048, 4095, 5000, 65535]


def save(path: Path, values: list[int]) -> Path:
    """Write grey in 16 bits, one row of values, four times."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array([values] * 4, np.uint16)).save(path)
    return path


@pytest.fixture
def scans(tmp_path: Path):
    """Return a function that writes 8 images in 2 classes, and how bright the brightest is."""

    def write(peak: int, suffix: str = "png") -> Path:
        for number in range(4):
            for place, name in enumerate("ab"):
                low = number + 10 * place
                save(tmp_path / "scans" / name / f"{number}.{suffix}", [low, peak // 2, peak, low])
        return tmp_path / "scans"

    return write


def module(root: Path, **options) -> ImageFolderDataModule:
    return ImageFolderDataModule(
        root, image_size=4, split=0.25, batch_size=2, num_workers=0, **options
    )


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_white_is_where_it_is_said_to_be(tmp_path, suffix):
    path = save(tmp_path / f"scan.{suffix}", VALUES)
    for level, expected in {
        65535: [0, 0, 8, 16, 19, 255],
        4095: [0, 0, 128, 255, 255, 255],
        255: [0, 8, 255, 255, 255, 255],
    }.items():
        pixels = load_image(path, Decoding(white_level=level))
        assert pixels[:, 0].tolist() == [expected] * 3
    assert inspect_image(path).peak == 65535


def test_images_of_8_bits_have_no_white_level(tmp_path):
    path = tmp_path / "grey.png"
    Image.fromarray(np.array([[0, 100, 200]], np.uint8)).save(path)
    assert inspect_image(path).peak == 0
    assert load_image(path, Decoding(white_level=255))[0, 0].tolist() == [0, 100, 200]


@pytest.mark.parametrize(
    ("peak", "level"),
    [(255, 255), (256, 1023), (1023, 1023), (1024, 4095), (4095, 4095), (16383, 16383)],
)
def test_a_warning_names_the_level_of_dark_data(scans, peak, level):
    with pytest.warns(
        UserWarning, match=rf"above {peak}, .*Geometry\(white_level={level}\)"
    ) as told:
        module(scans(peak)).setup("fit")
    assert len([one for one in told if "white_level" in str(one.message)]) == 1


@pytest.mark.parametrize(
    ("peak", "geometry"),
    [(16384, None), (65535, None), (4095, Geometry(white_level=4095))]
    + [(4095, Geometry(white_level=65535))],
)
def test_data_as_bright_as_their_white_are_left_alone(scans, peak, geometry):
    root = scans(peak)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        module(root, geometry=geometry).setup("fit")
    assert [str(one.message) for one in said] == []


def test_a_white_that_cuts_is_said(scans):
    with pytest.warns(UserWarning, match="reach 4095, above `white_level=1023`"):
        module(scans(4095), geometry=Geometry(white_level=1023)).setup("fit")


def test_every_path_shows_the_same_white(scans, tmp_path):
    """The loader, with and without its cache, a model in use, and the other level beside it."""
    root = scans(4095)
    for level in (4095, 65535):
        found = []
        for cache in ("off", str(tmp_path / "cache")):
            data = module(root, geometry=Geometry(white_level=level), cache=cache)
            data.setup("fit")
            found.append(data.eval_dataset("train")[0][0])
            file = data.eval_dataset("train").files[0]
        key = data.eval_transform_key()
        assert key.get("white_level", 65535) == level
        used, bad = prediction_dataset([file], **key)
        found.append(used[0][0])
        assert not bad
        for image in found:
            assert image.max() == (255 if level == 4095 else 16)
            assert image.tolist() == found[0].tolist()


def test_caches_and_exports_know_the_white_and_keep_their_keys_without():
    plain, bright = (
        EvalTransform(8, Geometry(white_level=level), InputSpec()) for level in ("auto", 4095)
    )
    assert "white_level" not in {**plain.key(), **plain.cached_size().key()}
    assert plain.cached_size().key() != bright.cached_size().key()
    assert bright.key()["white_level"] == bright.cached_size().key()["white_level"] == 4095
    usual = CachedSize(8, "crop", "bilinear", Decoding(max_megapixels=1))
    assert usual.key() == CachedSize(8, "crop", "bilinear").key()


@pytest.mark.parametrize("level", [0, 65536, 4095.0, "12", True, None])
def test_a_level_that_cannot_be_is_refused(level):
    with pytest.raises(ValueError, match="`white_level` must be 'auto' or a whole number"):
        Geometry(white_level=level)
