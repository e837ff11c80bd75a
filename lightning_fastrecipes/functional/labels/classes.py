"""Whether two lists of class names are the same, and how they differ."""

from collections.abc import Sequence

from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.messages import name_some

_OTHER_COLUMNS = {"file", "row", "prediction", "target", "unknown", "agreement"}
"""What else stands in a table of predictions."""


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
