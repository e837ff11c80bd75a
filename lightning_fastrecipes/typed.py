"""What types mean in words, and which of nested plain values is not of its type."""

import collections.abc
import inspect
import numbers
import sys
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import timedelta
from os import PathLike
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

import yaml

from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.messages import shown, suggestion

T = TypeVar("T")

_WORDS: Mapping[Any, str] = {
    str: "text", int: "a whole number", float: "a number", bool: "true or false",
    NoneType: "null", Any: "anything", timedelta: "a length of time such as `00:12:00:00`",
}  # fmt: skip
_LONGEST = 40  # of a number as text
_PLAIN = (str, int, float, bool, NoneType)
_LISTS = (list, tuple, set, collections.abc.Sequence, collections.abc.Iterable)
_MAPPINGS = (dict, collections.abc.Mapping)


class Mistake(NamedTuple):
    """A key below some value, and what is wrong with it."""

    key: str
    text: str


def type_in_words(annotation: Any) -> str:
    """Describe what a type takes, as people write it in a file.

    >>> type_in_words(int | None), type_in_words(list[float] | Literal["find"])
    ('a whole number or null', "a list (each a number) or 'find'")
    """
    options = _options(annotation)
    is_open = any(map(_is_options, options)) or any(get_origin(o) in _LISTS for o in options)
    plain = [
        option
        for option in options
        if not (option is int and float in options)
        and not (is_open and (get_origin(option) or option) in _MAPPINGS)
    ]
    words = dict.fromkeys(word for option in plain for word in _words(option))
    if "text" in words:
        words.pop("a path", None)
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def find_mistake(annotations: Mapping[str, Any], values: Mapping[str, Any]) -> Mistake | None:
    """Find the first value that is not of its type, as deep as it lies; ``None`` if all are.

    Numbers may be written as text, as on a command line.
    """
    for name, value in values.items():
        if name in annotations and not _fits(annotations[name], value):
            return _deepest(str(name), annotations[name], value)
    for name, value in values.items():
        is_named = isinstance(value, Mapping) and "class_path" in value
        if is_named and (found := _of_class(str(name), value)) is not None:
            return found
    return None


def find_cause(annotations: Mapping[str, Any], values: Mapping[str, Any]) -> Mistake | None:
    """Find what a class cannot have taken among values that ``find_mistake`` lets pass.

    Where an argument takes a mapping of anything beside those of known keys, it must be one of the
    latter; the one that knows most of its keys is meant.
    """
    for name, value in values.items():
        options = _options(annotations.get(name, Any))
        known = [o for o in options if _is_options(get_origin(o) or o)]
        if isinstance(value, Mapping) and "class_path" not in value and known:
            known.sort(key=lambda option: -len({*value} & {*_annotations(option)}))
            mistakes = [_of_dataclass(option, name, value) for option in known]
            if None not in mistakes:
                return mistakes[0]
    return find_mistake(annotations, values)


def find_refusal(annotations: Mapping[str, Any], values: Mapping[str, Any]) -> Mistake | None:
    """Find a mapping of known keys whose values are of their types, but which its class refuses.

    jsonargparse goes on with the next class of a union, and says what that has against them.
    """
    for name, value in values.items():
        options: list[Any] = [*filter(is_dataclass, _options(annotations.get(name, Any)))]
        for cls in options:
            given = _arguments(cls, value) if isinstance(value, Mapping) else None
            if given is None or _of_dataclass(cls, name, given) is not None:
                continue
            if (found := find_refusal(_annotations(cls), given)) is not None:
                return found._replace(key=f"{name}.{found.key}")
            try:
                cls(**given)
            except ValueError as error:
                return Mistake(name, str(error))
            except (TypeError, AttributeError):  # what is a mapping yet is no value of the class
                continue
    return None


def missing_arguments(cls: Callable[..., Any], given: Mapping[str, Any]) -> list[str]:
    """Name the arguments that a class or function needs, and was not given."""
    taken = inspect.signature(cls).parameters.values()
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    needed = [item.name for item in taken if item.default is item.empty and item.kind not in kinds]
    return [name for name in needed if name not in given]


def from_mapping(cls: type[T], values: Mapping[str, Any], what: str) -> T:
    """Build a dataclass from plain values, which somebody gave as the argument ``what``.

    Raise `ConfigurationError` if a name is not known or missing, or a value is of another type;
    else what the class raises.
    """
    check_mapping(cls, values, what)
    return cls(**values)


def check_mapping(cls: Any, values: Mapping[str, Any], what: str) -> None:
    """Raise the `ConfigurationError` of ``from_mapping``, and build nothing."""
    mistake = _of_dataclass(cls, what, values, strict=True)
    if mistake is not None:
        raise ConfigurationError(f"`{mistake.key}` {mistake.text}")


