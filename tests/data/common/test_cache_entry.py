"""Entries of a cache are found by what they are for, checked, and replaced as a whole."""

import json
import shutil
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from lightning_fastrecipes.data.common.cache_entry import CacheEntry, Content
from lightning_fastrecipes.data.common.disk_room import NoRoomError

PURPOSE, ORIGIN = {"columns": ["a"]}, {"files": {"x.csv": [1, 2], "y.csv": [3, 4]}, "pandas": "3"}


def never() -> Content:
    raise AssertionError("the cache should have been used")


def text(words: str = "hello"):
    def write(folder: Path) -> None:
        (folder / "a.txt").write_text(words)
        (folder / "b.txt").write_text(words * 2)

    return lambda: Content(3 * len(words), write, {"words": words})


def entry(folder: Path, purpose=PURPOSE, origin=ORIGIN) -> CacheEntry:
    return CacheEntry(folder, "text", purpose, origin)


def left(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.suffix != ".lock"]


def test_a_second_reader_makes_nothing(tmp_path) -> None:
    assert entry(tmp_path).get_or_make(text()) == {"words": "hello"}
    assert entry(tmp_path).get_or_make(never) == {"words": "hello"}
    assert (entry(tmp_path).path / "b.txt").read_text() == "hellohello"


def test_another_purpose_is_another_entry(tmp_path) -> None:
    entry(tmp_path).get_or_make(text())

    assert entry(tmp_path, {"columns": ["b"]}).read() is None
    assert entry(tmp_path, {"columns": ["b"]}).get_or_make(text("bye")) == {"words": "bye"}
    assert entry(tmp_path).get_or_make(never) == {"words": "hello"}


@pytest.mark.parametrize(
    ("origin", "named"),
    [
        (ORIGIN | {"pandas": "2"}, "'pandas' changed"),
        (ORIGIN | {"files": {"x.csv": [1, 2], "y.csv": [3, 5]}}, "'y.csv' changed"),
        (ORIGIN | {"files": {"x.csv": [1, 2]}}, "'y.csv' changed"),
        (ORIGIN | {"pyarrow": "1"}, "'pyarrow' changed"),
    ],
    ids=["version", "file", "fewer-files", "new-part"],
)
def test_a_stale_entry_is_replaced_with_a_warning(tmp_path, origin, named) -> None:
    entry(tmp_path).get_or_make(text())

    with pytest.warns(UserWarning, match=f"is stale: .*{named}. It is built anew"):
        assert entry(tmp_path, origin=origin).get_or_make(text("new")) == {"words": "new"}

    assert entry(tmp_path, origin=origin).get_or_make(never) == {"words": "new"}
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
    entry(tmp_path).get_or_make(text())
    damage(entry(tmp_path).path / name)

    with pytest.warns(UserWarning, match=r"is damaged: .* built anew"):
        entry(tmp_path).get_or_make(text())

    assert entry(tmp_path).get_or_make(never) == {"words": "hello"}


def test_the_purpose_is_compared_in_full(tmp_path) -> None:
    entry(tmp_path).get_or_make(text())
    manifest = entry(tmp_path).path / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"purpose": {}}))

    with pytest.warns(UserWarning, match="it is for something else"):
        assert entry(tmp_path).read() is None


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_write_leaves_the_old_entry_or_none(tmp_path, error) -> None:
    def write(folder: Path) -> None:
        (folder / "a.txt").write_text("half")
        raise error

    broken = lambda: Content(4, write)  # noqa: E731
    expected = NoRoomError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match=r"No space left|^$"):
        entry(tmp_path).get_or_make(broken)
    assert left(tmp_path) == []

    entry(tmp_path).get_or_make(text())
    with (
        pytest.raises(expected, match=r"No space left|^$"),
        pytest.warns(UserWarning, match="stale"),
    ):
        entry(tmp_path, origin={}).get_or_make(broken)
    assert entry(tmp_path).get_or_make(never) == {"words": "hello"}


def test_what_a_killed_writer_left_is_removed(tmp_path) -> None:
    folder = tmp_path / f".{entry(tmp_path).path.name}-dead"
    folder.mkdir()

    entry(tmp_path).get_or_make(text())

    assert left(tmp_path) == [entry(tmp_path).path.name]


def test_room_is_checked_before_anything_is_written(tmp_path, monkeypatch) -> None:
    usage = namedtuple("usage", "total used free")(0, 0, (1 << 28) + 14)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)

    def never_written(folder: Path) -> None:
        raise AssertionError("room should have been checked")

    with pytest.raises(NoRoomError, match=r"needs 0\.0 MiB .* 256 MiB are free.* `cache`"):
        entry(tmp_path).get_or_make(lambda: Content(15, never_written))
    assert entry(tmp_path).get_or_make(lambda: Content(14, lambda folder: None)) == {}


def test_an_error_of_the_maker_is_not_taken_for_a_full_disk(tmp_path) -> None:
    def missing() -> Content:
        raise FileNotFoundError("train.csv")

    with pytest.raises(FileNotFoundError, match=r"^train\.csv$"):
        entry(tmp_path).get_or_make(missing)


def test_of_two_that_ask_at_once_one_makes_the_entry(tmp_path) -> None:
    made, both_are_here = [], Barrier(2)

    def make() -> Content:
        made.append(1)
        time.sleep(0.3)
        return text()()

    def ask(_: int) -> dict:
        both_are_here.wait()
        return entry(tmp_path).get_or_make(make)

    with ThreadPoolExecutor(2) as threads:  # each has a lock of its own, as processes have
        assert list(threads.map(ask, range(2))) == [{"words": "hello"}] * 2
    assert made == [1]
