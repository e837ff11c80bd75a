"""Save the arguments of a task for its checkpoints."""

import inspect
from collections.abc import Mapping
from typing import Any

from lightning_fastrecipes import _lightning as pl


def save_arguments(module: pl.LightningModule, arguments: Mapping[str, Any]) -> None:
    """Save plain values as hyperparameters, whatever the constructors were given.

    Lightning compares each argument of the constructors that it finds on the stack with what is
    saved, which fails for an array of rates. From the outermost frame it finds none.
    """
    frame = inspect.currentframe()
    while frame is not None and frame.f_back is not None:
        frame = frame.f_back
    module.save_hyperparameters(dict(arguments), frame=frame)
