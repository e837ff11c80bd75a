"""Errors that people see: each message says what must be, what came, and what to do."""

from collections.abc import Collection

from lightning_fastrecipes.messages import bounded, printable, shown


class _ForPeople(Exception):  # noqa: N818
    """An error whose message is of bounded length, and does not steer a terminal."""

    def __init__(self, *said: object) -> None:
        super().__init__(*(bounded(printable(x)) if isinstance(x, str) else x for x in said))


class ConfigurationError(_ForPeople, ValueError):
    """An argument that is out of its range, or parts that do not fit together."""


class DataError(_ForPeople, ValueError):
    """Data that was found but cannot be used as it is."""


class DataNotFoundError(_ForPeople, FileNotFoundError):
    """Data or weights that are not where they were said to be."""


class RecipeError(_ForPeople, ValueError):
    """A recipe file that cannot be run; the message names the file and the key path."""


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Raise a ``ConfigurationError`` unless an argument is one of its choices."""
    if value not in choices:
        *others, last = (repr(choice) for choice in choices)
        options = f"{', '.join(others)} or {last}" if others else last
        raise ConfigurationError(f"`{name}` must be {options}, got {shown(value)}.")


def check_at_least(name: str, value: float, least: float) -> None:
    """Raise a ``ConfigurationError`` unless an argument is large enough."""
    if not value >= least:
        raise ConfigurationError(f"`{name}` must be at least {least}, got {value}.")
