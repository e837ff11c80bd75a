"""The two datamodules of images, as people and recipes build them."""

import pickle

import pandas as pd
import pytest
import torch
import yaml
from jsonargparse import ArgumentParser

from lightning_fastrecipes.data.images.datamodules import ImageCSVDataModule, ImageFolderDataModule
from lightning_fastrecipes.data.images.geometry import Geometry
from lightning_fastrecipes.data.images.label_table import LabelTable, SoftLabels
from lightning_fastrecipes.data.images.module import ImageDataModule
from lightning_fastrecipes.data.images.options import Augmentation
from lightning_fastrecipes.errors import DataNotFoundError


@pytest.fixture
def cells(tmp_path, draw, monkeypatch):
    """Make a package of images with a table of probabilities, like the solar cells."""
    home = tmp_path / "tiny_cells" / "data"
    lines = []
    for number in range(24):
        draw(home / "images" / f"cell{number:02}.png")
        cell = "mono" if number % 2 else "poly"
        lines.append(f"images/cell{number:02}.png  {number % 4 / 3:.6f}     {cell}")
    (home / "labels.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "tiny_cells" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    return "package:tiny_cells/data/labels.csv"


TABLE = {
    "labels": {"classes": ["intact", "broken"], "probability_column": "p"},
    "column_names": ["file", "p", "cell"],
    "stratify_by": ["p", "cell"],
}


SOFT = LabelTable(**TABLE | {"labels": SoftLabels(["intact", "broken"], "p")})


def test_a_table_in_a_package_gives_soft_targets(cells):
    data = ImageCSVDataModule(
        cells,
        table=SOFT,
        image_size=16,
        batch_size=6,
        split=1 / 3,
    )
    data.prepare_data()
    data.setup("fit")

    assert (data.classes, data.label_kind) == (["intact", "broken"], "soft")
    assert (len(data.eval_dataset("train")), len(data.eval_dataset("val"))) == (16, 8)
    images, targets = next(iter(data.train_dataloader()))
    assert (images.shape, images.dtype) == ((6, 3, 16, 16), torch.uint8)
    assert (targets.shape, targets.dtype) == ((6, 2), torch.float32)
    assert targets.sum(dim=1).tolist() == pytest.approx([1.0] * 6)
    assert pickle.loads(pickle.dumps(data)).classes == ["intact", "broken"]


def test_a_data_frame_gives_class_indices(pets):
    files = sorted(path.relative_to(pets).as_posix() for path in pets.glob("*/*.png"))
    frame = pd.DataFrame({"file": files, "label": [file.split("/")[0] for file in files]})
    table = ImageCSVDataModule(frame, table=LabelTable(folder=str(pets)), image_size=16)
    folder = ImageFolderDataModule(pets, image_size=16)

    for data in (table, folder):
        data.setup()

    # The same images under the same names: the same split, whichever way they came.
    for split in ("train", "val"):
        assert table.eval_dataset(split).files == folder.eval_dataset(split).files
        assert torch.equal(table.eval_dataset(split).targets, folder.eval_dataset(split).targets)
    assert table.label_kind == "single"


def test_a_folder_in_a_package_is_read(tmp_path, split_pets, monkeypatch):
    (split_pets / "__init__.py").write_text("")
    split_pets.rename(tmp_path / "tiny_pets")
    monkeypatch.syspath_prepend(tmp_path)
    data = ImageFolderDataModule("package:tiny_pets", image_size=16)

    data.setup()

    assert data.classes == ["cat", "dog"]


def test_a_folder_that_is_not_there_is_named_when_it_is_read(tmp_path):
    data = ImageFolderDataModule(tmp_path / "gone")

    with pytest.raises(DataNotFoundError, match="`root` must name something that exists"):
        data.prepare_data()


@pytest.mark.parametrize(
    ("class_name", "arguments"),
    [
        pytest.param(
            "ImageFolderDataModule",
            {"root": "pets", "augmentation": "side_on", "geometry": {"crop_fraction": 0.9}},
            id="folder",
        ),
        pytest.param(
            "ImageCSVDataModule",
            {"csv": "labels.csv", "table": TABLE, "geometry": {"resize": "squish"}},
            id="csv",
        ),
    ],
)
def test_recipes_build_them_from_yaml(class_name, arguments):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ImageDataModule, "data")
    text = yaml.safe_dump(
        {
            "class_path": f"lightning_fastrecipes.data.images.datamodules.{class_name}",
            "init_args": arguments,
        }
    )

    data = parser.instantiate(parser.parse_object({"data": yaml.safe_load(text)})).data

    assert type(data).__name__ == class_name
    assert data.geometry == Geometry(**arguments["geometry"])
    if class_name == "ImageCSVDataModule":
        assert data.table == SOFT
        assert data.csv == "labels.csv"
    else:
        assert (data.root, data.augmentation) == ("pets", Augmentation("side_on"))


def test_classes_are_read_when_they_are_asked_for(pets) -> None:
    assert ImageFolderDataModule(pets, image_size=8).classes == ["cat", "dog"]
