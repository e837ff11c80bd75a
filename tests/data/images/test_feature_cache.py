from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_fastrecipes.data.images import feature_cache
from lightning_fastrecipes.data.images.feature_cache import cached_outputs, held_outputs
from lightning_fastrecipes.data.images.feature_files import OutputShape
from lightning_fastrecipes.errors import DataError

ROWS = np.arange(12, dtype=np.float32).reshape(4, 1, 3)
SHAPE = OutputShape(4, 1, (3,))
KEY = {"model": "net", "size": 32, "files": "abc"}


def never(_) -> list[np.ndarray]:
    raise AssertionError("the cache should have been used")


def test_a_second_reader_gets_the_same_rows_without_computing(tmp_path: Path) -> None:
    cached_outputs(tmp_path, KEY, lambda _: [ROWS[:3], ROWS[3:]], SHAPE)
    again = cached_outputs(tmp_path, KEY, never, SHAPE)
    assert isinstance(again.values, np.memmap)
    assert np.array_equal(again.values, ROWS)


@pytest.mark.parametrize("part", ["model", "size", "files"], ids=str)
def test_any_changed_part_is_another_cache(tmp_path: Path, part: str) -> None:
    cached_outputs(tmp_path, KEY, lambda _: [ROWS], SHAPE)
    changed = cached_outputs(tmp_path, KEY | {part: "other"}, lambda _: [ROWS + 1], SHAPE)
    assert np.array_equal(changed.values, ROWS + 1)
    assert np.array_equal(cached_outputs(tmp_path, KEY, never, SHAPE).values, ROWS)


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
    cached_outputs(tmp_path, KEY, lambda _: [ROWS], SHAPE)
    (file,) = tmp_path.glob(f"*/{name}")
    damage(file)
    with pytest.warns(UserWarning, match=r"is damaged: .* rebuilt"):
        rebuilt = cached_outputs(tmp_path, KEY, lambda _: [ROWS], SHAPE)
    assert np.array_equal(rebuilt.values, ROWS)
    assert np.array_equal(cached_outputs(tmp_path, KEY, never, SHAPE).values, ROWS)


def test_the_whole_key_is_compared(tmp_path: Path) -> None:
    cached_outputs(tmp_path, KEY, lambda _: [ROWS], SHAPE)
    (manifest,) = tmp_path.glob("*/manifest.json")
    manifest.write_text(manifest.read_text().replace('"net"', '"ten"'))
    with pytest.warns(UserWarning, match="it is for something else"):
        cached_outputs(tmp_path, KEY, lambda _: [ROWS], SHAPE)


@pytest.mark.parametrize("num_rows", [3, 5], ids=["too-few", "too-many"])
def test_a_wrong_number_of_rows_leaves_nothing_behind(tmp_path: Path, num_rows: int) -> None:
    rows = np.zeros((num_rows, 1, 3), np.float32)
    with pytest.raises(DataError, match=f"outputs of 4 images, but got {num_rows}"):
        cached_outputs(tmp_path, KEY, lambda _: [rows], SHAPE)
    assert [p.name for p in tmp_path.iterdir() if p.suffix != ".lock"] == []


def test_an_interrupted_write_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupted(_):
        yield ROWS[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_outputs(tmp_path, KEY, interrupted, SHAPE)
    assert [p.name for p in tmp_path.iterdir() if p.suffix != ".lock"] == []


def test_a_full_disk_is_reported_with_what_to_do(tmp_path: Path) -> None:
    def full(_):
        yield ROWS[:2]
        raise OSError(28, "No space left on device")

    with pytest.raises(DataError, match=r"needs 0\.0 MiB .* No space left .* `FASTRECIPES_CACHE`"):
        cached_outputs(tmp_path, KEY, full, SHAPE)


MAPS = torch.rand((5, 2, 3, 4, 4), generator=torch.Generator().manual_seed(0)) * 10 - 4
EVERY = (torch.arange(5).repeat_interleave(2), torch.arange(2).repeat(5))


@pytest.mark.parametrize("channel_axis", [0, 2])
@pytest.mark.parametrize("storage", ["float32", "float16", "uint8"])
def test_numbers_change_by_no_more_than_is_said(tmp_path: Path, storage, channel_axis) -> None:
    shape = OutputShape(5, 2, (3, 4, 4), channel_axis, storage)
    stored = cached_outputs(tmp_path, KEY, lambda _: [MAPS[:2].numpy(), MAPS[2:].numpy()], shape)
    maps = MAPS.flatten(0, 1)
    error = (stored.take(*EVERY) - maps).abs()
    others = [axis for axis in (1, 2, 3) if axis != channel_axis + 1]
    spread = maps.amax(others, keepdim=True) - maps.amin(others, keepdim=True)
    bound = {"float32": 0 * maps, "float16": maps.abs() / 2048, "uint8": spread / 510 + 1e-6}
    assert (error <= bound[storage]).all()
    assert error.any() == (storage != "float32")
    written = sum(file.stat().st_size for file in tmp_path.glob("*/*.npy"))
    assert shape.num_bytes <= written <= shape.num_bytes + 256
    assert f"5 images, 2 views each, 3 x 4 x 4 numbers in {storage}" in str(shape)


def test_scales_are_checked_as_numbers_are(tmp_path: Path) -> None:
    shape = OutputShape(5, 2, (3, 4, 4), storage="uint8")
    first = cached_outputs(tmp_path, KEY, lambda _: [MAPS.numpy()], shape).take(*EVERY)
    (file,) = tmp_path.glob("*/scales.npy")
    _flip(file)
    with pytest.warns(UserWarning, match=r"checksum of 'scales.npy'"):
        again = cached_outputs(tmp_path, KEY, lambda _: [MAPS.numpy()], shape)
    assert torch.equal(again.take(*EVERY), first)


@pytest.mark.parametrize(
    ("largest", "storage", "words"),
    [
        (1e5, "float16", "at most 6.55e\\+04 to be kept in float16.*storage='uint8'"),
        (np.inf, "uint8", "Look at the weights"),
        (np.nan, "float16", "Look at the weights"),
    ],
)
def test_numbers_that_cannot_be_stored_are_refused(tmp_path, largest, storage, words) -> None:
    maps = np.full((1, 1, 2, 1, 1), largest, np.float32)
    with pytest.raises(DataError, match=words):
        cached_outputs(tmp_path, KEY, lambda _: [maps], OutputShape(1, 1, (2, 1, 1), 0, storage))
    assert [p.name for p in tmp_path.iterdir() if p.suffix != ".lock"] == []


def test_a_disk_without_room_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"feature cache needs 7,69[0-9,.]+ MiB .* are free"):
        cached_outputs(tmp_path, KEY, never, OutputShape(10**9, 8, (1000, 1000), 0, "uint8"))


