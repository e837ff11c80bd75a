"""YAML documents of recipes: read strictly, written in a fixed order."""

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from lightning_fastrecipes.data.common.sources import is_endless
from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.messages import suggestion
from lightning_fastrecipes.old_names import translate_recipe


class Place(NamedTuple):
    """A place in a recipe: the file, the key path in it, and the modules that it may name."""

    path: Path
    key: str = ""
    trust: tuple[str, ...] = ()

    def at(self, name: str) -> "Place":
        """Return the place of a key below this one."""
        return self._replace(key=f"{self.key}.{name}" if self.key else name)

    def error(self, text: object) -> RecipeError:
        """Return an error about this place."""
        return RecipeError(f"{self}: {text}")

    def __str__(self) -> str:
        return f"{self.path}: {self.key}" if self.key else str(self.path)


_MAX_LENGTH, _MAX_NODES, MAX_DEPTH = 1_000_000, 10_000, 50
# Text within a document, unless it is plain: a sentence, a path.
_MAX_TEXT, _CAN_NEST = 10_000, re.compile(r"[\[{&*]|[:-]\s")
_TOO_LARGE = yaml.YAMLError(
    f"it must be at most {_MAX_LENGTH:,} characters long, hold at most {_MAX_NODES:,} values with"
    f" every alias written out, and be at most {MAX_DEPTH} levels deep. Make it smaller."
)


class _StrictLoader(yaml.SafeLoader):
    """YAML where ``1e-3`` is a number, a repeated key is an error, and the size is bounded."""

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            nodes, depth = _extent(node, {})
            if nodes > _MAX_NODES or depth > MAX_DEPTH:
                raise _TOO_LARGE
        return node


def _extent(node: yaml.Node, known: dict[int, tuple[float, float]]) -> tuple[float, float]:
    """Return how many nodes there are with every alias written out, and how deep they are."""
    if id(node) not in known:
        known[id(node)] = (math.inf, math.inf)  # of a node that holds itself
        below: list[Any] = node.value if isinstance(node, yaml.CollectionNode) else []
        if isinstance(node, yaml.MappingNode):
            below = [part for pair in below for part in pair]
        found = [_extent(part, known) for part in below]
        nodes, depths = zip(*found, strict=True) if found else ((), ())
        known[id(node)] = (1 + sum(nodes), 1 + max(depths, default=0))
    return known[id(node)]


_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def _unique_mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            raise yaml.constructor.ConstructorError(
                None, None, "keys are not merged by `<<`: write them out", key_node.start_mark
            )
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key `{key}` stands twice", key_node.start_mark
            )
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


def _valid_text(loader: _StrictLoader, node: yaml.ScalarNode) -> str:
    text = loader.construct_scalar(node)
    if any("\ud800" <= sign <= "\udfff" for sign in text):
        raise yaml.constructor.ConstructorError(
            None, None, "text holds half of a character, which no file can hold", node.start_mark
        )
    return text


_StrictLoader.add_constructor("tag:yaml.org,2002:map", _unique_mapping)
_StrictLoader.add_constructor("tag:yaml.org,2002:str", _valid_text)


def parse_value(text: str) -> Any:
    """Parse one value as in a recipe file.

    >>> parse_value("1e-3"), parse_value("photos"), parse_value("[1, 2]")
    (0.001, 'photos', [1, 2])
    """
    try:
        if len(text) <= _MAX_LENGTH:
            return yaml.load(text, Loader=_StrictLoader)
    except RecursionError:
        pass
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        # PyYAML lets these out, for dates such as 2020-13-45 or keys that are lists.
        raise yaml.YAMLError(f"a value is none of YAML's: {error}") from error
    raise _TOO_LARGE


def yaml_problem(error: Exception) -> str:
    """Return in one line why something is no YAML, and where."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    return f"{getattr(error, 'problem', error)} in line {mark.line + 1}, column {mark.column + 1}"


def is_bounded_yaml(text: str) -> bool:
    """Return whether text stays small and shallow if it is read as YAML, as jsonargparse does."""
    if not _CAN_NEST.search(text):
        return True
    if len(text) > _MAX_TEXT:
        return False
    try:
        yaml.compose(text, Loader=_StrictLoader)
    except RecursionError:
        return False
    except yaml.YAMLError as error:
        return error is not _TOO_LARGE  # what is no YAML stays text
    return True


def read_document(path: Path) -> dict[str, Any]:
    """Read the YAML mapping of a recipe or of a run folder, old keys translated.

    Raise `RecipeError` if the file is missing, is not YAML, or does not hold a mapping.
    """
    if is_endless(path):
        raise RecipeError(f"{path} must be a recipe file, but is a pipe or a device. Name a file.")
    try:
        document = parse_value(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecipeError(
            f"There is no recipe file {path}. `fastrecipes ls` lists names."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        said = getattr(error, "strerror", None) or yaml_problem(error)
        raise RecipeError(f"{path} cannot be read as YAML: {said}") from error
    if not isinstance(document, dict):
        raise RecipeError(f"{path} must hold keys such as `data` and `stages`, but holds none.")
    try:
        return translate_recipe(document)
    except (AttributeError, LookupError, TypeError, ValueError):
        return document  # of no form that any version wrote; checks will name the key


def dump_document(document: dict[str, Any]) -> str:
    """Write a document as YAML that ``read_document`` reads back."""
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)
    # Signs that end a line would be read as blanks.
    if any(sign in text for sign in "\x85\u2028\u2029"):
        text = yaml.safe_dump(document, sort_keys=False, width=100)
    return text


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
