"""Check the plain values that a file holds, such as JSON: what must be, and what came."""

import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any, NoReturn

from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.messages import shown
from lightning_fastrecipes.nested import pairs

Check = Callable[[Any, str], None]
"""Takes a value and its key path; raises a `ConfigurationError` if the value is not right."""


def number(least: float = -math.inf, most: float = math.inf, *, above: float = -math.inf) -> Check:
    """Accept finite numbers from ``least`` to ``most``, and above a bound; true is no number."""

    def check(value: Any, key: str) -> None:
        # A whole number may be larger than any float.
        is_number = type(value) in (int, float) and abs(value) <= sys.float_info.max
        if not (is_number and least <= value <= most and value > above):
            _refuse(key, f"a number{_range(least, most, above)}", value)

    return check


def whole(least: float = -math.inf, most: float = math.inf) -> Check:
    """Accept whole numbers from ``least`` to ``most``; true is no number."""

    def check(value: Any, key: str) -> None:
        if type(value) is not int or not least <= value <= most:
            _refuse(key, f"a whole number{_range(least, most)}", value)

    return check


def flag(value: Any, key: str) -> None:
    """Accept true and false."""
    if type(value) is not bool:
        _refuse(key, "true or false", value)


def text(pattern: str = r"[^\ud800-\udfff]{0,10000}", what: str = "text") -> Check:
    """Accept text that a pattern matches as a whole; ``what`` says so in words."""

    def check(value: Any, key: str) -> None:
        if not isinstance(value, str) or not re.fullmatch(pattern, value, re.DOTALL):
            _refuse(key, what, value)

    return check


def choice(*options: Any) -> Check:
    """Accept one of some plain values, of the same type."""

    def check(value: Any, key: str) -> None:
        if not any(type(value) is type(option) and value == option for option in options):
            _refuse(key, f"one of {', '.join(map(repr, options))}", value)

    return check


def either(*checks: Check) -> Check:
    """Accept what one of several checks accepts; the last one says what is wrong."""

    def check(value: Any, key: str) -> None:
        for one in checks[:-1]:
            try:
                return one(value, key)
            except ConfigurationError:
                continue
        return checks[-1](value, key)

    return check


def maybe(check: Check) -> Check:
    """Accept ``null``, and what a check accepts."""

    def check_it(value: Any, key: str) -> None:
        if value is not None:
            check(value, key)

    return check_it


def items(item: Check, least: int = 0, most: int = 100_000, *, unique: bool = False) -> Check:
    """Accept lists of ``least`` to ``most`` items, perhaps all different, that a check accepts."""

    def check(value: Any, key: str) -> None:
        if not isinstance(value, (list, tuple)) or not least <= len(value) <= most:
            _refuse(key, f"a list of {least} to {most:,} items", value)
        for place, one in enumerate(value):
            item(one, f"{key}[{place}]")
        if unique and len(set(value)) < len(value):
            twice = Counter(value).most_common(1)[0][0]
            raise ConfigurationError(
                f"`{key}` must have each item once, but has {shown(twice)} twice."
            )

    return check


def keys(
    needed: Mapping[str, Check], more: Mapping[str, Check] | None = None, *, closed: bool = False
) -> Check:
    """Accept mappings with all keys that are ``needed``, and ``more``; no others if ``closed``."""
    known = {**needed, **(more or {})}

    def check(value: Any, key: str) -> None:
        if not isinstance(value, Mapping):
            _refuse(key, f"a mapping with the keys {', '.join(needed) or 'of its kind'}", value)
        for name in needed:
            if name not in value:
                raise ConfigurationError(f"`{_below(key, name)}` must be there, but is missing.")
        for name, one in value.items():
            if name in known:
                known[name](one, _below(key, name))
            elif closed:
                _refuse(_below(key, name), f"left out (known are {', '.join(known)})", one)

    return check


def named(item: Check, names: Collection[str] | None = None) -> Check:
    """Accept mappings from text, or from exactly some names, to what a check accepts."""

    def check(value: Any, key: str) -> None:
        if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
            _refuse(key, "a mapping", value)
        if names is not None and set(value) != set(names):
            _refuse(key, f"a mapping with the keys {shown(list(names))}", value)
        for name, one in value.items():
            item(one, _below(key, name))

    return check


def all_of(*checks: Check) -> Check:
    """Accept what several checks accept."""

    def check(value: Any, key: str) -> None:
        for one in checks:
            one(value, key)

    return check


def built(make: Callable[..., Any]) -> Check:
    """Accept mappings of arguments that a class takes."""

    def check(value: Any, key: str) -> None:
        named(anything)(value, key)
        try:
            make(**value)
        except (TypeError, ValueError, OverflowError) as error:
            raise ConfigurationError(f"`{key}` must be arguments of its kind: {error}") from error

    return check


def modest(most: float) -> Check:
    """Accept every nested value whose numbers are finite and at most so large, either way."""
    fits = number(-most, most)

    def check(value: Any, key: str) -> None:
        if type(value) in (int, float):
            fits(value, key)
        for name, one in pairs(value):
            check(one, _below(key, name))

    return check


def anything(value: Any, key: str) -> None:
    """Accept every value."""


def _below(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)


def _range(least: float, most: float, above: float = -math.inf) -> str:
    if least > -math.inf and most < math.inf:
        return f" from {least:,} to {most:,}"
    bounds = {"above": above, "of at least": least, "of at most": most}
    return "".join(f" {word} {bound:,}" for word, bound in bounds.items() if abs(bound) < math.inf)


def _refuse(key: str, wanted: str, value: object) -> NoReturn:
    raise ConfigurationError(f"`{key}` must be {wanted}, but is {shown(value)}.")
