"""What people call splits: names of folders, of files and of columns, and values in columns."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from lightning_fastrecipes.errors import ConfigurationError

SplitName = Literal["train", "val", "test"]

SPLIT_COLUMN = "split (of the table)"
"""Column that is added where there is one table for each split."""

SPLIT_VALUES = "train, val, valid, validation, dev, test, or 0 and 1"
"""What a column of splits may say, for messages."""

_SPELLINGS: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "trn": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "eval": "val",
    "evaluation": "val",
    "test": "test",
    "testing": "test",
    "tst": "test",
}
_SUFFIX = re.compile(r"[_\- ]?(set|data|images)\Z")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_FOLD = re.compile(r"(k?folds?|split|cv)[_\- ]?\d+")
_NUMBERS = {
    **dict.fromkeys(("0", "0.0", "false", "f", "no", "n"), 0),
    **dict.fromkeys(("1", "1.0", "true", "t", "yes", "y"), 1),
    **dict.fromkeys(("2", "2.0"), 2),
}
_MEANT: dict[str, SplitName] = {
    "train": "train", "val": "val", "dev": "val", "hold": "val", "test": "test",
}  # fmt: skip
_WHOLE = re.compile(r"split|partition|subset|set\Z|phase")
_SPLIT_ITSELF = re.compile(r"(data)?[_\- ]?split\Z|is[_\- ]?(train|val|valid|test)(ing|idation)?\Z")
_FLAG_NAME = re.compile(
    r"(is[_\- ]?)?(train(ing)?|val(id(ation)?)?|test(ing)?|dev|eval|hold[_\- ]?out)"
    r"([_\- ]?(set|split|data|images?))?\Z"
)


def split_name(text: str) -> SplitName | None:
    """Return the split that a name means as people spell it, or ``None`` if it means none.

    >>> [split_name(name) for name in ("Training", "validation_set", "dev", "TEST", "cats")]
    ['train', 'val', 'val', 'test', None]
    """
    return _SPELLINGS.get(_SUFFIX.sub("", text.strip().lower()))


def split_within(text: str) -> SplitName | Literal["fold"] | None:
    """Return the split that is a word of a name, or ``fold`` of numbered parts, or ``None``.

    >>> [split_within(name) for name in ("seg_train", "test1", "val-v2", "Fold 3", "trainer")]
    ['train', 'test', 'val', 'fold', None]
    """
    words = _WORD.findall(text)
    splits = {split for word in words if (split := split_name(word)) is not None}
    if len(splits) == 1:
        return splits.pop()
    return "fold" if _FOLD.fullmatch(text.strip().lower()) and not splits else None


def named_splits(tables: Mapping[Any, Any], argument: str) -> dict[SplitName, Any]:
    """Return what a user names for each split; ``argument`` is where, for messages.

    Raise `ConfigurationError` if a name is no split, comes twice, or there is no training split.

    >>> named_splits({"Training": "a.csv", "dev": "b.csv"}, "csv")
    {'train': 'a.csv', 'val': 'b.csv'}
    """
    found: dict[SplitName, Any] = {}
    for name, table in tables.items():
        split = split_name(str(name))
        if split is None or split in found:
            raise ConfigurationError(
                f"`{argument}` must name a table for 'train', and may for 'val' and 'test', once"
                f" each, got {[str(key) for key in tables]}. Rename or drop {str(name)!r}."
            )
        found[split] = table
    if "train" not in found:
        raise ConfigurationError(
            f"`{argument}` must name a table for 'train', but has {[str(name) for name in tables]}"
            " alone. Add it, or give one table and `split`."
        )
    return found


def read_splits(column: pd.Series) -> tuple[pd.Series, str]:
    """Return the split of each row, ``None`` where it cannot be told, and how flags were read.

    Values are names as in ``split_name``, or booleans or 0 and 1. What 1 means is in the name of
    the column, such as ``is_valid`` or ``is_test``; else it is ``val``. Where 1 means ``train``, 0
    is ``val``. In a column called ``split``, ``partition`` and so on, 0, 1 and 2 are ``train``,
    ``val`` and ``test``.

    >>> splits, said = read_splits(pd.Series([True, False], name="is_valid"))
    >>> splits.tolist(), said
    (['val', 'train'], "column 'is_valid': 0 means train, 1 means val")
    """
    codes, distinct = pd.factorize(column)
    texts = [str(value).strip().lower() for value in distinct]
    meanings = _numbered(texts, str(column.name))
    splits = [meanings.get(_NUMBERS.get(text, -1), split_name(text)) for text in texts]
    # The last one is for gaps, whose code is -1.
    values = np.array([*splits, None], dtype=object)[codes]
    said = ", ".join(f"{number} means {split}" for number, split in meanings.items())
    reading = f"column '{column.name}': {said}" if said else ""
    return pd.Series(values, index=column.index, dtype=object), reading


def is_split_flag(name: str) -> bool:
    """Return whether a column is called as flags of a split are, such as ``is_valid``."""
    return _FLAG_NAME.match(name.strip().lower()) is not None


def says_split(column: pd.Series) -> bool:
    """Return whether a column is called as nothing but a split is, and tells rows apart.

    >>> says_split(pd.Series(["train", None], name="Split"))
    True
    """
    name = str(column.name).strip().lower()
    return bool(_SPLIT_ITSELF.match(name)) and len({*map(str, column)}) > 1


def may_be_split(column: pd.Series) -> bool:
    """Return whether a column says for every row which split it is of, as people write it."""
    splits, said = read_splits(column.astype(str))
    found = set(splits)
    if None in found or "train" not in found:
        return False
    name = str(column.name).strip().lower()
    return len(found) > 1 and (not said or is_split_flag(name) or bool(_WHOLE.search(name)))


def _numbered(texts: Sequence[str], name: str) -> dict[int, SplitName]:
    """Return what 0, 1 and 2 mean in a column of nothing else; empty if that cannot be told."""
    if not texts or not all(text in _NUMBERS for text in texts):
        return {}
    if "2" in texts or "2.0" in texts:
        names = get_args(SplitName) if _WHOLE.search(name.lower()) else ()
        return dict(enumerate(names))
    meant = {split for sign, split in _MEANT.items() if sign in name.lower()} or {"val"}
    if len(meant) > 1:
        return {}
    one: SplitName = meant.pop()
    return {0: "val" if one == "train" else "train", 1: one}
