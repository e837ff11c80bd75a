"""A page on which a kernel runs over an image, pixel by pixel."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from lightning_fastrecipes.data.images.arrays import read_npz
from lightning_fastrecipes.data.images.decoding import Decoding, inspect_image, load_image
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.images.kernels import KERNELS
from lightning_fastrecipes.messages import shown
from lightning_fastrecipes.reporting.page import render_data

DIGITS = Path("mnist.npz")
_MOST_PIXELS = 96  # to a side: larger ones are too small to point at
_DIGIT = 7

Grey = npt.NDArray[np.uint8]


def kernels_page(image: str | Path | None = None) -> str:
    """Return the page of kernels for an image, as HTML.

    Kernels of 1 x 1 to 7 x 7, by name or with numbers of one's own, run over the image in grey,
    with stride, padding and dilation, a ReLU and pooling behind. The pixel that one points at shows
    the products that it is the sum of.

    Args:
        image: An image, which is made at most 96 pixels high and wide; or an ``.npz`` of digits, of
            which the first seven is taken. ``None`` takes ``mnist.npz`` of the current folder, and
            without it a seven that is drawn.

    Returns:
        The page, as HTML in one file.

    Raises:
        DataError: If the file cannot be read as either.
    """
    path = DIGITS if image is None and DIGITS.is_file() else image and Path(image)
    pixels, told = _drawn_seven() if not path else _read(path)
    return render_data(
        "Kernels",
        {
            "kernels": [{"name": name, "rows": rows} for name, rows in KERNELS.items()],
            "height": pixels.shape[0],
            "width": pixels.shape[1],
            "pixels": pixels.flatten().tolist(),
            "told": told,
        },
        ["kernels.js"],
    )


def _read(path: Path) -> tuple[Grey, str]:
    if path.suffix.lower() == ".npz" and path.is_file():
        return _first_seven(path, read_npz(path))
    decoding = Decoding(channels=1)
    if problem := inspect_image(path, decoding).problem:
        raise DataError(
            f"The image must be one that can be read, but {shown(str(path))} {problem}. Give"
            " another, or an `.npz` of digits."
        )
    tensor = load_image(path, decoding)
    pixels, (height, width) = tensor[0].numpy(), tensor.shape[-2:]
    if max(height, width) <= _MOST_PIXELS:
        return pixels, f"{path.name}, {width} x {height} pixels, in grey"
    share = _MOST_PIXELS / max(height, width)
    size = max(1, round(width * share)), max(1, round(height * share))
    smaller = Image.fromarray(pixels).resize(size, Image.Resampling.BOX)
    told = f"{path.name}, {width} x {height} pixels, here {size[0]} x {size[1]}, in grey"
    return np.asarray(smaller), told


def _first_seven(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> tuple[Grey, str]:
    images = next((arrays[name] for name in ("x_train", "images") if name in arrays), None)
    labels = next((arrays[name] for name in ("y_train", "labels") if name in arrays), None)
    if images is None or images.ndim != 3 or not len(images) or images.dtype != np.uint8:
        raise DataError(
            f"{shown(str(path))} must hold grey images as `x_train`, (count, height, width) of"
            f" `uint8`, but has {shown(sorted(arrays))}. Give one image as a file."
        )
    is_seven = labels is not None and len(labels) == len(images) and (labels == _DIGIT)
    place = int(np.argmax(is_seven)) if np.any(is_seven) else 0
    return images[place], f"image {place} of {path.name}"


def _drawn_seven() -> tuple[Grey, str]:
    """Draw a seven as those of MNIST are: 28 pixels, white on black, with soft edges."""
    image = Image.new("L", (112, 112))
    drawing = ImageDraw.Draw(image)
    drawing.line([(28, 32), (82, 30), (52, 94)], fill=255, width=11, joint="curve")
    return np.asarray(image.resize((28, 28), Image.Resampling.BOX)), "a seven, drawn by a program"
