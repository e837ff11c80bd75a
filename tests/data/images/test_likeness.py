"""Images that are in two splits are counted, whether byte for byte or nearly."""

import io
import shutil
import zlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFilter

from lightning_fastrecipes.data.images import decoding
from lightning_fastrecipes.data.images.datamodules import (
    ImageArrayDataModule,
    ImageCSVDataModule,
    ImageFolderDataModule,
)
from lightning_fastrecipes.data.images.likeness import coarse_look, looks_of_arrays, shared_images


def photo(number, size=(120, 90)):
    """Draw a soft random landscape."""
    generator = np.random.default_rng(number)
    small = generator.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def photos(tmp_path):
    for split, count in (("train", 12), ("val", 6), ("test", 4)):
        for kind in ("cat", "dog"):
            for number in range(count):
                path = tmp_path / "photos" / split / kind / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                photo(zlib.crc32(f"{split}/{kind}/{number}".encode())).save(path)
    return tmp_path / "photos"


def shared(file, split, digest, look):
    return shared_images(
        pd.DataFrame({"file": file, "split": split, "digest": digest, "look": look})
    )


def said(data, recwarn):
    data.setup()
    return [str(w.message) for w in recwarn if "Splits share images" in str(w.message)]


def test_splits_of_their_own_give_no_warning(photos, recwarn):
    assert said(ImageFolderDataModule(photos), recwarn) == []


def test_copies_in_another_split_are_counted(photos, recwarn):
    for number in range(3):
        shutil.copy(photos / f"train/cat/{number}.png", photos / f"test/cat/copy{number}.png")
    shutil.copy(photos / "val/dog/0.png", photos / "test/dog/copy.png")

    (message,) = said(ImageFolderDataModule(photos), recwarn)

    assert "3 images of 'test' are the same bytes as one of 'train'" in message
    assert "'test/cat/copy0.png = train/cat/0.png'" in message
    assert "1 images of 'test' are the same bytes as one of 'val'" in message
    assert "nearly" not in message


CHANGES = {
    "quality": lambda image: image,
    "size": lambda image: image.resize((60, 45)),
    "brightness": lambda image: image.point(lambda value: int(0.9 * value)),
    "blur": lambda image: image.filter(ImageFilter.GaussianBlur(1)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_near_copies_in_another_split_are_counted(photos, recwarn, change):
    with Image.open(photos / "train/cat/0.png") as opened:
        image = CHANGES[change](opened.convert("RGB"))
    image.save(photos / "val/cat/copy.jpg", quality=60)

    (message,) = said(ImageFolderDataModule(photos), recwarn)

    assert "1 images of 'val' are nearly the same as one of 'train'" in message
    assert "'val/cat/copy.jpg = train/cat/0.png'" in message


@pytest.mark.parametrize("change", CHANGES)
def test_nearly_all_near_copies_are_found(change):
    # Of 1,000 such images, 966 are found again at half the size, and 998 after the other changes.
    looks, files = [], [str(number) for number in range(200)]
    for number in range(100):
        content = io.BytesIO()
        image = photo(number)
        CHANGES[change](image).save(content, "JPEG", quality=60)
        copy = Image.open(content).convert("RGB")
        looks += [coarse_look([image], lambda: 90), *looks_of_arrays(np.asarray(copy)[None])]

    found = shared(files, ["train", "val"] * 100, files, looks)

    assert int(found.split()[0]) >= 93


def test_tables_and_arrays_are_looked_at_too(photos, tmp_path, recwarn):
    shutil.copy(photos / "train/cat/0.png", photos / "val/cat/copy.png")
    files = [path.relative_to(photos).as_posix() for path in sorted(photos.rglob("*.png"))]
    frame = pd.DataFrame({"file": files})
    frame["split"], frame["label"] = frame["file"].str.split("/").str[0], "x"
    frame["label"] = frame["file"].str.split("/").str[1]
    frame.to_csv(photos / "labels.csv", index=False)
    data = ImageCSVDataModule(photos / "labels.csv", split="split")
    assert "1 images of 'val' are the same bytes as one of 'train'" in said(data, recwarn)[0]

    recwarn.clear()
    pixels = np.stack([np.asarray(photo(number, (64, 64))) for number in range(20)])
    arrays = {"x_train": pixels[:15], "y_train": np.arange(15) % 2}
    near = np.clip(pixels[13:17].astype(int) + 3, 0, 255).astype(np.uint8)
    arrays |= {"x_val": np.concatenate([pixels[:2], near]), "y_val": np.arange(6) % 2}
    (message,) = said(ImageArrayDataModule(arrays, image_size=32), recwarn)
    assert "2 images of 'val' are the same bytes as one of 'train'" in message
    assert "2 images of 'val' are nearly the same as one of 'train'" in message


def test_flat_images_and_images_of_one_kind_are_not_alike():
    flat = np.repeat(np.arange(0, 200, 5, dtype=np.uint8), 64 * 64).reshape(40, 64, 64)
    frames = np.full((200, 64, 64), 40, np.uint8)
    frames[:, 8:-8, 8:-8] = np.random.default_rng(0).integers(0, 256, (200, 48, 48))
    names = [str(number) for number in range(240)]

    looks = looks_of_arrays(np.concatenate([flat, frames]))

    assert shared(names, ["train", "val"] * 120, names, looks) == ""


def test_a_look_in_strips_is_the_look_in_one(tmp_path, monkeypatch):
    photo(5, (300, 400)).save(tmp_path / "a.png")
    whole = decoding.inspect_image(tmp_path / "a.png")
    monkeypatch.setattr(decoding, "_STRIP", 10_000)
    strips = decoding.inspect_image(tmp_path / "a.png")

    files = ["a", "b"]
    found = shared(files, ["train", "val"], files, [whole.look, strips.look])
    assert (strips.width, strips.height) == (300, 400)
    assert "1 images of 'val' are nearly the same" in found


def test_long_lists_are_cut():
    splits, digests = ["train"] + ["test"] * 500, ["x"] * 501
    found = shared([f"{n}.png" for n in range(501)], splits, digests, [""] * 501)

    assert found.startswith("500 images of 'test' are the same bytes as one of 'train'")
    assert len(found) < 250
