"""Parts of messages that many rooms write."""

import difflib
from collections.abc import Iterable, Sequence

_MAX_NAMED = 20


def name_some(names: Sequence[str]) -> str:
    """List names for a message: the first 20, and how many there are.

    >>> name_some(["a.png", "b.png"])
    "'a.png', 'b.png'"
    """
    shown = ", ".join(f"'{name}'" for name in names[:_MAX_NAMED])
    return shown if len(names) <= _MAX_NAMED else f"{shown}, ... ({len(names)} in all)"


def suggestion(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Ask whether a known name was meant, or say nothing if none is close."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f" Did you mean `{prefix}{close[0]}`?" if close else ""
