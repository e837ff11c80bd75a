"""A cache of decoded images gives what decoding gives, and mends what is not whole."""

import multiprocessing
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_fastrecipes.data.common.disk_room import SPARE, NoRoomError
from lightning_fastrecipes.data.images import geometry, pixel_cache
from lightning_fastrecipes.data.images.decoding import file_digest, load_image
from lightning_fastrecipes.data.images.geometry import CachedSize
from lightning_fastrecipes.data.images.pixel_cache import cached_pixels
from lightning_fastrecipes.data.images.samples import Samples
from lightning_fastrecipes.errors import DataError

SIZE = CachedSize(side=16, resize="crop", interpolation="bilinear")
SQUISH = CachedSize(side=16, resize="squish", interpolation="bilinear")


def listed(files: list[Path]) -> Samples:
    return replace(
        Samples.from_files(files),
        digests=np.array([file_digest(file) for file in files], np.bytes_),
        shapes=np.array([load_image(file).shape[1:] for file in files], np.int64),
    )


@pytest.fixture
def files(tmp_path: Path, draw) -> list[Path]:
    sizes = [(24, 20), (20, 40), (8, 30), (10, 10), (16, 16)]
    return [draw(tmp_path / f"{number}.png", size) for number, size in enumerate(sizes)]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def stored(cache: Path, name: str = "pixels.bin") -> Path:
    (path,) = cache.glob(f"pixel-*/{name}")
    return path


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note every file that is decoded for a cache."""
    names: list[str] = []

    def load(file, *arguments):
        names.append(Path(file).name)
        return load_image(file, *arguments)

    monkeypatch.setattr(geometry, "load_image", load)
    return names


@pytest.mark.parametrize("size", [SIZE, SQUISH], ids=["crop", "squish"])
def test_it_gives_what_decoding_and_shrinking_give(files, cache, size) -> None:
    store = cached_pixels(cache, "train", listed(files), size)
    assert len(store) == len(files)
    for position, file in enumerate(files):
        image = size.shrink(load_image(file))
        assert torch.equal(store[position], image)
        assert image.shape[1:] == size.shape(*load_image(file).shape[1:])


def test_small_images_are_not_enlarged() -> None:
    assert [SIZE.shape(*shape) for shape in [(8, 30), (16, 99), (20, 40), (40, 20)]] == [
        (8, 30), (16, 99), (16, 32), (32, 16),
    ]  # fmt: skip
    assert [SQUISH.shape(*shape) for shape in [(8, 30), (8, 33), (40, 40)]] == [
        (8, 30), (16, 16), (16, 16),
    ]  # fmt: skip


def test_it_is_written_once_and_read_after_that(files, cache, decoded) -> None:
    cached_pixels(cache, "train", listed(files), SIZE)
    assert sorted(decoded) == [file.name for file in files]
    again = cached_pixels(cache, "train", listed(files), SIZE)
    assert len(decoded) == len(files)
    assert torch.equal(again[1], SIZE.shrink(load_image(files[1])))


def test_only_changed_images_are_decoded_again(files, cache, decoded, draw) -> None:
    cached_pixels(cache, "train", listed(files), SIZE)
    decoded.clear()
    draw(files[2], (50, 40))
    store = cached_pixels(cache, "train", listed(files), SIZE)
    assert decoded == ["2.png"]
    for position, file in enumerate(files):
        assert torch.equal(store[position], SIZE.shrink(load_image(file)))


def test_another_order_and_fewer_images_are_no_reason_to_decode(files, cache, decoded) -> None:
    cached_pixels(cache, "train", listed(files), SIZE)
    decoded.clear()
    chosen = [files[3], files[0]]
    store = cached_pixels(cache, "train", listed(chosen), SIZE)
    assert decoded == []
    assert torch.equal(store[0], SIZE.shrink(load_image(files[3])))
    assert torch.equal(store[1], SIZE.shrink(load_image(files[0])))


def test_a_damaged_image_is_found_and_decoded_again(files, cache, decoded) -> None:
    cached_pixels(cache, "train", listed(files), SIZE)
    decoded.clear()
    content = bytearray(stored(cache).read_bytes())
    place = 3 * 16 * 19 + 100  # the first image is kept as 16 x 19 pixels
    content[place] ^= 1
    stored(cache).write_bytes(content)
    with pytest.warns(UserWarning, match="1 of 5 images in the pixel cache .* are damaged"):
        store = cached_pixels(cache, "train", listed(files), SIZE)
    assert decoded == ["1.png"]
    assert torch.equal(store[1], SIZE.shrink(load_image(files[1])))


@pytest.mark.parametrize("name", ["pixels.bin", "index.feather", "manifest.json"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-5],
        lambda content: content[: len(content) // 2],
        lambda content: b"x" * len(content),
    ],
    ids=["empty", "cut", "half", "other"],
)
def test_a_file_that_is_no_cache_is_built_anew(files, cache, decoded, damage, name) -> None:
    cached_pixels(cache, "train", listed(files), SIZE)
    decoded.clear()
    path = stored(cache, name)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match=r"is damaged: .* rebuilt|5 of 5 images .* are damaged"):
        store = cached_pixels(cache, "train", listed(files), SIZE)
    assert len(decoded) == len(files)
    assert torch.equal(store[4], SIZE.shrink(load_image(files[4])))


def test_an_interrupted_write_leaves_the_old_cache_and_no_rest(
    files, cache, monkeypatch, draw
) -> None:
    cached_pixels(cache, "train", listed(files), SIZE)
    path = stored(cache)
    before = path.read_bytes()
    leftover = cache / f".{path.parent.name}-killed"
    leftover.mkdir()
    (leftover / "pixels.bin").write_bytes(b"half")
    draw(files[0], (30, 30))

    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(geometry, "load_image", fail)
        with pytest.raises(KeyboardInterrupt):
            cached_pixels(cache, "train", listed(files), SIZE)
    assert path.read_bytes() == before
    assert [found.name for found in cache.iterdir() if found.name[0] == "."] == []


def test_the_need_is_checked_and_named_before_writing(files, cache, monkeypatch) -> None:
    usage = SimpleNamespace(free=SPARE + 100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    many = listed(files * 1000)
    with pytest.raises(NoRoomError, match=r"needs [\d.]+ MiB in .* 256 MiB are free.* `cache`"):
        cached_pixels(cache, "train", many, SIZE)
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_a_disk_that_fills_up_meanwhile_is_named(files, cache, monkeypatch) -> None:
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pixel_cache, "_write", fail)
    with pytest.raises(NoRoomError, match="No space left on device"):
        cached_pixels(cache, "train", listed(files), SIZE)


def test_an_image_that_changes_while_it_is_read_is_refused(files, cache, draw) -> None:
    seen = listed(files)
    draw(files[1], (20, 40))
    with pytest.raises(DataError, match=r"1\.png' has changed since it was checked"):
        cached_pixels(cache, "train", seen, SIZE)


def test_workers_get_the_path_and_not_the_pixels(files, cache) -> None:
    store = cached_pixels(cache, "train", listed(files), SIZE)
    expected = store[2]
    sent = pickle.dumps(store)
    assert len(sent) < 2000
    assert torch.equal(pickle.loads(sent)[2], expected)


def test_another_run_with_other_images_changes_nothing_for_this_one(files, cache) -> None:
    store = cached_pixels(cache, "train", listed(files), SIZE)
    sent = pickle.loads(pickle.dumps(store))
    cached_pixels(cache, "train", listed(files[2:]), SIZE)
    for position, file in enumerate(files):
        assert torch.equal(store[position], SIZE.shrink(load_image(file)))
    with pytest.raises(DataError, match=r"another run has put other images in its place\. Give"):
        sent[0]


def test_what_is_read_may_be_written_to(files, cache) -> None:
    store = cached_pixels(cache, "train", listed(files), SIZE)
    store[0].zero_()
    assert torch.equal(store[0], SIZE.shrink(load_image(files[0])))


def write(cache: Path, files: list[Path], queue) -> None:
    names: list[str] = []
    original = geometry.load_image
    geometry.load_image = lambda file, *rest: (names.append(file), original(file, *rest))[1]
    cached_pixels(cache, "train", listed(files), SIZE)
    queue.put(len(names))


def test_of_several_processes_one_writes(files, cache) -> None:
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=write, args=(cache, files, queue)) for _ in range(3)]
    for process in processes:
        process.start()
    counts = sorted(queue.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    assert counts == [0, 0, len(files)]


def test_large_photos_are_decoded_at_a_part_of_their_size(tmp_path: Path) -> None:
    smooth = np.linspace(0, 255, 400 * 300).reshape(300, 400).astype(np.uint8)
    Image.fromarray(smooth).convert("RGB").save(tmp_path / "large.jpg", quality=95)
    sizes = {
        n: load_image(tmp_path / "large.jpg", shorter_side=n).shape[1:] for n in (400, 150, 70)
    }
    assert sizes == {400: (300, 400), 150: (150, 200), 70: (75, 100)}
    small = load_image(tmp_path / "large.jpg", shorter_side=75).float()
    whole = torch.nn.functional.interpolate(
        load_image(tmp_path / "large.jpg").float()[None], (75, 100), mode="bilinear", antialias=True
    )[0]
    assert (small - whole).abs().mean() < 1.5


def test_a_png_has_no_smaller_form_and_stays_whole(files) -> None:
    assert torch.equal(load_image(files[1], shorter_side=4), load_image(files[1]))


def test_a_turned_photo_is_upright_at_a_part_of_its_size(tmp_path: Path) -> None:
    image = Image.fromarray(np.zeros((200, 100, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert load_image(tmp_path / "turned.jpg", shorter_side=50).shape == (3, 50, 100)
