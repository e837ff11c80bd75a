"""Splits are drawn once and for all, and whatever would corrupt a training is refused."""

import os
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lightning_fastrecipes.data.common.split_choice import (
    FoldSplit,
    FractionSplit,
    GroupSplit,
    as_folds,
)
from lightning_fastrecipes.data.images.assembly import assemble
from lightning_fastrecipes.data.images.folder_layout import FolderLayout
from lightning_fastrecipes.data.images.label_table import LabelTable, SoftLabels
from lightning_fastrecipes.data.images.listing import list_folder
from lightning_fastrecipes.data.images.table_listing import list_table
from lightning_fastrecipes.errors import DataError

PLAN = FractionSplit()


def names(photos, split):
    return ["/".join(os.fsdecode(path).split("/")[-2:]) for path in photos.splits[split].paths]


def test_drawn_splits_keep_the_mix_of_the_classes(pets):
    photos = assemble(list_folder(pets), FractionSplit(0.25, 0.25), "raise")

    assert photos.classes == ["cat", "dog"]
    counts = {
        split: np.bincount(samples.targets, minlength=2).tolist()
        for split, samples in photos.splits.items()
        if split != "predict"
    }
    assert counts == {"train": [5, 4], "val": [3, 2], "test": [2, 2]}


def test_the_split_depends_on_relative_names_and_seed_alone(pets, tmp_path):
    before = assemble(list_folder(pets), PLAN, "raise")
    moved = pets.rename(tmp_path / "elsewhere")

    after = assemble(list_folder(moved), PLAN, "raise")

    assert names(after, "val") == names(before, "val")
    other = assemble(list_folder(moved), FractionSplit(seed=1), "raise")
    assert names(other, "val") != names(before, "val")


def test_a_new_image_hardly_moves_the_others(pets, draw):
    before = assemble(list_folder(pets), PLAN, "raise")
    draw(pets / "cat" / "00.png")

    after = assemble(list_folder(pets), PLAN, "raise")

    moved = set(names(before, "val")) ^ set(names(after, "val"))
    assert len(moved - {"cat/00.png"}) <= 1


def test_a_split_that_the_data_bring_is_not_drawn(split_pets):
    photos = assemble(list_folder(split_pets), FractionSplit(0.5, 0.25), "raise")

    assert {split: len(samples.paths) for split, samples in photos.splits.items()} == {
        "train": 6,
        "val": 4,
        "test": 2,
        "predict": 0,
    }


def test_targets_match_the_folders_in_every_split(split_pets, draw):
    draw(split_pets / "test" / "dog" / "0.png")

    photos = assemble(list_folder(split_pets), PLAN, "raise")

    for split, samples in photos.splits.items():
        labels = [name.split("/")[0] for name in names(photos, split)]
        assert [photos.classes[target] for target in samples.targets] == labels
        assert samples.targets.dtype == np.int64


def test_a_class_that_validation_lacks_does_not_shift_the_others(tmp_path, draw):
    for split, classes in (("train", "abc"), ("val", "ac")):
        for name in classes:
            draw(tmp_path / split / name / "0.png")

    photos = assemble(list_folder(tmp_path), PLAN, "raise")

    assert photos.splits["val"].targets.tolist() == [0, 2]


def test_a_class_that_training_lacks_is_refused_by_name(split_pets, draw):
    draw(split_pets / "val" / "bird" / "0.png")

    with pytest.raises(DataError, match=r"'bird \(1 in val\)' are not in the training split"):
        assemble(list_folder(split_pets), PLAN, "raise")


def test_soft_targets_go_with_their_files(tmp_path, draw):
    rows = [(f"{number}.png", number / 10) for number in range(10)]
    for file, _ in rows:
        draw(tmp_path / file)
    text = "file,p\n" + "".join(f"{file},{p}\n" for file, p in reversed(rows))
    (tmp_path / "labels.csv").write_text(text)
    table = LabelTable(labels=SoftLabels(["no", "yes"], "p"))

    photos = assemble(list_table(tmp_path / "labels.csv", table), PLAN, "raise")

    assert photos.classes == ["no", "yes"]
    for split, count in (("train", 8), ("val", 2)):
        samples = photos.splits[split]
        expected = [int(name.split("/")[1][0]) / 10 for name in names(photos, split)]
        assert samples.targets.shape == (count, 2)
        assert samples.targets[:, 1].tolist() == pytest.approx(expected)
        assert samples.targets.sum(axis=1).tolist() == pytest.approx([1.0] * count)


