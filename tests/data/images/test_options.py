"""Every datamodule of images has one list of options, for signatures, help and YAML alike."""

import inspect
from typing import get_args

import pandas as pd
import pytest
from jsonargparse import ArgumentParser

from lightning_fastrecipes.data.common.split_choice import (
    ColumnSplit,
    DateSplit,
    FractionSplit,
    GroupSplit,
)
from lightning_fastrecipes.data.images.datamodules import (
    ImageArrayDataModule,
    ImageCSVDataModule,
    ImageFolderDataModule,
)
from lightning_fastrecipes.data.images.geometry import Geometry
from lightning_fastrecipes.data.images.label_table import LabelTable
from lightning_fastrecipes.data.images.module import ImageDataModule
from lightning_fastrecipes.data.images.options import DEFAULTS, Augmentation, ImageOptions
from lightning_fastrecipes.errors import DataError

MODULES = [ImageFolderDataModule, ImageCSVDataModule, ImageArrayDataModule]
OPTIONS = {
    "image_size": 32,
    "batch_size": 8,
    "split": {"val": 0.1, "test": 0.2},
    "augmentation": {"preset": "side_on", "max_zoom": 1.3, "on_device": True},
    "geometry": {"resize": "squish"},
    "class_balanced": True,
    "seed": 3,
    "on_bad_file": "skip",
    "num_workers": 1,
    "cache": "off",
}


def test_there_is_a_default_for_every_option() -> None:
    assert list(DEFAULTS) == list(ImageOptions.__annotations__) == list(OPTIONS)


@pytest.mark.parametrize("cls", [ImageDataModule, *MODULES])
def test_the_signature_names_the_options(cls) -> None:
    *_, options = inspect.signature(cls).parameters.values()
    assert options.kind is options.VAR_KEYWORD
    assert get_args(options.annotation) == (ImageOptions,)


@pytest.mark.parametrize("cls", MODULES)
def test_help_lists_and_explains_every_option(cls) -> None:
    parser = ArgumentParser()
    parser.add_class_arguments(cls, "data")
    text = " ".join(parser.format_help().split())
    for name in OPTIONS:
        assert f"--data.{name}" in text
    for words in ("Side of the square images", "share to validate on", "Loader processes"):
        assert words in text


@pytest.mark.parametrize("cls", MODULES)
def test_yaml_takes_every_option(cls) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ImageDataModule, "data")
    first = next(iter(inspect.signature(cls).parameters))
    spec = {
        "class_path": f"lightning_fastrecipes.{cls.__name__}",
        "init_args": {first: "here", **OPTIONS},
    }

    data = parser.instantiate(parser.parse_object({"data": spec})).data

    assert data.split == FractionSplit(0.1, 0.2)
    assert data.augmentation == Augmentation("side_on", 1.3, on_device=True)
    assert data.geometry == Geometry("squish")
    for name in ("image_size", "batch_size", "class_balanced", "seed", "on_bad_file"):
        assert getattr(data, name) == OPTIONS[name]


def test_an_unknown_option_is_refused_with_the_right_one() -> None:
    with pytest.raises(TypeError, match=r"no option `image_siz`, .*Did you mean `image_size`"):
        ImageFolderDataModule("photos", image_siz=3)


def test_assigning_a_preset_keeps_the_other_settings() -> None:
    data = ImageFolderDataModule("photos", augmentation=Augmentation(max_zoom=1.3))
    data.augmentation = "side_on"
    assert data.augmentation == Augmentation("side_on", 1.3)
    with pytest.raises(ValueError, match="`augmentation` must be one of none, basic"):
        data.augmentation = "all"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_zoom": 0.5}, r"`max_zoom` must be at least 1, got 0\.5"),
        ({"max_angle": -1}, "`max_angle` must be at least 0 degrees, got -1"),
    ],
    ids=str,
)
def test_wrong_augmentation_is_refused(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        Augmentation(**options)


@pytest.mark.parametrize(
    ("cls", "split"),
    [
        (ImageFolderDataModule, ColumnSplit("part")),
        (ImageFolderDataModule, "part"),
        (ImageArrayDataModule, GroupSplit("patient")),
        (ImageCSVDataModule, DateSplit("day", "2014-01-01")),
    ],
)
def test_a_split_that_the_data_cannot_have_is_refused(cls, split) -> None:
    with pytest.raises(ValueError, match=f"`split` of `{cls.__name__}` must be"):
        cls("here", split=split)


@pytest.fixture
def patients(tmp_path, draw):
    """Make a table of 8 patients with 3 images each, of two classes, and one of a rare class."""
    rows = []
    for number in range(27):
        draw(tmp_path / f"{number}.png", size=(8, 8))
        label = "rare" if number >= 24 else ("ill" if number % 8 < 4 else "well")
        part = "held out" if number == 0 else "train"
        rows.append((f"{number}.png", label, f"patient {number % 8 if number < 24 else 8}", part))
    return pd.DataFrame(rows, columns=["file", "label", "patient", "part"]), str(tmp_path)


@pytest.mark.parametrize("seed", range(4))
def test_images_of_one_group_stay_together_and_every_class_is_trained_on(patients, seed) -> None:
    frame, folder = patients
    data = ImageCSVDataModule(
        frame, table=LabelTable(folder=folder), split=GroupSplit("patient", 0.3, 0.2, seed)
    )
    data.setup()

    names = frame.set_index("file")["patient"]
    owners = [
        {names[file.rsplit("/", 1)[1]] for file in data.eval_dataset(split).files}
        for split in ("train", "val", "test")
    ]
    assert [bool(owner) for owner in owners] == [True] * 3
    assert sum(map(len, owners)) == 9
    assert data.classes == ["ill", "rare", "well"]


def test_a_column_of_splits_draws_what_is_missing_only_if_asked_to(patients) -> None:
    frame, folder = patients
    frame = frame.assign(part=["test"] * 4 + ["train"] * 23)

    def sizes(split) -> list[int]:
        data = ImageCSVDataModule(frame, table=LabelTable(folder=folder), split=split)
        data.setup()
        return [len(data.eval_dataset(name)) for name in ("train", "val", "test")]

    assert sizes("part") == [23, 0, 4]
    assert sizes(ColumnSplit("part", FractionSplit(0.25, 0.5))) == [17, 6, 4]


def test_another_word_in_a_column_of_splits_is_refused(patients) -> None:
    frame, folder = patients
    data = ImageCSVDataModule(frame, table=LabelTable(folder=folder), split="part")
    with pytest.raises(DataError, match=r"unknown split in 'part'.*: '0.png \(row 0\)'"):
        data.setup()
