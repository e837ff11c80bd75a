"""Decode image files to RGB pixels, for training and prediction alike."""

import hashlib
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from lightning_fastrecipes.errors import DataError

_SIXTEEN_BIT_MODES = {"I;16", "I;16B", "I;16L", "I;16N"}


class ImageFacts(NamedTuple):
    """What is known of a file once it is decoded; ``problem`` is empty for a good image."""

    width: int = 0
    height: int = 0
    mode: str = ""
    digest: str = ""
    note: str = ""
    problem: str = ""


def load_image(
    path: str | Path, background: str = "white", shorter_side: int | None = None
) -> Tensor:
    """Decode an image to upright RGB ``(3, height, width)``, ``uint8``; nothing is lost silently.

    16-bit grey is scaled by its bit depth, transparent pixels show a background, a colour as Pillow
    names or writes it, CMYK and palettes are converted, the EXIF orientation is applied, and of an
    animation the first frame is taken. ``shorter_side`` is the number of pixels that the shorter
    side is needed with, if less will do than the file has: a JPEG is then decoded at a half, a
    quarter or an eighth, which is faster. Raise `DataError` if the file cannot be decoded to the
    end.
    """
    try:
        with Image.open(path) as image:
            if shorter_side is not None:
                image.draft(None, (shorter_side, shorter_side))
            pixels = np.array(_to_rgb(image, background))
    except Exception as error:  # a damaged file makes a decoder raise anything
        raise DataError(
            f"The image '{path}' cannot be read: {_reason(error)}."
            " Replace it, or leave it out with `on_bad_file='skip'`."
        ) from error
    return torch.from_numpy(pixels).permute(2, 0, 1)


def inspect_image(path: str | Path) -> ImageFacts:
    """Decode an image to the end and report what it is; whatever is in the file raises no error.

    The size is after the EXIF orientation, the digest that of the bytes; a note says where
    something was left out.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        return ImageFacts(problem=f"cannot be opened ({error.strerror})")
    if not content:
        return ImageFacts(problem="is empty (0 bytes)")
    digest = _digest(content)
    try:
        with Image.open(BytesIO(content)) as image:
            frames = getattr(image, "n_frames", 1)
            note = f"first of {frames} frames" if frames > 1 else ""
            upright = _to_rgb(image, "white")
            return ImageFacts(upright.width, upright.height, image.mode, digest, note)
    except Exception as error:  # a damaged file makes a decoder raise anything
        return ImageFacts(digest=digest, problem=_reason(error))


def file_digest(path: str | Path) -> str:
    """Hash the bytes of a file as ``inspect_image`` does."""
    return _digest(Path(path).read_bytes())


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _to_rgb(image: Image.Image, background: str) -> Image.Image:
    sixteen_bit = image.mode in _SIXTEEN_BIT_MODES or (
        image.mode == "I" and image.format in {"PNG", "PPM"}
    )
    if image.mode in {"I", "F"} and not sixteen_bit:
        raise DataError(f"pixels of mode {image.mode} have no agreed white: convert to 8 or 16 bit")
    image = ImageOps.exif_transpose(image)
    if sixteen_bit:
        # Pillow's own conversion clips instead: nearly everything would turn white.
        grey = np.rint(np.asarray(image).astype(np.float32) / 257)
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        photo = image.convert("RGBA")
        canvas = Image.new("RGBA", photo.size, background)
        return Image.alpha_composite(canvas, photo).convert("RGB")
    return image.convert("RGB")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image that Pillow can read"
    return str(error) or type(error).__name__
