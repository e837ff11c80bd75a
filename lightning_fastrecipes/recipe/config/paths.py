"""Paths in a recipe: beside the recipe, where there is such a file, else in the current folder."""

import os
from pathlib import Path, PurePath
from typing import Any

_KEYS = ("root", "csv", "source", "folder", "weights")
"""Arguments that name files or folders of the user."""


def from_beside(document: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return a document in which paths that lie beside the recipe are absolute.

    Paths are the values of ``_KEYS`` below ``data``, ``model`` and ``variants``, patterns such as
    ``months/*.csv`` included. So a recipe runs from anywhere, and is resumed from anywhere. Nothing
    changes if the current folder is that of the recipe.
    """
    home = folder.resolve()
    if home == Path.cwd():
        return document
    sections = {"data", "model", "variants"} & document.keys()
    return document | {name: _walk(document[name], home, is_path=False) for name in sections}


def _walk(value: Any, home: Path, *, is_path: bool) -> Any:
    if isinstance(value, dict):
        # A key of a variant is dotted; a table for each split is a mapping of paths.
        return {
            key: _walk(one, home, is_path=is_path or str(key).rpartition(".")[2] in _KEYS)
            for key, one in value.items()
        }
    if isinstance(value, list):
        return [_walk(one, home, is_path=is_path) for one in value]
    return _resolved(value, home) if is_path and isinstance(value, str) else value


def _resolved(text: str, home: Path) -> str:
    if not text or "\0" in text or ":" in text or PurePath(text).is_absolute():
        return text
    try:
        is_there = os.path.exists(home / text) or any(home.glob(text))
    except (OSError, ValueError):  # a name that no disk takes, or no pattern
        return text
    return str(home / text) if is_there else text
