"""Messages of a run go where somebody looks for them."""

import io
import logging

import pytest
from rich.console import Console

from lightning_fastrecipes.recipe.artifacts.logs import _OwnWarnings


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/site/lightning_fastrecipes/data/x.py:12: UserWarning: It is damaged\n  warn(", True),
        ("/site/lightning_fastrecipes/data/x.py:12: It is damaged", True),
        ("/site/torch/x.py:12: UserWarning: It is damaged", False),
        ("no place at all", False),
    ],
    ids=["with-category", "without", "of-another-package", "of-nobody"],
)
def test_only_our_own_warnings_reach_the_terminal(text: str, shown: bool) -> None:
    record = logging.LogRecord("py.warnings", logging.WARNING, "x.py", 1, "%s", (text,), None)
    console = Console(file=io.StringIO())
    _OwnWarnings(console).emit(record)
    assert (console.file.getvalue().strip() == "fastrecipes: It is damaged") is shown
