"""Paths and packages resolve."""

import os
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from lightning_fastrecipes.data.common.sources import list_files, resolve_source
from lightning_fastrecipes.errors import DataError, DataNotFoundError


def test_a_file_inside_a_package_is_found_without_importing_it(tmp_path, monkeypatch):
    (tmp_path / "tiny_images" / "data").mkdir(parents=True)
    (tmp_path / "tiny_images" / "__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "tiny_images" / "data" / "labels.csv").write_text("file,label\n")
    monkeypatch.syspath_prepend(tmp_path)

    found = resolve_source("package:tiny_images/data/labels.csv", "csv")

    assert found == tmp_path / "tiny_images" / "data" / "labels.csv"
    assert "tiny_images" not in sys.modules


@pytest.mark.parametrize("name", ["no_such_package", "not-a-name", ""])
def test_a_missing_package_says_how_to_install_it(name):
    with pytest.raises(DataNotFoundError, match=f"pip install {name.replace('_', '-')}"):
        resolve_source(f"package:{name}/labels.csv", "csv")


@pytest.mark.parametrize("source", ["nowhere/labels.csv", "package:email/labels.csv"])
def test_a_missing_file_is_named_with_its_argument(source):
    with pytest.raises(DataNotFoundError, match=f"`csv` must name .* got '{source}'"):
        resolve_source(source, "csv")


def test_the_home_sign_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path.replace("~", str(tmp_path)))

    assert resolve_source("~", "root") == tmp_path


def test_a_name_that_is_not_text_is_refused(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(b"")

    with pytest.raises(DataError, match="is not valid text"):
        list_files(tmp_path)


def test_files_are_sorted_however_the_file_system_lists_them(pets, monkeypatch):
    scandir = os.scandir
    monkeypatch.setattr(
        os, "scandir", lambda place: nullcontext(sorted(scandir(place), key=lambda e: e.name)[::-1])
    )

    files = list_files(pets)

    assert files == sorted(files)
    assert len(files) == 18


@pytest.mark.parametrize("target", [".", "..", "../../.."])
def test_links_that_lead_in_circles_are_followed_once(pets, target):
    for name in ("a", "b", "c"):
        (pets / "cat" / name).symlink_to(target, target_is_directory=True)
    (pets / "cat" / "x.png").symlink_to("x.png")

    files = list_files(pets / "cat")

    assert files == sorted([*(f"{number}.png" for number in range(10)), "x.png"])


def test_links_that_fan_out_are_listed_once(tmp_path):
    for level in range(30):  # 2 ** 30 ways to the last folder
        (tmp_path / f"{level}").mkdir()
        for name in ("a", "b"):
            (tmp_path / f"{level}" / name).symlink_to(f"../{level + 1}")
    (tmp_path / "30").mkdir()
    (tmp_path / "30" / "0.png").touch()

    assert list_files(tmp_path / "0") == ["a/" * 30 + "0.png"]


def test_links_to_folders_elsewhere_are_followed(pets, tmp_path):
    (pets / "cat" / "more").symlink_to(pets / "dog")

    assert len(list_files(pets / "cat")) == 18


def test_what_an_operating_system_leaves_behind_is_left_alone(pets):
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "ehthumbs.db"):
        (pets / "cat" / name).touch()
    for name in ("__MACOSX", "lost+found", "@eaDir", "$RECYCLE.BIN"):
        (pets / "cat" / name).mkdir()
        (pets / "cat" / name / "0.png").touch()

    assert len(list_files(pets / "cat")) == 10


def test_a_folder_that_cannot_be_read_is_named(pets, monkeypatch):
    def refuse(place):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"folder '.*cat' cannot be read: Permission denied"):
        list_files(pets / "cat")


@pytest.mark.parametrize("kind", [str, Path])
def test_an_address_of_the_network_is_named_as_such(kind):
    with pytest.raises(DataNotFoundError, match=r"but 'https://x\.org/a\.csv' is an address"):
        resolve_source(kind("https://x.org/a.csv"), "csv")
