"""Paths and packages resolve."""

import os
import sys

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
    walk = os.walk
    monkeypatch.setattr(
        os, "walk", lambda *args, **options: [(a, b, c[::-1]) for a, b, c in walk(*args, **options)]
    )

    files = list_files(pets)

    assert files == sorted(files)
    assert len(files) == 18
