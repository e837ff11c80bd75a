"""Names of classes and categories that look the same, and are not."""

import re
import unicodedata
from collections.abc import Callable, Iterable

_LIKE_LATIN = str.maketrans(
    "АВЕЅІЈКМНОРСТУХаеѕіјорсухһԁԛԝΑΒΕΖΗΙΚΜΝΟΡΤΥΧοıɑɡ‘’“”‐‒–—−",  # noqa: RUF001
    "ABESIJKMHOPCTYXaesijopcyxhdqwABEZHIKMNOPTYXoiag''\"\"-----",
)
"""Cyrillic, Greek and other letters and signs that are drawn as those of ASCII are."""

_WHOLE, _NUMBER = re.compile(r"\.0+\Z"), re.compile(r"[-+]?\d+\.0+")
_BLANK_LETTERS = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
_DRAW_NOTHING = ("Cf", "Cc")


def look_alikes(names: Iterable[str]) -> list[list[str]]:
    r"""Return the groups of names that differ by what hardly shows, each of them sorted.

    That is case, blanks, invisible signs, a full stop at the end, Unicode form, letters of other
    alphabets that look like Latin ones, and the ``.0`` of whole numbers.

    >>> look_alikes(["Cat", "cat", "dog", "dog\u200b", "cow"])
    [['Cat', 'cat'], ['dog', 'dog\u200b']]
    """
    distinct = sorted(set(names))
    found: dict[tuple[str, ...], list[str]] = {}
    # Small Cyrillic letters are other shapes than the large ones, so that case comes apart.
    for key in (_plain, _drawn):
        for group in _groups(distinct, key):
            found[tuple(group)] = group
    return list(found.values())


def _groups(names: list[str], key: Callable[[str], str]) -> list[list[str]]:
    by_key: dict[str, list[str]] = {}
    for name in names:
        by_key.setdefault(key(name), []).append(name)
    return [group for group in by_key.values() if len(group) > 1]


def _plain(name: str) -> str:
    visible = (sign for sign in unicodedata.normalize("NFKC", name) if _shows(sign))
    words = " ".join("".join(visible).casefold().split()).rstrip(" .")
    return _WHOLE.sub("", words) if _NUMBER.fullmatch(words) else words


def _drawn(name: str) -> str:
    return _plain(unicodedata.normalize("NFKC", name).translate(_LIKE_LATIN))


def _shows(sign: str) -> bool:
    if sign.isascii():
        return sign.isprintable() or sign.isspace()
    is_selector = "\ufe00" <= sign <= "\ufe0f"
    return not (
        is_selector or sign in _BLANK_LETTERS or unicodedata.category(sign) in _DRAW_NOTHING
    )
