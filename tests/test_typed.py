"""Plain values are compared with types as deep as they lie."""

import pytest

from lightning_fastrecipes.data.images.label_table import Numbers, SingleLabel
from lightning_fastrecipes.typed import find_mistake

LABELS = {"labels": SingleLabel | Numbers | str}
NUMBERS = "lightning_fastrecipes.Numbers"


@pytest.mark.parametrize(
    "value",
    [
        {"column": "class"},
        {"class_path": NUMBERS},
        {"class_path": NUMBERS, "init_args": {"columns": ["age"], "log": True}},
    ],
)
def test_a_class_of_settings_may_be_named(value) -> None:
    assert find_mistake(LABELS, {"labels": value}) is None


@pytest.mark.parametrize(
    "value",
    [
        {"class_path": "torch.nn.Linear", "init_args": {"columns": ["age"]}},
        {"class_path": NUMBERS, "init_args": {"colums": ["age"]}},
        {"class_path": NUMBERS, "init_args": [1]},
    ],
)
def test_another_class_or_other_arguments_are_mistakes(value) -> None:
    assert find_mistake(LABELS, {"labels": value}) is not None


def test_a_word_in_place_of_a_list_is_shown_as_one() -> None:
    mistake = find_mistake({"names": list[str] | None, "lr": list[float] | str}, {"names": "a,b"})
    assert mistake is not None
    assert mistake.text.endswith("but is 'a,b'. Write `[a,b]`.")
