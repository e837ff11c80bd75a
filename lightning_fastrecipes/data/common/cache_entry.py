"""A folder of cached files, shared by everything that is kept on disk between runs."""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from lightning_fastrecipes._lightning import rank_zero_warn
from lightning_fastrecipes.data.common.disk_room import ADVICE, NoRoomError, writing
from lightning_fastrecipes.data.common.files import checksum, digest_of, read_bounded, umask
from lightning_fastrecipes.messages import bounded

Stored = TypeVar("Stored")

logger = logging.getLogger(__name__)

_MANIFEST = "manifest.json"
_SEAL = "sha256"
_QUIET = 5.0


@dataclass(frozen=True)
class EntryFiles:
    """Files of an entry that are yet to be written: ``write`` writes them into an empty folder.

    ``notes`` are plain JSON values to store beside them.
    """

    num_bytes: int
    write: Callable[[Path], None]
    notes: Mapping[str, Any] = field(default_factory=dict)


class CacheEntry:
    """A folder of files that is rebuilt if it is damaged or out of date.

    It lives in ``folder``, made if missing, under ``name``, such as ``table``, and a hash of
    ``key``: what it is for, as plain JSON values, such as paths and options. ``fingerprint`` is
    what it was built from, such as file sizes and versions; if the stored one differs, the entry is
    rebuilt in place. Lengths and checksums of the files are compared before they are used, but for
    the checksums of ``unchecked`` files, which whoever loads them has to verify. ``advice`` says in
    messages what to do where the entry cannot be written.

    >>> entry = CacheEntry(Path(tempfile.mkdtemp()), "text", {"of": "a"}, {"version": 1})
    >>> def build(_: str | None) -> EntryFiles:
    ...     return EntryFiles(2, lambda folder: (folder / "a.txt").write_text("hi"))
    >>> entry.get_or_build(build, lambda folder, notes: (folder / "a.txt").read_text())
    'hi'
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        key: Mapping[str, Any],
        fingerprint: Mapping[str, Any] | None = None,
        *,
        unchecked: Collection[str] = (),
        advice: str = ADVICE,
    ) -> None:
        self.key: dict[str, Any] = json.loads(json.dumps(key))
        self.fingerprint: dict[str, Any] = json.loads(json.dumps(fingerprint or {}))
        self.name = name
        text = json.dumps(self.key, sort_keys=True)
        digest = hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
        self.path = folder / f"{name}-{digest}"
        self._unchecked = unchecked
        self._advice = advice

    def read(self) -> dict[str, Any] | None:
        """Return the notes of a stored entry, or ``None`` if there is none that can be used."""
        if not self.path.exists():
            return None
        try:
            manifest = json.loads(read_bounded(self.path / _MANIFEST))
            seal = manifest.pop(_SEAL, None)
            problem = self._problem(manifest)
            # Those of earlier versions have none.
            if problem is None and seal not in (None, digest_of(manifest)):
                problem = f"damaged: the checksum of '{_MANIFEST}' is wrong"
            if problem is None:
                notes: dict[str, Any] = manifest["notes"]
                return notes
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            problem = f"damaged: {type(error).__name__}: {bounded(str(error), 300)}"
        except RecursionError:
            problem = "damaged: it is nested too deeply"
        self._warn(problem)
        return None

    def get_or_build(
        self,
        build: Callable[[Stored | None], EntryFiles],
        load: Callable[[Path, dict[str, Any]], Stored],
        is_complete: Callable[[Stored], bool] = lambda stored: True,
    ) -> Stored:
        """Load the files, after building them if need be, once even if several processes ask.

        ``build`` is called if there is nothing stored that can be used (it gets ``None``) or if
        what is stored is not complete (it gets that). ``load`` opens the files, and gets their
        folder and their notes; whatever it raises of stored files, they are built anew, since
        checksums do not tell who wrote them. ``is_complete`` says whether what is stored is all
        that is needed. What is complete is read from a folder that cannot be written to, too. Raise
        `NoRoomError` if the folder or the disk cannot take the files.
        """
        try:
            with self._writing():
                self.path.parent.mkdir(parents=True, exist_ok=True)
                lock = FileLock(f"{self.path}.lock")
                self._acquire(lock)
        except NoRoomError:
            # Nobody writes here, so that there is no need of a lock either.
            found = self._stored(load) if os.path.isdir(self.path) else None
            if found is not None and is_complete(found):
                return found
            raise
        try:
            # A process that was killed while it wrote left them; the lock is held.
            for leftover in self.path.parent.glob(f".{self.path.name}-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            stored = self._stored(load)
            if stored is not None and is_complete(stored):
                return stored
            files = build(stored)
            with self._writing(files.num_bytes):
                self._write(files)
                return load(self.path, json.loads(json.dumps(files.notes)))
        finally:
            lock.release()

    def _acquire(self, lock: FileLock) -> None:
        try:
            lock.acquire(timeout=_QUIET)
        except Timeout:
            rank_zero_warn(
                f"Another process writes the {self.name} cache '{self.path}'. This one waits until"
                " it has ended."
            )
            lock.acquire()

    def _stored(self, load: Callable[[Path, dict[str, Any]], Stored]) -> Stored | None:
        notes = self.read()
        if notes is None:
            return None
        try:
            return load(self.path, notes)
        except Exception as error:  # what others have put there makes libraries raise anything
            self._warn(f"damaged: {type(error).__name__}: {bounded(str(error), 300)}")
            return None

    def _warn(self, problem: str) -> None:
        rank_zero_warn(f"The {self.name} cache '{self.path}' is {problem}. It is rebuilt.")

    def _writing(self, num_bytes: int = 0) -> AbstractContextManager[None]:
        return writing(self.name, self.path.parent, num_bytes, self._advice)

    def _problem(self, manifest: Mapping[str, Any]) -> str | None:
        if manifest["key"] != self.key:
            return "damaged: it is for something else"
        changed = _changes(manifest["fingerprint"], self.fingerprint)
        if changed:
            return f"stale: of what it was built from, {', '.join(changed)} changed"
        for name, (num_bytes, expected) in manifest["files"].items():
            file = self.path / name
            if file.stat().st_size != num_bytes:
                return f"damaged: the length of '{name}' is wrong"
            if expected is not None and checksum(file) != expected:
                return f"damaged: the checksum of '{name}' is wrong"
        return None

    def _write(self, files: EntryFiles) -> None:
        temporary = Path(tempfile.mkdtemp(dir=self.path.parent, prefix=f".{self.path.name}-"))
        replaced = temporary.with_name(f"{temporary.name}-replaced")
        try:
            files.write(temporary)
            manifest = {
                "key": self.key,
                "fingerprint": self.fingerprint,
                "notes": files.notes,
                "files": {
                    file.name: [
                        file.stat().st_size,
                        None if file.name in self._unchecked else checksum(file),
                    ]
                    for file in sorted(temporary.iterdir())
                },
            }
            manifest = json.loads(json.dumps(manifest))
            content = json.dumps({_SEAL: digest_of(manifest), **manifest}, indent=1)
            (temporary / _MANIFEST).write_text(content, encoding="utf-8")
            temporary.chmod(0o777 & ~umask())
            if self.path.exists():
                os.replace(self.path, replaced)
            os.replace(temporary, self.path)
        finally:
            for rest in (temporary, replaced):
                shutil.rmtree(rest, ignore_errors=True)
        logger.info("Wrote the %s cache '%s'", self.name, self.path)


def package_versions(*names: str) -> dict[str, str]:
    """Return the installed versions of packages, for a key or a fingerprint."""
    return {name: version(name) for name in names}


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Name the parts of a fingerprint that differ, and of a mapping in it its keys."""
    names = []
    for name in {**old, **new}:
        was, now = old.get(name), new.get(name)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            names += [f"'{part}'" for part in {**was, **now} if was.get(part) != now.get(part)]
        elif was != now:
            names.append(f"'{name}'")
    return names
