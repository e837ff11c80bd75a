"""What files may ask for at most, and where what they ask for may be written.

A recipe or a run folder may come from a stranger. What is typed on the command line is not bounded.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

import yaml

from lightning_fastrecipes.messages import shown
from lightning_fastrecipes.nested import pairs
from lightning_fastrecipes.recipe.config.documents import Place, is_bounded_yaml
from lightning_fastrecipes.trust import class_paths

MOST = {
    "batch_size": 1_000_000,
    "devices": 1_024,
    "eval_batch_size": 1_000_000,
    "folds": 1_000,
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

MOST_OF_A_TRANSFORM = 1_000
"""Largest number among the arguments of a transform, such as the width of a border."""

_BEYOND = 2**63

_FOLDERS = ("dirpath", "save_dir", "root_dir", "log_dir")
"""Arguments of callbacks, loggers and profilers that say where these write."""

_LEADS_OUT = re.compile(
    r"\s*([/\\~]|[A-Za-z]:[/\\]|[\w+.-]+://)|(.*[/\\])?\.\.([/\\]|$)", re.DOTALL
)
# As in `{val_loss:.2f}`. Others, such as `c`, write any character, or any number of blanks.
_ODD_FORMAT = re.compile(r"\{[^{}]*:(?!\d?\d?(\.\d\d?)?[deEfFgG]?\})")


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
        section = re.sub(r"^variants\.[^.]+\.", "", key)
        is_text = isinstance(value, str) and section.startswith(("trainer.", "stages.", "model."))
        if is_text and isinstance(said := _within(value), (dict, list)) and [*class_paths(said)]:
            raise where.error("must not name a class within text. Write it as keys and values.")
        if any(last == name and value == one for name, one in allowed):
            continue
        in_file = (
            f"in a file. If you mean it, say it on the command line: `--{key}={shown(value)}`."
        )
        if isinstance(value, str):
            if section.startswith(("trainer.", "stages.")) and _may_lead_out(value):
                raise where.error(
                    f"must be written below the run folder, but {shown(value)} leads out of it,"
                    f" which is not taken {in_file}"
                )
        elif type(value) in (int, float):
            is_drawn = {"augmentation", "transforms"} & {*section.split(".")}
            others = MOST_OF_A_TRANSFORM if is_drawn else None
            others = _MOST_OF_A_MODEL if section.startswith("model.") else others
            most = MOST.get(last, others)
            if most is not None and value > most:
                raise where.error(
                    f"must be at most {most:,}, but is {shown(value)}; more is not taken {in_file}"
                )


def check_sizes(document: dict[str, Any], place: Place) -> None:
    """Refuse whole numbers that no machine counts to; raise `RecipeError`."""
    leaves = [*_leaves(document)]
    texts = {value for _, _, value in leaves if isinstance(value, str)}
    for key, _, value in leaves:
        if type(value) is int and not -_BEYOND <= value < _BEYOND and str(value) not in texts:
            raise place.at(key).error(f"must fit into 64 bits, but is {shown(value)}.")


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


def _may_lead_out(name: str) -> bool:
    """Return whether the name of a file, perhaps with metrics in braces, may lead elsewhere."""
    bare = name.replace("{", "").replace("}", "")  # the name of a metric is written out, too
    return any(map(_LEADS_OUT.match, (name, bare))) or bool(_ODD_FORMAT.search(name))


def _within(text: str) -> Any:
    """Return what text says as YAML, which jsonargparse reads it as; the text itself if nothing."""
    try:
        # The last of keys that repeat counts there, too, which a recipe may not have.
        return yaml.safe_load(text) if is_bounded_yaml(text) else text
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, OverflowError):
        return text


def _leaves(value: Any, path: str = "", last: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield key path without ``init_args``, last key and value of each plain value.

    Text is yielded as it is, and as what it says.
    """
    if not isinstance(value, (dict, list)):
        yield path, last, value
        if isinstance(value, str) and (said := _within(value)) != value:
            yield from _leaves(said, path, last)
    for key, item in pairs(value):
        name, part = str(key).rpartition(".")[2], str(key)
        if isinstance(value, list):
            # An override names a callback by its class.
            class_path = item.get("class_path") if isinstance(item, dict) else None
            name, part = last, str(class_path or "").rpartition(".")[2]
        part = "" if key == "init_args" else part
        yield from _leaves(item, ".".join(filter(None, (path, part))), name)
