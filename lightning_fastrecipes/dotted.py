"""Import paths such as ``torch.optim.AdamW``."""

import pkgutil
from typing import Any


def load_object(path: str) -> Any:
    """Import what a dotted path names: a class, a function or another attribute of a module.

    An ImportError says that there is no such module, an AttributeError that the module has no such
    attribute, a ValueError that ``path`` is no dotted path.

    >>> load_object("torch.optim.AdamW").__name__
    'AdamW'
    """
    module, _, name = path.rpartition(".")
    # With the colon an error inside of the module is reported as it is.
    return pkgutil.resolve_name(f"{module}:{name}")
