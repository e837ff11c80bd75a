"""The weights of the best of several validations."""

import math
from typing import Any

from torch import Tensor

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes.callbacks.engine.cycles import Monitor


class BestWeights:
    """Keep the value of each validation that is looked at, and the weights of the best.

    ``history`` holds ``epoch`` and ``value`` of each, perhaps with others beside.
    """

    def __init__(self) -> None:
        self.history: list[dict[str, float]] = []
        self.weights: dict[str, Tensor] | None = None

    def badness(self, monitor: Monitor) -> list[float]:
        """Return a number for each validation that is lower for a better one."""
        return [monitor.badness(entry["value"]) for entry in self.history]

    def best_epoch(self, monitor: Monitor) -> int | None:
        """Return the epoch, from 0, that is the best so far; ``None`` before the first."""
        index = self.best_index(monitor)
        return None if index is None else int(self.history[index]["epoch"])

    def best_index(self, monitor: Monitor) -> int | None:
        """Return which validation is the best: the first with its value, the last if all have none.

        ``None`` before the first.
        """
        values = self.badness(monitor)
        if not values:
            return None
        best = min(values)
        return len(values) - 1 if best == math.inf else values.index(best)

    def take(self, entry: dict[str, float], monitor: Monitor, module: pl.LightningModule) -> None:
        """Add a validation, and copy the module's weights if it is the best so far."""
        self.history.append(entry)
        if self.best_epoch(monitor) == entry["epoch"]:
            state: dict[str, Any] = module.state_dict()
            self.weights = {k: tensor.detach().to("cpu", copy=True) for k, tensor in state.items()}

    def put_back(self, module: pl.LightningModule) -> None:
        """Load the best weights into a module, if there are any."""
        if self.weights is not None:
            module.load_state_dict(self.weights)