def check_types(options: Any) -> None:
    """Raise `ConfigurationError` for attributes of other types; arrays and tuples become lists."""
    known = _annotations(type(options))
    for name, annotation in known.items():
        value = getattr(options, name)
        is_list = any(get_origin(option) is list for option in _options(annotation))
        if hasattr(value, "tolist") and (is_list or getattr(value, "ndim", 1) == 0):
            object.__setattr__(options, name, value.tolist())
        elif is_list and isinstance(value, tuple):
            object.__setattr__(options, name, list(value))
    mistake = _of_dataclass(type(options), "", vars(options), strict=True)
    for name, value in vars(options).items():
        is_plain = all(o in _PLAIN or get_origin(o) is Literal for o in _options(known[name]))
        if is_plain and _is_built(value) and not isinstance(value, PathLike):
            mistake = mistake or _deepest(name, known[name], value)
    if mistake is not None:
        raise ConfigurationError(f"`{mistake.key}` {mistake.text}")


def _options(annotation: Any) -> list[Any]:
    """Return the members of a union, or the type itself."""
    if get_origin(annotation) in (Union, UnionType):
        return [option for part in get_args(annotation) for option in _options(part)]
    if hasattr(annotation, "__supertype__"):
        return _options(annotation.__supertype__)
    return [annotation]


def _is_options(cls: Any) -> bool:
    """Return whether a class is for a mapping of known keys."""
    return inspect.isclass(cls) and (is_dataclass(cls) or typing.is_typeddict(cls))


def _words(annotation: Any) -> list[str]:
    origin, inner = get_origin(annotation) or annotation, get_args(annotation)
    if origin is Literal:
        return [repr(value) for value in inner]
    known = _WORDS.get(annotation) if isinstance(annotation, collections.abc.Hashable) else None
    if known is not None:
        return [known]
    if origin in _LISTS:
        items = [item for item in inner if item is not ...]
        each = f" (each {type_in_words(Union[tuple(items)])})" if items else ""  # noqa: UP007
        size = _length(annotation)
        return [f"a list of {size}{each}" if size else f"a list{each}"]
    if origin in _MAPPINGS:
        return ["a mapping"]
    if origin is collections.abc.Callable:
        return ["a function"]
    if _is_options(origin):
        return [f"a mapping ({', '.join(_annotations(origin))})"]
    if inspect.isclass(origin) and issubclass(origin, PathLike):
        return ["a path"]
    name = getattr(origin, "__name__", str(origin))
    return [f"a `{name}` (`class_path`, `init_args`)"]


def _fits(annotation: Any, value: Any) -> bool:
    return any(_fits_one(option, value) for option in _options(annotation))


def _fits_one(annotation: Any, value: Any, *, strict: bool = False) -> bool:
    origin, inner = get_origin(annotation) or annotation, get_args(annotation)
    if annotation is Any:
        return True
    if origin is Literal:
        return any(type(value) is type(one) and value == one for one in inner) or (
            isinstance(value, str) and value in map(str, inner) and not strict
        )
    if annotation in _PLAIN:
        return _fits_plain(annotation, value if strict else _read(annotation, value))
    if isinstance(value, (list, tuple)):
        items = [item for item in inner if item is not ...]
        is_list = origin in _LISTS and (
            not _length(annotation) or len(value) == _length(annotation)
        )
        return is_list and (not items or all(_fits(Union[tuple(items)], i) for i in value))  # noqa: UP007
    if isinstance(value, Mapping):
        if _is_options(origin):
            given = _arguments(origin, value)
            # An empty one is no value of these, as jsonargparse has it.
            return bool(value) and given is not None and _of_dataclass(origin, "", given) is None
        if origin in _MAPPINGS:
            return not inner[1:] or all(_fits(inner[1], item) for item in value.values())
        # Of a class that is named only the class itself knows.
        is_named = origin not in _LISTS and "class_path" in value
        return is_named and not (inspect.isclass(origin) and issubclass(origin, PathLike))
    if origin in _LISTS or origin in _MAPPINGS:
        return False
    if _is_options(origin):
        return _is_built(value)
    if isinstance(value, (bool, int, float, NoneType)):
        return False
    return not isinstance(value, str) or _may_be_text(origin, value)


def _length(annotation: Any) -> int | None:
    """Return how many items a tuple has, if that is fixed."""
    inner = get_args(annotation)
    return len(inner) if get_origin(annotation) is tuple and ... not in inner else None


def _may_be_text(annotation: Any, value: str) -> bool:
    """Return whether text may stand for a value: a path, or the import path of a class."""
    is_path = inspect.isclass(annotation) and issubclass(annotation, PathLike)
    return annotation is timedelta or is_path or "." in value


