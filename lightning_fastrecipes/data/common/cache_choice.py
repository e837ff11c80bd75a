"""What ``cache`` of a datamodule may be, and what it then means."""

from pathlib import Path
from typing import Literal

Cache = bool | str | Path
"""As people write it; YAML reads the words ``on`` and ``off`` as booleans."""

CacheChoice = Literal["auto", "off"] | Path

_WORDS = ("auto", "off", "on")


def cache_choice(cache: Cache) -> CacheChoice:
    """Read the argument ``cache``.

    Args:
        cache: ``auto`` or true, ``off`` or false, or a folder, where ``~`` is the home folder.

    Returns:
        ``auto``, ``off``, or the folder.

    Raises:
        ValueError: If the text is empty, a word that only looks like one of the two, or names an
            unknown home folder.
        TypeError: If it is neither text, nor a path, nor a boolean.

    Example:
        >>> cache_choice(False), cache_choice("auto"), cache_choice("kept").name
        ('off', 'auto', 'kept')
    """
    if isinstance(cache, bool):
        return "auto" if cache else "off"
    if not isinstance(cache, str | Path):
        raise TypeError(
            f"`cache` must be 'auto', 'off' or a folder, got {cache!r}. Set `cache='off'` to keep"
            " nothing."
        )
    if cache == "auto":
        return "auto"
    if cache == "off":
        return "off"
    if isinstance(cache, str) and (not cache.strip() or cache.strip().lower() in _WORDS):
        raise ValueError(
            f"`cache` must be 'auto', 'off' or a folder, got {cache!r}. Write 'auto' or 'off' in"
            f" small letters, or './{cache.strip() or 'NAME'}' for a folder of that name."
        )
    try:
        return Path(cache).expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"`cache` must be a folder that can be found, got '{cache}': {error} Write the path in"
            " full."
        ) from error
