"""Single keys of a recipe set from outside: on the command line, or by a rung."""

import copy
import inspect
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.old_names import translate_key
from lightning_fastrecipes.recipe.config.documents import check_keys, parse_value

SECTIONS = (
    "name", "description", "seed", "data", "model", "trainer", "stages", "evaluation",
    "initial_checks", "rungs",
)  # fmt: skip
_WITH_CLASSES = {"data", "model"}
_BY_NAME = {"stages", "rungs"}


@dataclass(frozen=True)
class Override:
    """One key and its new value.

    Args:
        key: Dotted path, such as ``data.root`` or ``stages.head.max_epochs``.
        value: What it is set to, as plain YAML values.
        label: What to call it in messages.
        is_text: Whether ``value`` was typed as one word, and may be meant as text.
    """

    key: str
    value: Any
    label: str
    is_text: bool = False

    @property
    def parts(self) -> list[str]:
        """The key's names, with ``init_args`` where it is left out."""
        parts = self.key.split(".")
        if parts[0] in _WITH_CLASSES and parts[1:2] not in (["class_path"], ["init_args"]):
            parts.insert(1, "init_args")
        return parts


def read_override(text: str, path: Path) -> Override:
    """Read ``key.path=value`` from the command line.

    Args:
        text: What was typed.
        path: The recipe file, for messages.

    Returns:
        The override.

    Raises:
        RecipeError: If the text is no override, or names no section of a recipe.
    """
    key, separator, value = text.partition("=")
    if not separator or not all(key.split(".")):
        raise RecipeError(
            f"`{text}` is no override. Write `--key.path=value`, such as `--data.root=photos`."
        )
    return Override(key, value, f"override --{key}", is_text=True)


def apply_override(document: dict[str, Any], override: Override, path: Path) -> Override:
    """Set one key of a document in place.

    Args:
        document: The recipe as YAML gives it.
        override: What to set.
        path: The recipe file, for messages.

    Returns:
        The override with its value as it was set.

    Raises:
        RecipeError: If there is no such place.
    """
    key, value = translate_key(override.key, override.value, document)
    override = replace(override, key=key, value=value)
    parts = override.parts
    check_keys({parts[0]: None}, SECTIONS, path, override.label)
    target: Any = document
    for position, part in enumerate(parts[:-1]):
        where = ".".join(parts[: position + 1])
        if isinstance(target, list):
            target = _named(target, part, path, override)
        elif isinstance(target, dict):
            if target.get(part) is None:
                target[part] = {}
            target = target[part]
        else:
            raise RecipeError(f"{path}: {override.label}: `{where}` holds no keys.")
    if isinstance(target, list):
        raise RecipeError(f"{path}: {override.label}: name one key of one {parts[0][:-1]}.")
    if not isinstance(target, dict):
        raise RecipeError(f"{path}: {override.label}: `{'.'.join(parts[:-1])}` holds no keys.")
    value = _typed_word(document, parts, override.value) if override.is_text else override.value
    target[parts[-1]] = copy.deepcopy(value)
    return replace(override, value=value, is_text=False)


def _named(items: list[Any], name: str, path: Path, override: Override) -> Any:
    """Find a stage or a rung by name or number."""
    names = [str(item.get("name")) for item in items if isinstance(item, dict)]
    if name in names:
        return items[names.index(name)]
    if name.isdigit() and int(name) < len(items):
        return items[int(name)]
    section = override.parts[0] if override.parts[0] in _BY_NAME else "items"
    raise RecipeError(
        f"{path}: {override.label}: there is no {section[:-1]} {name!r}."
        f" {section.capitalize()}: {', '.join(names)}."
    )


def _typed_word(document: dict[str, Any], parts: list[str], text: str) -> Any:
    """Read a word as YAML, but leave text alone where the argument takes text, such as a path."""
    value = parse_value(text) if text else ""
    if parts[0] in _WITH_CLASSES and isinstance(value, (int, float, bool)):
        try:
            module, _, name = str(document[parts[0]]["class_path"]).rpartition(".")
            cls = getattr(__import__(module, fromlist=[name]), name)
            annotation = inspect.signature(cls).parameters[parts[-1]].annotation
        except (ImportError, AttributeError, KeyError, TypeError, ValueError):
            return value
        options = {annotation, *get_args(annotation)}
        if str in options and type(value) not in options:
            return text
    return value
