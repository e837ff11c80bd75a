"""A cache of decoded images gives what decoding gives, and mends what is not whole."""

import multiprocessing
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_fastrecipes.data.common.disk_room import SPARE, NoRoomError
from lightning_fastrecipes.data.images import pixel_cache
from lightning_fastrecipes.data.images.decoding import file_digest, load_image
from lightning_fastrecipes.data.images.geometry import CachedSize
from lightning_fastrecipes.data.images.pixel_cache import ListedFile, get_or_write_pixels
from lightning_fastrecipes.errors import DataError

FORM = CachedSize(side=16, resize="crop", interpolation="bilinear", background="white")
SQUISH = CachedSize(side=16, resize="squish", interpolation="bilinear", background="white")


def listed(files: list[Path]) -> ListedFile:
    shapes = np.array([load_image(file).shape[1:] for file in files], dtype=np.int64)
    return ListedFile(
        [str(f) for f in files], [file_digest(f) for f in files], shapes.reshape(-1, 2)
    )


@pytest.fixture
def files(tmp_path: Path, draw) -> list[Path]:
    sizes = [(24, 20), (20, 40), (8, 30), (10, 10), (16, 16)]
    return [draw(tmp_path / f"{number}.png", size) for number, size in enumerate(sizes)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "train-abc.pixels"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note every file that is decoded for a cache."""
    names: list[str] = []

    def load(file, *arguments):
        names.append(Path(file).name)
        return load_image(file, *arguments)

    monkeypatch.setattr(pixel_cache, "load_image", load)
    return names


@pytest.mark.parametrize("form", [FORM, SQUISH], ids=["crop", "squish"])
def test_it_gives_what_decoding_and_shrinking_give(files, path, form) -> None:
    store = get_or_write_pixels(path, listed(files), form)
    assert len(store) == len(files)
    for position, file in enumerate(files):
        image = form.bring(load_image(file))
        assert torch.equal(store[position], image)
        assert image.shape[1:] == form.shape(*load_image(file).shape[1:])


def test_small_images_are_not_enlarged() -> None:
    assert [FORM.shape(*shape) for shape in [(8, 30), (16, 99), (20, 40), (40, 20)]] == [
        (8, 30), (16, 99), (16, 32), (32, 16),
    ]  # fmt: skip
    assert [SQUISH.shape(*shape) for shape in [(8, 30), (8, 33), (40, 40)]] == [
        (8, 30), (16, 16), (16, 16),
    ]  # fmt: skip


def test_it_is_written_once_and_read_after_that(files, path, decoded) -> None:
    get_or_write_pixels(path, listed(files), FORM)
    assert sorted(decoded) == [file.name for file in files]
    again = get_or_write_pixels(path, listed(files), FORM)
    assert len(decoded) == len(files)
    assert torch.equal(again[1], FORM.bring(load_image(files[1])))


def test_only_changed_images_are_decoded_again(files, path, decoded, draw) -> None:
    get_or_write_pixels(path, listed(files), FORM)
    decoded.clear()
    draw(files[2], (50, 40))
    store = get_or_write_pixels(path, listed(files), FORM)
    assert decoded == ["2.png"]
    for position, file in enumerate(files):
        assert torch.equal(store[position], FORM.bring(load_image(file)))


def test_another_order_and_fewer_images_are_no_reason_to_decode(files, path, decoded) -> None:
    get_or_write_pixels(path, listed(files), FORM)
    decoded.clear()
    chosen = [files[3], files[0]]
    store = get_or_write_pixels(path, listed(chosen), FORM)
    assert decoded == []
    assert torch.equal(store[0], FORM.bring(load_image(files[3])))
    assert torch.equal(store[1], FORM.bring(load_image(files[0])))


def test_a_damaged_image_is_found_and_decoded_again(files, path, decoded) -> None:
    get_or_write_pixels(path, listed(files), FORM)
    decoded.clear()
    content = bytearray(path.read_bytes())
    place = 3 * 16 * 19 + 100  # the first image is kept as 16 x 19 pixels
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="1 of 5 images in the pixel cache .* are damaged"):
        store = get_or_write_pixels(path, listed(files), FORM)
    assert decoded == ["1.png"]
    assert torch.equal(store[1], FORM.bring(load_image(files[1])))


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-5],
        lambda content: content[: len(content) // 2],
        lambda content: content[:-40] + b"\0" * 24 + content[-16:],
        lambda content: b"x" * len(content),
    ],
    ids=["empty", "cut", "half", "index", "other"],
)
def test_a_file_that_is_no_cache_is_built_anew(files, path, damage) -> None:
    get_or_write_pixels(path, listed(files), FORM)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match="is damaged .* built anew"):
        store = get_or_write_pixels(path, listed(files), FORM)
    assert torch.equal(store[4], FORM.bring(load_image(files[4])))


def test_an_interrupted_write_leaves_the_old_cache_and_no_rest(
    files, path, monkeypatch, draw
) -> None:
    get_or_write_pixels(path, listed(files), FORM)
    before = path.read_bytes()
    leftover = path.with_name(f".{path.stem}-killed{path.suffix}")
    leftover.write_bytes(b"half")
    draw(files[0], (30, 30))

    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pixel_cache, "load_image", fail)
        with pytest.raises(KeyboardInterrupt):
            get_or_write_pixels(path, listed(files), FORM)
    assert path.read_bytes() == before
    assert [found.name for found in path.parent.iterdir() if found.name[0] == "."] == []


def test_the_need_is_checked_and_named_before_writing(files, path, monkeypatch) -> None:
    usage = SimpleNamespace(free=SPARE + 100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    many = listed(files * 1000)
    with pytest.raises(NoRoomError, match=r"needs [\d.]+ MiB in .* 256 MiB are free.* `cache`"):
        get_or_write_pixels(path, many, FORM)
    assert not path.exists()


def test_a_disk_that_fills_up_meanwhile_is_named(files, path, monkeypatch) -> None:
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pixel_cache, "_write", fail)
    with pytest.raises(NoRoomError, match="No space left on device"):
        get_or_write_pixels(path, listed(files), FORM)


def test_a_image_that_changes_while_it_is_read_is_refused(files, path, draw) -> None:
    seen = listed(files)
    draw(files[1], (20, 40))
    with pytest.raises(DataError, match=r"1\.png' has changed since it was checked"):
        get_or_write_pixels(path, seen, FORM)


def test_workers_get_the_path_and_not_the_pixels(files, path) -> None:
    store = get_or_write_pixels(path, listed(files), FORM)
    expected = store[2]
    sent = pickle.dumps(store)
    assert len(sent) < 2000
    assert torch.equal(pickle.loads(sent)[2], expected)


def test_another_run_with_other_images_changes_nothing_for_this_one(files, path) -> None:
    store = get_or_write_pixels(path, listed(files), FORM)
    sent = pickle.loads(pickle.dumps(store))
    get_or_write_pixels(path, listed(files[2:]), FORM)
    for position, file in enumerate(files):
        assert torch.equal(store[position], FORM.bring(load_image(file)))
    with pytest.raises(DataError, match=r"another run has put other images in its place\. Give"):
        sent[0]


def test_what_is_read_may_be_written_to(files, path) -> None:
    store = get_or_write_pixels(path, listed(files), FORM)
    store[0].zero_()
    assert torch.equal(store[0], FORM.bring(load_image(files[0])))


def write(path: Path, files: list[Path], queue) -> None:
    names: list[str] = []
    original = pixel_cache.load_image
    pixel_cache.load_image = lambda file, *rest: (names.append(file), original(file, *rest))[1]
    get_or_write_pixels(path, listed(files), FORM)
    queue.put(len(names))


def test_of_several_processes_one_writes(files, path) -> None:
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=write, args=(path, files, queue)) for _ in range(3)]
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
