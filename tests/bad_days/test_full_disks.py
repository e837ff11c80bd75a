"""Where a disk is full, at every kind of write: the old file stays, and a line says what to do."""

import errno
import io
import os
import resource
import shutil
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.run_content import assert_same_content, leftovers, run_content
from rich.console import Console
from torch import nn

from lightning_fastrecipes.data.common.disk_room import NoRoomError
from lightning_fastrecipes.data.common.files import (
    atomic_path,
    copy_folder,
    sweep_parts,
    write_atomically,
    write_json,
)
from lightning_fastrecipes.recipe.artifacts import checkpoints, logs
from lightning_fastrecipes.recipe.artifacts.checkpoints import (
    WholeCheckpoints,
    check_room_for_stage,
)
from lightning_fastrecipes.recipe.artifacts.export_files import write_ensemble, write_export
from lightning_fastrecipes.recipe.artifacts.run_folder import RunFolder

FULL = ["ENOSPC", "EDQUOT", "EFBIG"]


@pytest.fixture
def limited():
    """Return a function that lets no file grow beyond some bytes, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda most: resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


def write_with_a_savefig(path: Path) -> None:
    with atomic_path(path) as part:
        part.write_bytes(bytes(20_000))


WRITES = {
    "text": lambda folder: write_atomically(folder / "a.csv", "x" * 20_000),
    "json": lambda folder: write_json(folder / "a.json", {"a": "x" * 20_000}),
    "figure": lambda folder: write_with_a_savefig(folder / "a.png"),
    "checkpoint": lambda folder: WholeCheckpoints().save_checkpoint(
        {"state_dict": {"a": torch.zeros(9000)}}, folder / "a.ckpt"
    ),
    "export": lambda folder: write_export(folder, nn.Linear(90, 90), {"architecture": {}}),
    "ensemble": lambda folder: write_ensemble(folder, ["m" * 20_000], {}),
}


@pytest.mark.parametrize("kind", WRITES)
def test_what_was_there_stays_where_a_file_has_no_room(kind, tmp_path, limited) -> None:
    WRITES[kind](tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    limited(9000)
    with pytest.raises(Exception, match=r"File too large|Errno 27|I/O error") as raised:
        WRITES[kind](tmp_path)
    assert isinstance(raised.value, NoRoomError) or kind == "export"
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("code", FULL)
def test_a_full_disk_is_named_with_what_to_do(code, tmp_path, monkeypatch) -> None:
    (tmp_path / "a.csv").write_text("old")
    number = getattr(errno, code)

    def fail(path, *_, **__) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(NoRoomError, match=r"a\.csv' cannot be written: .*\. What was there before"):
        write_atomically(tmp_path / "a.csv", "new")
    monkeypatch.undo()
    assert (tmp_path / "a.csv").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_the_room_for_a_checkpoint_is_checked_before_it_is_written(tmp_path, monkeypatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    state = {"state_dict": {"a": torch.zeros(9000)}}
    with pytest.raises(NoRoomError, match=r"it takes 0\.0 MiB, but 0\.0 MiB are free"):
        WholeCheckpoints().save_checkpoint(state, tmp_path / "a.ckpt")
    with pytest.raises(NoRoomError, match="--resume"):
        check_room_for_stage(RunFolder(tmp_path), "all", nn.Linear(90, 90))
    usage = usage._replace(free=1 << 30)
    WholeCheckpoints().save_checkpoint(state, tmp_path / "a.ckpt")
    check_room_for_stage(RunFolder(tmp_path), "all", nn.Linear(90, 90))
    # Three times the weights, or five with an average.
    layer = nn.Linear(90, 90)
    usage = usage._replace(free=4 * 4 * sum(p.numel() for p in layer.parameters()))
    check_room_for_stage(RunFolder(tmp_path), "all", layer)
    with pytest.raises(NoRoomError):
        check_room_for_stage(RunFolder(tmp_path), "all", layer, averages=True)


def test_a_checkpoint_never_passes_through_the_temporary_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "not there"))
    path = tmp_path / "a.ckpt"
    for value in (1, 2):
        WholeCheckpoints().save_checkpoint({"state_dict": {"a": torch.tensor(value)}}, path)
        assert torch.load(path, weights_only=True)["state_dict"]["a"] == value
    real = checkpoints.torch.save

    def half(state, buffer: io.BytesIO) -> None:
        real(state, buffer)
        buffer.truncate(100)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints.torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        WholeCheckpoints().save_checkpoint({"state_dict": {}}, path)
    assert torch.load(path, weights_only=True)["state_dict"]["a"] == 2
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_number_is_null_in_json(tmp_path) -> None:
    content = {"val": {"a": np.nan, "b": 1.5}, "stages": [], "test": {"c": [float("inf")]}}
    write_json(tmp_path / "results.json", content)
    assert "NaN" not in (tmp_path / "results.json").read_text()
    assert "Infinity" not in (tmp_path / "results.json").read_text()
    content["test"] = {}
    write_json(tmp_path / "results.json", content)
    measured = RunFolder(tmp_path).read_results()["val"]
    assert np.isnan(measured["a"])
    assert measured["b"] == 1.5


def test_leftovers_of_killed_writes_are_swept_and_nothing_else(tmp_path) -> None:
    kept = [tmp_path / ".hidden", tmp_path / "deep" / "model.json"]
    for path in kept:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    (tmp_path / "deep" / ".part-model-x1.json").write_text("half")
    copy_folder(tmp_path / "deep", tmp_path / ".part-export-x2")
    sweep_parts(tmp_path)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)
    assert leftovers(tmp_path) == [str(tmp_path / ".hidden")]


@pytest.mark.parametrize("fresh_victim", ["table"], indirect=True)
def test_a_run_without_room_says_so_and_goes_on_bit_for_bit(victim, limited) -> None:
    limited(6000)
    ended = victim.start()
    assert ended.code == 1
    assert "Traceback" not in ended.said
    assert "File too large" in ended.said
    assert leftovers(victim.home) == []
    limited(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    assert victim.start().code == 0
    assert_same_content(run_content(victim.folder), victim.expected)


def test_a_log_without_room_leaves_no_traceback(tmp_path, monkeypatch) -> None:
    quiet = []  # without which Python itself writes what ends the run to the terminal
    monkeypatch.setattr(logs, "keep_quiet", quiet.append)
    with pytest.raises(OSError, match=r"log\.txt"):
        logs.log_to(tmp_path / "no room" / "log.txt", Console())
    assert quiet
