"""Errors that people see: each message says what must be, what came, and what to do."""

from collections.abc import Collection


class ConfigurationError(ValueError):
    """An argument that is out of its range, or parts that do not fit together."""


class DataError(ValueError):
    """Data that was found but cannot be used as it is."""


class DataNotFoundError(FileNotFoundError):
    """Data or weights that are not where they were said to be."""


class RecipeError(ValueError):
    """A recipe file that cannot be run; the message names the file and the key path."""


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Raise a ``ConfigurationError`` unless an argument is one of its choices."""
    if value not in choices:
        *others, last = (repr(choice) for choice in choices)
        options = f"{', '.join(others)} or {last}" if others else last
        raise ConfigurationError(f"`{name}` must be {options}, got {value!r}.")


def check_at_least(name: str, value: float, least: float) -> None:
    """Raise a ``ConfigurationError`` unless an argument is large enough."""
    if not value >= least:
        raise ConfigurationError(f"`{name}` must be at least {least}, got {value}.")
