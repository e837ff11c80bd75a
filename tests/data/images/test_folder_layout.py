"""Folders of images as people have them: splits by any name, and nothing silently wrong."""

import shutil
import unicodedata

import pytest

from lightning_fastrecipes.data.common.split_choice import FractionSplit
from lightning_fastrecipes.data.images.assembly import assemble
from lightning_fastrecipes.data.images.datamodules import ImageFolderDataModule
from lightning_fastrecipes.data.images.folder_layout import FolderLayout
from lightning_fastrecipes.data.images.listing import list_folder
from lightning_fastrecipes.errors import ConfigurationError, DataError


@pytest.fixture
def make(tmp_path):
    """Make a folder of empty files; listing does not open them."""

    def write(*files):
        for file in files:
            path = tmp_path / "root" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file)
        return tmp_path / "root"

    return write


def splits(listing):
    rows = listing.rows
    return {name: sorted(set(part["label"])) for name, part in rows.groupby("split")}


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "validation", "test"),
        ("training", "dev", "testing"),
        ("trn", "val", "tst"),
        ("training_set", "eval", "test_set"),
        ("Train", "Valid", "Test"),
        ("TRAIN", "VAL", "TEST"),
        ("train_images", "validation-set", "test data"),
    ],
)
@pytest.mark.parametrize("wrapper", ["", "pets/", "archive/pets/"])
def test_splits_are_known_by_every_common_name(make, train, val, test, wrapper):
    names = (train, val, test)
    root = make(*(f"{wrapper}{name}/{kind}/0.jpg" for name in names for kind in ("cat", "dog")))

    listing = list_folder(root)

    assert splits(listing) == {name: ["cat", "dog"] for name in ("train", "val", "test")}
    assert all((root / file).is_file() for file in listing.rows["file"])
    for split, name in zip(("train", "val", "test"), names, strict=True):
        assert f"{split} from '{name}'" in listing.reading
    assert (f"found in '{wrapper[:-1]}'" in listing.reading) == bool(wrapper)


def test_classes_below_a_wrapping_folder_are_classes(make):
    listing = list_folder(make("pets/cat/0.jpg", "pets/dog/0.jpg", "README.md", "__MACOSX/._0.jpg"))

    assert splits(listing) == {"train": ["cat", "dog"]}
    assert listing.reading == "found in 'pets'"


def test_what_is_left_unused_is_said(make):
    root = make(
        "train/cat/0.jpg", "train/dog/0.jpg", "val/cat/0.jpg", "models/a.pt", "extra/0.jpg", "a.txt"
    )
    assert list_folder(root).reading == (
        "train from 'train', val from 'val'; left unused: 'extra', 'models',"
        " 1 files beside the folders"
    )


def test_plain_class_folders_go_without_saying(make):
    assert list_folder(make("cat/0.jpg", "dog/0.jpg")).reading == ""


@pytest.mark.parametrize(
    "files",
    [
        ["bus/0.jpg", "car/0.jpg", "train/0.jpg"],
        ["bus/a/0.jpg", "train/a/0.jpg"],
        ["bus/0.jpg", "train/0.jpg", "test/0.jpg"],
        ["Bus/0.jpg", "Training/0.jpg"],
    ],
)
def test_what_may_be_splits_or_classes_is_refused_and_decided_by_an_argument(make, files):
    root = make(*files)

    with pytest.raises(DataError, match=r"Are these splits, or classes\? `layout='splits'`"):
        list_folder(root)
    listing = list_folder(root, FolderLayout("classes"))
    assert splits(listing) == {"train": sorted({file.split("/")[0] for file in files})}


def test_the_argument_may_say_splits(make):
    root = make("train/a/0.jpg", "train/b/0.jpg", "extra/a/0.jpg", "extra/b/0.jpg")

    assert splits(list_folder(root, FolderLayout("splits"))) == {"train": ["a", "b"]}
    with pytest.raises(DataError, match=r"must have a folder 'train' for `layout='splits'`"):
        list_folder(make("../other/cat/0.jpg").parent / "other", FolderLayout("splits"))


