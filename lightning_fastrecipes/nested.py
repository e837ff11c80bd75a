"""Dotted keys in nested plain values, such as the document of a recipe."""

import math
from collections.abc import Mapping
from typing import Any


def move_key(
    document: dict[str, Any],
    old: str,
    new: str,
    notes: list[str],
    short_forms: Mapping[str, str] | None = None,
) -> None:
    """Move the value of one dotted key to another in place; a value that is there already stays.

    Keys leave out ``init_args``. Nothing is done if there is no such value; mappings that are
    missing are made. What was moved is added to ``notes``. ``short_forms`` are keys that may be one
    plain value, with the name of that value where others come beside it.
    """
    home, name = find_key(document, old)
    if home is None or name not in home:
        return
    target, new_name = find_key(document, new, short_forms or {})
    # In place, so that the order of the keys stays where only a name changes.
    if target is home and new_name not in home:
        renamed = {new_name if key == name else key: item for key, item in home.items()}
        home.clear()
        home.update(renamed)
    elif target is not None:
        value = home.pop(name)
        target.setdefault(new_name, value)
    notes.append(f"`{old}` to `{new}`")


def find_key(
    document: dict[str, Any], key: str, short_forms: Mapping[str, str] | None = None
) -> tuple[dict[str, Any] | None, str]:
    """Return the mapping that holds a dotted key, and the key's last name.

    With ``short_forms`` mappings that are missing are made.
    """
    *parents, name = key.split(".")
    found: dict[str, Any] = document
    for depth, parent in enumerate(parents, start=1):
        found = arguments_of(found)
        value = found.get(parent)
        if short_forms is not None and not isinstance(value, dict):
            short = short_forms.get(".".join(parents[:depth]))
            if value is None:
                value = found[parent] = {}
            elif short is not None:
                value = found[parent] = {short: value}
        if not isinstance(value, dict):
            return None, name
        found = value
    return arguments_of(found), name


def arguments_of(value: dict[str, Any]) -> dict[str, Any]:
    """Return the ``init_args`` of a mapping, or the mapping itself if it has none."""
    arguments = value.get("init_args")
    return arguments if isinstance(arguments, dict) else value


def by_name(items: Any) -> dict[str, dict[str, Any]] | None:
    """Return the mappings of a list by their names, if each has a name of its own."""
    if not isinstance(items, list):
        return None
    names = [item.get("name") for item in items if isinstance(item, dict)]
    unique = {name for name in names if isinstance(name, str)}
    if not items or len(unique) < len(items):
        return None
    return {
        item["name"]: {key: value for key, value in item.items() if key != "name"} for item in items
    }


def entries(value: Any) -> list[dict[str, Any]]:
    """Return the mappings in a list, or those that a mapping names."""
    return [item for _, item in pairs(value) if isinstance(item, dict)]


def extent(value: Any, known: dict[int, tuple[float, float]] | None = None) -> tuple[float, float]:
    """Return how many values there are with what is shared counted each time, and how deep.

    Both are infinite for what holds itself.

    >>> shared = [1, 2]
    >>> extent({"a": shared, "b": [shared]})
    (8, 3)
    """
    if not isinstance(value, (Mapping, list, tuple, set)):
        return 1, 0
    known = {} if known is None else known
    if id(value) not in known:
        known[id(value)] = (math.inf, math.inf)
        below = value.values() if isinstance(value, Mapping) else value
        found = [extent(one, known) for one in below]
        known[id(value)] = (
            1 + sum(count for count, _ in found), 1 + max((depth for _, depth in found), default=0),
        )  # fmt: skip
    return known[id(value)]


def pairs(value: Any) -> Any:
    """Return the keys and values of a mapping, places and values of a list, else nothing."""
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, list) else ()
