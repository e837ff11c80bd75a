"""Parts of messages that many rooms write."""

import difflib
import reprlib
from collections.abc import Iterable, Sequence

_MAX_NAMED = 20
_MAX_LENGTH = 4_000


def name_some(names: Sequence[str]) -> str:
    """List names for a message: the first 20, and how many there are.

    Of a long name the ends are shown; what a terminal would act upon, such as an escape, is
    written out.

    >>> name_some(["a.png", "b.png"])
    "'a.png', 'b.png'"
    """
    shown = ", ".join(f"'{_one_line(name)}'" for name in names[:_MAX_NAMED])
    return shown if len(names) <= _MAX_NAMED else f"{shown}, ... ({len(names)} in all)"


def suggestion(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Ask whether a known name was meant, or say nothing if none is close."""
    close = difflib.get_close_matches(name[:_MAX_LENGTH], list(known), 1)
    return f" Did you mean `{prefix}{close[0]}`?" if close else ""


def shown(value: object) -> str:
    """Show a value of a file or an argument: short, however long or deep it is.

    >>> shown("photos"), shown(list(range(1000)))
    ("'photos'", '[0, 1, 2, 3, 4, 5, ...]')
    """
    return bounded(_short.repr(value), 200)


def bounded(text: str, most: int = _MAX_LENGTH) -> str:
    """Cut the middle out of text of more than ``most`` characters, and say how many there were.

    >>> bounded("a" * 90, 20)
    'aaaaaaaaaa ... (90 characters) ... aaaaaaaaaa'
    """
    if len(text) <= most:
        return text
    return f"{text[: most // 2]} ... ({len(text):,} characters) ... {text[-(most // 2) :]}"


def printable(text: str) -> str:
    r"""Write out what a terminal would act upon, such as an escape; lines stay.

    >>> printable("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return text if text.isprintable() else "".join(map(_printed, text))


def _printed(sign: str) -> str:
    if sign.isprintable() or sign in "\n\t":
        return sign
    return sign.encode("unicode_escape").decode()


def _one_line(name: str) -> str:
    return printable(bounded(str(name), 400)).replace("\n", "\\n")


def _short_repr() -> reprlib.Repr:
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 120
    return short


_short = _short_repr()
