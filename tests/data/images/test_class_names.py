"""Labels that are numbers get the names that a file gives them, and wrong files are refused."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from lightning_fastrecipes.automatic.looking import draft_recipe
from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.data.images.class_names import names_by_number
from lightning_fastrecipes.data.images.datamodules import ImageCSVDataModule, ImageFolderDataModule
from lightning_fastrecipes.data.images.folder_layout import FolderLayout
from lightning_fastrecipes.data.images.label_table import LabelTable, Numbers, SoftLabels, Tags
from lightning_fastrecipes.errors import ConfigurationError, DataError

PLANTS = {0: "dog rose", 1: "oak, red", 10: "fern"}


@pytest.mark.parametrize(
    "text",
    [
        '0,dog rose\n1,"oak, red"\n10,fern\n',
        'number,name\n0,dog rose\n1,"oak, red"\n10,fern\n',
        '"dog rose",0\n"oak, red",1\nfern,10\n',
        "0\tdog rose\n1\toak, red\n10\tfern\n",
        "0 dog rose\n1: oak, red\n10. fern\n\n",
        "\ufeff0;dog rose\n1;oak, red\n10;fern\n",
    ],
)
def test_files_of_names_are_read_as_people_write_them(tmp_path, text) -> None:
    (tmp_path / "classes.csv").write_text(text, encoding="utf-8")
    assert names_by_number("classes.csv", tmp_path) == (PLANTS, True)


@pytest.mark.parametrize("text", ["sea\nsun\nsky blue\n", "name\nsea\nsun\nsky blue"])
def test_names_alone_are_counted(tmp_path, text) -> None:
    (tmp_path / "classes.txt").write_text(text)
    names = {0: "sea", 1: "sun", 2: "sky blue"}
    assert names_by_number("classes.txt", tmp_path) == (names, False)
    assert names_by_number(["sea", "sun", "sky blue"], tmp_path) == (names, False)


@pytest.mark.parametrize(
    "text", ["0,sea\n0,sun\n", "0,sea\n1,sea\n", "sea\nsea\n", "", "0,sea\n1,\n"]
)
def test_numbers_and_names_come_once(tmp_path, text) -> None:
    (tmp_path / "classes.csv").write_text(text)
    with pytest.raises(DataError, match="each class one number and one name of its own"):
        names_by_number("classes.csv", tmp_path)


def listed(folder: Path, draw, labels, names="0,sea\n1,sun\n10,sky\n") -> Path:
    folder.mkdir(exist_ok=True)
    files = [draw(folder / f"{number}.png").name for number in range(len(labels))]
    lines = [f"{file}, {label}\n" for file, label in zip(files, labels, strict=True)]
    (folder / "train.txt").write_text("".join(lines))
    (folder / "classes.csv").write_text(names)
    return folder


def test_lists_folders_and_tables_take_names_in_the_order_of_numbers(tmp_path, draw) -> None:
    root = listed(tmp_path / "lists", draw, ["10", "1", "0"] * 4)
    layout = FolderLayout(class_names="classes.csv")
    data = ImageFolderDataModule(root, image_size=16, split=0.25, layout=layout)
    data.setup()
    assert data.classes == ["sea", "sun", "sky"]
    rows = data._list().rows
    expected = [["sky", "sun", "sea"][int(Path(file).stem) % 3] for file in rows["file"]]
    assert rows["label"].tolist() == expected
    assert data.train_targets.bincount().tolist() == [3, 3, 3]
    for place in range(6):
        draw(tmp_path / "folders" / str(place % 2) / f"{place}.png")
    layout = FolderLayout(class_names=["no", "yes"])
    data = ImageFolderDataModule(tmp_path / "folders", image_size=16, split=0.4, layout=layout)
    data.setup()
    assert data.classes == ["no", "yes"]
    rows = ["0 1", "1 10", "0 10", "0", "1", "10"] * 2
    files = [f"{number}.png" for number in range(12)]
    pd.DataFrame({"file": files, "label": rows}).to_csv(root / "tags.csv", index=False)
    table = LabelTable(labels=Tags(separator=" "), class_names="classes.csv")
    data = ImageCSVDataModule(root / "tags.csv", image_size=16, split=0.0, table=table)
    data.setup()
    assert data.classes == ["sea", "sun", "sky"]
    assert data.train_targets[0].tolist() == [1, 1, 0]


def test_names_alone_count_from_where_labels_do(tmp_path, draw) -> None:
    root = listed(tmp_path / "lists", draw, ["1", "2", "3"] * 3, "sea\nsun\nsky\n")
    layout = FolderLayout(class_names="classes.csv")
    data = ImageFolderDataModule(root, image_size=16, split=0.4, layout=layout)
    listing = data._list()
    assert listing.rows["label"].tolist()[:3] == ["sea", "sun", "sky"]
    assert listing.reading.endswith("labels are numbers of classes: 1 is 'sea', 3 is 'sky'")
    # Where the file says numbers, it is believed.
    (root / "classes.csv").write_text("0,sea\n1,sun\n2,sky\n")
    with pytest.raises(DataError, match=r"1 of 3 labels have no name .* 0 \('sea'\) to 2: '3'"):
        data._list()


def test_names_are_refused_where_labels_are_no_classes(tmp_path, draw) -> None:
    with pytest.raises(ConfigurationError, match="`labels` are numbers to be predicted"):
        FolderLayout(class_names="classes.csv", labels=Numbers())
    frame = pd.DataFrame({"file": [draw(tmp_path / "a.png").name], "p": [0.5]})
    soft = SoftLabels(["no", "yes"], probability_column="p")
    table = LabelTable(str(tmp_path), labels=soft, class_names=["a", "b"])
    with pytest.raises(ConfigurationError, match=r"labels that are numbers.*but the labels are so"):
        ImageCSVDataModule(frame, image_size=16, table=table).setup()


def test_new_finds_the_names(tmp_path, draw) -> None:
    root = listed(tmp_path / "lists", draw, ["10", "1", "0"] * 8)
    draft = draft_recipe(root)
    said = "\n".join(map(str, draft.decisions))
    assert "class names: 'classes.csv' has them, numbers of classes: 0 is 'sea', 10 is" in said
    assert draft.document["data"]["init_args"]["layout"] == {"class_names": "classes.csv"}
    assert "3 classes, one for each image: 'sky' in 8 images, 'sea' in 8" in said
    files = [f"{number}.png" for number in range(24)]
    pd.DataFrame({"image": files, "tag": ["1", "10", "0"] * 8}).to_csv(root / "labels.csv")
    draft = draft_recipe(root / "labels.csv")
    assert draft.document["data"]["init_args"]["table"]["class_names"] == "classes.csv"
    # Names that do not fit are no names of these classes.
    (root / "classes.csv").write_text("7,sea\n8,sun\n")
    assert "class names" not in "\n".join(map(str, draft_recipe(root).decisions))


def test_a_run_predicts_names(recipe_file, squares, tmp_path) -> None:
    (squares / "blue").rename(squares / "10")
    (squares / "red").rename(squares / "9")
    (squares / "classes.txt").write_text("10 blue\n9 red\n")
    document = yaml.safe_load(recipe_file.read_text())
    document["data"]["init_args"]["layout"] = {"class_names": "classes.txt"}
    document["stages"] = document["stages"][:1]
    recipe_file.write_text(yaml.safe_dump(document, sort_keys=False))
    run = tmp_path / "run"
    assert main(["run", str(recipe_file), "--out", str(run)]) == 0
    found = pd.read_csv(run / "predictions_test.csv")
    assert set(found["target"]) == {"red", "blue"}
    assert [name for name in found if name in ("red", "blue")] == ["red", "blue"]
    photo = str(next((squares / "10").iterdir()))
    assert main(["predict", str(run), photo, "--out", str(tmp_path / "a.csv")]) == 0
    assert pd.read_csv(tmp_path / "a.csv")["prediction"].isin(["red", "blue"]).all()
