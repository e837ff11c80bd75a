"""Decode image files to pixels, for training and prediction alike."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from lightning_fastrecipes.data.common.sources import is_endless
from lightning_fastrecipes.data.images.contents import what_it_is
from lightning_fastrecipes.data.images.likeness import coarse_look
from lightning_fastrecipes.errors import DataError

MAX_MEGAPIXELS = 120.0
"""Millions of pixels that an image may have unless told otherwise: at most 1 GB of memory."""

WHITE = 65535
"""Value of white in 16-bit grey unless told otherwise."""

_SIXTEEN_BIT_MODES = {"I;16", "I;16B", "I;16L", "I;16N"}
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # by channels
_STILL = {"JPEG", "BMP", "PPM"}  # formats that hold a single frame
_STRIP = 1 << 22  # pixels that are converted at once
_ALONE = 1 << 25  # pixels from which images are decoded one at a time
_ONE_LARGE = threading.Lock()
_OPENING = threading.Lock()
_MAX_REASON = 200


@dataclass(frozen=True)
class Decoding:
    """How files become pixels: see ``Geometry``."""

    background: str = "white"
    max_megapixels: float = MAX_MEGAPIXELS
    white_level: int = WHITE
    channels: int = 3

    def key(self) -> dict[str, str | float]:
        """Describe it by arguments of ``Geometry``; numbers only if they are not the usual ones."""
        usual = {"max_megapixels": MAX_MEGAPIXELS, "white_level": WHITE, "channels": 3}
        return {name: value for name, value in vars(self).items() if usual.get(name) != value}


class ImageFacts(NamedTuple):
    """What is known of a file once it is decoded; ``problem`` is empty for a good image.

    ``look`` is that of ``likeness.coarse_look``; ``peak`` is the largest value in a file of 16-bit
    grey, and 0 for others.
    """

    width: int = 0
    height: int = 0
    mode: str = ""
    digest: str = ""
    look: str = ""
    peak: int = 0
    note: str = ""
    problem: str = ""


DEFAULT_DECODING = Decoding()
UNOPENED = "cannot be opened ("
"""How a problem begins that says nothing of the image: another time it may be gone."""

_ENDLESS = "is no file, but a pipe or a device"


def load_image(
    path: str | Path,
    decoding: Decoding = DEFAULT_DECODING,
    shorter_side: int | None = None,
    digest: str | None = None,
) -> Tensor:
    """Decode an image, upright, to ``(channels, height, width)``, ``uint8``.

    Channels are grey, RGB or RGBA, as ``decoding`` says. Nothing is lost silently: 16-bit grey is
    scaled by the white level, transparent pixels show a background unless their alpha is kept, CMYK
    and palettes are converted, the EXIF orientation is applied, and of an animation the first frame
    is taken.
    ``shorter_side`` is the number of pixels that the shorter side is needed with, if less will do
    than the file has: a JPEG is then decoded at a half, a quarter or an eighth, which is faster.
    ``digest`` is what ``file_digest`` must be. Raise `DataError` if it is another, or the file
    cannot be decoded to the end, or is too large.
    """
    if is_endless(path):
        raise DataError(f"The image '{path}' {_ENDLESS}. Copy what it gives into a file.")
    source = path if digest is None else _content_of(path, digest)
    try:
        with _opened(source, decoding) as image:
            if shorter_side is not None:
                image.draft(None, (shorter_side, shorter_side))
            pixels = _pixels(image, decoding)
    except Exception as error:  # a damaged file makes a decoder raise anything
        raise DataError(
            f"The image '{path}' cannot be read: {_reason(error, path)}."
            " Replace it, or leave it out with `on_bad_file='skip'`."
        ) from error
    return torch.from_numpy(pixels).permute(2, 0, 1)


def inspect_image(path: str | Path, decoding: Decoding = DEFAULT_DECODING) -> ImageFacts:
    """Decode an image as ``load_image`` does; whatever is in the file raises no error.

    The size is after the EXIF orientation, the digest that of the bytes; a note says where
    something was left out.
    """
    if is_endless(path):
        return ImageFacts(problem=_ENDLESS)
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        return ImageFacts(problem=f"{UNOPENED}{error.strerror})")
    if not content:
        return ImageFacts(problem="is empty (0 bytes)")
    digest = _digest(content)
    try:
        with _opened(BytesIO(content), decoding) as image:
            mode, is_still = image.mode, image.format in _STILL
            in_colour = replace(decoding, channels=3)
            strips = (strip for _, strip in _strips(image, in_colour))
            look = coarse_look(strips, lambda: image.height)
            width, height = image.size  # upright by now
            peak = _peak(image) if _is_sixteen_bit(image) else 0
    except MemoryError:
        return ImageFacts(problem=f"{UNOPENED}there is not enough memory)")
    except Exception as error:  # a damaged file makes a decoder raise anything
        return ImageFacts(digest=digest, problem=_reason(error, path))
    note = "" if is_still else _note(content)
    return ImageFacts(width, height, mode, digest, look, peak, note)


def file_digest(path: str | Path) -> str:
    """Hash the bytes of a file as ``inspect_image`` does."""
    return _digest(Path(path).read_bytes())


def _content_of(path: str | Path, digest: str) -> BytesIO:
    """Read a file that must be as it was when it was checked."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:  # not one of the disk of a cache
        raise DataError(
            f"The image '{path}' cannot be read any more: {error}. Put it back, or start again,"
            " with a new datamodule."
        ) from error
    if _digest(content) != digest:
        raise DataError(
            f"The image '{path}' has changed since it was checked. Start again, with a new"
            " datamodule."
        )
    return BytesIO(content)


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


