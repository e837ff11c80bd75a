"""The argument ``cache`` of a datamodule, and the folder that caches live in."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

from lightning_fastrecipes._lightning import rank_zero_warn
from lightning_fastrecipes.data.common.disk_room import FOLDER_ADVICE, NoRoomError, writing
from lightning_fastrecipes.messages import shown

Cache = bool | str | Path
"""As people write it; YAML reads the words ``on`` and ``off`` as booleans."""

CacheChoice = Literal["auto", "off"] | Path

_WORDS = ("auto", "off", "on")
_Cached = TypeVar("_Cached")


def cache_choice(cache: Cache) -> CacheChoice:
    """Read the argument ``cache``: ``auto``, ``off``, or the folder.

    ``auto`` or true keeps files in the cache folder and goes without where there is no room;
    ``off`` or false keeps none; anything else is a folder, where ``~`` is the home folder. Raise
    `ValueError` for empty text, a word that only looks like one of the two, an unknown home folder
    and a name that is too long, `TypeError` for what is neither text, nor a path, nor a boolean.

    >>> cache_choice(False), cache_choice("auto"), cache_choice("kept").name
    ('off', 'auto', 'kept')
    """
    if isinstance(cache, bool):
        return "auto" if cache else "off"
    if not isinstance(cache, str | Path):
        raise TypeError(
            f"`cache` must be 'auto', 'off' or a folder, got {shown(cache)}. Set `cache='off'` to"
            " keep nothing."
        )
    if cache == "auto":
        return "auto"
    if cache == "off":
        return "off"
    if "\0" in str(cache):
        raise ValueError(
            f"`cache` must be 'auto', 'off' or a folder, got {shown(cache)}, which is none."
        )
    if isinstance(cache, str) and (not cache.strip() or cache.strip().lower() in _WORDS):
        raise ValueError(
            f"`cache` must be 'auto', 'off' or a folder, got {cache!r}. Write 'auto' or 'off' in"
            f" small letters, or './{cache.strip() or 'NAME'}' for a folder of that name."
        )
    try:
        folder = Path(cache).expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"`cache` must be a folder that can be found, got {shown(str(cache))}: {error} Write"
            " the path in full."
        ) from error
    try:
        os.lstat(folder)
    except OSError as error:  # whoever makes it finds out what else there is
        if error.errno == errno.ENAMETOOLONG:
            raise ValueError(
                f"`cache` must be 'auto', 'off' or a folder, got {shown(str(cache))}, which is"
                " longer than names may be. Give a shorter one."
            ) from error
    return folder


def cache_folder() -> Path:
    """Make the folder ``$FASTRECIPES_CACHE``, else ``~/.cache/lightning_fastrecipes``."""
    named = os.environ.get("FASTRECIPES_CACHE")
    folder = Path(named).expanduser() if named else Path.home() / ".cache" / "lightning_fastrecipes"
    with writing("whole", folder, advice=FOLDER_ADVICE):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def cached_if_possible(
    choice: CacheChoice, subfolder: str, use: Callable[[Path], _Cached], otherwise: str
) -> _Cached | None:
    """Call ``use`` with the folder of a cache, and return ``None`` where there is none.

    A folder that cannot be written is an error if the user chose it; with ``auto``, ``otherwise``
    says in a warning what happens without the cache.
    """
    if choice == "off":
        return None
    try:
        return use(choice if isinstance(choice, Path) else cache_folder() / subfolder)
    except NoRoomError as error:
        if choice != "auto":
            raise
        rank_zero_warn(f"{error} Until then {otherwise}.")
        return None
