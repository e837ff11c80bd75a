"""What a file that is no image turns out to be, for messages."""

from pathlib import Path

_HEAD = 4096
_SIGNS: tuple[tuple[bytes, str], ...] = (
    (b"\x93NUMPY", "a NumPy array (.npy): use `ImageArrayDataModule`"),
    (b"%PDF", "a PDF document: export its pages as PNG"),
    (b"%!PS", "PostScript, which is a program: export it as PNG"),
    (b"\xc5\xd0\xd3\xc6", "PostScript, which is a program: export it as PNG"),
    (b"\x89HDF", "an HDF5 file: save its images as PNG"),
    (b"version https://git-lfs", "a pointer of Git LFS: run `git lfs pull`"),
    (b"PK\x03\x04", "a zip archive: unpack it"),
    (b"\x1f\x8b", "compressed by gzip: unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive: unpack it"),
    (b"Rar!", "a RAR archive: unpack it"),
    (b"\xffO\xffQ", "JPEG 2000, whose codec this Pillow lacks"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL, for which Pillow has no codec: convert it"),
    (b"\xff\x0a", "JPEG XL, for which Pillow has no codec: convert it"),
    (b"\x1aE\xdf\xa3", "a video: take its frames out"),
    (b"\xff\xd8\xff", "a damaged JPEG"),
    (b"\x89PNG", "a damaged PNG"),
)
_HEIF = {b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"}
_AVIF = {b"avif", b"avis"}
_HTML = (b"<!doctype html", b"<html", b"<head", b"<body")


def what_it_is(path: str | Path) -> str:
    """Return what the first bytes of a file show it to be; empty if they tell nothing.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     _ = file.write(b"<html>404") + (file.flush() or 0)
    ...     what_it_is(file.name)
    'HTML, probably the error page of a download: fetch it again'
    """
    try:
        with Path(path).open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return ""
    if head[4:8] == b"ftyp":
        return _container({head[start : start + 4] for start in range(8, 40, 4)})
    if head[128:132] == b"DICM":
        return "a DICOM file: save its image as 16-bit PNG"
    for sign, meaning in _SIGNS:
        if head.startswith(sign):
            return meaning
    return _text(head)


def _container(brands: set[bytes]) -> str:
    if brands & _AVIF:
        return "AVIF, whose codec this Pillow lacks: install `pillow-avif-plugin`, or convert it"
    if brands & _HEIF:
        return "HEIC, for which Pillow has no codec: convert it to JPEG"
    return "a video: take its frames out"


def _text(head: bytes) -> str:
    if head and not head.strip(b"\0"):
        return "nothing but zero bytes: copy or fetch it again"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if any(sign in text[:512] for sign in _HTML):
        return "HTML, probably the error page of a download: fetch it again"
    if b"<svg" in text:
        return "SVG, a drawing without pixels: export it as PNG"
    if text.startswith(b"<?xml"):
        return "XML"
    try:
        words = head.decode()
    except UnicodeDecodeError:
        return ""
    return "text" if all(sign.isprintable() or sign.isspace() for sign in words) else ""
