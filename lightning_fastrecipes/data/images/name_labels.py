"""Labels in the names of files, taken out by a pattern."""

import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.messages import shown

_MAX_PATTERN = 1000
_GROUP = "label"
_NAMED = re.compile(r"\(\?P?<(\w+)>")
# What is skipped whole: an escaped sign, and signs within brackets.
_OPENING = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|(?P<open>\()(?!\?)", re.DOTALL)


class NamePattern:
    r"""A regular expression whose group ``label``, or first group, is the label in a name.

    It is searched for in the name of a file, or with a slash in it in the path below the folder.
    The expressions are those of RE2, which take no longer than the names are long: there is no
    looking ahead and no reference back. Raise `ConfigurationError` for others.

    >>> NamePattern(r"^(.+)_[0-9]+\.jpg").labels(["dogs/great_dane_12.jpg", "readme"])
    ['great_dane', None]
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        problem = ""
        if not isinstance(pattern, str) or not 0 < len(pattern) <= _MAX_PATTERN:
            problem = f"must be text of 1 to {_MAX_PATTERN} characters"
        else:
            self._expression, self._group = _with_names(pattern)
            try:
                found = pc.extract_regex(pa.array([], pa.string()), self._expression)
                if not found.type.num_fields:
                    problem = "must have a group in round brackets around the label"
            except pa.ArrowInvalid as error:
                problem = f"cannot be used: {error}"
        if problem:
            raise ConfigurationError(
                f"`label_pattern` {problem}, got {shown(pattern)}. Write one such as"
                r" '^(.+)_[0-9]+\.jpg$'; looking ahead and references back are not known."
            )

    def labels(self, files: Sequence[str]) -> list[str | None]:
        """Return the label in each path, ``None`` where the pattern does not match."""
        names = files if "/" in self.pattern else [file.rpartition("/")[2] for file in files]
        found = pc.extract_regex(pa.array(names, pa.string()), self._expression)
        return [None if row is None else row[self._group] or None for row in found.to_pylist()]


def _with_names(pattern: str) -> tuple[str, str]:
    """Name the first group ``label`` unless one has a name; RE2's binding knows named ones only."""
    named = [match[1] for match in _NAMED.finditer(pattern)]
    group = _GROUP if _GROUP in named or not named else named[0]
    is_first = not named

    def name(match: re.Match[str]) -> str:
        nonlocal is_first
        if match["open"] is None:
            return match[0]
        opened = f"(?P<{_GROUP}>" if is_first else "(?:"
        is_first = False
        return opened

    return _OPENING.sub(name, pattern), group
