import doctest
import pkgutil
from importlib import import_module

import pytest
import torch

import lightning_fastrecipes

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(lightning_fastrecipes.__path__, "lightning_fastrecipes.")
    if not module.name.endswith("__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_give_what_they_say(name: str) -> None:
    module = import_module(name)
    names = {"torch": torch}
    result = doctest.testmod(module, extraglobs=names, optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


def test_most_modules_of_the_functional_core_have_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    rooms = {name.rpartition(".")[0] for name in MODULES}
    core = [
        name
        for name in MODULES
        if name.startswith("lightning_fastrecipes.functional.") and name not in rooms
    ]
    shown = [name for name in core if any(t.examples for t in finder.find(import_module(name)))]
    assert shown == core
