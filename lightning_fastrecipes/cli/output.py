"""Where the command writes: the terminal, and files in places that are tried before any work."""

import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text
from typing_extensions import override

from lightning_fastrecipes.errors import DataNotFoundError, RecipeError
from lightning_fastrecipes.messages import printable, shown


class PlainConsole(Console):
    """A console on which names and values steer nothing: no markup, no escape sequences."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, soft_wrap=True, **options)

    @override
    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)


out = PlainConsole()
err = PlainConsole(stderr=True)


def print_json(values: Any) -> None:
    """Write plain values, and paths as text, for other programs to read."""
    sys.stdout.write(json.dumps(values, indent=2, default=str) + "\n")


def check_place(path: Path, what: str = "--out", *, is_folder: bool = False) -> None:
    """Raise `RecipeError` unless a file, or a folder, can be written at a path."""
    try:
        reason = _hindrance(path, is_folder=is_folder)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
    if reason:
        kind = "folder" if is_folder else "file"
        raise RecipeError(
            f"`{what}` must name a {kind} that can be written, but {shown(str(path))} cannot:"
            f" {reason}. Name another place."
        )


def check_finished(folder: Path) -> None:
    """Raise `DataNotFoundError` if there is nothing where a finished run must be."""
    if not os.path.lexists(folder):
        raise DataNotFoundError(
            f"There is no folder {shown(str(folder))} (looked for"
            f" {shown(os.path.abspath(folder))}). Name the folder of a finished `fastrecipes run`."
        )


def refuse_links(folder: Path) -> None:
    """Raise `RecipeError` if a link in a run folder would let a resumed run write elsewhere."""
    home = folder.resolve()
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(place, name)
            if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(home):
                raise RecipeError(
                    f"{path} must not lead out of the run folder, which a resumed run writes to,"
                    f" but it is a link to {shown(os.readlink(path))}. Copy its content there."
                )


def _hindrance(path: Path, *, is_folder: bool) -> str:
    if os.path.exists(path):
        if not is_folder and not os.path.isfile(path):
            return "it is a folder or a device"
        if is_folder and not os.path.isdir(path):
            return "it is a file"
    else:
        # What is missing for another reason than that nothing is there, such as a long name.
        if os.path.lexists(path):
            return "it is a link to nothing"
        with contextlib.suppress(FileNotFoundError):
            os.lstat(path)
    place = path if is_folder else path.parent
    while not os.path.exists(place):
        place = place.parent
    if not os.path.isdir(place):
        return f"{place} is no folder"
    with tempfile.TemporaryFile(dir=place):
        return ""
