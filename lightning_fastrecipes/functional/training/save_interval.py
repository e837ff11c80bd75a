"""How often a checkpoint is written, as people write it."""

import re
from typing import NamedTuple

from lightning_fastrecipes.errors import ConfigurationError
from lightning_fastrecipes.messages import shown

_UNITS = {"s": 1, "sec": 1, "min": 60, "h": 3600}


class SaveInterval(NamedTuple):
    """Optimizer steps, or seconds, between two checkpoints; the other one is ``None``."""

    steps: int | None = None
    seconds: float | None = None


def save_interval(every: int | str) -> SaveInterval:
    """Read a number of optimizer steps, at least 1, or a time such as ``5min``, ``30s``, ``1.5h``.

    Raise `ConfigurationError` for anything else.

    >>> save_interval(200), save_interval("5min")
    (SaveInterval(steps=200, seconds=None), SaveInterval(steps=None, seconds=300.0))
    """
    if isinstance(every, int) and not isinstance(every, bool) and every >= 1:
        return SaveInterval(steps=every)
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?) ?(s|sec|min|h)", str(every).strip())
    if isinstance(every, str) and found and float(found[1]) > 0:
        return SaveInterval(seconds=float(found[1]) * _UNITS[found[2]])
    raise ConfigurationError(
        "The interval between checkpoints must be a number of steps, at least 1, or a time such as"
        f" '5min', '30s' or '1.5h', got {shown(every)}."
    )
