from pathlib import Path

import numpy as np
import pytest

from lightning_fastrecipes.data.images.feature_cache import FeatureCache
from lightning_fastrecipes.errors import DataError

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)
PARTS = {"model": "net", "size": 32, "files": "abc"}


def never() -> list[np.ndarray]:
    raise AssertionError("the cache should have been used")


def test_a_second_reader_gets_the_same_rows_without_computing(tmp_path: Path) -> None:
    FeatureCache(tmp_path, PARTS).get_or_write(lambda: [ROWS[:3], ROWS[3:]], (4, 3))
    again = FeatureCache(tmp_path, PARTS).get_or_write(never, (4, 3))
    assert isinstance(again, np.memmap)
    assert np.array_equal(again, ROWS)


@pytest.mark.parametrize("part", ["model", "size", "files"], ids=str)
def test_any_changed_part_is_another_cache(tmp_path: Path, part: str) -> None:
    FeatureCache(tmp_path, PARTS).get_or_write(lambda: [ROWS], (4, 3))
    changed = FeatureCache(tmp_path, PARTS | {part: "other"})
    assert changed.read() is None
    assert np.array_equal(changed.get_or_write(lambda: [ROWS + 1], (4, 3)), ROWS + 1)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("suffix", [".npy", ".json"])
@pytest.mark.parametrize("damage", [_cut, _flip, _empty, Path.unlink], ids=lambda f: f.__name__)
def test_a_damaged_cache_is_rebuilt_with_a_warning(tmp_path: Path, damage, suffix: str) -> None:
    cache = FeatureCache(tmp_path, PARTS)
    cache.get_or_write(lambda: [ROWS], (4, 3))
    damage(tmp_path / f"{cache.key}{suffix}")
    with pytest.warns(UserWarning, match=r"is damaged .* built anew"):
        rebuilt = cache.get_or_write(lambda: [ROWS], (4, 3))
    assert np.array_equal(rebuilt, ROWS)
    assert np.array_equal(cache.get_or_write(never, (4, 3)), ROWS)


def test_parts_under_the_same_key_are_compared_in_full(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, PARTS)
    cache.get_or_write(lambda: [ROWS], (4, 3))
    text = cache.manifest_path.read_text()
    cache.manifest_path.write_text(text.replace('"net"', '"ten"'))
    with pytest.warns(UserWarning, match="made from something else"):
        assert cache.read() is None


@pytest.mark.parametrize("num_rows", [3, 5], ids=["too-few", "too-many"])
def test_a_wrong_number_of_rows_leaves_nothing_behind(tmp_path: Path, num_rows: int) -> None:
    cache = FeatureCache(tmp_path, PARTS)
    rows = np.zeros((num_rows, 3), np.float32)
    with pytest.raises(DataError, match=f"must have 4 rows, but got {num_rows}"):
        cache.get_or_write(lambda: [rows], (4, 3))
    assert [p.name for p in tmp_path.iterdir() if p.suffix != ".lock"] == []


def test_an_interrupted_write_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupted():
        yield ROWS[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FeatureCache(tmp_path, PARTS).get_or_write(interrupted, (4, 3))
    assert [p.name for p in tmp_path.iterdir() if p.suffix != ".lock"] == []


def test_a_full_disk_is_reported_with_what_to_do(tmp_path: Path) -> None:
    def full():
        yield ROWS[:2]
        raise OSError(28, "No space left on device")

    with pytest.raises(DataError, match=r"48 bytes .* No space left .* FASTRECIPES_CACHE"):
        FeatureCache(tmp_path, PARTS).get_or_write(full, (4, 3))
