"""Pipes and devices among files: refused by name, since reading them may never end."""

import os
import signal

import pytest

from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.cli.run_folder import only_run_in
from lightning_fastrecipes.data.common.files import copy_folder
from lightning_fastrecipes.data.common.sources import check_folder
from lightning_fastrecipes.data.images.datamodules import (
    ImageArrayDataModule,
    ImageCSVDataModule,
    ImageFolderDataModule,
)
from lightning_fastrecipes.data.images.decoding import load_image
from lightning_fastrecipes.data.tables.columns import TableColumns
from lightning_fastrecipes.data.tables.datamodule import TabularDataModule
from lightning_fastrecipes.errors import DataError, DataNotFoundError
from lightning_fastrecipes.recipe.artifacts.export_files import member_folders
from lightning_fastrecipes.reporting.finished_run import read_text_table

_NO_FILE = r"{}' must be a file, but is a folder, a pipe or a device\. Replace it"


@pytest.fixture(autouse=True)
def _ends():
    """Raise an error where something waits for a pipe, in place of waiting with it."""

    def stop(*_):
        raise TimeoutError("still waiting")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(params=["pipe", "device"])
def odd(request, tmp_path):
    """Make a pipe, or a link to a device, of a name."""

    def make(name):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if request.param == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to("/dev/zero")
        return path

    return make


def test_images_among_others_are_named(odd, tmp_path, draw) -> None:
    for name in ("a/0.png", "a/1.png", "b/0.png", "b/1.png"):
        draw(tmp_path / "photos" / name)
    path = odd("photos/a/x.png")
    data = ImageFolderDataModule(tmp_path / "photos", image_size=8, cache="off")
    with pytest.raises(DataError, match=r"a/x\.png.*is no file, but a pipe or a device"):
        data.setup("fit")
    with pytest.raises(DataError, match="is no file, but a pipe or a device"):
        load_image(path)


@pytest.mark.parametrize(
    "module", [ImageFolderDataModule, ImageCSVDataModule, ImageArrayDataModule]
)
def test_sources_are_refused(odd, module) -> None:
    with pytest.raises(DataError, match=r"must name a file or a folder, but .* is a pipe or a dev"):
        module(odd("t.csv"), image_size=8, cache="off").setup("fit")


def test_tables_are_refused(odd) -> None:
    with pytest.raises(DataError, match=r"is a pipe or a device. Copy what it gives into a file"):
        TabularDataModule(odd("t.csv"), TableColumns("y", [], ["x"]), cache="off").setup("fit")


def test_lists_of_splits_are_refused(odd, tmp_path, draw) -> None:
    draw(tmp_path / "photos" / "a" / "0.png")
    odd("photos/train.txt")
    data = ImageFolderDataModule(tmp_path / "photos", image_size=8, cache="off")
    with pytest.raises(DataError, match=_NO_FILE.format("photos/train.txt")):
        data.setup("fit")


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("predictions.csv", read_text_table),
        ("run/.lock", lambda path: only_run_in(path.parent).__enter__()),
        ("recipe/notes", lambda path: copy_folder(path.parent, path.parent.with_name("copy"))),
        ("recipe/notes", lambda path: check_folder(path.parent)),
    ],
)
def test_files_of_folders_are_refused(odd, name, read) -> None:
    path = odd(name)
    with pytest.raises(DataError, match=_NO_FILE.format(name)):
        read(path)
    assert not path.parent.with_name("copy").exists()


def test_a_list_of_models_is_not_passed_over(odd) -> None:
    path = odd("export/ensemble.json")
    with pytest.raises(DataNotFoundError, match=r"There is no file .*ensemble\.json"):
        member_folders(path.parent)


@pytest.mark.parametrize("words", [["check", "{}"], ["new", "{}"], ["predict", "{}", "x.png"]])
def test_the_command_refuses_them(odd, words, capsys) -> None:
    path = str(odd("recipe.yaml"))
    assert main([word.format(path) for word in words]) in (1, 2)
    assert capsys.readouterr().err.startswith("fastrecipes: ")
