"""The page of accepted forms names what the code takes, no more and no less."""

from collections.abc import Callable
from dataclasses import fields
from typing import get_args, get_type_hints

import pytest
from helpers.pages import forms_of

from lightning_fastrecipes import FolderLayout, Geometry, LabelTable
from lightning_fastrecipes.data.common import split_names
from lightning_fastrecipes.data.common.split_choice import Split
from lightning_fastrecipes.data.images import arrays
from lightning_fastrecipes.data.images.folder_layout import IMAGE_SUFFIXES
from lightning_fastrecipes.nn.losses import Loss


def documented(first: str) -> set[str]:
    """Return what is in backticks in a row of the table, behind its first cell."""
    return {*forms_of("images.md", "All accepted forms")[first]}


def names(cls: type) -> set[str]:
    return {field.name for field in fields(cls) if field.init}


FORMS: dict[str, Callable[[], set[str]]] = {
    "names of splits": lambda: {*split_names._SPELLINGS},
    "behind these names": lambda: {*split_names._SUFFIX.pattern.split("(")[1][:-3].split("|")},
    "labels of a table": lambda: {
        kind.__name__ for kind in get_args(get_type_hints(LabelTable)["labels"]) if kind is not str
    },
    "`LabelTable`": lambda: names(LabelTable),
    "`FolderLayout`": lambda: names(FolderLayout),
    "images": lambda: {*IMAGE_SUFFIXES},
    "arrays": lambda: {*arrays._KNOWN} - {"y_predict"},
    "splits": lambda: {kind.__name__ for kind in get_args(Split)},
    "`Geometry`": lambda: names(Geometry),
    "losses of single labels": lambda: names(Loss),
}


@pytest.mark.parametrize("first", FORMS)
def test_the_page_names_what_is_taken(first) -> None:
    assert documented(first) == FORMS[first]()


def test_the_page_names_the_flags_of_splits() -> None:
    said = documented("flags of splits")
    words = {word for word in split_names._NUMBERS if not word.endswith(".0")}
    assert words <= said
    for name in said - words:
        assert split_names.is_split_flag(name) or split_names._WHOLE.search(name)


def test_the_docstring_of_label_tables_names_their_columns() -> None:
    assert LabelTable.__doc__ is not None
    for name in names(LabelTable):
        assert f"        {name}: " in LabelTable.__doc__
