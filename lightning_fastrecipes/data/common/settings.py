"""Attributes of a datamodule that are checked whenever they are assigned."""

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar, overload

Value = TypeVar("Value")


class Setting(Generic[Value]):
    """An attribute with a check; ``__set_name__`` tells it its name.

    Example:
        >>> class Module:
        ...     batch_size = WholeNumber(at_least=1)
        >>> module = Module()
        >>> module.batch_size = 0
        Traceback (most recent call last):
        ValueError: `batch_size` must be at least 1, got 0.
    """

    name: str

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> "Setting[Value]": ...

    @overload
    def __get__(self, instance: object, owner: type) -> Value: ...

    def __get__(self, instance: object | None, owner: type) -> "Setting[Value] | Value":
        if instance is None:
            return self
        value: Value = instance.__dict__[self.name]
        return value

    def __set__(self, instance: object, value: Value) -> None:
        instance.__dict__[self.name] = self.checked(value)

    def checked(self, value: Any) -> Value:
        """Return the value back, or raise if it cannot be right."""
        raise NotImplementedError


class WholeNumber(Setting[int]):
    """An integer.

    Args:
        at_least: The smallest that is allowed.
    """

    def __init__(self, at_least: int) -> None:
        self.at_least = at_least

    def checked(self, value: Any) -> int:
        """Refuse what is no integer, or too small."""
        return _whole_number(self.name, value, self.at_least)


class MaybeWholeNumber(Setting[int | None]):
    """An integer, or ``None``.

    Args:
        at_least: The smallest integer that is allowed.
    """

    def __init__(self, at_least: int) -> None:
        self.at_least = at_least

    def checked(self, value: Any) -> int | None:
        """Refuse what is neither ``None`` nor an integer, or too small."""
        return None if value is None else _whole_number(self.name, value, self.at_least)


class Choice(Setting[Value]):
    """One of a few values.

    Args:
        options: What there is to choose from.
    """

    def __init__(self, options: Sequence[Value]) -> None:
        self.options = options

    def checked(self, value: Any) -> Value:
        """Refuse what is not among the options."""
        if value not in self.options:
            options = ", ".join(map(str, self.options))
            raise ValueError(f"`{self.name}` must be one of {options}, got {value!r}.")
        chosen: Value = value
        return chosen


class Instance(Setting[Value]):
    """An object that holds settings of its own.

    Args:
        kind: Its class.
    """

    def __init__(self, kind: type[Value]) -> None:
        self.kind = kind

    def checked(self, value: Any) -> Value:
        """Refuse what is of another class, such as a mapping with the right names."""
        if isinstance(value, self.kind):
            return value
        given = f"**{value!r}" if isinstance(value, Mapping) else "..."
        raise TypeError(
            f"`{self.name}` must be a {self.kind.__name__}, got a {type(value).__name__}."
            f" Set `{self.name}={self.kind.__name__}({given})`."
        )


def _whole_number(name: str, value: Any, at_least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"`{name}` must be an integer, got {value!r}.")
    if value < at_least:
        raise ValueError(f"`{name}` must be at least {at_least}, got {value}.")
    return value
