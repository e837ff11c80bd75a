"""Where a cache cannot be written, people hear why, and `auto` goes on without it."""

import errno
import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch

from lightning_fastrecipes import ImageFolderDataModule, TableColumns, TabularDataModule
from lightning_fastrecipes.data.common import cache_entry, disk_room
from lightning_fastrecipes.data.common.cache_entry import CacheEntry, EntryFiles
from lightning_fastrecipes.data.common.disk_room import NoRoomError
from lightning_fastrecipes.data.images import geometry, manifest, pixel_cache
from lightning_fastrecipes.data.images.feature_cache import cached_outputs
from lightning_fastrecipes.data.images.feature_files import OutputShape
from lightning_fastrecipes.errors import DataError

CODES = ["ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM"]

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


class Nothing(pl.LightningModule):
    """Learn nothing, and count images."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.num_seen = 0

    def training_step(self, batch, _batch_index):
        self.num_seen += len(batch[0])
        return self.weight.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(root: Path, **options) -> Nothing:
    data = ImageFolderDataModule(root, image_size=16, batch_size=4, num_workers=0, **options)
    module = Nothing()
    pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, max_epochs=1,
        enable_progress_bar=False, enable_model_summary=False,
    ).fit(module, data)  # fmt: skip
    return module


def refuse_locks_in(folder: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail like a disk that takes no file below a folder."""

    class Lock(cache_entry.FileLock):
        def acquire(self, *args, **options):
            if Path(self.lock_file).is_relative_to(folder):
                number = getattr(errno, code)
                raise OSError(number, os.strerror(number), self.lock_file)
            return super().acquire(*args, **options)

    monkeypatch.setattr(cache_entry, "FileLock", Lock)


@pytest.mark.parametrize("code", CODES)
def test_a_folder_that_takes_no_lock_is_named_with_the_reason(
    pets, tmp_path, monkeypatch, code
) -> None:
    refuse_locks_in(tmp_path / "here", code, monkeypatch)
    reason = os.strerror(getattr(errno, code))
    with pytest.raises(DataError, match=f"pixel cache .*here', but: .*{reason}.* Free .*'off'"):
        fit(pets, cache=tmp_path / "here")


@pytest.mark.parametrize("place", ["file", "file/below", "file/below/deep"])
def test_a_file_in_place_of_the_folder_is_named(pets, tmp_path, place) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(
        DataError, match=rf"{place}', but this is a file, or lies below one .* Free"
    ):
        fit(pets, cache=tmp_path / place)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_named(pets, tmp_path, monkeypatch) -> None:
    mkdir = Path.mkdir

    def refuse(path: Path, *args, **options) -> None:
        if path.name == "here":
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
        mkdir(path, *args, **options)

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(DataError, match=r"here', but: .*No such file.* `FASTRECIPES_CACHE`"):
        fit(pets, cache=tmp_path / "here")


@pytest.mark.parametrize("code", CODES)
def test_auto_goes_on_without_any_cache(pets, monkeypatch, code) -> None:
    refuse_locks_in(Path(os.environ["FASTRECIPES_CACHE"]), code, monkeypatch)
    with (
        pytest.warns(UserWarning, match="The manifest cache .* Until then the images are checked"),
        pytest.warns(UserWarning, match="The pixel cache .* Until then images are decoded"),
    ):
        module = fit(pets, split=0.0)
    assert module.num_seen == 18


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_auto_goes_on_where_the_variable_names_a_file(pets, tmp_path, monkeypatch, place) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("FASTRECIPES_CACHE", str(tmp_path / place))
    with pytest.warns(UserWarning, match=r"this is a file.* `FASTRECIPES_CACHE`.* Until then"):
        module = fit(pets, split=0.0)
    assert module.num_seen == 18


def test_a_full_disk_does_not_make_a_scan_decode_twice(pets, monkeypatch) -> None:
    made = tempfile.mkdtemp

    def full(*args, **options):
        if str(options["dir"]).endswith("manifests"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return made(*args, **options)

    names: list[str] = []
    inspect = manifest.inspect_image
    monkeypatch.setattr(tempfile, "mkdtemp", full)
    monkeypatch.setattr(
        manifest, "inspect_image", lambda path, **_: (names.append(path.name), inspect(path))[1]
    )
    with pytest.warns(
        UserWarning, match="manifest cache .* No space left .* Free some space there"
    ):
        rows = manifest.scan_images(pets, ["cat/0.png", "dog/0.png"])
    assert (rows["problem"] == "").all()
    assert len(names) == 2


def test_a_cache_that_cannot_be_mapped_is_no_room(pets, tmp_path, monkeypatch) -> None:
    def refuse(*_, **__):
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr(pixel_cache.np, "memmap", refuse)
    with pytest.raises(NoRoomError, match="No such device"):
        fit(pets, cache=tmp_path / "here")


def test_a_disk_that_cannot_be_asked_is_named(tmp_path, monkeypatch) -> None:
    def refuse(_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(disk_room.shutil, "disk_usage", refuse)
    with pytest.raises(NoRoomError, match="Permission denied"):
        CacheEntry(tmp_path, "text", {}).get_or_build(
            lambda _: EntryFiles(1, lambda _: None), lambda *_: True
        )


def test_a_table_says_so_or_goes_on(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("mine")
    frame = pd.DataFrame({"a": np.arange(20.0), "y": np.arange(20.0)})
    columns = TableColumns("y", [], ["a"], "regression")
    with pytest.raises(DataError, match=r"cache must be written to .*file', but this is a file"):
        TabularDataModule(frame, columns, cache=tmp_path / "file").prepare_data()
    monkeypatch.setenv("FASTRECIPES_CACHE", str(tmp_path / "file"))
    data = TabularDataModule(frame, columns)
    with pytest.warns(UserWarning, match=r"this is a file.* prepared at every start"):
        data.prepare_data()
    data.setup()
    assert len(data.train_targets) == 16


def test_features_say_so(tmp_path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match=r"feature cache .*file', but this is a file"):
        cached_outputs(
            tmp_path / "file",
            {},
            lambda _: [np.ones((1, 1, 1), np.float32)],
            OutputShape(1, 1, (1,)),
        )


def test_a_complete_cache_is_read_where_nothing_can_be_written(pets, monkeypatch) -> None:
    fit(pets, split=0.0)
    refuse_locks_in(Path(os.environ["FASTRECIPES_CACHE"]), "EROFS", monkeypatch)

    def refuse(*_, **__) -> None:
        pytest.fail("an image was decoded")

    monkeypatch.setattr(geometry, "load_image", refuse)
    monkeypatch.setattr(manifest, "inspect_image", refuse)
    assert fit(pets, split=0.0).num_seen == 18
