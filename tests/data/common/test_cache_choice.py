"""What `cache` may be, and where caches live."""

from pathlib import Path

import pandas as pd
import pytest
from jsonargparse import ArgumentParser

from lightning_fastrecipes import (
    ImageCSVDataModule,
    ImageFolderDataModule,
    TableColumns,
    TabularDataModule,
)
from lightning_fastrecipes.data.common.cache_choice import cache_choice, cache_folder
from lightning_fastrecipes.data.images.pixel_stores import PixelStores
from lightning_fastrecipes.errors import DataError


@pytest.mark.parametrize(
    ("cache", "expected"),
    [
        (False, "off"),
        (True, "auto"),
        ("off", "off"),
        ("auto", "auto"),
        ("kept", Path("kept")),
        (Path("off"), Path("off")),
        ("./on", Path("on")),
    ],
    ids=repr,
)
def test_words_booleans_and_folders_are_understood(cache, expected) -> None:
    assert cache_choice(cache) == expected


def test_the_home_sign_is_expanded_in_text_and_in_paths() -> None:
    expected = Path.home() / "kept"
    assert [PixelStores(cache).cache for cache in ("~/kept", Path("~/kept"))] == [expected] * 2


def make_folder(cache):
    return ImageFolderDataModule("not/read", cache=cache)._stores.cache


def make_csv(cache):
    return ImageCSVDataModule("not/read.csv", cache=cache)._stores.cache


def make_table(cache):
    frame = pd.DataFrame({"a": [1.0, 2.0], "y": [0, 1]})
    return TabularDataModule(frame, TableColumns("y", [], ["a"], "regression"), cache=cache).cache


def len_of(cache) -> str:
    return f"{len(str(cache))}"


MAKERS = pytest.mark.parametrize("make", [make_folder, make_csv, make_table, cache_choice])


@MAKERS
@pytest.mark.parametrize("cache", ["", "  ", "OFF", "Auto", "on", "On", "\0", "a\0"], ids=repr)
def test_what_only_looks_like_a_word_is_refused_at_once(make, cache) -> None:
    with pytest.raises(ValueError, match="`cache` must be 'auto', 'off' or a folder, got '"):
        make(cache)


@MAKERS
@pytest.mark.parametrize("cache", [None, 1], ids=repr)
def test_another_type_is_refused_at_once(make, cache) -> None:
    with pytest.raises(TypeError, match=f"`cache` must be .* got {cache}"):
        make(cache)
    with pytest.raises(TypeError) as refused:
        make([cache] * 10_000)
    assert len(str(refused.value)) < 400


@MAKERS
@pytest.mark.parametrize("cache", ["x" * 5000, Path("x" * 300), "x/" * 3000], ids=len_of)
def test_a_name_that_no_disk_takes_is_refused_at_once(make, cache) -> None:
    with pytest.raises(ValueError, match="longer than names may be") as refused:
        make(cache)
    assert len(str(refused.value)) < 400


def test_an_unknown_home_is_refused() -> None:
    with pytest.raises(ValueError, match="`cache` must be a folder that can be found"):
        cache_choice("~nobody-of-this-name/kept")


@pytest.mark.parametrize("make", [make_folder, make_csv, make_table])
def test_a_datamodule_takes_a_boolean(make) -> None:
    assert (make(False), make(True)) == ("off", "auto")


@pytest.mark.parametrize("kind", [ImageFolderDataModule, ImageCSVDataModule, TabularDataModule])
@pytest.mark.parametrize(
    ("written", "expected"),
    [("off", "off"), ("on", "auto"), ("auto", "auto"), ("kept/here", Path("kept/here"))],
)
def test_a_recipe_and_a_command_line_may_write_the_bare_word(kind, written, expected) -> None:
    parser = ArgumentParser()
    parser.add_class_arguments(kind, "data", skip={"root", "csv", "source", "columns", "split"})
    read = [
        parser.parse_args([f"--data.cache={written}"]),
        parser.parse_string(f"data:\n  cache: {written}\n"),
    ]
    assert [cache_choice(values.data.cache) for values in read] == [expected] * 2


def test_the_cache_lies_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTRECIPES_CACHE", str(tmp_path / "deep" / "cache"))

    assert cache_folder() == tmp_path / "deep" / "cache"
    assert cache_folder().is_dir()


def test_without_the_variable_the_cache_lies_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("FASTRECIPES_CACHE")
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)

    assert cache_folder() == tmp_path / ".cache" / "lightning_fastrecipes"


def test_a_cache_that_cannot_be_made_names_the_variable(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FASTRECIPES_CACHE", str(tmp_path / "file" / "cache"))

    with pytest.raises(DataError, match=r"this is a file.* `FASTRECIPES_CACHE`"):
        cache_folder()