@pytest.fixture
def damaged(pets):
    (pets / "cat" / "empty.png").write_bytes(b"")
    (pets / "dog" / "text.png").write_text("no image")
    return pets


def test_all_bad_files_are_named_in_one_error(damaged):
    with pytest.raises(DataError, match=r"2 files .*empty\.png: is empty .*text\.png: not an? "):
        assemble(list_folder(damaged), PLAN, "raise")


def test_bad_files_are_left_out_and_listed_and_never_substituted(damaged):
    photos = assemble(list_folder(damaged), PLAN, "skip")

    assert photos.skipped_files == [
        (str(damaged / "cat" / "empty.png"), "is empty (0 bytes)"),
        (str(damaged / "dog" / "text.png"), "not an image that Pillow can read, but text"),
    ]
    everything = names(photos, "train") + names(photos, "val")
    assert len(everything) == len(set(everything)) == 18


def test_repairing_a_file_leaves_the_others_in_their_splits(damaged, draw):
    before = assemble(list_folder(damaged), PLAN, "skip")
    draw(damaged / "cat" / "empty.png")

    after = assemble(list_folder(damaged), PLAN, "skip")

    for split in ("train", "val"):
        assert set(names(after, split)) - {"cat/empty.png"} == set(names(before, split))


def test_a_class_of_bad_files_is_refused(split_pets):
    (split_pets / "train" / "ant").mkdir()
    (split_pets / "train" / "ant" / "0.png").write_bytes(b"")

    with pytest.raises(DataError, match=r"No readable training image is left .* 'ant'"):
        assemble(list_folder(split_pets), PLAN, "skip")


def test_the_same_bytes_in_two_classes_are_refused(pets):
    (pets / "dog" / "copy.png").write_bytes((pets / "cat" / "3.png").read_bytes())

    with pytest.raises(DataError, match=r"1 images are the same.*'cat/3\.png = dog/copy\.png'"):
        assemble(list_folder(pets), PLAN, "raise")


def test_the_same_bytes_twice_in_a_class_are_allowed(pets):
    (pets / "cat" / "copy.png").write_bytes((pets / "cat" / "3.png").read_bytes())

    assert assemble(list_folder(pets), PLAN, "raise").classes == ["cat", "dog"]


def test_a_fraction_that_gives_no_image_is_refused(pets):
    with pytest.raises(DataError, match=r"`val=0\.01` of `split` leaves the val split"):
        assemble(list_folder(pets), FractionSplit(0.01, 0.0), "raise")


def test_a_single_training_image_is_refused(tmp_path, draw):
    draw(tmp_path / "cat" / "0.png")

    with pytest.raises(DataError, match="at least 2 images, but the training split has 1"):
        assemble(list_folder(tmp_path), FractionSplit(0.0, 0.0), "raise")


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        pytest.param((1.0, 0.0), r"`val` must lie in \[0, 1\), got 1\.0", id="all"),
        pytest.param((0.2, -0.1), r"`test` must lie in \[0, 1\), got -0\.1", id="negative"),
        pytest.param((0.5, 0.5), "must sum to less than 1", id="nothing-left"),
    ],
)
def test_wrong_fractions_are_refused(fractions, message):
    with pytest.raises(ValueError, match=message):
        FractionSplit(*fractions)


def test_links_that_lead_nowhere_are_named_or_left_out(pets):
    (pets / "cat" / "gone.png").symlink_to("nowhere.png")
    (pets / "cat" / "loop.png").symlink_to("loop.png")

    with pytest.raises(DataError, match=r"2 images are not in .*gone\.png', 'cat/loop\.png"):
        assemble(list_folder(pets), PLAN, "raise")
    images = assemble(list_folder(pets), PLAN, "skip")

    assert [why for _, why in images.skipped_files] == ["is not there"] * 2
    assert sum(len(samples.paths) for samples in images.splits.values()) == 18


