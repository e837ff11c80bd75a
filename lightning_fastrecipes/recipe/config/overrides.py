"""Change single keys of a recipe's document, for the command line and for variants."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import yaml

from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.messages import shown
from lightning_fastrecipes.old_names import SHORT_FORMS, translate_key
from lightning_fastrecipes.recipe.config.documents import (
    MAX_DEPTH,
    Place,
    check_keys,
    parse_value,
    yaml_problem,
)
from lightning_fastrecipes.recipe.config.schema import ClassSpec

SECTIONS = (
    "name", "description", "seed", "seeds", "folds", "data", "model", "trainer", "stages",
    "evaluation", "train_metrics", "save_every", "initial_checks", "validation_guard", "report",
    "parts", "variants", "series",
)  # fmt: skip
_NAMED = {"stages": "stage", "callbacks": "callback", "variants": "variant"}


@dataclass(frozen=True)
class Override:
    """A dotted key such as ``data.root``, and its new value; ``is_text`` if that was typed."""

    key: str
    value: Any
    is_text: bool = False


def read_override(text: str) -> Override:
    """Read ``key.path=value`` from the command line; `RecipeError` if it is no override."""
    key, separator, value = text.partition("=")
    if not separator or not all(key.split(".")):
        raise RecipeError(
            f"{shown(text)} is no override. Write `--key.path=value`, such as `--data.root=photos`."
        )
    if key.count(".") >= MAX_DEPTH:
        raise RecipeError(f"{shown(key)} must have at most {MAX_DEPTH} parts. Shorten it.")
    return Override(key, value, is_text=True)


def check_names(document: dict[str, Any], overrides: Sequence[str], place: Place) -> None:
    """Check sections and names of stages, for which nothing large is imported.

    Raise `RecipeError` for a section or a stage that there is not.
    """
    check_keys(document, SECTIONS, place)
    for text in overrides:
        first, *rest = translate_key(read_override(text).key, None, document)[0].split(".")
        check_keys({first: None}, SECTIONS, place)
        if first == "stages" and len(rest) > 1:
            _descend(copy.deepcopy(document.get(first)), rest[0], [first], place)


def apply_override(document: dict[str, Any], override: Override, place: Place) -> Override:
    """Set one key of a document in place.

    A name within ``stages``, ``variants`` or the callbacks of a stage is a stage, a variant or the
    class of a callback; a number counts from 0. ``init_args`` may be left out. Return the override
    with today's name of the key, and with the value that was set. Raise `RecipeError` if there is
    no such key.
    """
    key, _ = translate_key(override.key, None, document)
    parts = key.split(".")
    check_keys({parts[0]: None}, SECTIONS, place)
    if parts[0] == "variants":
        # The keys of a variant are dotted paths themselves.
        parts = [*parts[:2], ".".join(parts[2:])] if parts[2:] else parts
    target: Any = document
    for depth, part in enumerate(parts[:-1]):
        target = _descend(target, part, parts[:depth], place)
    what = _NAMED.get(parts[-2]) if parts[1:] else None
    if what or isinstance(target, list):
        raise place.error(f"name one key of one {what or 'item'}.")
    if not isinstance(target, dict):
        raise _holds_no_keys(parts[:-1], target, place)
    value = override.value
    if override.is_text:
        try:
            value = _typed_word(target, parts[-1], value)
        except yaml.YAMLError as error:
            said = yaml_problem(error)
            raise place.error(f"{shown(value)} cannot be read as YAML: {said}") from error
    _, value = translate_key(override.key, value, document)
    _arguments(target, parts[-1])[parts[-1]] = copy.deepcopy(value)
    return Override(key, value)


def _descend(target: Any, part: str, before: list[str], place: Place) -> Any:
    """Return what a mapping or a list holds under a key, a class name or a number."""
    key: Any = part
    what = _NAMED.get(before[-1]) if before else None
    if isinstance(target, list) or (what and isinstance(target, dict)):
        names = [_class_name(item) if isinstance(target, list) else str(item) for item in target]
        index = names.index(part) if part in names else int(part) if part.isdigit() else -1
        if not 0 <= index < len(names):
            what = what or "item"
            known = f"{what.capitalize()}s: {', '.join(names)}."
            raise place.error(f"there is no {what} {shown(part)}. {known}")
        key = index if isinstance(target, list) else list(target)[index]
    elif not isinstance(target, dict):
        raise _holds_no_keys(before, target, place)
    else:
        target = _arguments(target, part)
    found = target.get(key) if isinstance(target, dict) else target[key]
    path = ".".join([*before, part]).replace(".init_args", "")
    if found is None:
        found = {}
    elif isinstance(found, str) and (what == "callback" or path in ("data", "model")):
        found = {"class_path": found}
    elif path in SHORT_FORMS and not isinstance(found, dict):
        found = {SHORT_FORMS[path]: found}
    target[key] = found
    return found


def _holds_no_keys(path: Sequence[str], value: Any, place: Place) -> RecipeError:
    name = ".".join(path)
    return place.error(
        f"`{name}` is {shown(value)}, which holds no keys. Write the whole value: `--{name}=...`."
    )


def _arguments(target: dict[str, Any], part: str) -> dict[str, Any]:
    """Return the arguments of a mapping that names a class, else the mapping itself."""
    if "class_path" not in target or part in ("class_path", "init_args"):
        return target
    if target.get("init_args") is None:
        target["init_args"] = {}
    arguments: dict[str, Any] = target["init_args"]
    return arguments


def _class_name(item: Any) -> str:
    path = item.get("class_path") if isinstance(item, dict) else item
    return str(path).rpartition(".")[2]


def _typed_word(target: dict[str, Any], name: str, text: str) -> Any:
    """Parse a word as YAML, but keep it where a class takes text, such as a path ``2024``."""
    value = parse_value(text) if text else ""
    if "class_path" in target and isinstance(value, (int, float, bool)):
        # Imports torch, which most words do without.
        from lightning_fastrecipes.recipe.config.building import constructor_arguments

        try:
            known = constructor_arguments(ClassSpec(str(target["class_path"])).load()) or {}
        except (ImportError, AttributeError, TypeError, ValueError):
            return value
        options = {known.get(name), *get_args(known.get(name))}
        if str in options and type(value) not in options:
            return text
    return value
