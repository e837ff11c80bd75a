"""Attributes of a datamodule that are checked whenever they are assigned."""

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar, overload

from typing_extensions import override

from lightning_fastrecipes.messages import shown

Value = TypeVar("Value")


class Setting(Generic[Value]):
    """An attribute with a check; ``__set_name__`` tells it its name.

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
        """Return the value, or raise an error if it cannot be right."""
        raise NotImplementedError


class WholeNumber(Setting[int]):
    """An integer of at least ``at_least``, and at most ``at_most``."""

    def __init__(self, at_least: int, at_most: int | None = None) -> None:
        self.at_least = at_least
        self.at_most = at_most

    @override
    def checked(self, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"`{self.name}` must be an integer, got {shown(value)}.")
        if value < self.at_least:
            raise ValueError(f"`{self.name}` must be at least {self.at_least}, got {shown(value)}.")
        if self.at_most is not None and value > self.at_most:
            raise ValueError(f"`{self.name}` must be at most {self.at_most:,}, got {shown(value)}.")
        return value


class MaybeWholeNumber(Setting[int | None]):
    """An integer of at least ``at_least``, and at most ``at_most``, or ``None``."""

    def __init__(self, at_least: int, at_most: int | None = None) -> None:
        self.number = WholeNumber(at_least, at_most)

    @override
    def __set_name__(self, owner: type, name: str) -> None:
        self.name = self.number.name = name

    @override
    def checked(self, value: Any) -> int | None:
        return None if value is None else self.number.checked(value)


class Flag(Setting[bool]):
    """True or false, and nothing that merely counts as one of them."""

    @override
    def checked(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise TypeError(f"`{self.name}` must be True or False, got {shown(value)}.")
        return value


class Choice(Setting[Value]):
    """One of a few values."""

    def __init__(self, options: Sequence[Value]) -> None:
        self.options = options

    @override
    def checked(self, value: Any) -> Value:
        if value not in self.options:
            options = ", ".join(map(str, self.options))
            raise ValueError(f"`{self.name}` must be one of {options}, got {shown(value)}.")
        chosen: Value = value
        return chosen


class Instance(Setting[Value]):
    """An object of one class that holds settings of its own; a mapping of them is none."""

    def __init__(self, expected: type[Value]) -> None:
        self.expected = expected

    @override
    def checked(self, value: Any) -> Value:
        if isinstance(value, self.expected):
            return value
        given = f"**{shown(value)}" if isinstance(value, Mapping) else "..."
        raise TypeError(
            f"`{self.name}` must be a {self.expected.__name__}, got a {type(value).__name__}."
            f" Set `{self.name}={self.expected.__name__}({given})`."
        )
