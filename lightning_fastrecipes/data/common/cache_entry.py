"""A folder of files made from something: found again, checked, and replaced as a whole."""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_fastrecipes._lightning import rank_zero_warn
from lightning_fastrecipes.data.common.disk_room import cache_lock, room_for
from lightning_fastrecipes.data.common.files import checksum, umask, write_atomically

logger = logging.getLogger(__name__)

_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Content:
    """What an entry is to hold.

    Args:
        num_bytes: Room that the files need.
        write: Writes the files into a folder that is empty.
        notes: Plain JSON values to keep beside them.
    """

    num_bytes: int
    write: Callable[[Path], None]
    notes: Mapping[str, Any] = field(default_factory=dict)


class CacheEntry:
    """A folder of a cache.

    Its name follows from *what it is for*; *what it was made from* is noted within it and compared,
    so that an entry whose sources have changed is replaced, not left behind. A checksum guards each
    file. What does not match is never used.

    Args:
        folder: Where entries live; made if missing.
        kind: What the files are, such as ``table``; the name begins with it.
        purpose: What the entry is for, as plain JSON values, such as paths and options.
        origin: What it is made from, as plain JSON values, such as sizes of files and versions.

    Example:
        >>> entry = CacheEntry(Path(tempfile.mkdtemp()), "text", {"of": "a"}, {"version": 1})
        >>> def made() -> Content:
        ...     return Content(2, lambda folder: (folder / "a.txt").write_text("hi"), {"words": 1})
        >>> entry.get_or_make(made)
        {'words': 1}
        >>> (entry.path / "a.txt").read_text()
        'hi'
    """

    def __init__(
        self, folder: Path, kind: str, purpose: Mapping[str, Any], origin: Mapping[str, Any]
    ) -> None:
        self.purpose: dict[str, Any] = json.loads(json.dumps(purpose))
        self.origin: dict[str, Any] = json.loads(json.dumps(origin))
        self.kind = kind
        text = json.dumps(self.purpose, sort_keys=True)
        digest = hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
        self.path = folder / f"{kind}-{digest}"

    def read(self) -> dict[str, Any] | None:
        """Return the notes of an entry that can be trusted, ``None`` where there is none."""
        if not self.path.exists():
            return None
        try:
            manifest = json.loads((self.path / _MANIFEST).read_text(encoding="utf-8"))
            problem = self._problem(manifest)
            if problem is None:
                notes: dict[str, Any] = manifest["notes"]
                return notes
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            problem = f"damaged: {type(error).__name__}: {error}"
        rank_zero_warn(f"The {self.kind} cache '{self.path}' is {problem}. It is built anew.")
        return None

    def get_or_make(self, make: Callable[[], Content]) -> dict[str, Any]:
        """Read the notes, after making the files if need be, once even when several processes ask.

        Args:
            make: Called if there is no entry that can be trusted.

        Returns:
            The notes.

        Raises:
            NoRoomError: If the disk or the folder cannot take the files.
        """
        with cache_lock(self.kind, self.path):
            notes = self.read()
            if notes is not None:
                return notes
            content = make()
            _remove_leftovers(self.path)
            with room_for(self.kind, self.path.parent, content.num_bytes):
                self._write(content)
        return dict(json.loads(json.dumps(content.notes)))

    def _problem(self, manifest: Mapping[str, Any]) -> str | None:
        if manifest["purpose"] != self.purpose:
            return "damaged: it is for something else"
        changed = _changes(manifest["origin"], self.origin)
        if changed:
            return f"stale: {changed}"
        for name, (num_bytes, expected) in manifest["files"].items():
            file = self.path / name
            if file.stat().st_size != num_bytes:
                return f"damaged: the length of '{name}' is wrong"
            if checksum(file) != expected:
                return f"damaged: the checksum of '{name}' is wrong"
        return None

    def _write(self, content: Content) -> None:
        temporary = Path(tempfile.mkdtemp(dir=self.path.parent, prefix=f".{self.path.name}-"))
        try:
            content.write(temporary)
            manifest = {
                "purpose": self.purpose,
                "origin": self.origin,
                "notes": content.notes,
                "files": {
                    file.name: [file.stat().st_size, checksum(file)]
                    for file in sorted(temporary.iterdir())
                },
            }
            write_atomically(temporary / _MANIFEST, json.dumps(manifest, indent=1))
            temporary.chmod(0o777 & ~umask())
            if self.path.exists():
                shutil.rmtree(self.path)
            os.replace(temporary, self.path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        logger.info("Wrote the %s cache '%s'", self.kind, self.path)


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Name what an entry was made from that is now something else, files by their paths."""
    names = []
    for name in {**old, **new}:
        was, now = old.get(name), new.get(name)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            names += [f"'{part}'" for part in {**was, **now} if was.get(part) != now.get(part)]
        elif was != now:
            names.append(f"'{name}'")
    return f"of what it was made from, {', '.join(names)} changed" if names else ""


def _remove_leftovers(path: Path) -> None:
    """Remove what a process left that was killed while it wrote; the lock is held."""
    for leftover in path.parent.glob(f".{path.name}-*"):
        shutil.rmtree(leftover, ignore_errors=True)
