"""File names of tables are found as people write them, and what was done is said."""

import pandas as pd
import pytest

from lightning_fastrecipes.data.images.label_table import LabelTable
from lightning_fastrecipes.data.images.manifest import scan_images
from lightning_fastrecipes.data.images.table_files import find_files
from lightning_fastrecipes.data.images.table_listing import list_table
from lightning_fastrecipes.errors import DataError


@pytest.fixture
def folder(tmp_path):
    for name in ("images/0.jpg", "images/1.jpg", "images/2.JPG", "images/a.b.png", "images/3.gif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("names", "suffix", "files", "notes"),
    [
        (["0.jpg", "./1.jpg"], None, ["0.jpg", "1.jpg"], []),
        (
            ["0", "1", "2", "a.b"],
            None,
            ["0.jpg", "1.jpg", "2.JPG", "a.b.png"],
            ["4 file names without extension are those of '.JPG', '.jpg', '.png'"],
        ),
        (
            ["0", "1.jpg"],
            None,
            ["0.jpg", "1.jpg"],
            ["1 file names without extension are those of '.jpg'"],
        ),
        (["0", "1.jpg", "2.JPG"], ".jpg", ["0.jpg", "1.jpg", "2.JPG"], []),
        ([" 0.jpg", "1.jpg\u00a0"], None, ["0.jpg", "1.jpg"], []),
        (["0", "missing"], ".png", ["0.png", "missing.png"], []),
    ],
)
def test_names_in_the_folder(folder, names, suffix, files, notes) -> None:
    assert find_files(names, folder / "images", suffix) == (files, notes)


def test_backslashes_are_separators_unless_there_is_such_a_file(folder) -> None:
    (folder / "images\\3.jpg").touch()

    files, notes = find_files([r"images\0.jpg", r".\images\1", r"images\3.jpg"], folder)

    assert files == ["images/0.jpg", "images/1.jpg", "images\\3.jpg"]
    assert notes == [
        "backslashes in 2 file names are read as '/'",
        "1 file names without extension are those of '.jpg'",
    ]


def test_a_name_of_two_files_is_refused_with_the_way_out(folder) -> None:
    (folder / "images" / "0.png").touch()
    with pytest.raises(DataError, match=r"'0' .* may mean '0.jpg', '0.png' .*Give `suffix`"):
        find_files(["0", "1"], folder / "images")
    assert find_files(["0", "1"], folder / "images", ".jpg")[0] == ["0.jpg", "1.jpg"]
    for suffix in ("", "."):
        with pytest.raises(DataError, match=r"`suffix` must be what file names end in"):
            find_files(["0"], folder, suffix)


def test_a_folder_that_is_one_too_deep_or_too_high_is_named(folder) -> None:
    with pytest.raises(DataError, match=rf"but in '{folder}', .*Give `folder='{folder}'`"):
        find_files(["images/0.jpg", "images/1.jpg"], folder / "images")
    with pytest.raises(DataError, match=rf"Give `folder='{folder}/images'`"):
        find_files(["0.jpg", "1.jpg"], folder)
    with pytest.raises(DataError, match="Take the folders out of the file names"):
        find_files(["/content/0.jpg", "/content/1.jpg"], folder / "images")
    # Files that are nowhere are counted when all are looked at.
    assert find_files(["8.jpg", "9.jpg"], folder)[0] == ["8.jpg", "9.jpg"]


def test_a_table_of_ids_is_read_and_ids_of_one_file_are_one_image(folder) -> None:
    frame = pd.DataFrame({"file": [0, 1], "label": ["x", "y"]})
    table = LabelTable(folder=str(folder / "images"))

    listing = list_table(frame, table)

    assert listing.rows["file"].tolist() == ["0.jpg", "1.jpg"]
    assert listing.reading == "2 file names without extension are those of '.jpg'"
    with pytest.raises(DataError, match=r"name an image twice: '0 \(row 0\)', '0.jpg \(row 1\)'"):
        list_table(pd.DataFrame({"file": ["0", "0.jpg"], "label": "x"}), table)


def test_a_name_that_is_too_long_is_named_as_any_other_missing_file(folder) -> None:
    files, _ = find_files(["a" * 5000 + ".jpg"], folder)

    assert files == ["a" * 5000 + ".jpg"]


@pytest.mark.parametrize("header", ["file,label", "file|something else|note"])
def test_a_table_of_labels_without_rows_is_refused(tmp_path, header) -> None:
    (tmp_path / "labels.csv").write_text(f"{header}\n")

    with pytest.raises(DataError, match="must have a row for each image, but has none"):
        list_table(tmp_path / "labels.csv", LabelTable("file", labels="label"))


def test_absolute_paths_below_the_folder_are_those_below_it(folder) -> None:
    images = folder / "images"
    assert find_files([str(images / "0.jpg"), "1.jpg"], images) == (["0.jpg", "1.jpg"], [])
    assert find_files([str(images / "0.jpg"), str(images / "3")], images)[0] == ["0.jpg", "3.gif"]


def test_absolute_paths_elsewhere_name_the_folder_to_give(folder) -> None:
    other = folder / "other"
    other.mkdir()
    names = [str(folder / "images/0.jpg"), str(folder / "images/1.jpg")]
    with pytest.raises(DataError, match=rf"2 are elsewhere.*`folder='{folder}/images'` in `table`"):
        find_files(names, other)
    assert find_files(names, folder / "images")[0] == ["0.jpg", "1.jpg"]


def test_files_that_are_not_there_are_told_with_what_is(folder) -> None:
    with pytest.raises(
        DataError, match=r"not in '.*images': '7.jpg', '8.jpg'\. '.*' has '0.jpg', "
    ):
        scan_images(folder / "images", ["7.jpg", "8.jpg"])
