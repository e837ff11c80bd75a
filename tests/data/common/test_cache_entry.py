"""Entries of a cache are found by what they are for, checked, and replaced as a whole."""

import json
import shutil
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Timer

import pytest
from filelock import FileLock

from lightning_fastrecipes.data.common import cache_entry
from lightning_fastrecipes.data.common.cache_entry import CacheEntry, EntryFiles
from lightning_fastrecipes.data.common.disk_room import NoRoomError

KEY, FINGERPRINT = {"columns": ["a"]}, {"files": {"x.csv": [1, 2], "y.csv": [3, 4]}, "pandas": "3"}


def never(_) -> EntryFiles:
    raise AssertionError("the cache should have been used")


def text(words: str = "hello"):
    def write(folder: Path) -> None:
        (folder / "a.txt").write_text(words)
        (folder / "b.txt").write_text(words * 2)

    return lambda _: EntryFiles(3 * len(words), write, {"words": words})


def entry(folder: Path, key=KEY, fingerprint=FINGERPRINT) -> CacheEntry:
    return CacheEntry(folder, "text", key, fingerprint)


def get(made: CacheEntry, build) -> dict:
    return made.get_or_build(build, lambda _, notes: notes)


def left(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.suffix != ".lock"]


def test_a_second_reader_makes_nothing(tmp_path) -> None:
    assert get(entry(tmp_path), text()) == {"words": "hello"}
    assert get(entry(tmp_path), never) == {"words": "hello"}
    assert (entry(tmp_path).path / "b.txt").read_text() == "hellohello"


def test_another_key_is_another_entry(tmp_path) -> None:
    get(entry(tmp_path), text())

    assert entry(tmp_path, {"columns": ["b"]}).read() is None
    assert get(entry(tmp_path, {"columns": ["b"]}), text("bye")) == {"words": "bye"}
    assert get(entry(tmp_path), never) == {"words": "hello"}


@pytest.mark.parametrize(
    ("fingerprint", "named"),
    [
        (FINGERPRINT | {"pandas": "2"}, "'pandas' changed"),
        (FINGERPRINT | {"files": {"x.csv": [1, 2], "y.csv": [3, 5]}}, "'y.csv' changed"),
        (FINGERPRINT | {"files": {"x.csv": [1, 2]}}, "'y.csv' changed"),
        (FINGERPRINT | {"pyarrow": "1"}, "'pyarrow' changed"),
    ],
    ids=["version", "file", "fewer-files", "new-part"],
)
def test_a_stale_entry_is_replaced_with_a_warning(tmp_path, fingerprint, named) -> None:
    get(entry(tmp_path), text())

    with pytest.warns(UserWarning, match=f"is stale: .*{named}. It is rebuilt"):
        assert get(entry(tmp_path, fingerprint=fingerprint), text("new")) == {"words": "new"}

    assert get(entry(tmp_path, fingerprint=fingerprint), never) == {"words": "new"}
    assert len(left(tmp_path)) == 1


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("name", ["a.txt", "b.txt", "manifest.json"])
@pytest.mark.parametrize("damage", [_cut, _flip, _empty, Path.unlink], ids=lambda f: f.__name__)
def test_a_damaged_entry_is_rebuilt_with_a_warning(tmp_path, damage, name) -> None:
    get(entry(tmp_path), text())
    damage(entry(tmp_path).path / name)

    with pytest.warns(UserWarning, match=r"is damaged: .* rebuilt"):
        get(entry(tmp_path), text())

    assert get(entry(tmp_path), never) == {"words": "hello"}


def test_a_changed_note_is_noticed(tmp_path) -> None:
    get(entry(tmp_path), text())
    manifest = entry(tmp_path).path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"hello"', '"hellp"'))
    with pytest.warns(UserWarning, match=r"damaged: the checksum of 'manifest\.json' is wrong"):
        assert get(entry(tmp_path), text()) == {"words": "hello"}


def test_the_key_is_compared_in_full(tmp_path) -> None:
    get(entry(tmp_path), text())
    manifest = entry(tmp_path).path / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"key": {}}))

    with pytest.warns(UserWarning, match="it is for something else"):
        assert entry(tmp_path).read() is None


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_write_leaves_the_old_entry_or_none(tmp_path, error) -> None:
    def write(folder: Path) -> None:
        (folder / "a.txt").write_text("half")
        raise error

    broken = lambda _: EntryFiles(4, write)  # noqa: E731
    expected = NoRoomError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match=r"No space left|^$"):
        get(entry(tmp_path), broken)
    assert left(tmp_path) == []

    get(entry(tmp_path), text())
    with (
        pytest.raises(expected, match=r"No space left|^$"),
        pytest.warns(UserWarning, match="stale"),
    ):
        get(entry(tmp_path, fingerprint={}), broken)
    assert get(entry(tmp_path), never) == {"words": "hello"}


def test_what_a_killed_writer_left_is_removed(tmp_path) -> None:
    folder = tmp_path / f".{entry(tmp_path).path.name}-dead"
    folder.mkdir()

    get(entry(tmp_path), text())

    assert left(tmp_path) == [entry(tmp_path).path.name]

    folder.with_name(f"{folder.name}-replaced").mkdir()
    get(entry(tmp_path), text())  # which is complete
    assert left(tmp_path) == [entry(tmp_path).path.name]


def test_waiting_for_another_process_is_said(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(cache_entry, "_QUIET", 0.05)
    lock = FileLock(f"{entry(tmp_path).path}.lock", thread_local=False)
    with ThreadPoolExecutor(1) as other:  # a lock knows its own thread
        other.submit(lock.acquire).result()
    Timer(0.3, lock.release).start()
    with pytest.warns(UserWarning, match=r"Another process writes the text cache .* waits until"):
        assert get(entry(tmp_path), text()) == {"words": "hello"}


def test_room_is_checked_before_anything_is_written(tmp_path, monkeypatch) -> None:
    usage = namedtuple("usage", "total used free")(0, 0, (1 << 28) + 14)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)

    def never_written(folder: Path) -> None:
        raise AssertionError("room should have been checked")

    with pytest.raises(NoRoomError, match=r"needs 0\.0 MiB .* 256 MiB are free.* `cache`"):
        get(entry(tmp_path), lambda _: EntryFiles(15, never_written))
    assert get(entry(tmp_path), lambda _: EntryFiles(14, lambda folder: None)) == {}


def test_an_error_of_the_maker_is_not_taken_for_a_full_disk(tmp_path) -> None:
    def missing(_) -> EntryFiles:
        raise FileNotFoundError("train.csv")

    with pytest.raises(FileNotFoundError, match=r"^train\.csv$"):
        get(entry(tmp_path), missing)


def test_of_two_that_ask_at_once_one_makes_the_entry(tmp_path) -> None:
    made, both_are_here = [], Barrier(2)

    def make(_) -> EntryFiles:
        made.append(1)
        time.sleep(0.3)
        return text()(None)

    def ask(_: int) -> dict:
        both_are_here.wait()
        return get(entry(tmp_path), make)

    with ThreadPoolExecutor(2) as threads:  # each has a lock of its own, as processes have
        assert list(threads.map(ask, range(2))) == [{"words": "hello"}] * 2
    assert made == [1]
