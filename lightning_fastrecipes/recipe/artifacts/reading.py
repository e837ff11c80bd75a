"""Read what runs leave on disk, which may come from strangers: bounded, and checked key by key."""

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning_fastrecipes import plain
from lightning_fastrecipes.data.common.files import digest_of, read_bounded, write_atomically
from lightning_fastrecipes.errors import (
    ConfigurationError,
    DataError,
    DataNotFoundError,
    RecipeError,
)
from lightning_fastrecipes.nn.weights import read_checkpoint

_SEAL = "sha256"

RUN_CURE = "Copy the whole run folder again, or start anew in another folder."
EXPORT_CURE = "Copy the whole export again, or export the model anew."


def read_json(
    path: Path,
    check: plain.Check,
    cure: str,
    translate: Callable[[Mapping[str, Any]], dict[str, Any]] = dict,
) -> dict[str, Any]:
    """Read a mapping from JSON, in the names of today that ``translate`` gives, and check it.

    If it was written by ``write_sealed``, it must hold what was written. ``cure`` says what to do
    if not. Raise `DataError` with file, key, what must be and what came; `DataNotFoundError` if
    there is no such file.
    """
    content = _load(path, cure)
    seal = content.pop(_SEAL, None)
    if seal is not None and seal != digest_of(content):
        raise DataError(
            f"{path} must hold what was written, but it was changed: its digest differs. {cure} If"
            f" you changed it yourself, remove its key `{_SEAL}`."
        )
    with named_errors(path, cure):
        today = translate(content)
        check(today, "")
    return today


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write a mapping as JSON, with a digest of it that ``read_json`` compares."""
    # Tuples become lists, as they are when it is read.
    plain_content = json.loads(json.dumps(content))
    sealed = {_SEAL: digest_of(plain_content), **plain_content}
    write_atomically(path, json.dumps(sealed, indent=2) + "\n")


def read_state(path: Path, check: plain.Check, cure: str) -> dict[str, Any]:
    """Read a checkpoint and check its plain values; raise `DataError` as ``read_json`` does."""
    loaded = read_checkpoint(path)
    _check_sums(path, cure)
    with named_errors(path, cure):
        plain.keys({"state_dict": plain.named(_tensor)})(loaded, "")
        check(loaded, "")
    return dict(loaded)


@contextmanager
def named_errors(path: Path, cure: str) -> Iterator[None]:
    """Raise what is wrong in a file as a `DataError` that names the file, and what to do."""
    try:
        yield
    except (DataError, DataNotFoundError, RecipeError):
        raise
    except (TypeError, ValueError, LookupError, AttributeError, RuntimeError) as error:
        raise DataError(f"{path} is damaged: {error} {cure}") from error


def _check_sums(path: Path, cure: str) -> None:
    """Compare the checksums in a checkpoint, which torch writes but does not look at."""
    if not zipfile.is_zipfile(path):  # of torch before 1.6
        return
    try:
        with zipfile.ZipFile(path) as parts:
            damaged = parts.testzip()
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{path} is damaged: {error}. {cure}") from error
    if damaged is not None:
        raise DataError(f"{path} is damaged: the checksum of '{damaged}' is wrong. {cure}")


def file_digest(path: Path) -> str:
    """Compute the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _load(path: Path, cure: str) -> dict[str, Any]:
    if not os.path.isfile(path):
        raise DataNotFoundError(f"There is no file {path}. {cure}")
    try:
        content = json.loads(read_bounded(path), object_pairs_hook=_unique)
    except RecursionError as error:
        raise DataError(f"{path} must not be nested as deeply as it is. {cure}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} must be JSON, but cannot be read: {error}. {cure}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} must hold a mapping, but holds a {type(content).__name__}. {cure}")
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in a mapping")
    return found


def _tensor(value: Any, key: str) -> None:
    if not hasattr(value, "shape"):
        raise ConfigurationError(f"`{key}` must be a tensor, but is a {type(value).__name__}.")