@pytest.mark.parametrize("storage", ["float32", "float16", "uint8"])
def test_what_is_held_in_memory_is_what_a_cache_would_hold(tmp_path: Path, storage) -> None:
    shape = OutputShape(5, 2, (3, 4, 4), storage=storage)
    batches = [MAPS[:2].numpy(), MAPS[2:].numpy()]
    held, stored = (
        held_outputs(batches, shape),
        cached_outputs(tmp_path, KEY, lambda _: batches, shape),
    )
    assert torch.equal(held.take(*EVERY), stored.take(*EVERY))


class Killed(BaseException):
    """Ends a computation as a signal does."""


@pytest.fixture
def keeps_at_once(monkeypatch) -> None:
    monkeypatch.setattr(feature_cache, "_KEEP_EVERY", -1.0)


def _computed(rows: np.ndarray, begun: list[int], *, until: int | None = None):
    """Return batches of two images, and note where each computation begins."""

    def batches(start: int):
        begun.append(start)
        for place in range(start, len(rows), 2):
            if until is not None and place >= until:
                raise Killed
            yield rows[place : place + 2]

    return batches


@pytest.mark.parametrize("storage", ["float32", "float16", "uint8"])
@pytest.mark.usefixtures("keeps_at_once")
def test_a_killed_computation_goes_on_where_it_stood(tmp_path: Path, storage) -> None:
    rows = torch.rand((9, 2, 3, 4, 4), generator=torch.Generator().manual_seed(0)).numpy()
    shape, begun = OutputShape(9, 2, (3, 4, 4), 0, storage), []
    for until in (4, 4, 8):
        with pytest.raises(Killed):
            cached_outputs(tmp_path / "a", KEY, _computed(rows, begun, until=until), shape)
    found = cached_outputs(tmp_path / "a", KEY, _computed(rows, begun), shape)
    assert begun == [0, 4, 4, 8]
    whole = cached_outputs(tmp_path / "b", KEY, _computed(rows, []), shape)
    for name in ("values", "scales"):
        assert np.array_equal(getattr(found, name), getattr(whole, name))
    names = {path.name.partition("-")[0] for path in (tmp_path / "a").iterdir()}
    assert names == {"feature"}
    assert not list((tmp_path / "a").glob("feature-part*"))


@pytest.mark.usefixtures("keeps_at_once")
def test_a_damaged_part_and_those_behind_it_are_computed_anew(tmp_path: Path) -> None:
    rows = np.arange(24, dtype=np.float32).reshape(8, 1, 3)
    shape, begun = OutputShape(8, 1, (3,)), []
    with pytest.raises(Killed):
        cached_outputs(tmp_path, KEY, _computed(rows, begun, until=6), shape)
    parts = sorted(tmp_path.glob("feature-part-*/"))
    assert len(parts) == 3
    from_two = next(p for p in parts if '"from": 2' in (p / "manifest.json").read_text())
    _flip(from_two / "features.npy")
    with pytest.warns(UserWarning, match="feature-part cache .* is damaged"):
        found = cached_outputs(tmp_path, KEY, _computed(rows, begun), shape)
    assert begun == [0, 2]
    assert np.array_equal(found.values, rows)
    assert not list(tmp_path.glob("feature-part*"))


def test_parts_are_written_now_and_then_and_not_of_every_batch(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        cached_outputs(tmp_path, KEY, _computed(ROWS, [], until=2), SHAPE)
    assert not list(tmp_path.glob("feature-part*"))
