"""Pages that show how a network computes: their data, files and command."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.reporting.looks.kernels import kernels_page


def data_of(page: str) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.S).group(1))


def test_a_large_image_in_colour_becomes_small_and_grey(tmp_path: Path) -> None:
    file = tmp_path / "<img onerror=x>.png"
    Image.new("RGB", (400, 200), (10, 200, 30)).save(file)
    page = kernels_page(file)
    found = data_of(page)
    assert (found["width"], found["height"], len(found["pixels"])) == (96, 48, 96 * 48)
    assert set(found["pixels"]) == {round(0.299 * 10 + 0.587 * 200 + 0.114 * 30)}
    assert found["told"].startswith("<img onerror=x>.png, 400 x 200 pixels, here 96 x 48")
    assert "<img" not in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")


def test_the_digit_is_the_first_seven_of_the_folder_or_is_drawn(
    tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    drawn = data_of(kernels_page())
    assert (drawn["height"], drawn["width"]) == (28, 28)
    assert max(drawn["pixels"]) == 255
    images = np.arange(3 * 28 * 28, dtype=np.uint8).reshape(3, 28, 28)
    np.savez("mnist.npz", x_train=images, y_train=np.array([3, 4, 7]))
    assert main(["look", "kernels", "--out", "page.html"]) == 0
    assert "Page: page.html" in capsys.readouterr().out
    found = data_of(Path("page.html").read_text())
    assert found["pixels"] == images[2].flatten().tolist()
    assert found["told"] == "image 2 of mnist.npz"


def test_what_is_no_image_is_refused_and_nothing_is_written(tmp_path, capsys) -> None:
    text = tmp_path / "notes.jpg"
    text.write_text("not an image")
    np.savez(tmp_path / "other.npz", words=np.array([1.0]))
    place = tmp_path / "page.html"
    for name in ("notes.jpg", "other.npz", "missing.png"):
        assert main(["look", "kernels", str(tmp_path / name), "--out", str(place)]) == 1
        assert name in capsys.readouterr().err
    assert not place.exists()
    with pytest.raises(DataError, match="x_train"):
        kernels_page(tmp_path / "other.npz")


def test_the_page_of_fitting_is_the_same_each_time(tmp_path) -> None:
    place = tmp_path / "fit.html"
    assert main(["look", "fit", "--out", str(place)]) == 0
    first = place.read_text()
    assert main(["look", "fit", "--out", str(place)]) == 0
    assert place.read_text() == first
    found = data_of(first)
    assert len(found["x"]) == len(found["line"]) == len(found["curve"]) == 64