def _fits_plain(annotation: type, value: Any) -> bool:
    if annotation in (int, float):
        kinds = numbers.Integral if annotation is int else numbers.Real
        return isinstance(value, kinds) and not isinstance(value, bool)
    return isinstance(value, annotation)


def _read(annotation: type, value: Any) -> Any:
    """Read text as YAML where a number is wanted, as on a command line."""
    if annotation in (int, float, bool) and isinstance(value, str) and len(value) < _LONGEST:
        try:
            return float(value) if annotation is float else yaml.safe_load(value)
        except (ValueError, yaml.YAMLError):
            return value
    return value


def _annotations(cls: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in fields(cls) if f.init} if is_dataclass(cls) else hints


def _of_dataclass(
    cls: Any, key: str, values: Mapping[str, Any], *, strict: bool = False
) -> Mistake | None:
    known = _annotations(cls)
    for name in values:
        if name not in known:
            hint = suggestion(str(name), known) or f" Known: {', '.join(known)}."
            return Mistake(key, f"has no key {shown(name)}.{hint}")
    if is_dataclass(cls):
        defaults = {f.name: (f.default, f.default_factory) for f in fields(cls) if f.init}
        for name, default in defaults.items():
            if default == (MISSING, MISSING) and name not in values:
                return Mistake(key, f"needs the key `{name}`, which is missing.")
    for name, value in values.items():
        options = _options(known[name])
        fits = (_fits_one(option, value, strict=strict) for option in options)
        if not any(fits) and not _is_built(value):
            return _deepest(f"{key}.{name}" if key else str(name), known[name], value)
    return None


def _of_class(key: str, spec: Mapping[str, Any]) -> Mistake | None:
    """Look at the arguments of a class that has been imported."""
    module, _, name = str(spec["class_path"]).rpartition(".")
    cls = getattr(sys.modules.get(module), name, None)
    given = spec.get("init_args") or {}
    if not inspect.isclass(cls) or not isinstance(given, Mapping):
        return Mistake(key, f"must name a class, but names {shown(spec['class_path'])}.")
    taken = inspect.signature(cls).parameters
    if any(item.kind is item.VAR_KEYWORD for item in taken.values()):
        return None
    types = {item.name: item.annotation for item in taken.values()}
    for argument in given:
        if argument not in types:
            hint = suggestion(str(argument), types) or f" Known: {', '.join(types)}."
            return Mistake(key, f"`{name}` has no argument {shown(argument)}.{hint}")
    if missing := missing_arguments(cls, given):
        return Mistake(key, f"`{name}` needs {' and '.join(map(repr, missing))}. Add it.")
    found = find_mistake(
        {k: v for k, v in types.items() if v is not inspect.Parameter.empty}, given
    )
    return found and found._replace(key=f"{key}.{found.key}")


def _arguments(cls: Any, value: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return what a mapping gives to a class, by keys or by its path; ``None`` if to another."""
    if "class_path" not in value:
        return value
    given = value.get("init_args") or {}
    is_meant = str(value["class_path"]).rpartition(".")[2] == cls.__name__
    return given if is_meant and isinstance(given, Mapping) else None


def _is_built(value: Any) -> bool:
    """Return whether a value is an object that somebody built, not a plain one."""
    return not isinstance(value, (str, bytes, numbers.Number, Mapping, list, tuple, NoneType))


def _deepest(key: str, annotation: Any, value: Any) -> Mistake:
    for option in _options(annotation):
        origin, inner = get_origin(option) or option, get_args(option)
        found = None
        if isinstance(value, Mapping):
            if _is_options(origin):
                given = _arguments(origin, value)
                found = None if given is None else _of_dataclass(origin, key, given)
            elif inspect.isclass(origin) and origin not in _WORDS and "class_path" in value:
                found = _of_class(key, value)
            elif origin in _MAPPINGS and inner[1:]:
                found = find_mistake(dict.fromkeys(value, inner[1]), value)
                found = found and found._replace(key=f"{key}.{found.key}")
        elif isinstance(value, (list, tuple)) and origin in _LISTS and inner:
            places = {f"[{place}]": item for place, item in enumerate(value)}
            items: Any = Union[tuple(item for item in inner if item is not ...)]  # noqa: UP007
            found = find_mistake(dict.fromkeys(places, items), places)
            found = found and found._replace(key=f"{key}{found.key}")
        if found is not None:
            return found
    taken = {get_origin(one) or one for one in _options(annotation)} - {type(None)}
    is_list = isinstance(value, str) and taken and taken <= {*_LISTS}
    how = f" Write `[{value}]`." if is_list and len(value) <= _LONGEST else ""
    return Mistake(key, f"must be {type_in_words(annotation)}, but is {shown(value)}.{how}")