def test_a_split_among_classes_that_is_no_split_of_theirs_can_be_a_class(make):
    root = make("dev/0.jpg", "ops/0.jpg")

    with pytest.raises(DataError, match=r"a folder 'dev' but no 'train'.*`layout='classes'`"):
        list_folder(root)
    assert splits(list_folder(root, FolderLayout("classes"))) == {"train": ["dev", "ops"]}


def test_splits_inside_classes_are_refused(make):
    root = make(*(f"{kind}/{part}/0.jpg" for kind in ("cat", "dog") for part in ("train", "val")))

    with pytest.raises(DataError, match=r"has 'train', 'val' inside.*Splits must be outside"):
        list_folder(root)
    assert splits(list_folder(root, FolderLayout("classes"))) == {"train": ["cat", "dog"]}


@pytest.mark.parametrize(
    "names",
    [
        ("fold0", "fold1"),
        ("Fold 1", "Fold 2", "Fold 3"),
        ("train1", "test1"),
        ("seg_train", "seg_test", "seg_pred"),
        ("train-v2", "val-v2"),
        ("2019 train", "2019 validation"),
        ("TrainData1", "TestData1"),
        ("cv_0", "cv_1"),
        ("train_1", "train_2", "train_3"),
    ],
)
@pytest.mark.parametrize("inner", ["", "cat/", "dog/"])
def test_splits_in_disguise_are_no_classes(make, names, inner):
    root = make(*(f"{name}/{inner}0.jpg" for name in names))

    with pytest.raises(DataError, match=r"whose names say splits or folds.*`layout='classes'`"):
        list_folder(root)
    assert splits(list_folder(root, FolderLayout("classes"))) == {"train": sorted(names)}


@pytest.mark.parametrize(
    "names",
    [("steam train", "car"), ("fold_1", "flat"), ("trains", "tests"), ("test1", "test2"), ("cv1",)],
)
def test_classes_may_have_a_word_of_a_split_in_their_names(make, names):
    assert splits(list_folder(make(*(f"{name}/0.jpg" for name in names)))) == {
        "train": sorted(names)
    }


def test_splits_in_disguise_inside_classes_are_refused(make):
    root = make(*(f"{kind}/{part}/0.jpg" for kind in ("cat", "dog") for part in ("train1", "val1")))

    with pytest.raises(DataError, match=r"has 'train1', 'val1' inside.*Splits must be outside"):
        list_folder(root)


@pytest.mark.parametrize("copies", [("masks",), ("originals", "resized")])
def test_classes_inside_a_class_are_refused(make, copies):
    kinds = ("cat", "dog")
    inner = (f"{copy}/{kind}/0.jpg" for copy in copies for kind in kinds)
    root = make(*(f"{kind}/0.jpg" for kind in kinds), *inner)

    with pytest.raises(DataError, match=rf"'cat', 'dog' as classes, and again inside '{copies[0]}"):
        list_folder(root)
    assert splits(list_folder(root, FolderLayout("classes"))) == {"train": sorted(kinds + copies)}


def test_splits_inside_one_class_are_refused(make):
    root = make("cat/0.jpg", "dog/train/0.jpg", "dog/test/0.jpg")

    with pytest.raises(DataError, match=r"has 'test', 'train' inside 'dog', named as splits are"):
        list_folder(root)


def test_one_folder_inside_one_class_may_be_called_as_a_split_is(make):
    root = make("cat/0.jpg", "vehicle/train/0.jpg", "vehicle/bus/0.jpg")

    assert splits(list_folder(root)) == {"train": ["cat", "vehicle"]}


def test_files_beside_the_classes_of_a_split_are_counted(make):
    root = make("train/cat/0.jpg", "train/dog/0.jpg", "train/1.jpg", "val/cat/0.jpg", "2.jpg")

    assert list_folder(root).reading.endswith("left unused: 2 files beside the folders")


