"""The scan decodes an image once, and again only when the file has changed."""

import errno
import logging
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from lightning_fastrecipes.data.common.cache_choice import cache_folder
from lightning_fastrecipes.data.images import decoding, manifest
from lightning_fastrecipes.data.images.manifest import scan_images
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.messages import name_some


@pytest.fixture
def decoded(monkeypatch):
    """Record the names of the files that are decoded."""
    names = []
    inspect = manifest.inspect_image

    def record(path, decoding):
        names.append(path.name)
        return inspect(path, decoding)

    monkeypatch.setattr(manifest, "inspect_image", record)
    return names


@pytest.fixture
def files(tmp_path, draw):
    return [draw(tmp_path / f"{letter}.png").name for letter in "cab"]


def test_rows_follow_the_files_and_say_what_they_are(tmp_path, files):
    (tmp_path / "bad.png").write_bytes(b"")

    rows = scan_images(tmp_path, [*files, "bad.png"])

    assert rows["file"].tolist() == ["c.png", "a.png", "b.png", "bad.png"]
    assert rows["problem"].tolist() == ["", "", "", "is empty (0 bytes)"]
    assert rows["size"].tolist() == [(tmp_path / name).stat().st_size for name in rows["file"]]
    assert rows.loc[0, ["width", "height", "mode"]].tolist() == [24, 20, "RGB"]
    assert rows["digest"].nunique() == 4


def test_a_second_scan_decodes_nothing_and_finds_the_same(tmp_path, files, decoded):
    first = scan_images(tmp_path, files)
    assert sorted(decoded) == ["a.png", "b.png", "c.png"]
    decoded.clear()

    second = scan_images(tmp_path, files)

    assert decoded == []
    assert second.to_dict() == first.to_dict()


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), MemoryError()])
def test_an_error_of_the_moment_is_not_remembered(tmp_path, files, decoded, monkeypatch, error):
    def fail(*_):
        raise error

    is_opening = isinstance(error, OSError)
    where = (decoding.Path, "read_bytes") if is_opening else (decoding, "_strips")
    with monkeypatch.context() as patch:
        patch.setattr(*where, fail)
        assert scan_images(tmp_path, files)["problem"].str.startswith("cannot be opened (").all()
    assert scan_images(tmp_path, files)["problem"].tolist() == ["", "", ""]
    decoded.clear()
    assert scan_images(tmp_path, files)["problem"].tolist() == ["", "", ""]
    assert decoded == []


def test_only_a_changed_file_is_decoded_again(tmp_path, files, decoded, draw):
    scan_images(tmp_path, files)
    decoded.clear()

    draw(tmp_path / "a.png", (30, 10))
    rows = scan_images(tmp_path, files)

    assert decoded == ["a.png"]
    assert rows["width"].tolist() == [24, 30, 24]


def test_a_new_time_of_change_is_enough(tmp_path, files, decoded):
    scan_images(tmp_path, files)
    decoded.clear()

    os.utime(tmp_path / "b.png", ns=(1, 1))
    scan_images(tmp_path, files)

    assert decoded == ["b.png"]


def test_a_scan_of_fewer_files_forgets_nothing(tmp_path, files, decoded):
    scan_images(tmp_path, files)
    scan_images(tmp_path, files[:1])
    decoded.clear()

    scan_images(tmp_path, files)

    assert decoded == []


def test_a_damaged_manifest_is_rebuilt_with_a_warning(tmp_path, files, decoded):
    expected = scan_images(tmp_path, files)
    (cache,) = (cache_folder() / "manifests").glob("*/*.feather")
    cache.write_bytes(cache.read_bytes()[:100])
    decoded.clear()

    with pytest.warns(UserWarning, match=r"manifest cache .* is damaged: .* rebuilt"):
        rows = scan_images(tmp_path, files)

    assert len(decoded) == 3
    assert rows.to_dict() == expected.to_dict()
    assert scan_images(tmp_path, files).to_dict() == expected.to_dict()


def test_scans_at_the_same_time_decode_each_file_once(tmp_path, files, decoded):
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: scan_images(tmp_path, files), range(4)))

    assert sorted(decoded) == ["a.png", "b.png", "c.png"]


def test_a_scan_that_dies_leaves_no_half_written_manifest(tmp_path, files, monkeypatch):
    monkeypatch.setattr(manifest.pd.DataFrame, "to_feather", _die_half_way)

    with pytest.warns(UserWarning, match="disk full.* Until then the images are checked"):
        scan_images(tmp_path, files)

    assert [path.suffix for path in (cache_folder() / "manifests").iterdir()] in ([], [".lock"])


def test_missing_files_are_named_together(tmp_path, files):
    with pytest.raises(DataError, match=r"2 images are not in .*'x\.png', 'y\.png'"):
        scan_images(tmp_path, ["x.png", *files, "y.png"])


def test_progress_is_logged(tmp_path, files, caplog):
    with caplog.at_level(logging.INFO, logger="lightning_fastrecipes.data.images.manifest"):
        scan_images(tmp_path, files)

    assert "Checking 3 of 3 images" in caplog.text


def test_long_lists_are_cut_with_their_count():
    text = name_some([f"{number}.png" for number in range(30)])

    assert "'19.png', ... (30 in all)" in text
    assert "20.png" not in text


def _die_half_way(_frame, path):
    path.write_bytes(b"half")
    raise OSError("disk full")


def test_a_codec_that_is_added_later_is_tried(tmp_path, files, monkeypatch) -> None:
    (tmp_path / "new.xyz").write_bytes(b"XYZ1")
    assert scan_images(tmp_path, [*files, "new.xyz"])["problem"].astype(bool).tolist()[-1]

    def opens(file, name) -> Image.Image:
        return Image.new("RGB", (5, 4))

    monkeypatch.setitem(Image.OPEN, "XYZ", (opens, lambda head: head.startswith(b"XYZ1")))
    monkeypatch.setattr(Image, "ID", [*Image.ID, "XYZ"])
    rows = scan_images(tmp_path, [*files, "new.xyz"])
    assert rows["width"].tolist()[-1] == 5
    assert not rows["problem"].astype(bool).any()
