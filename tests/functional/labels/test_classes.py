"""Class names are compared in one place."""

import pytest

from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.functional.labels.classes import columns_by_name, refuse_other_classes


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (["a", "c"], "missing 'b'; new 'c'"),
        (["a"], r"checkpoint: missing 'b'\."),
        (["b", "a"], "another order: 'a', 'b' became 'b', 'a'"),
    ],
)
def test_other_names_and_another_order_are_refused(found, message):
    refuse_other_classes(("a", "b"), ["a", "b"])
    with pytest.raises(ConfigurationError, match=message):
        refuse_other_classes(["a", "b"], found)


def test_classes_are_matched_by_name():
    assert columns_by_name(["a", "b", "c"], ["c", "a", "b"]) == [1, 2, 0]
    with pytest.raises(ConfigurationError, match=r"same classes, but .*: missing 'c'; new 'd'"):
        columns_by_name(["a", "b", "c"], ["a", "b", "d"])
