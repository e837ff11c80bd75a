"""YAML documents of recipes: read strictly, written in a fixed order."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.messages import suggestion
from lightning_fastrecipes.old_names import translate_recipe


class Place(NamedTuple):
    """A place in a recipe, for messages: the file, and the key path in it."""

    path: Path
    key: str = ""

    def at(self, name: str) -> "Place":
        """Return the place of a key below this one."""
        return Place(self.path, f"{self.key}.{name}" if self.key else name)

    def error(self, text: object) -> RecipeError:
        """Return an error about this place."""
        return RecipeError(f"{self}: {text}")

    def __str__(self) -> str:
        return f"{self.path}: {self.key}" if self.key else str(self.path)


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
    """Parse one value as in a recipe file.

    >>> parse_value("1e-3"), parse_value("photos"), parse_value("[1, 2]")
    (0.001, 'photos', [1, 2])
    """
    return yaml.load(text, Loader=_StrictLoader)


def read_document(path: Path) -> dict[str, Any]:
    """Read the YAML mapping of a recipe or of a run folder, old keys translated.

    Raise `RecipeError` if the file is missing, is not YAML, or does not hold a mapping.
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
    return translate_recipe(document)


def dump_document(document: dict[str, Any]) -> str:
    """Write a document as YAML that ``read_document`` reads back."""
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)


def class_paths(document: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the key path and the path of every class in a document; nothing is imported.

    >>> list(class_paths({"data": {"class_path": "a.B"}, "model": "c.D"}))
    [('data', 'a.B'), ('model', 'c.D')]
    """
    items = document.items() if isinstance(document, Mapping) else enumerate(document)
    for name, value in items:
        where = f"{key}.{name}" if key else str(name)
        if name == "class_path":
            yield key, str(value)
        elif isinstance(value, str) and (where in ("data", "model") or key.endswith("callbacks")):
            yield where, value
        elif isinstance(value, (Mapping, list)):
            yield from class_paths(value, where)


def check_keys(
    value: Mapping[str, Any], known: Iterable[str], place: Place, owner: str = ""
) -> None:
    """Raise `RecipeError` for unknown keys or arguments of ``owner``; suggest what was meant."""
    known = list(known)
    for name in value:
        if name not in known:
            what = f"`{owner}` has no argument `{name}`" if owner else f"there is no key `{name}`"
            hint = suggestion(str(name), known) or f" Known: {', '.join(known)}."
            raise place.error(f"{what}.{hint}")
