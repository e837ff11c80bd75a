"""What files may ask for at most, and where what they ask for may be written.

A recipe or a run folder may come from a stranger. What is typed on the command line is not bounded.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

from lightning_fastrecipes.messages import shown
from lightning_fastrecipes.nested import pairs
from lightning_fastrecipes.recipe.config.documents import Place, is_bounded_yaml

MOST = {
    "batch_size": 1_000_000,
    "devices": 1_024,
    "eval_batch_size": 1_000_000,
    "image_size": 4_096,
    "max_epochs": 100_000,
    "max_megapixels": 1_000,
    "n": 1_000,
    "num_classes": 100_000,
    "num_nodes": 1_024,
    "num_workers": 256,
    "seeds": 1_000,
    "sizes": 4_096,
    "until_overfitting": 100_000,
    "views": 1_000,
}
"""Largest numbers by key that a recipe, a run folder or an export may hold."""

_MOST_OF_A_MODEL = 65_536
"""Largest number among the arguments of a model, such as the width of a layer."""

_FOLDERS = ("dirpath", "save_dir", "root_dir", "log_dir")
"""Arguments of callbacks, loggers and profilers that say where these write."""

_LEADS_OUT = re.compile(
    r"\s*([/\\~]|[A-Za-z]:[/\\]|[\w+.-]+://)|(.*[/\\])?\.\.([/\\]|$)", re.DOTALL
)


def check_bounds(document: dict[str, Any], typed: Sequence[tuple[str, Any]], place: Place) -> None:
    """Refuse numbers that are too large, paths that lead out, and text that is endless YAML.

    ``typed`` are keys and values of the command line. Raise `RecipeError`.
    """
    allowed = [
        (last, value)
        for key, typed_value in typed
        for _, last, value in _leaves({key.rpartition(".")[2]: typed_value})
    ]
    for key, last, value in _leaves(document):
        where = place.at(key)
        if isinstance(value, str) and not is_bounded_yaml(value):
            raise where.error(
                "must not be long or deep YAML within text. Write it as keys and values."
            )
        if any(last == name and value == one for name, one in allowed):
            continue
        in_file = (
            f"in a file. If you mean it, say it on the command line: `--{key}={shown(value)}`."
        )
        section = re.sub(r"^variants\.[^.]+\.", "", key)
        if isinstance(value, str):
            if section.startswith(("trainer.", "stages.")) and _LEADS_OUT.match(value):
                raise where.error(
                    f"must be written below the run folder, but {shown(value)} leads out of it,"
                    f" which is not taken {in_file}"
                )
        elif type(value) in (int, float):
            most = MOST.get(last, _MOST_OF_A_MODEL if section.startswith("model.") else None)
            if most is not None and value > most:
                raise where.error(
                    f"must be at most {most:,}, but is {shown(value)}; more is not taken {in_file}"
                )


def below(value: Any, folder: Path) -> Any:
    """Put the relative folders that callbacks and loggers write to into the run folder."""
    if isinstance(value, dict):
        return {
            key: str(folder / item)
            if key in _FOLDERS and isinstance(item, str) and not PurePath(item).is_absolute()
            else below(item, folder)
            for key, item in value.items()
        }
    return [below(item, folder) for item in value] if isinstance(value, list) else value


def _leaves(value: Any, path: str = "", last: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield key path without ``init_args``, last key and value of each plain value."""
    if not isinstance(value, (dict, list)):
        yield path, last, value
    for key, item in pairs(value):
        name, part = str(key).rpartition(".")[2], str(key)
        if isinstance(value, list):
            # An override names a callback by its class.
            class_path = item.get("class_path") if isinstance(item, dict) else None
            name, part = last, str(class_path or "").rpartition(".")[2]
        part = "" if key == "init_args" else part
        yield from _leaves(item, ".".join(filter(None, (path, part))), name)
