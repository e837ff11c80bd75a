"""Every kind of image comes out right, and every damaged one is named."""

import contextlib
import re
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_fastrecipes.data.images import decoding
from lightning_fastrecipes.data.images.decoding import Decoding, inspect_image, load_image
from lightning_fastrecipes.errors import DataError


@pytest.mark.parametrize(
    ("mode", "dtype"), [("I;16", "<u2"), ("I;16B", ">u2")], ids=["little-endian", "big-endian"]
)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_grey_is_scaled_by_its_bit_depth(tmp_path, mode, dtype, suffix):
    ramp = np.linspace(0, 65535, 64).astype(dtype).reshape(8, 8)
    Image.frombytes(mode, (8, 8), ramp.tobytes()).save(tmp_path / f"ramp.{suffix}")

    image = load_image(tmp_path / f"ramp.{suffix}")

    expected = torch.from_numpy(np.rint(ramp.astype(float) / 257).astype(np.uint8))
    assert torch.equal(image, expected.expand(3, 8, 8))
    assert len(image.unique()) == 64


def test_sixteen_bit_pgm_is_scaled_too(tmp_path):
    ramp = np.linspace(0, 65535, 64).astype(">u2")
    (tmp_path / "ramp.pgm").write_bytes(b"P5 8 8 65535\n" + ramp.tobytes())

    assert load_image(tmp_path / "ramp.pgm")[0].flatten().tolist() == np.rint(ramp / 257).tolist()


def test_pixels_without_an_agreed_white_are_refused(tmp_path):
    Image.fromarray(np.ones((4, 4), dtype=np.float32)).save(tmp_path / "float.tif")

    with pytest.raises(DataError, match=r"float\.tif.*mode F have no agreed white"):
        load_image(tmp_path / "float.tif")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L"])
@pytest.mark.parametrize(
    ("background", "expected"),
    [("white", [255, 255, 255]), ("#0a1428", [10, 20, 40])],
    ids=["white", "dark-blue"],
)
def test_transparent_pixels_show_the_background(tmp_path, mode, background, expected):
    options = {}
    if mode == "RGBA":
        image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    elif mode == "LA":
        image = Image.new("LA", (4, 4), (90, 0))
    else:  # a transparent palette entry, or a transparent grey (tRNS)
        image = Image.new(mode, (4, 4), 1)
        options = {"transparency": 1}
    if mode == "P":
        image.putpalette([0, 0, 0, 255, 0, 0])
    image.save(tmp_path / "clear.png", **options)

    loaded = load_image(tmp_path / "clear.png", Decoding(background))

    assert loaded[:, 0, 0].tolist() == expected


def test_half_transparent_pixels_are_mixed(tmp_path):
    Image.new("RGBA", (4, 4), (255, 0, 0, 51)).save(tmp_path / "veil.png")

    assert load_image(tmp_path / "veil.png")[:, 0, 0].tolist() == [255, 204, 204]


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        pytest.param("CMYK", (0, 255, 255, 0), [254, 0, 0], id="cmyk"),
        pytest.param("L", 90, [90, 90, 90], id="grey"),
        pytest.param("1", 1, [255, 255, 255], id="bilevel"),
        pytest.param("YCbCr", (76, 85, 255), [254, 0, 0], id="ycbcr"),
    ],
)
def test_other_colour_spaces_become_rgb(tmp_path, mode, colour, expected):
    Image.new(mode, (8, 8), colour).save(tmp_path / "flat.tif")

    loaded = load_image(tmp_path / "flat.tif")

    assert loaded.dtype == torch.uint8
    assert loaded[:, 4, 4].tolist() == pytest.approx(expected, abs=1)


def test_the_exif_orientation_is_applied(tmp_path):
    pixels = np.zeros((4, 6, 3), dtype=np.uint8)
    pixels[0, 0] = 255
    exif = Image.Exif()
    exif[274] = 6  # shown after a quarter turn clockwise
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)

    image = load_image(tmp_path / "turned.png")

    assert image.shape == (3, 6, 4)
    assert image[:, 0, 3].tolist() == [255, 255, 255]
    facts = inspect_image(tmp_path / "turned.png")
    assert (facts.width, facts.height) == (4, 6)


def test_of_an_animation_the_first_frame_is_taken_and_noted(tmp_path):
    red, blue = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
    red.save(tmp_path / "film.gif", save_all=True, append_images=[blue])

    assert load_image(tmp_path / "film.gif")[:, 0, 0].tolist() == [255, 0, 0]
    assert inspect_image(tmp_path / "film.gif").note == "first of 2 frames"


def test_a_good_image_is_described(tmp_path, draw):
    facts = inspect_image(draw(tmp_path / "good.png", (24, 20)))

    assert facts[:3] == (24, 20, "RGB")
    assert (facts.note, facts.problem) == ("", "")
    assert len(facts.digest) == 32


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", r"is empty \(0 bytes\)", id="empty"),
        pytest.param(b"no image", "not an image that Pillow can read", id="text"),
        pytest.param(None, "truncated|broken", id="truncated"),
    ],
)
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_damaged_file_is_found_out_and_named(tmp_path, draw, content, reason, suffix):
    path = draw(tmp_path / f"bad.{suffix}", (40, 40))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)

    assert re.search(reason, inspect_image(path).problem, re.IGNORECASE)
    with pytest.raises(DataError, match=rf"bad\.{suffix}' cannot be read"):
        load_image(path)


