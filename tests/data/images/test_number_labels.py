"""Numbers as labels: from tables, arrays, names of files and lists."""

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.number_images import REDNESS, SIZE, arrays_of_numbers, draw_numbers

from lightning_fastrecipes import (
    FolderLayout,
    ImageArrayDataModule,
    ImageCSVDataModule,
    ImageFolderDataModule,
    LabelTable,
    Numbers,
)
from lightning_fastrecipes.errors import ConfigurationError, DataError


@pytest.fixture
def images(tmp_path):
    return draw_numbers(tmp_path / "images")


def of_table(images, labels, frame=None, **options):
    table = pd.read_csv(images / "numbers.csv") if frame is None else frame
    data = ImageCSVDataModule(
        table, table=LabelTable(folder=str(images), labels=labels), image_size=24, **options
    )
    data.setup("fit")
    return data


def test_a_column_of_numbers_is_kept_to_its_last_digit(images):
    data = of_table(images, Numbers("red"))
    frame = pd.read_csv(images / "numbers.csv").set_index("file")["red"]
    files = [path.rpartition("/")[2] for path in data.eval_dataset("train").files]
    assert data.train_targets.dtype == torch.float64
    assert data.train_targets.tolist() == frame[files].tolist()
    assert (data.label_kind, data.classes) == ("numbers", [])
    (red,) = data.number_targets
    assert (red.name, red.log) == ("red", False)
    assert red.mean == pytest.approx(frame[files].mean(), rel=1e-15)
    assert red.std == pytest.approx(frame[files].std(ddof=0), rel=1e-12)


def test_statistics_are_of_the_training_images_alone(images):
    frame = pd.read_csv(images / "numbers.csv")
    frame["split"] = np.where(frame["place"] < 20, "train", "val")
    frame.loc[frame["place"] >= 20, "red"] = 7.0
    (red,) = of_table(images, Numbers("red"), frame, split="split").number_targets
    assert red.mean > REDNESS


def test_several_columns_are_rows_in_the_order_they_are_named_in(images):
    data = of_table(images, Numbers(["blue", "red"], log=["blue"]), batch_size=4, num_workers=0)
    _, targets = next(iter(data.val_dataloader()))
    assert (targets.shape, targets.dtype) == ((4, 2), torch.float64)
    assert bool((targets[:, 0] < 200 * SIZE).all())
    assert bool((targets[:, 1] > REDNESS - 1).all())
    assert [(x.name, x.log) for x in data.number_targets] == [("blue", True), ("red", False)]
    assert data.number_targets[0].mean < np.log(200 * SIZE)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("", r"1 rows .* have no finite number in 'red': '7_red\d+.png \(row 7\)"),
        ("about 5", r"no finite number in 'red': '7_red"),
        ("inf", r"no finite number in 'red': '7_red"),
        ("1e39", r"no finite number in 'red': '7_red"),
        ("-3", r"must be above 0 in 'red', whose logarithm is asked for: '7_red"),
    ],
)
def test_what_is_no_number_is_refused_with_its_row(images, value, said):
    frame = pd.read_csv(images / "numbers.csv", dtype=str, keep_default_na=False)
    frame.loc[7, "red"] = value
    with pytest.raises(DataError, match=said):
        of_table(images, Numbers(["red"], log=True), frame)


def test_a_comma_for_a_point_is_told_its_cure(images):
    frame = pd.read_csv(images / "numbers.csv", dtype=str)
    frame["red"] = ["5", "0,5"] * (len(frame) // 2)
    with pytest.raises(DataError, match=r"'red' must have numbers with a point, but has '0,5'"):
        of_table(images, Numbers(["red"]), frame)


def test_an_image_that_is_named_twice_is_refused(images):
    frame = pd.read_csv(images / "numbers.csv")
    frame = pd.concat([frame, frame[:1].assign(red=1.0)])
    with pytest.raises(DataError, match=r"name an image twice.*Keep one\.$"):
        of_table(images, Numbers("red"), frame)


def test_numbers_without_numbers_name_the_cure(images):
    with pytest.raises(DataError, match=r"give `labels=Numbers\('red'\)` and an `ImageRegressor`"):
        of_table(images, "red", pd.read_csv(images / "numbers.csv").assign(red=lambda x: x.red / 3))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"columns": []}, "must be one or more different names"),
        ({"columns": ["a", "a"]}, "must be one or more different names"),
        ({"columns": ["a"], "log": ["b"]}, "some of its columns 'a', but names 'b'"),
    ],
)
def test_contradictions_are_refused(arguments, said):
    with pytest.raises(ConfigurationError, match=said):
        Numbers(**arguments)


