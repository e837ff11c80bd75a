"""Parts of messages that many rooms write."""

import difflib
from collections.abc import Iterable, Sequence

_MAX_NAMED = 20
_MAX_LENGTH = 400


def name_some(names: Sequence[str]) -> str:
    """List names for a message: the first 20, and how many there are.

    Of a long name the ends are shown; what a terminal would act upon, such as an escape, is
    written out.

    >>> name_some(["a.png", "b.png"])
    "'a.png', 'b.png'"
    """
    shown = ", ".join(f"'{_shown(name)}'" for name in names[:_MAX_NAMED])
    return shown if len(names) <= _MAX_NAMED else f"{shown}, ... ({len(names)} in all)"


def _shown(name: str) -> str:
    if len(name) > _MAX_LENGTH:
        name = f"{name[: _MAX_LENGTH // 2]}...{name[-_MAX_LENGTH // 2 :]}"
    return name if name.isprintable() else "".join(map(_printed, name))


def _printed(sign: str) -> str:
    return sign if sign.isprintable() else sign.encode("unicode_escape").decode()


def suggestion(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Ask whether a known name was meant, or say nothing if none is close."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f" Did you mean `{prefix}{close[0]}`?" if close else ""
