"""Odd values of options are refused by name, in one sentence, when the object is made."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd
import pytest

import lightning_fastrecipes as fr
from lightning_fastrecipes.errors import ConfigurationError

NEEDED: dict[Any, dict[str, Any]] = {
    fr.LabelTable: {}, fr.SingleLabel: {}, fr.Tags: {}, fr.Numbers: {},
    fr.SoftLabels: {"classes": ["a", "b"]}, fr.FolderLayout: {}, fr.Geometry: {},
    fr.Augmentation: {}, fr.FractionSplit: {}, fr.FoldSplit: {},
    fr.ColumnSplit: {"column": "s"}, fr.GroupSplit: {"column": "s"},
    fr.DateSplit: {"column": "s", "val_last": 0.2}, fr.RowSplit: {"val": [1]},
    fr.TableColumns: {"target": "y", "continuous": ["x"]}, fr.Reading: {},
}  # fmt: skip
ODD: dict[str, Any] = {
    "nothing": None, "empty list": [], "empty mapping": {}, "list of nothing": [None],
    "list of lists": [[]], "mapping": {"a": 1}, "number": 3, "negative": -1, "fraction": 0.5,
    "huge": 10**400, "nan": float("nan"), "inf": float("inf"), "true": True, "empty": "",
    "long": "x" * 5000, "nul": "a\0b", "bytes": b"a", "tuple": ("a", "b"),
    "array": np.array(["a", "b"]), "twice": ["a", "a"],
}  # fmt: skip
CASES = [
    pytest.param(cls, field.name, id=f"{cls.__name__}-{field.name}")
    for cls in NEEDED
    for field in fields(cls)
]


@pytest.mark.parametrize(("cls", "name"), CASES)
def test_an_odd_value_is_taken_or_refused_by_its_name(cls: Any, name: str) -> None:
    for word, value in ODD.items():
        try:
            cls(**{**NEEDED[cls], name: value})
        except (ValueError, TypeError) as error:
            text = str(error)
            assert f"`{name}" in text or "`split`" in text or "column must be one of" in text, word
            assert len(text) < 1000, word


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: fr.SingleLabel(one_hot=[]), "`one_hot` of `SingleLabel` must be one or more"),
        (lambda: fr.Tags(columns=[]), "`columns` of `Tags` must be one or more different names"),
        (lambda: fr.Tags(columns=["a", "a"]), "one or more different names, got .'a', 'a'."),
        (lambda: fr.LabelTable(stratify_by=[]), "`stratify_by` of `LabelTable` must be one"),
        (lambda: fr.LabelTable(separator=""), "`separator` must be a character"),
        (lambda: fr.FractionSplit(seed="x"), "`seed` must be a whole number, but is 'x'"),
        (lambda: fr.GroupSplit(None), "`column` must be text, but is None"),
        (lambda: fr.ImageArrayDataModule([]), "`source` must be a path, or a mapping of arrays"),
        (lambda: fr.ImageArrayDataModule({}, labels="label"), "`labels` must be `Tags"),
    ],
)
def test_what_was_taken_for_something_else_is_refused(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_lists_of_other_libraries_are_lists() -> None:
    for names in (("a", "b"), np.array(["a", "b"]), pd.Index(["a", "b"]), pd.Series(["a", "b"])):
        assert fr.Tags(columns=names).columns == ["a", "b"]
        assert fr.Numbers(names).names == ["a", "b"]
        assert fr.LabelTable(stratify_by=names).stratify_by == ["a", "b"]


@pytest.mark.parametrize("value", [None, [], "", 1])
def test_a_flag_of_images_is_true_or_false(value: Any) -> None:
    with pytest.raises(TypeError, match="`class_balanced` must be True or False, got"):
        fr.ImageFolderDataModule("photos", class_balanced=value)


def test_a_side_that_no_memory_holds_is_refused() -> None:
    with pytest.raises(ValueError, match="`image_size` must be at most 16,384, got 1000000000000"):
        fr.ImageFolderDataModule("photos", image_size=10**12)


@pytest.mark.parametrize("source", ["", None, 3])
def test_a_source_that_is_none_is_not_the_folder_one_is_in(source: Any) -> None:
    with pytest.raises(ConfigurationError, match="`root` must be the path of a file or folder"):
        fr.ImageFolderDataModule(source).setup()