@contextmanager
def _opened(source: str | Path | BytesIO, decoding: Decoding) -> Iterator[Image.Image]:
    """Open an image whose size is within bounds; large ones are decoded one at a time."""
    with ExitStack() as stack:
        with _pillow_limit:
            image = stack.enter_context(Image.open(source))
        if image.format == "EPS":
            raise UnidentifiedImageError  # to decode it is to run it
        _check_size(image, decoding)
        if image.width * image.height > _ALONE:
            stack.enter_context(_ONE_LARGE)
        yield image


class _PillowLimit:
    """Lift Pillow's own bound on pixels, which knows no option, while images are opened."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._limit: int | None = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._users:
                self._limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                Image.MAX_IMAGE_PIXELS = self._limit


_pillow_limit = _PillowLimit()


def _check_size(image: Image.Image, decoding: Decoding) -> None:
    megapixels = image.width * image.height / 1e6
    if megapixels > decoding.max_megapixels:
        raise DataError(
            f"has {megapixels:,.1f} megapixels ({image.width} x {image.height}), more than the"
            f" {decoding.max_megapixels:g} of `max_megapixels` of `Geometry`"
        )


def _pixels(image: Image.Image, decoding: Decoding) -> npt.NDArray[np.uint8]:
    """Decode to upright ``(height, width, channels)``."""
    if decoding.channels not in _MODES:
        raise DataError(
            f"a file has 1, 3 or 4 channels, not the {decoding.channels} of `channels` of"
            " `Geometry`: give arrays"
        )
    pixels = None
    for top, strip in _strips(image, decoding):
        if strip.size == image.size:
            return np.array(strip).reshape(image.height, image.width, -1)
        if pixels is None:
            pixels = np.empty((image.height, image.width, decoding.channels), np.uint8)
        rows = pixels[top : top + strip.height]
        rows[:] = np.asarray(strip).reshape(rows.shape)
    assert pixels is not None
    return pixels


def _strips(image: Image.Image, decoding: Decoding) -> Iterator[tuple[int, Image.Image]]:
    """Decode an image in place, upright, and give it strip by strip, to take little memory.

    A small image is one strip; with each comes its first row.
    """
    sixteen_bit = _is_sixteen_bit(image)
    if image.mode in {"I", "F"} and not sixteen_bit:
        raise DataError(f"pixels of mode {image.mode} have no agreed white: convert to 8 or 16 bit")
    image.load()
    _check_size(image, decoding)  # an icon tells its size only now
    ImageOps.exif_transpose(image, in_place=True)
    if image.width * image.height <= _STRIP:
        yield 0, _converted(image, decoding, sixteen_bit=sixteen_bit)
        return
    step = max(1, _STRIP // image.width)
    for top in range(0, image.height, step):
        bottom = min(top + step, image.height)
        strip = image.crop((0, top, image.width, bottom))
        yield top, _converted(strip, decoding, sixteen_bit=sixteen_bit)


def _is_sixteen_bit(image: Image.Image) -> bool:
    in_modes = image.mode in _SIXTEEN_BIT_MODES
    return in_modes or (image.mode == "I" and image.format in {"PNG", "PPM"})


def _peak(image: Image.Image) -> int:
    """Return the largest value of a grey image that is decoded."""
    return int(np.asarray(image).max())


def _converted(image: Image.Image, decoding: Decoding, *, sixteen_bit: bool) -> Image.Image:
    mode = _MODES[decoding.channels]
    if sixteen_bit:
        # Pillow's own conversion clips instead: nearly everything would turn white.
        levels = np.asarray(image).astype(np.float32)
        grey = np.rint(levels / (decoding.white_level / 255)).clip(max=255)
        return Image.fromarray(grey.astype(np.uint8)).convert(mode)
    if image.has_transparency_data and mode != "RGBA":
        photo = image.convert("RGBA")
        canvas = Image.new("RGBA", photo.size, decoding.background)
        return Image.alpha_composite(canvas, photo).convert(mode)
    return image.convert(mode)


def _note(content: bytes) -> str:
    """Return a note where an image has more frames; damage in the others does not matter."""
    try:
        with Image.open(BytesIO(content)) as image:
            frames = getattr(image, "n_frames", 1)
    except Exception:  # as above
        return ""
    return f"first of {frames} frames" if frames > 1 else ""


def _reason(error: Exception, path: str | Path) -> str:
    if isinstance(error, UnidentifiedImageError):
        found = what_it_is(path)
        return f"not an image that Pillow can read{found and f', but {found}'}"
    text = str(error) or type(error).__name__
    return text if len(text) <= _MAX_REASON else f"{text[:_MAX_REASON]}..."