def test_arrays_may_have_one_number_or_several():
    arrays = arrays_of_numbers()
    for labels in (arrays["y_train"], arrays["y_train"][:, None]):
        data = ImageArrayDataModule(arrays | {"y_train": labels}, labels=Numbers("grey"))
        data.setup("fit")
        assert data.train_targets.shape == (32,)
        assert [x.name for x in data.number_targets] == ["grey"]
    two = np.stack([arrays["y_train"], np.arange(40)], axis=1)
    extra = {"x_test": 255 - arrays["x_train"][:3]}
    data = ImageArrayDataModule(arrays | {"y_train": two} | extra, labels=Numbers())
    data.setup("fit")
    assert [x.name for x in data.number_targets] == ["label_1", "label_2"]
    assert bool(data.eval_dataset("predict").targets.isnan().all())
    named = ImageArrayDataModule(arrays | {"y_train": two}, labels=Numbers(["a", "b", "c"]))
    with pytest.raises(ConfigurationError, match="must name each number of an image, 2 in the"):
        named.setup("fit")


def test_arrays_that_are_no_numbers_are_refused():
    arrays = arrays_of_numbers()
    y = arrays["y_train"]
    for wrong, said in (
        (y[:5], r"must have one number per image, shape \(40,\)"),
        (y.astype(str), "must be numbers, but is <U"),
        (np.where(np.arange(40) == 3, np.nan, y), r"no finite number in 'label': 'train/03'"),
    ):
        with pytest.raises(DataError, match=said):
            ImageArrayDataModule(arrays | {"y_train": wrong}, labels=Numbers()).setup("fit")
    with pytest.raises(DataError, match=r"give `labels=Numbers\(\)` for numbers"):
        ImageArrayDataModule(arrays).setup("fit")


def test_names_of_files_and_of_folders_may_be_numbers(images, squares):
    (images / "numbers.csv").unlink()
    layout = FolderLayout(label_pattern=r"_red([0-9]+)\.png", labels=Numbers("red"))
    data = ImageFolderDataModule(images, layout=layout)
    assert data.label_kind == "numbers"
    data.setup("fit")
    files = data.eval_dataset("train").files
    assert data.train_targets.tolist() == [float(x.rpartition("red")[2][:-4]) for x in files]
    for name, age in (("blue", "20"), ("red", "31.5")):
        (squares / name).rename(squares / age)
    data = ImageFolderDataModule(squares, layout=FolderLayout(labels=Numbers("age")))
    data.setup("fit")
    assert set(data.train_targets.tolist()) == {20.0, 31.5}
    (squares / "20").rename(squares / "young")
    with pytest.raises(DataError, match=r"no finite number in 'age': 'young/0.png \(young\)'"):
        ImageFolderDataModule(squares, layout=FolderLayout(labels=Numbers("age"))).setup("fit")


def test_a_list_may_have_numbers(images):
    frame = pd.read_csv(images / "numbers.csv")
    lines = [f"{file}\t{red}" for file, red in zip(frame["file"], frame["red"], strict=True)]
    (images / "train.txt").write_text("\n".join(lines))
    data = ImageFolderDataModule(images, layout=FolderLayout(labels=Numbers("red")))
    data.setup("fit")
    assert bool((data.train_targets >= REDNESS).all())


def test_classes_cannot_be_balanced_where_there_are_none(images):
    with pytest.raises(ConfigurationError, match="but the images have numbers"):
        of_table(images, Numbers("red"), class_balanced=True)


def test_another_column_under_a_checkpoint_is_refused(images):
    state = of_table(images, Numbers("red")).state_dict()
    of_table(images, Numbers("red")).load_state_dict(state)
    with pytest.raises(ConfigurationError, match="model and its checkpoint, 'red', but are 'blue'"):
        of_table(images, Numbers("blue")).load_state_dict(state)
    with pytest.raises(ConfigurationError, match="kind 'numbers'"):
        ImageFolderDataModule(images).load_state_dict(state)