def test_files_that_a_pattern_labels_are_not_called_unused(make):
    root = make("train/cat/cat0.jpg", "train/dog1.jpg", "val/dog2.jpg")

    assert "unused" not in list_folder(root, FolderLayout(label_pattern="^(cat|dog)")).reading


def test_folders_in_every_class_are_parts_of_it_and_said_to_be(make):
    root = make(*(f"{kind}/{year}/0.jpg" for kind in ("cat", "dog") for year in (2012, 2013)))

    listing = list_folder(root)

    assert splits(listing) == {"train": ["cat", "dog"]}
    assert listing.reading == "'2012', '2013' in every class are parts of it"


@pytest.mark.parametrize("names", [("val", "validation"), ("Train", "training"), ("test", "TEST")])
def test_two_folders_of_one_split_are_refused(make, names):
    root = make("train/cat/0.jpg", *(f"{name}/cat/0.jpg" for name in names))

    with pytest.raises(DataError, match=r"has both '.*' and '.*', which mean the same split"):
        list_folder(root)


def test_unlabelled_test_images_in_a_folder_are_hinted_at(split_pets, draw):
    draw(split_pets / "test" / "images" / "0.png")

    with pytest.raises(DataError, match=r"'images \(1 in test\)'.*have no labels.*straight into"):
        assemble(list_folder(split_pets), FractionSplit(), "raise")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Cat", "cat"),
        ("cat ", "cat"),
        ("grey  cat", "grey cat"),
        ("cat\u200b", "cat"),
        ("cat.", "cat"),
        ("\uff43at", "cat"),
        ("\u0441at", "cat"),
        ("\u0421", "c"),
        ("\u0412\u043e\u0432\u0430", "\u0432\u043e\u0432\u0430"),
        ("x\u2013ray", "x-ray"),
        ("cat\u3164", "cat"),
        ("1.0", "1"),
        (unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")),
    ],
)
@pytest.mark.parametrize("in_splits", [True, False])
def test_classes_that_look_the_same_are_refused(tmp_path, draw, one, other, in_splits):
    first, second = ("train/", "val/") if in_splits else ("", "")
    for name in (f"{first}{one}", f"{first}dog", f"{second}{other}"):
        for number in range(4):
            draw(tmp_path / "a" / name / f"{number}{len(name)}.png")

    with pytest.raises(DataError, match="must differ by more than case, blanks, invisible"):
        assemble(list_folder(tmp_path / "a"), FractionSplit(), "raise")


@pytest.mark.parametrize(
    ("pattern", "files"),
    [
        (r"^(cat|dog)\.\d+\.jpg$", ["train/cat.0.jpg", "train/dog.1.jpg"]),
        (r"^(?P<label>[^_]+)_(\d+)", ["cat_1.jpg", "more/dog_2.jpg"]),
        (r"(\d+)_(?P<label>[a-z]+)", ["1_cat.jpg", "2_dog.jpg"]),
        (r"^(\w+)/images/", ["cat/images/0.jpg", "dog/images/0.jpg"]),
        (r"[(](cat|dog)[)]\(", ["x(cat)(.jpg", "y(dog)(.jpg"]),
        (r"(cat|dog)(\d)(\d)", ["cat01.jpg", "dog22.jpg"]),
    ],
)
def test_labels_are_taken_from_names_by_a_pattern(make, pattern, files):
    listing = list_folder(make(*files), FolderLayout(label_pattern=pattern))

    assert splits(listing) == {"train": ["cat", "dog"]}
    assert listing.rows["file"].tolist() == sorted(files)


def test_test_images_without_a_label_in_their_names_are_to_be_predicted(make):
    root = make("train/cat.0.jpg", "train/dog.0.jpg", "test/1.jpg")

    assert splits(list_folder(root, FolderLayout(label_pattern=r"^([a-z]+)\."))) == {
        "train": ["cat", "dog"],
        "predict": [""],
    }


