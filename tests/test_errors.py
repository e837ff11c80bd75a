"""Wrong use has one class, which Lightning's users may catch as their own."""

import pytest
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from lightning_fastrecipes._lightning import SetupError
from lightning_fastrecipes.errors import ConfigurationError, check_at_least, check_choice


def test_errors_of_a_setup_are_wrong_use_and_lightnings() -> None:
    assert issubclass(ConfigurationError, ValueError)
    assert issubclass(SetupError, ConfigurationError)
    assert issubclass(SetupError, MisconfigurationException)


@pytest.mark.parametrize(
    ("choices", "options"),
    [(("a",), "'a'"), (("a", "b"), "'a' or 'b'"), (("a", "b", "c"), "'a', 'b' or 'c'")],
    ids=["one", "two", "three"],
)
def test_a_value_that_is_no_choice_is_refused_with_the_choices(choices, options) -> None:
    check_choice("mode", "a", choices)
    with pytest.raises(ConfigurationError, match=f"`mode` must be {options}, got 'x'"):
        check_choice("mode", "x", choices)


@pytest.mark.parametrize("value", [0, float("nan")])
def test_a_number_that_is_too_small_is_refused(value) -> None:
    check_at_least("keep", 1, 1)
    with pytest.raises(ConfigurationError, match=f"`keep` must be at least 1, got {value}"):
        check_at_least("keep", value, 1)
