"""Tables of labels by split: a mapping says which, and they are checked as one."""

from pathlib import Path

import pandas as pd
import pytest

from lightning_fastrecipes import FractionSplit, ImageCSVDataModule, LabelTable
from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.data.common.split_choice import ColumnSplit
from lightning_fastrecipes.data.images.label_sets import LABEL_JOINER
from lightning_fastrecipes.data.images.table_listing import list_table
from lightning_fastrecipes.errors import ConfigurationError, DataError, DataNotFoundError

TRAIN = "file,label\na.png,x\nb.png,y\n"
TEST = "file;label\nc.png;y\n"


def write(folder: Path, **texts: str) -> dict[str, Path]:
    paths = {}
    for name, text in texts.items():
        paths[name] = folder / f"{name}.csv"
        paths[name].parent.mkdir(parents=True, exist_ok=True)
        paths[name].write_text(text)
    return paths


def rows_of(csv, table=None, split=None) -> dict[str, list[str]]:
    rows = list_table(csv, table or LabelTable(), split).rows
    return dict(zip(rows["file"], zip(rows["split"], rows["label"], strict=True), strict=True))


def test_every_table_is_a_split_in_whatever_dialect(tmp_path: Path) -> None:
    paths = write(tmp_path, one=TRAIN, two=TEST, three="file,label\n d.png , x\n")
    csv = {"training": paths["one"], "Test": str(paths["two"]), "dev": paths["three"]}
    assert rows_of(csv) == {
        "a.png": ("train", "x"), "b.png": ("train", "y"), "c.png": ("test", "y"),
        "d.png": ("val", "x"),
    }  # fmt: skip
    assert list_table(csv, LabelTable()).folder == tmp_path


def test_names_are_relative_to_their_own_table_or_to_the_folder_that_is_given(tmp_path) -> None:
    one, two = write(tmp_path / "p", one=TRAIN)["one"], write(tmp_path / "q", two=TEST)["two"]
    listing = list_table({"train": one, "test": two}, LabelTable())
    assert listing.folder == tmp_path
    assert listing.rows["file"].tolist() == ["p/a.png", "p/b.png", "q/c.png"]
    (tmp_path / "images").mkdir()
    given = LabelTable(folder=str(tmp_path / "images"))
    listing = list_table({"train": one, "test": two}, given)
    assert listing.folder == tmp_path / "images"
    assert listing.rows["file"].tolist() == ["a.png", "b.png", "c.png"]


def test_data_frames_may_be_among_them(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, two=TEST)
    frame = pd.DataFrame({"file": ["a.png", "b.png"], "label": ["x", "y"]}, index=[5, 6])
    assert rows_of({"train": frame, "val": "two.csv"}) == {
        "a.png": ("train", "x"), "b.png": ("train", "y"), "c.png": ("val", "y"),
    }  # fmt: skip


def test_images_in_two_tables_are_named_with_their_splits(tmp_path: Path) -> None:
    paths = write(tmp_path, train=TRAIN, test="file,label\n./b.png,y\nc.png,x\n")
    with pytest.raises(DataError, match=r"1 of 3 images are in several: 'b.png \(test and train\)"):
        rows_of(paths)
    # Several rows of an image within a split say several tags.
    tags = write(tmp_path, train="file,label\na,x\na,y\nb,x\nb,y\n", test="file,label\nc,x\nc,y\n")
    assert rows_of(tags)["c"] == ("test", LABEL_JOINER.join("xy"))


def test_wrong_rows_are_counted_in_their_own_table(tmp_path: Path) -> None:
    paths = write(tmp_path, train=TRAIN, test="file,label\nc.png,x\nd.png,\n")
    with pytest.raises(DataError, match=r"lack a value: 'd.png \(row 1 of test\)'"):
        rows_of(paths)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["test"], r"`csv` must name a table for 'train', but has \['test'\] alone"),
        ([], r"`csv` must name a table for 'train', but has \[\] alone"),
        (["train", "other"], r"got \['train', 'other'\]. Rename or drop 'other'"),
        (["train", "valid", "val"], r"once each, got .* Rename or drop 'val'"),
    ],
)
def test_names_that_are_no_splits_are_refused(tmp_path: Path, names, message: str) -> None:
    path = write(tmp_path, train=TRAIN)["train"]
    with pytest.raises(ConfigurationError, match=message):
        rows_of(dict.fromkeys(names, path))


def test_other_mistakes_are_refused(tmp_path: Path) -> None:
    paths = write(tmp_path, train=TRAIN)
    with pytest.raises(DataNotFoundError, match=r"csv\.test"):
        rows_of(paths | {"test": tmp_path / "none.csv"})
    with pytest.raises(DataError, match="`split` names the column 'part', but there is one table"):
        rows_of(paths, split=ColumnSplit("part"))


def test_a_recipe_trains_on_them_and_draws_what_is_missing(tmp_path: Path, draw, capsys) -> None:
    names = {"train": [f"{n}.png" for n in range(16)], "test": ["t0.png", "t1.png", "t2.png"]}
    for split, files in names.items():
        for file in files:
            draw(tmp_path / "images" / file)
        lines = [f"{file},{'cat' if place % 2 else 'dog'}" for place, file in enumerate(files)]
        (tmp_path / f"{split}.csv").write_text("\n".join(["file,label", *lines]))
    images = ImageCSVDataModule(
        {split: tmp_path / f"{split}.csv" for split in names},
        table=LabelTable(folder=str(tmp_path / "images")), image_size=28,
        split=FractionSplit(val=0.25), cache="off",
    )  # fmt: skip
    images.setup("fit")
    counts = [len(images.eval_dataloader(split).dataset) for split in ("train", "val", "test")]
    assert counts == [12, 4, 3]
    (tmp_path / "recipe.yaml").write_text(
        f"""
description: Cats and dogs by tables.
data:
  class_path: lightning_fastrecipes.ImageCSVDataModule
  init_args:
    csv: {{train: {tmp_path}/train.csv, test: {tmp_path}/test.csv}}
    table: {{folder: {tmp_path}/images}}
    split: {{val: 0.25}}
    image_size: 28
    cache: "off"
model:
  class_path: lightning_fastrecipes.ImageClassifier
  init_args:
    backbone: {{class_path: lightning_fastrecipes.nn.small.SmallCNN}}
trainer: {{accelerator: cpu, precision: 32-true}}
stages:
  all: {{max_epochs: 1, lr: 0.01}}
"""
    )
    words = ["run", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "run")]
    assert main(["check", str(tmp_path / "recipe.yaml")]) == 0
    assert main(words) == 0, capsys.readouterr().err
    found = pd.read_csv(tmp_path / "run" / "predictions_test.csv")
    assert [Path(file).name for file in found["file"]] == names["test"]
    assert found["target"].tolist() == ["dog", "cat", "dog"]