def test_a_message_of_many_copies_is_short(pets, draw):
    content = draw(pets / "cat" / "0.png").read_bytes()
    for number in range(300):
        (pets / "dog" / f"copy{number}.png").write_bytes(content)

    with pytest.raises(DataError, match=r"cat/0\.png = .* = \.\.\. \(301 in all\)") as caught:
        assemble(list_folder(pets), PLAN, "raise")
    assert len(str(caught.value)) < 500


def test_every_image_of_a_folder_is_validated_on_in_one_fold(pets, draw):
    draw(pets / "test" / "0.png")  # images to predict are in no fold
    draw(pets / "owl" / "only.png")  # a class of one image stays in training
    listing = list_folder(pets, FolderLayout(folders="classes"))
    listing.rows.loc[listing.rows["label"] == "test", ["split", "label"]] = ["predict", ""]
    folds = [assemble(listing, FoldSplit(fold, 3), "raise") for fold in range(3)]

    held_out = [names(photos, "val") for photos in folds]
    everything = [f"cat/{n}.png" for n in range(10)] + [f"dog/{n}.png" for n in range(8)]
    assert sorted(name for found in held_out for name in found) == sorted(everything)
    for photos in folds:
        assert np.bincount(photos.splits["val"].targets)[:2].tolist() in ([4, 2], [3, 3], [4, 3])
        assert "owl/only.png" in names(photos, "train")
        assert set(names(photos, "train")) == {*everything, "owl/only.png"} - {
            *names(photos, "val")
        }


def test_folds_share_a_test_split_and_are_refused_where_the_data_bring_a_val(pets, split_pets):
    folds = [assemble(list_folder(pets), FoldSplit(fold, 2, test=0.2), "raise") for fold in (0, 1)]

    assert names(folds[0], "test") == names(folds[1], "test")
    assert len(names(folds[0], "test")) == 4
    assert not set(names(folds[0], "val")) & set(names(folds[1], "val"))
    with pytest.raises(DataError, match="asks for folds, but the data bring images to validate on"):
        assemble(list_folder(split_pets), FoldSplit(), "raise")


@pytest.mark.parametrize("split", [FractionSplit(0.2, 0.25), GroupSplit("who", 0.2, 0.25)], ids=str)
def test_folds_test_on_the_images_that_the_split_does_which_they_stand_for(pets, split):
    files = sorted(str(path.relative_to(pets)) for path in pets.rglob("*.png"))
    frame = pd.DataFrame({"file": files, "label": [file[:3] for file in files]})
    frame["who"] = np.arange(len(frame)) // 2
    listing = list_table(frame, LabelTable(folder=str(pets)), split)
    tested = names(assemble(listing, split, "raise"), "test")
    folds = [assemble(listing, replace(as_folds(split, 3), fold=n), "raise") for n in range(3)]

    assert all(names(fold, "test") == tested for fold in folds)
    validated = [name for fold in folds for name in names(fold, "val")]
    assert sorted([*validated, *tested]) == files


def test_rows_whose_image_is_not_there_are_named_or_left_out(pets):
    files = sorted(str(path.relative_to(pets)) for path in pets.rglob("*.png"))
    frame = pd.DataFrame({"file": [*files, "cat/gone.png"]})
    frame["label"] = frame["file"].str[:3]
    listing = list_table(frame, LabelTable(folder=str(pets)))

    with pytest.raises(DataError, match=r"cat/gone\.png"):
        assemble(listing, PLAN, "raise")
    images = assemble(listing, PLAN, "skip")

    assert [why for _, why in images.skipped_files] == ["is not there"]
    assert sum(len(samples.paths) for samples in images.splits.values()) == 18


def test_a_message_of_many_missing_images_is_short(tmp_path):
    (tmp_path / "there.png").touch()
    frame = pd.DataFrame({"file": [f"{n}.png" for n in range(20_000)], "label": "x"})
    with pytest.raises(DataError, match=r"20000 ") as refused:
        assemble(list_table(frame, LabelTable(folder=str(tmp_path))), PLAN, "raise")
    assert len(str(refused.value)) < 4000
