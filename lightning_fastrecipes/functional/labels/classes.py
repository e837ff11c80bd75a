"""The order of class names, whether two lists of them are the same, and how they differ."""

import re
from collections.abc import Collection, Sequence

from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.messages import name_some

_OTHER_COLUMNS = {"file", "row", "prediction", "target", "unknown", "agreement"}
"""What else stands in a table of predictions."""

_WHOLE = re.compile(r"(-?[0-9]{1,18})(\.0*)?")


def in_order(names: Collection[str]) -> list[str]:
    """Return class names in their order: as numbers if all are whole numbers, else as text.

    >>> in_order(["10", "9", "-1"]), in_order(["10", "9", "cat"])
    (['-1', '9', '10'], ['10', '9', 'cat'])
    """
    numbers = {name: whole_number(name) for name in names}
    if None in numbers.values():
        return sorted(names)
    return sorted(names, key=lambda name: (numbers[name], name))


def whole_number(text: str) -> int | None:
    """Return the whole number that a text is, ``None`` if it is none.

    >>> [whole_number(text) for text in ("07", "-1", "3.0", "3.5", "a")]
    [7, -1, 3, None, None]
    """
    match = _WHOLE.fullmatch(text)
    return None if match is None else int(match[1])


def probability_columns(classes: Sequence[str]) -> list[str]:
    """Return what the columns of probabilities are called in a table of predictions.

    That is as the classes are, unless another column is called so.

    >>> probability_columns(["target", "sky"])
    ['probability of target', 'sky']
    """
    return [f"probability of {name}" if name in _OTHER_COLUMNS else name for name in classes]


def refuse_other_classes(trained: Sequence[str], found: Sequence[str]) -> None:
    """Raise a ConfigurationError unless class names are the same, in the same order.

    >>> refuse_other_classes(["cat", "dog"], ["cat", "fox"])
    Traceback (most recent call last):
    lightning_fastrecipes.errors.ConfigurationError: The classes of the data must be those \
of the model and its checkpoint: missing 'dog'; new 'fox'. Use the data it was trained on, or \
train a new head from its weights.
    """
    if list(trained) == list(found):
        return
    order = f"another order: {name_some(trained)} became {name_some(found)}"
    raise ConfigurationError(
        "The classes of the data must be those of the model and its checkpoint:"
        f" {_difference(trained, found) or order}. Use the data it was trained on, or train a new"
        " head from its weights."
    )


def columns_by_name(
    classes: Sequence[str], others: Sequence[str], what: str = "classes"
) -> list[int]:
    """Return the position of each of ``classes`` in ``others``, the same names in any order.

    A ConfigurationError lists the differences if the names are not the same.

    >>> columns_by_name(["cat", "dog"], ["dog", "cat"])
    [1, 0]
    """
    if sorted(classes) != sorted(others):
        raise ConfigurationError(
            f"All members must know the same {what}, but one differs from the first:"
            f" {_difference(classes, others)}. Leave it out."
        )
    return [list(others).index(name) for name in classes]


def _difference(first: Sequence[str], second: Sequence[str]) -> str:
    missing = [name for name in first if name not in second]
    new = [name for name in second if name not in first]
    parts = {"missing": missing, "new": new}
    return "; ".join(f"{word} {name_some(names)}" for word, names in parts.items() if names)