def test_a_file_that_is_gone_is_a_problem_too(tmp_path):
    assert inspect_image(tmp_path / "gone.png").problem == (
        "cannot be opened (No such file or directory)"
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<!DOCTYPE html><html>404", "HTML, probably the error page"),
        (b"<?xml version='1.0'?><svg width='3'/>", "SVG, a drawing"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC, for which"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0avifmif1", "AVIF, whose codec"),
        (b"\0\0\0\x18ftypisom\0\0\0\0mp42", "a video"),
        (bytes(128) + b"DICM" + bytes(40), "a DICOM file"),
        (b"\x93NUMPY\x01\0v\0", "a NumPy array"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n", "PostScript, which is a program"),
        (b"PK\x03\x04" + bytes(30), "a zip archive"),
        (bytes(64), "nothing but zero bytes"),
        (b"\xff\xd8\xff\xe0", "a damaged JPEG"),
        ("Grüße".encode(), "text"),
        (b"\x80\x81\x82", r"\Z"),
    ],
)
def test_what_is_no_image_is_called_by_its_name(tmp_path, content, reason):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)

    assert re.search(
        f"not an image that Pillow can read(, but .*)?{reason}", inspect_image(path).problem
    )
    with pytest.raises(DataError, match=re.escape(reason).removesuffix(r"\\Z")):
        load_image(path)


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    Image.new("1", (15_000, 12_000)).save(tmp_path / "large.png")  # Pillow warns of such
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    before = Image.MAX_IMAGE_PIXELS

    problem = inspect_image(tmp_path / "large.png").problem

    assert problem == (
        "has 180.0 megapixels (15000 x 12000), more than the 120 of `max_megapixels` of `Geometry`"
    )
    with pytest.raises(DataError, match="more than the 120 of `max_megapixels`"):
        load_image(tmp_path / "large.png")
    assert before == Image.MAX_IMAGE_PIXELS


def test_the_bound_can_be_set(tmp_path, draw):
    path = draw(tmp_path / "a.png", (40, 30))

    assert inspect_image(path, Decoding(max_megapixels=0.0012)).problem == ""
    assert "more than the 0.0011 of" in inspect_image(path, Decoding(max_megapixels=0.0011)).problem


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "I;16", "CMYK"])
def test_large_images_are_converted_in_strips_to_the_same_pixels(tmp_path, monkeypatch, mode):
    generator = np.random.default_rng(3)
    if mode == "I;16":
        image = Image.fromarray(generator.integers(0, 65536, (37, 21), dtype=np.uint16))
    else:
        image = Image.fromarray(generator.integers(0, 256, (37, 21, 3), dtype=np.uint8))
        image = image.convert(mode)
    options = {"transparency": 3} if mode == "P" else {}
    exif = Image.Exif()
    exif[274] = 6
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    image.save(path, **options, exif=exif)
    whole = load_image(path)

    monkeypatch.setattr(decoding, "_STRIP", 100)
    monkeypatch.setattr(decoding, "_ALONE", 100)
    assert torch.equal(load_image(path), whole)
    assert whole.shape == (3, 21, 37)


def damaged(kind, whole, number):
    """Cut a file, change bytes, or take some out."""
    generator = np.random.default_rng(number)
    content = bytearray(whole)
    start = int(generator.integers(8, len(content) - 8))
    if kind == "cut":
        return bytes(content[:start])
    if kind == "gap":
        return bytes(content[:start] + content[start + 5 :])
    for place in generator.integers(8, len(content), 6):
        content[place] = int(generator.integers(256))
    return bytes(content)


@pytest.mark.parametrize("kind", ["cut", "gap", "bytes"])
@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "tif", "webp", "bmp"])
def test_scan_and_load_agree_on_damaged_files(tmp_path, draw, suffix, kind):
    frames = [Image.open(draw(tmp_path / f"{number}.png")) for number in range(2)]
    more = {"save_all": True, "append_images": frames[1:]} if suffix in {"gif", "tif"} else {}
    frames[0].save(tmp_path / f"good.{suffix}", **more)
    whole = (tmp_path / f"good.{suffix}").read_bytes()
    path = tmp_path / f"a.{suffix}"
    for number in range(12):
        path.write_bytes(damaged(kind, whole, number))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                facts = inspect_image(path)
                shape = load_image(path).shape[1:]
        except DataError:
            assert facts.problem
        else:
            assert (facts.problem, (facts.height, facts.width)) == ("", shape)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.jfif", "JPEG"), ("a.JPEG.1", "JPEG"), ("a", "JPEG"), ("a.jpg", "PNG"),
     ("a.jp2", "JPEG2000"), ("a.pgm", "PPM"), ("a.tga", "TGA"), ("a.avif", "AVIF")],
)  # fmt: skip
def test_what_an_image_is_called_does_not_matter(tmp_path, name, kind):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    with contextlib.suppress(KeyError, OSError):  # without its codec
        Image.fromarray(pixels).save(tmp_path / name, format=kind)
        assert inspect_image(tmp_path / name).problem == ""
        assert load_image(tmp_path / name).shape == (3, 32, 32)
    assert not (tmp_path / name).exists() or inspect_image(tmp_path / name).problem == ""
