"""Objects built from the classes and arguments that a recipe names."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from jsonargparse import ArgumentError, ArgumentParser

from lightning_fastrecipes.errors import RecipeError
from lightning_fastrecipes.recipe.config.schema import ClassSpec

T = TypeVar("T")


def build(spec: ClassSpec, base: type[T], path: Path, key: str, **extra: Any) -> T:
    """Build the object that a specification describes.

    Args:
        spec: Class and arguments.
        base: What the object must be an instance of.
        path: The recipe file, for messages.
        key: Key path of the specification, for messages.
        **extra: Arguments that the recipe leaves out.

    Returns:
        The object.

    Raises:
        RecipeError: If the arguments do not fit the constructor.
    """
    parser = make_parser(lambda p: p.add_subclass_arguments(base, "object", required=True))
    value = {"class_path": spec.class_path, "init_args": {**spec.init_args, **extra}}
    parsed = parse_values(parser, {"object": value}, path, key)
    try:
        built = parser.instantiate(parsed)
    except ValueError as error:
        # jsonargparse lists what each type of a union said; the first is that of the class.
        said = re.search(r"Errors:\s+- (.*)", str(error))
        raise RecipeError(f"{path}: {key}: {said[1] if said else error}") from error
    result: T = built.object
    return result


def make_parser(add: Callable[[ArgumentParser], Any]) -> ArgumentParser:
    """Return a parser with the arguments that ``add`` adds; it raises in place of exiting."""
    parser = ArgumentParser(exit_on_error=False)
    add(parser)
    return parser


def parse_values(parser: ArgumentParser, value: dict[str, Any], path: Path, key: str) -> Any:
    """Parse plain values; a mistake is a ``RecipeError`` with file and key path."""
    try:
        return parser.parse_object(value)
    except (ArgumentError, TypeError, ValueError) as error:
        text = str(error).replace("object.init_args.", "").replace("object.", "")
        text = re.sub(r"\s+", " ", text.replace('"object"', f'"{key}"')).strip()
        raise RecipeError(f"{path}: {key}: {text}") from error
