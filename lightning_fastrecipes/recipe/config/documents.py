"""YAML documents of recipes, read strictly and written in a fixed order."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.messages import suggestion


class _StrictLoader(yaml.SafeLoader):
    """YAML where ``1e-3`` is a number and a repeated key is an error."""


_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def _unique_mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key `{key}` stands twice", key_node.start_mark
            )
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor("tag:yaml.org,2002:map", _unique_mapping)


def parse_value(text: str) -> Any:
    """Read one value as a recipe file would.

    Args:
        text: YAML.

    Returns:
        A plain value.

    Example:
        >>> parse_value("1e-3"), parse_value("photos"), parse_value("[1, 2]")
        (0.001, 'photos', [1, 2])
    """
    return yaml.load(text, Loader=_StrictLoader)


def read_document(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Args:
        path: The file.

    Returns:
        The mapping.

    Raises:
        RecipeError: If the file is missing, is no YAML, or holds no mapping.
    """
    try:
        document = parse_value(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecipeError(
            f"There is no recipe file {path}. `fastrecipes ls` lists names."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise RecipeError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(document, dict):
        raise RecipeError(f"{path} must hold keys such as `data` and `stages`, but holds none.")
    return document


def dump_document(document: dict[str, Any]) -> str:
    """Write a document so that ``read_document`` gives it back."""
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)


def check_keys(
    value: Mapping[str, Any], known: Iterable[str], path: Path, key: str, owner: str = ""
) -> None:
    """Refuse keys that nobody reads, and name the one that was meant.

    Args:
        value: A mapping of the document.
        known: Keys that are read.
        path: The file, for messages.
        key: Key path of the mapping, for messages.
        owner: The class whose arguments the keys are, for messages.

    Raises:
        RecipeError: If a key is not known.
    """
    known = [name for name in known if name != "self"]
    for name in value:
        if name not in known:
            what = f"`{owner}` has no argument `{name}`" if owner else f"there is no key `{name}`"
            where = f"{path}: {key}: " if key else f"{path}: "
            meant = suggestion(str(name), known)
            options = "" if meant else f" Known: {', '.join(known)}."
            raise RecipeError(f"{where}{what}.{meant}{options}")
