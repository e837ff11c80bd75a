from pathlib import Path

import numpy as np
import pytest

from lightning_fastrecipes.data.images.feature_cache import cached_features
from lightning_fastrecipes.errors import DataError

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)
KEY = {"model": "net", "size": 32, "files": "abc"}


def never() -> list[np.ndarray]:
    raise AssertionError("the cache should have been used")


def test_a_second_reader_gets_the_same_rows_without_computing(tmp_path: Path) -> None:
    cached_features(tmp_path, KEY, lambda: [ROWS[:3], ROWS[3:]], (4, 3))
    again = cached_features(tmp_path, KEY, never, (4, 3))
    assert isinstance(again, np.memmap)
    assert np.array_equal(again, ROWS)


@pytest.mark.parametrize("part", ["model", "size", "files"], ids=str)
def test_any_changed_part_is_another_cache(tmp_path: Path, part: str) -> None:
    cached_features(tmp_path, KEY, lambda: [ROWS], (4, 3))
    changed = cached_features(tmp_path, KEY | {part: "other"}, lambda: [ROWS + 1], (4, 3))
    assert np.array_equal(changed, ROWS + 1)
    assert np.array_equal(cached_features(tmp_path, KEY, never, (4, 3)), ROWS)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("name", ["features.npy", "manifest.json"])
@pytest.mark.parametrize("damage", [_cut, _flip, _empty, Path.unlink], ids=lambda f: f.__name__)
def test_a_damaged_cache_is_rebuilt_with_a_warning(tmp_path: Path, damage, name: str) -> None:
    cached_features(tmp_path, KEY, lambda: [ROWS], (4, 3))
    (file,) = tmp_path.glob(f"*/{name}")
    damage(file)
    with pytest.warns(UserWarning, match=r"is damaged: .* rebuilt"):
        rebuilt = cached_features(tmp_path, KEY, lambda: [ROWS], (4, 3))
    assert np.array_equal(rebuilt, ROWS)
    assert np.array_equal(cached_features(tmp_path, KEY, never, (4, 3)), ROWS)


def test_the_whole_key_is_compared(tmp_path: Path) -> None:
    cached_features(tmp_path, KEY, lambda: [ROWS], (4, 3))
    (manifest,) = tmp_path.glob("*/manifest.json")
    manifest.write_text(manifest.read_text().replace('"net"', '"ten"'))
    with pytest.warns(UserWarning, match="it is for something else"):
        cached_features(tmp_path, KEY, lambda: [ROWS], (4, 3))


@pytest.mark.parametrize("num_rows", [3, 5], ids=["too-few", "too-many"])
def test_a_wrong_number_of_rows_leaves_nothing_behind(tmp_path: Path, num_rows: int) -> None:
    rows = np.zeros((num_rows, 3), np.float32)
    with pytest.raises(DataError, match=f"must have 4 rows, but got {num_rows}"):
        cached_features(tmp_path, KEY, lambda: [rows], (4, 3))
    assert [p.name for p in tmp_path.iterdir() if p.suffix != ".lock"] == []


def test_an_interrupted_write_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupted():
        yield ROWS[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_features(tmp_path, KEY, interrupted, (4, 3))
    assert [p.name for p in tmp_path.iterdir() if p.suffix != ".lock"] == []


def test_a_full_disk_is_reported_with_what_to_do(tmp_path: Path) -> None:
    def full():
        yield ROWS[:2]
        raise OSError(28, "No space left on device")

    with pytest.raises(DataError, match=r"needs 0\.0 MiB .* No space left .* `FASTRECIPES_CACHE`"):
        cached_features(tmp_path, KEY, full, (4, 3))
