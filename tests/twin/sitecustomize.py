"""Runs what imports ``pytorch_lightning`` with ``lightning.pytorch`` instead.

Python imports this file when it starts, if its folder is on ``PYTHONPATH``. With it, and with
``FASTRECIPES_LIGHTNING=lightning``, the tests pass through the classes of ``lightning`` alone:

    FASTRECIPES_LIGHTNING=lightning PYTHONPATH=tests/twin pytest -m both
"""

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType


class Twin(MetaPathFinder, Loader):
    """Gives the modules of ``lightning.pytorch`` under the names of ``pytorch_lightning``."""

    def find_spec(self, name, path=None, target=None) -> ModuleSpec | None:
        root, dot, rest = name.partition(".")
        if root != "pytorch_lightning":
            return None
        spec = spec_from_loader(name, self, is_package=True)
        spec.loader_state = f"lightning.pytorch{dot}{rest}"
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(spec.loader_state)
        self.own = (module, module.__spec__)
        return module

    def exec_module(self, module: ModuleType) -> None:
        # The import system has written the other name into it.
        own, spec = self.own
        own.__spec__ = spec


sys.meta_path.insert(0, Twin())
