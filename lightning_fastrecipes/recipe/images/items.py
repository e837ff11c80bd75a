"""Images as people have them in Python, as files that are predicted as any other."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.labels.classes import probability_columns
from lightning_fastrecipes.messages import shown
from lightning_fastrecipes.plots.figure import shorten
from lightning_fastrecipes.plots.images import draw_batch

_CHANNELS = (1, 3, 4)
_A_ROW = 4
"""How many images stand side by side."""


def as_files(items: Any, folder: Path) -> tuple[list[Path], dict[str, str], bool]:
    """Write images that are in memory into a folder, without loss; keep paths as they are.

    Return the paths, the names of what was written by its path, such as ``image 0``, and whether it
    is a single image, rather than a folder or several. Raise `DataError` for what is no image.
    """
    is_array = isinstance(items, (np.ndarray, Tensor))
    is_single = not isinstance(items, (list, tuple)) and not (is_array and items.ndim == 4)
    paths: list[Path] = []
    names: dict[str, str] = {}
    for number, item in enumerate([items] if is_single else items):
        if isinstance(item, (str, Path)):
            paths.append(Path(item))
            continue
        path = folder / f"{number}.png"
        if isinstance(item, bytes):
            path.write_bytes(item)
        else:
            _as_image(item).save(path)
        names[str(path)] = f"image {number}"
        paths.append(path)
    return paths, names, is_single and not paths[0].is_dir()


def draw_predicted(
    table: pd.DataFrame, names: Mapping[str, str], path: str | Path | None = None
) -> Figure:
    """Draw the images of a table of predictions with their name, prediction and probability.

    ``names`` are those of images that were in memory, by their file. Nothing is written if ``path``
    is ``None``. Raise `DataError` if the table has no rows.
    """
    if table.empty:
        raise DataError("There is no image to show, since none could be read.")
    images, titles = [], []
    for row in table.to_dict("records"):
        file = str(row["file"])
        with Image.open(file) as image:
            pixels = np.array(image.convert("RGB"))
        images.append(torch.from_numpy(pixels).permute(2, 0, 1))
        titles.append(f"{shorten(names.get(file, Path(file).name))}\n{_decided(row)}")
    rows = [images[start : start + _A_ROW] for start in range(0, len(images), _A_ROW)]
    said = [titles[start : start + _A_ROW] for start in range(0, len(titles), _A_ROW)]
    return draw_batch(rows, [""] * len(rows), path, said)


def _decided(row: Mapping[Any, Any]) -> str:
    """Return the class with its probability, or the numbers, of a row of predictions."""
    if "prediction" not in row:
        numbers = ((name, value) for name, value in row.items() if isinstance(value, float))
        return ", ".join(f"{name} {value:.4g}" for name, value in numbers)
    found = row["prediction"]
    if isinstance(found, float):
        return f"{found:.4g}"
    probability = row.get(probability_columns([str(found)])[0])
    return str(found) if probability is None else f"{shorten(found, 15)} {probability:.0%}"


def _of_pillow(image: Image.Image) -> Image.Image:
    """Return an image as a PNG holds it, with the pixels that ``load_image`` reads of a file."""
    if image.mode == "I" and image.format in ("PNG", "PPM"):  # 16 bits, in Pillow of before
        return Image.fromarray(np.asarray(image).astype(np.uint16))
    if image.mode in ("I", "F"):
        raise DataError(
            f"An image must be of 8 or 16 bits, but its pixels are of mode {image.mode}, which has"
            " no agreed white. Scale it, and convert it to mode 'L'."
        )
    if image.mode in ("RGBa", "La", "PA"):
        return image.convert("RGBA")
    return image.convert("RGB") if image.mode in ("CMYK", "YCbCr", "LAB", "HSV") else image


def _as_image(item: Any) -> Image.Image:
    if isinstance(item, Image.Image):
        return _of_pillow(item)
    if isinstance(item, Tensor) and item.ndim == 3:
        item = item.permute(1, 2, 0)
    pixels = np.asarray(item.cpu() if isinstance(item, Tensor) else item)
    is_image = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[-1] in _CHANNELS)
    if not isinstance(item, (np.ndarray, Tensor)) or pixels.dtype != np.uint8 or not is_image:
        found = f"{pixels.dtype} of shape {pixels.shape}" if pixels.ndim > 1 else shown(item)
        raise DataError(
            "An image must be a path, bytes of a file, a PIL image, an array (height, width) or"
            " (height, width, channels), or a tensor (channels, height, width), of 8 bits from 0 to"
            f" 255, but is {found}. Scale and convert it."
        )
    grey = pixels.ndim == 3 and pixels.shape[-1] == 1
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if grey else pixels))
