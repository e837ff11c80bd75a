"""Folders of images are read as they are laid out, in the same order everywhere."""

import os
from contextlib import nullcontext

import pytest

from lightning_fastrecipes.data.images.listing import list_folder
from lightning_fastrecipes.errors import DataError


def test_class_folders_give_labels_and_sorted_relative_files(pets):
    rows = list_folder(pets).rows

    assert len(rows) == 18
    assert rows["file"].tolist() == sorted(rows["file"])
    assert rows.loc[0].to_dict() == {
        "file": "cat/0.png",
        "split": "train",
        "label": "cat",
        "stratum": "cat",
    }


@pytest.mark.parametrize("name", ["val", "valid"])
def test_split_folders_give_splits(split_pets, name):
    (split_pets / "val").rename(split_pets / name)

    rows = list_folder(split_pets).rows

    assert rows["split"].value_counts().to_dict() == {"train": 8, "val": 4}
    assert set(rows["label"]) == {"cat", "dog"}


def test_a_test_folder_with_classes_is_labelled(split_pets, draw):
    draw(split_pets / "test" / "dog" / "0.png")

    test = list_folder(split_pets).rows.query("split == 'test'")

    assert test[["file", "label"]].values.tolist() == [["test/dog/0.png", "dog"]]


@pytest.mark.parametrize("layout", ["pets", "split_pets"])
def test_a_flat_test_folder_is_to_be_predicted(request, draw, layout):
    root = request.getfixturevalue(layout)
    draw(root / "test" / "0.png")

    predict = list_folder(root).rows.query("split == 'predict'")

    assert predict[["file", "label"]].values.tolist() == [["test/0.png", ""]]


def test_what_is_hidden_is_left_alone(pets, draw):
    before = list_folder(pets).rows
    draw(pets / ".ipynb_checkpoints" / "0.png")
    draw(pets / "cat" / ".ipynb_checkpoints" / "0.png")
    draw(pets / "cat" / "._0.png")

    assert list_folder(pets).rows.equals(before)


def test_images_in_folders_inside_a_class_are_found(pets, draw):
    draw(pets / "cat" / "siamese" / "young" / "0.png")

    rows = list_folder(pets).rows

    assert rows.set_index("file").loc["cat/siamese/young/0.png", "label"] == "cat"


def test_the_order_does_not_depend_on_the_file_system(pets, monkeypatch):
    before = list_folder(pets).rows
    scandir = os.scandir
    monkeypatch.setattr(
        os, "scandir", lambda place: nullcontext(sorted(scandir(place), key=lambda e: e.name)[::-1])
    )

    assert list_folder(pets).rows.equals(before)


def test_a_folder_without_classes_is_refused_with_the_layout_that_is_expected(tmp_path, draw):
    for number in range(3):
        draw(tmp_path / "train" / f"{number}.png")

    with pytest.raises(
        DataError, match=r"No class folders in .*train' \(found 3 files, 0 folders\).*CSV"
    ):
        list_folder(tmp_path)


def test_an_empty_class_is_an_error_in_training_only(split_pets):
    (split_pets / "val" / "bird").mkdir()
    assert set(list_folder(split_pets).rows["label"]) == {"cat", "dog"}

    (split_pets / "train" / "bird").mkdir()
    with pytest.raises(DataError, match=r"class folder '.*train/bird' is empty"):
        list_folder(split_pets)


def test_two_validation_folders_are_refused(split_pets):
    (split_pets / "valid" / "cat").mkdir(parents=True)

    with pytest.raises(DataError, match="both 'val' and 'valid'"):
        list_folder(split_pets)


def test_validation_without_training_is_refused(split_pets):
    (split_pets / "train").rename(split_pets / "learning")

    with pytest.raises(DataError, match="a folder 'val' but no 'train'"):
        list_folder(split_pets)


@pytest.mark.parametrize(
    ("name", "cure"), [("a.zip", "Unpack it"), ("a.csv", "ImageCSVDataModule"), ("a", "the folder")]
)
def test_a_file_in_place_of_a_folder_is_refused(tmp_path, name, cure):
    (tmp_path / name).touch()
    with pytest.raises(DataError, match=rf"{name}' must be a folder of images.*{cure}"):
        list_folder(tmp_path / name)
