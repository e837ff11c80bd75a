"""A file that another has taken the place of is noticed, whatever its size and time."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lightning_fastrecipes import ImageFolderDataModule, TableColumns, TabularDataModule
from lightning_fastrecipes.data.images.manifest import scan_images
from lightning_fastrecipes.errors import DataError


def invert_in_place(path: Path) -> None:
    """Turn an uncompressed image into its negative, and put size and time back."""
    status = path.stat()
    pixels = np.asarray(Image.open(path))
    Image.fromarray(255 - pixels).save(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    assert path.stat().st_mtime_ns == status.st_mtime_ns


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(4):
            pixels = draw.integers(0, 255, (20, 20, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.bmp")
    return tmp_path / "photos"


def data(photos: Path) -> ImageFolderDataModule:
    found = ImageFolderDataModule(photos, image_size=16, split=0.0, num_workers=0, cache="off")
    found.setup("fit")
    return found


def test_a_scan_looks_again_at_a_replaced_image(photos) -> None:
    names = ["0.bmp", "1.bmp"]
    before = scan_images(photos / "a", names)
    invert_in_place(photos / "a" / "1.bmp")
    after = scan_images(photos / "a", names)
    assert (before["digest"] == after["digest"]).tolist() == [True, False]


def test_features_of_replaced_images_are_others(photos) -> None:
    before = data(photos).eval_dataset("train").digest()
    assert data(photos).eval_dataset("train").digest() == before
    invert_in_place(photos / "a" / "1.bmp")
    assert data(photos).eval_dataset("train").digest() != before


def test_an_image_that_is_replaced_after_the_scan_ends_the_training(photos) -> None:
    dataset = data(photos).eval_dataset("train")
    place = [Path(name).name for name in dataset.files].index("1.bmp")
    dataset[place]
    invert_in_place(Path(dataset.files[place]))
    with pytest.raises(DataError, match=r"1\.bmp' has changed since it was checked"):
        dataset[place]
    Path(dataset.files[place]).unlink()
    with pytest.raises(DataError, match=r"cannot be read any more: .* Put it back, or start again"):
        dataset[place]


def test_a_table_that_is_replaced_is_read_again(tmp_path) -> None:
    path = tmp_path / "sales.csv"

    def numbers() -> list[float]:
        columns = TableColumns(target="Sales", continuous=["Km"])
        table = TabularDataModule(path, columns, split=0.2, cache=tmp_path / "cache")
        table.prepare_data()
        table.setup("fit")
        return table.encoded("train").continuous.ravel().tolist()

    frame = pd.DataFrame({"Km": np.arange(20) % 7, "Sales": np.arange(20)})
    frame.to_csv(path, index=False)
    before, status = numbers(), path.stat()
    frame.assign(Km=(frame["Km"] + 1) % 7).to_csv(path, index=False)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    with pytest.warns(UserWarning, match="stale"):
        assert numbers() != before