def test_names_that_the_pattern_does_not_match_are_named(make):
    root = make("cat.0.jpg", "dog.0.jpg", "0.jpg")

    with pytest.raises(DataError, match=r"1 of 3 files .*no label by `label_pattern`.*'0\.jpg'"):
        list_folder(root, FolderLayout(label_pattern=r"^([a-z]+)\."))


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("cat", "must have a group"),
        ("(cat", "missing \\)"),
        ("(?=cat)(c)", "looking ahead and references back"),
        (r"(a)\1", "cannot be used"),
        ("", "text of 1 to 1000"),
        ("(" + "a" * 1000 + ")", "text of 1 to 1000"),
        ("(" * 400 + ")" * 400, None),
    ],
)
def test_a_pattern_that_cannot_be_used_is_refused_at_once(pattern, message):
    if message is None:
        FolderLayout(label_pattern=pattern)
        return
    with pytest.raises(ConfigurationError, match=f"`label_pattern` .*{message}"):
        FolderLayout(label_pattern=pattern)


def test_a_pattern_takes_linear_time(make):
    root = make("a" * 200 + "!.jpg")

    with pytest.raises(DataError, match="no label"):
        list_folder(root, FolderLayout(label_pattern="^((a+)+)+$"))


@pytest.mark.parametrize(
    "line",
    [
        "{kind}/{n}.jpg",
        "./{kind}/{n}.jpg",
        "{kind}\\{n}.jpg",
        "{kind}/{n}",
        "{kind}/{n}.jpg {kind}",
    ],
)
def test_lists_beside_the_images_name_the_splits(make, line):
    root = make(*(f"{kind}/{n}.jpg" for kind in ("cat", "dog") for n in range(3)))
    for name, n in (("train.txt", 0), ("Val.txt", 1)):
        lines = [line.format(kind=kind, n=n) for kind in ("cat", "dog")]
        (root / name).write_text("\n".join(lines) + "\n\n")

    listing = list_folder(root)

    assert listing.rows[["file", "split", "label"]].values.tolist() == [
        ["cat/0.jpg", "train", "cat"],
        ["cat/1.jpg", "val", "cat"],
        ["dog/0.jpg", "train", "dog"],
        ["dog/1.jpg", "val", "dog"],
    ]
    assert listing.reading == (
        "train from the list 'train.txt', val from the list 'Val.txt'; left unused: 2 files that"
        " are not listed"
    )


def test_lists_can_be_named(make, tmp_path):
    root = make("images/my cat 0.jpg", "images/dog 0.jpg", "lists/a", "lists/b")
    (root / "lists" / "a").write_text("images/my cat 0.jpg,grey cat\n")
    (tmp_path / "b.txt").write_text("images/dog 0.jpg\tdog\n")
    lists = {"training": "lists/a", "val": tmp_path / "b.txt"}

    rows = list_folder(root, FolderLayout(lists=lists)).rows

    assert rows[["file", "split", "label"]].values.tolist() == [
        ["images/dog 0.jpg", "val", "dog"],
        ["images/my cat 0.jpg", "train", "grey cat"],
    ]


@pytest.mark.parametrize(
    ("lists", "error", "message"),
    [
        (
            {"train": "cat/0.jpg\ncat/9.jpg\n"},
            DataError,
            r"1 lines .* no file: 'cat/9\.jpg \(line 2",
        ),
        ({"train": "cat/0.jpg\n", "val": "cat/0.jpg\n"}, DataError, "1 images are listed twice"),
        ({"train": "cat/0.jpg x\ndog/0.jpg\n"}, DataError, "1 of 2 lines .* no label"),
        ({"val": "cat/0.jpg"}, ConfigurationError, "must name a list for 'train'"),
        ({"train": "cat/0.jpg", "more": ""}, ConfigurationError, "got 'more'"),
        ({"train": "a.jpg"}, DataError, "in no class folder"),
    ],
)
def test_lists_that_are_wrong_are_refused(make, lists, error, message):
    root = make("cat/0.jpg", "dog/0.jpg", "a.jpg")
    for name, text in lists.items():
        (root / f"list_{name}").write_text(text)

    with pytest.raises(error, match=message):
        list_folder(root, FolderLayout(lists={name: f"list_{name}" for name in lists}))


