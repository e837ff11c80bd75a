"""Each form that the page of accepted forms names is used once, and does what the page says."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.pages import forms_of
from PIL import Image

import lightning_fastrecipes as fr
from lightning_fastrecipes.data.images.arrays import list_arrays
from lightning_fastrecipes.data.images.decoding import load_image
from lightning_fastrecipes.data.images.folder_layout import FolderLayout
from lightning_fastrecipes.data.images.listing import Listing, list_folder
from lightning_fastrecipes.data.images.table_listing import list_table
from lightning_fastrecipes.errors import DataError

TINY = {"class_path": "lightning_fastrecipes.nn.small.SmallCNN", "init_args": {}}
YES, NO = ("1", "true", "t", "yes", "y"), ("0", "false", "f", "no", "n")
OPPOSITE = dict(zip(YES + NO, NO + YES, strict=True))


def touch(root: Path, *files: str) -> Path:
    """Make files that are listed and not opened."""
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file)
    return root


def sizes(listing: Listing) -> dict[str, int]:
    return dict(listing.rows["split"].value_counts())


def check_folders(root: Path, **names: str) -> None:
    """Check that folders of these names are the splits, by different numbers of files in them."""
    counts = {"train": 3, "val": 2, "test": 1}
    called = {split: names.get(split, split) for split in counts}
    files = [
        f"{called[split]}/{kind}/{number}.jpg"
        for split, count in counts.items()
        for kind in ("cat", "dog")
        for number in range(count)
    ]
    expected = {split: 2 * count for split, count in counts.items()}
    assert sizes(list_folder(touch(root, *files))) == expected


def names_of_splits(place: Path, form: str) -> None:
    split = {"tr": "train", "te": "test", "ts": "test"}.get(form[:2], "val")
    for number, spelling in enumerate((form, form.upper(), form.title())):
        check_folders(place / str(number), **{split: spelling})


def behind_these_names(place: Path, form: str) -> None:
    for number, between in enumerate("_- "):
        check_folders(place / str(number), train=f"train{between}{form}", val=f"valid{form}")


def flags_of_splits(place: Path, form: str) -> None:
    columns: dict[str, tuple[list[str], list[str]]] = {}
    if form in OPPOSITE:
        yes, no = (form, OPPOSITE[form]) if form in YES else (OPPOSITE[form], form)
        columns["is_test"] = [no, yes.upper()], ["train", "test"]
        columns["held_out"] = [no, yes], ["train", "val"]
        columns["is_train"] = [no, yes.title()], ["val", "train"]
    elif form == "is_valid":
        columns[form] = ["0", "1"], ["train", "val"]
    else:
        name = form if form != "2" else "split"
        columns[name] = ["0", "1", "2"], ["train", "val", "test"]
    for column, (values, expected) in columns.items():
        files = [f"{number}.jpg" for number in range(len(values))]
        frame = pd.DataFrame({"file": files, "label": "x", column: values})
        table = fr.LabelTable(folder=str(place))
        listing = list_table(frame, table, fr.ColumnSplit(column))
        assert listing.rows["split"].tolist() == expected


def images(place: Path, form: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8)
    Image.fromarray(pixels).save(place / f"train_7{form}")
    frame = pd.DataFrame({"file": ["train_7"], "label": "x"})
    listing = list_table(frame, fr.LabelTable(folder=str(place)))
    assert listing.rows["file"].tolist() == [f"train_7{form}"]
    assert load_image(place / f"train_7{form}").shape == (3, 24, 20)


def labels_of_a_table(place: Path, form: str) -> None:
    made = {
        "SingleLabel": (fr.SingleLabel(), ["sun sea", "sea"], "single", ["sun sea", "sea"]),
        "Tags": (fr.Tags(), ["sun sea", "sea"], "multi", ["sea\x1fsun", "sea"]),
        "SoftLabels": (fr.SoftLabels(["no", "yes"], "label"), [0.2, 0.7], "soft", ["no", "yes"]),
        "Numbers": (fr.Numbers(), [1.5, 2], "numbers", ["", ""]),
    }
    labels, values, kind, names = made[form]
    frame = pd.DataFrame({"file": ["a.jpg", "b.jpg"], "label": values})
    listing = list_table(frame, fr.LabelTable(labels=labels, folder=str(place)))
    assert (listing.label_kind, listing.rows["label"].tolist()) == (kind, names)


def label_table(place: Path, form: str) -> None:
    touch(place, "a.jpg", "inner/b.jpg")
    plain = "file,label,kind\na.jpg,x,1\ninner/b.jpg,y,2\n"
    text, options, column, expected = {
        "folder": ("file,label\nb.jpg,x\n", {"folder": str(place / "inner")}, "file", ["b.jpg"]),
        "file_column": (plain.replace("file", "f"), {"file_column": "f"}, "label", ["x", "y"]),
        "labels": (plain, {"labels": "kind"}, "label", ["1", "2"]),
        "stratify_by": (plain, {"stratify_by": ["kind"]}, "stratum", ["1", "2"]),
        "separator": (plain.replace(",", "::"), {"separator": "::"}, "label", ["x", "y"]),
        "column_names": ("a.jpg,x\n", {"column_names": ["file", "label"]}, "label", ["x"]),
        "suffix": ("file,label\na,x\n", {"suffix": ".jpg"}, "file", ["a.jpg"]),
        "encoding": (plain.replace("x", "Löwe"), {"encoding": "cp1252"}, "label", ["Löwe", "y"]),
        "weight": (plain, {"weight": "kind"}, "weight", [1.0, 2.0]),
        "class_names": (
            plain,
            {"labels": "kind", "class_names": ["no", "cat", "dog"]},
            "label",
            ["cat", "dog"],
        ),
    }[form]
    (place / "labels.csv").write_text(text, options.get("encoding"))
    listing = fr.ImageCSVDataModule(place / "labels.csv", table=fr.LabelTable(**options))._list()
    assert listing.rows[column].tolist() == expected


def folder_layout(place: Path, form: str) -> None:
    root = touch(place / "root", "train/1.jpg", "train/2.jpg", "bus/3.jpg", "bus/4.jpg")
    (place / "mine.txt").write_text("train/1.jpg cat\nbus/3.jpg dog\n")
    layout, expected = {
        "folders": (FolderLayout("classes"), ["bus", "bus", "train", "train"]),
        "label_pattern": (FolderLayout("classes", label_pattern=r"(\d)"), ["3", "4", "1", "2"]),
        "lists": (FolderLayout(lists={"train": "../mine.txt"}), ["dog", "cat"]),
        "labels": (
            FolderLayout("classes", label_pattern=r"(\d)", labels=fr.Numbers()),
            [3.0, 4.0, 1.0, 2.0],
        ),
        "class_names": (
            FolderLayout("classes", label_pattern=r"(\d)", class_names=list("abcde")),
            ["d", "e", "b", "c"],
        ),
    }[form]
    data = fr.ImageFolderDataModule(root, layout=layout)
    listing = data._list()
    found = listing.rows["label"] if listing.numbers is None else listing.numbers[:, 0]
    assert found.tolist() == expected


def arrays(place: Path, form: str) -> None:
    counts = {"train": 4, "val": 3, "test": 2, "predict": 1}
    draw = np.random.default_rng(0)
    made = {f"x_{s}": draw.integers(0, 256, (n, 8, 8), np.uint8) for s, n in counts.items()}
    made |= {f"y_{s}": np.arange(n) % 2 for s, n in counts.items() if s != "predict"}
    kind, split = form.split("_")
    rows = list_arrays(made, "arrays").rows
    rows = rows[rows["split"] == split]
    assert len(rows) == counts[split]
    if kind == "y":
        assert rows["label"].tolist() == [str(number % 2) for number in range(counts[split])]


def splits(place: Path, form: str) -> None:
    split, expected = {
        "FractionSplit": (fr.FractionSplit(val=0.25, test=0.25), {"train": 8, "val": 4, "test": 4}),
        "ColumnSplit": (fr.ColumnSplit("part"), {"train": 12, "val": 4}),
        "GroupSplit": (fr.GroupSplit("owner", val=0.25), {"train": 12, "val": 4}),
        "FoldSplit": (fr.FoldSplit(1, 4), {"train": 12, "val": 4}),
        "RowSplit": (fr.RowSplit(val=[0, 5], test=[1]), {"train": 13, "val": 2, "test": 1}),
        "DateSplit": (fr.DateSplit("day", val_last=0.25), None),
    }[form]
    number = np.arange(16)
    for one in number:
        pixels = np.random.default_rng(one).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(place / f"{one:02}.png")
    frame = pd.DataFrame({"file": [f"{one:02}.png" for one in number], "label": number % 2})
    frame["part"], frame["owner"] = np.where(number < 12, "train", "val"), number // 4
    frame["day"] = [f"2020-01-{one + 1:02}" for one in number]
    table = fr.LabelTable(folder=str(place))
    if expected is None:
        with pytest.raises(ValueError, match="DateSplit"):
            fr.ImageCSVDataModule(frame, table=table, split=split, image_size=8).setup("fit")
        return
    data = fr.ImageCSVDataModule(frame, table=table, split=split, image_size=8, cache="off")
    data.setup("fit")
    found = {name: len(data.eval_dataset(name)) for name in expected}
    assert found == expected


def geometry(place: Path, form: str) -> None:
    draw = np.random.default_rng(0)
    value, mode, shape = {
        "resize": ("squish", "RGB", (20, 40, 3)),
        "interpolation": ("nearest", "RGB", (20, 40, 3)),
        "crop_fraction": (0.5, "RGB", (20, 40, 3)),
        "background": ("black", "RGBA", (20, 40, 4)),
        "max_megapixels": (0.0001, "RGB", (20, 40, 3)),
        "normalize": ({"mean": [0.1] * 3, "std": [0.2] * 3}, "RGB", (20, 40, 3)),
        "white_level": (40_000, "I;16", (20, 40)),
        "channels": (1, "RGB", (20, 40, 3)),
    }[form]
    for number in range(8):
        is_deep = mode == "I;16"
        pixels = draw.integers(0, 40_000 if is_deep else 256, shape)
        pixels = pixels.astype(np.uint16 if is_deep else np.uint8)
        path = place / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    found = []
    for options in ({}, {form: value}):
        shape_of = fr.Geometry(**options)
        data = fr.ImageFolderDataModule(place, image_size=16, cache="off", geometry=shape_of)
        if options and form == "max_megapixels":
            with pytest.raises(DataError, match=r"more than the 0\.0001 of `max_megapixels`"):
                data.setup("fit")
            return
        data.setup("fit")
        found.append(next(iter(data.val_dataloader()))[0])
    if form == "normalize":  # on the device, by the model
        spec = fr.ImageClassifier(TINY, 2).input_spec
        assert list(data.normalised_spec(spec).mean) == [0.1] * 3
        return
    assert found[0].shape != found[1].shape or not torch.equal(*found)
    assert form != "channels" or found[1].shape[1] == 1


def losses_of_single_labels(place: Path, form: str) -> None:
    value = {"class_weight": [1.0, 5.0], "smoothing": 0.3, "focal_gamma": 2.0}[form]
    logits, targets = torch.tensor([[2.0, -1.0], [0.5, 0.0]]), torch.tensor([0, 1])
    given = ({}, {form: value}, "torch.nn.MultiMarginLoss")
    models = [fr.ImageClassifier(TINY, 2, labels={"loss": loss}) for loss in given]
    found = [model.loss(logits, targets) for model in models]
    assert len({float(loss) for loss in found}) == 3


USES: dict[str, Callable[[Path, str], None]] = {
    "names of splits": names_of_splits,
    "behind these names": behind_these_names,
    "flags of splits": flags_of_splits,
    "images": images,
    "labels of a table": labels_of_a_table,
    "`LabelTable`": label_table,
    "`FolderLayout`": folder_layout,
    "arrays": arrays,
    "splits": splits,
    "`Geometry`": geometry,
    "losses of single labels": losses_of_single_labels,
}
FORMS = forms_of("images.md", "All accepted forms")


def test_every_row_of_the_page_is_used() -> None:
    assert list(FORMS) == list(USES)


@pytest.mark.parametrize(
    ("first", "form"), [(first, form) for first, forms in FORMS.items() for form in forms]
)
def test_a_form_does_what_the_page_says(tmp_path, first, form) -> None:
    USES[first](tmp_path, form)


SETS = [("sea", "sun"), ("sea",), ("sun",), ("sea", "sky", "sun"), ("sky",), ("sky", "sun")]
WRITINGS: dict[str, Callable[[tuple[str, ...]], str]] = {
    "blanks": " ".join,
    "commas": ", ".join,
    "semicolons": ";".join,
    "bars": "|".join,
    "Python": lambda labels: str([*labels]),
    "JSON": lambda labels: json.dumps(labels),
    "NumPy": lambda labels: str(np.array(labels)),
    "PostgreSQL": lambda labels: "{" + ",".join(labels) + "}",
}


def listed(place: Path, columns: dict[str, list[object]], split: object = None, **options: object):
    """List a table that is written as a CSV, whose images are there."""
    touch(place, "a.jpg", "inner/b.jpg", *(f"{number}.jpg" for number in range(12)))
    frame = pd.DataFrame(columns)
    if "file" not in frame:
        frame.insert(0, "file", [f"{number}.jpg" for number in range(len(frame))])
    frame.to_csv(place / "labels.csv", index=False)
    return list_table(place / "labels.csv", fr.LabelTable(**options), split)


def check_files(place: Path) -> None:
    files = ["a", "inner\\b.jpg", "0.jpg"]
    rows = listed(place, {"file": files, "label": ["x", "y", "z"]}).rows
    assert rows["file"].tolist() == ["0.jpg", "a.jpg", "inner/b.jpg"]


def check_label(place: Path) -> None:
    assert listed(place, {"label": ["x", "y z"]}).rows["label"].tolist() == ["x", "y z"]
    assert listed(place, {"label": [7, 3]}).rows["label"].tolist() == ["7", "3"]
    with pytest.raises(DataError, match="12 different numbers in 12 rows"):
        listed(place, {"label": [*np.linspace(0, 1, 12)]})


def check_numbers(place: Path) -> None:
    columns = {"age": [1, 2.5], "income": [-3, 4]}
    found = listed(place, columns, labels=fr.Numbers(["age", "income"])).numbers
    assert found.tolist() == [[1, -3], [2.5, 4]]


def check_several(place: Path) -> None:
    for writing, write in WRITINGS.items():
        found = listed(place, {"label": [write(labels) for labels in SETS]})
        assert [tuple(x.split("\x1f")) for x in found.rows["label"]] == SETS, writing
    pairs = [(f"{number}.jpg", label) for number, row in enumerate(SETS) for label in row]
    files, labels = zip(*pairs, strict=True)
    found = listed(place, {"file": [*files], "label": [*labels]}, labels=fr.Tags())
    assert [tuple(x.split("\x1f")) for x in found.rows["label"]] == SETS


def check_label_each(place: Path) -> None:
    for yes, no in ((1, 0), (True, False), (1.0, 0.0)):
        found = listed(place, {"cat": [yes, no, yes], "dog": [yes, yes, no]})
        assert found.rows["label"].tolist() == ["cat\x1fdog", "dog", "cat"]
    columns = {"cat": [1, None, 0], "dog": [-1, 1, 1]}
    found = listed(place, columns, labels=fr.Tags(columns=["cat", "dog"]))
    assert found.rows["unknown"].tolist() == ["dog", "cat", ""]
    assert found.rows["label"].tolist() == ["cat", "dog", "dog"]


def check_probabilities(place: Path) -> None:
    columns = {"cat": [0.25, None, 1], "dog": [0.75, 0.5, 0]}
    found = listed(place, columns, labels=fr.SoftLabels(["cat", "dog"]))
    assert found.probabilities.tolist() == [[0.25, 0.75], [0.5, 0.5], [1, 0]]


def check_split(place: Path) -> None:
    columns = {"label": ["x"] * 4, "part": ["train", "Validation", "dev", "test_set"]}
    rows = listed(place, columns, fr.ColumnSplit("part")).rows
    assert rows["split"].tolist() == ["train", "val", "val", "test"]
    for name in ("is_valid", "is_test"):
        columns = {"label": ["x", "y"], name: [0, 1]}
        rows = listed(place, columns, fr.ColumnSplit(name)).rows
        assert rows["split"].tolist() == ["train", "val" if name == "is_valid" else "test"]


COLUMNS: dict[str, Callable[[Path], None]] = {
    "files": check_files,
    "a label": check_label,
    "numbers, asked for": check_numbers,
    "several labels": check_several,
    "a label each": check_label_each,
    "probabilities": check_probabilities,
    "split, named by ``split``": check_split,
}


def test_every_row_of_the_docstring_is_used() -> None:
    _, names, rows, _ = re.split(r"^    =+ =+$", str(fr.LabelTable.__doc__), flags=re.MULTILINE)
    assert names.split() == ["column", "what", "it", "may", "hold"]
    assert re.findall(r"^    (\S.*?)  ", rows, re.MULTILINE) == [*COLUMNS]


@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_may_hold_what_the_docstring_says(tmp_path, column) -> None:
    COLUMNS[column](tmp_path)