def test_a_name_without_extension_means_one_image(make):
    root = make("cat/0.jpg", "cat/0.txt", "cat/1.jpg", "cat/1.png", "dog/0.jp2")
    lists = FolderLayout(lists={"train": "list"})
    (root / "list").write_text("cat/0 x\ncat/1.png y\ndog/0 z\n")

    rows = list_folder(root, lists).rows

    assert rows["file"].tolist() == ["cat/0.jpg", "cat/1.png", "dog/0.jp2"]
    (root / "list").write_text("cat/0\ncat/1\n")
    with pytest.raises(DataError, match=r"'cat/1' of .* may mean 'cat/1.jpg', 'cat/1.png'\. Write"):
        list_folder(root, lists)


@pytest.mark.parametrize("folder", ["train", "val", "training"])
def test_folders_that_are_called_as_splits_mean_nothing_beside_lists_that_are_named(make, folder):
    root = make(f"{folder}/0.jpg", "bus/1.jpg", "train/2.jpg")
    (root / "mine.txt").write_text(f"{folder}/0.jpg cat\nbus/1.jpg dog\n")

    rows = list_folder(root, FolderLayout(lists={"train": "mine.txt"})).rows

    assert rows["label"].tolist() in (["cat", "dog"], ["dog", "cat"])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["cat", "cat copy", "dog"], "has 'cat copy' beside a folder of the same name"),
        (["cat", "cat - Copy (2)", "dog"], r"has 'cat - Copy \(2\)' beside"),
        (["cat", "dog", "dog (1)"], r"has 'dog \(1\)' beside"),
        (["Images", "masks"], "has 'Images', 'masks', named as images and what belongs to them"),
        (["img", "labels", "annotations"], "has 'annotations', 'img', 'labels', named as"),
    ],
)
def test_copies_and_masks_are_no_classes(make, classes, message):
    for folder, layout in (("plain", "classes"), ("split", "splits")):
        parts = [""] if folder == "plain" else ["train/", "val/"]
        root = make(*(f"{folder}/{part}{name}/0.jpg" for part in parts for name in classes))
        with pytest.raises(DataError, match=message) as refused:
            list_folder(root / folder)
        assert f"`layout='{layout}'`" in str(refused.value)
        rows = list_folder(root / folder, FolderLayout(layout)).rows
        assert set(rows["label"]) == set(classes)


@pytest.mark.parametrize(
    "classes", [["copy", "dog"], ["mask", "no mask"], ["images", "texts"], ["a (1)", "a (2)"]]
)
def test_classes_that_are_called_a_little_so_are_classes(make, classes):
    root = make(*(f"{name}/0.jpg" for name in classes))
    assert set(list_folder(root).rows["label"]) == set(classes)


def test_a_split_that_holds_itself_is_refused(make):
    root = make(*(f"{name}/{name}/{kind}/0.jpg" for name in ("train", "test") for kind in "ab"))
    with pytest.raises(DataError, match=r"has 'train' alone, named as a split is\. Move"):
        list_folder(root)


@pytest.mark.parametrize("others", [[], ["test/a", "test/b"]])
def test_a_split_beside_the_classes_of_another_is_no_class(make, others):
    root = make(*(f"{name}/0.jpg" for name in ["train/a", "train/b", "train/val", *others]))
    with pytest.raises(DataError, match=r"has 'val' beside its classes, named as splits are"):
        list_folder(root)
    assert "val" in list_folder(root, FolderLayout("splits")).rows["label"].to_numpy()


def test_the_line_is_printed_and_kept(split_pets, caplog):
    shutil.move(split_pets / "val", split_pets / "Validation")
    data = ImageFolderDataModule(split_pets, image_size=8)
    with caplog.at_level("INFO"):
        data.setup()

    assert data.reading == "train from 'train', val from 'Validation'"
    assert f"Read: {data.reading}" in caplog.text
