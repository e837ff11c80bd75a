"""What an LR finder found: its curve, every rule's pick, a figure, and how loggers get them."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from typing_extensions import override

from lightning_fastrecipes._lightning import Logger, TensorBoardLogger, WandbLogger
from lightning_fastrecipes.functional.training.lr_curves import (
    LRSuggestion,
    Rule,
    average_losses,
    suggest_lr,
)
from lightning_fastrecipes.plots.figure import ShownFigure
from lightning_fastrecipes.plots.rates import draw_lr_curve

_APART = 10.0


@dataclass(frozen=True, repr=False)
class LRCurve:
    """The curve of one sweep, and what it suggests.

    Args:
        lrs: Learning rate of the last trained layer group at each step, rising.
        losses: Loss at each of these rates.
        group_ratios: Rate of each layer group by its name, as a share of the last trained group's;
            0 where a group is frozen.
        rule: Which pick is the suggestion.
        on: Whose loss it is, ``train`` or ``val``.
    """

    lrs: tuple[float, ...]
    losses: tuple[float, ...]
    group_ratios: dict[str, float]
    rule: Rule = "midway"
    on: Literal["train", "val"] = "train"

    @cached_property
    def _read(self) -> LRSuggestion:
        return suggest_lr(self.lrs, self.losses)

    @property
    def picks(self) -> dict[Rule, float]:
        """The learning rate that each rule picks; empty if the curve is refused."""
        return self._read.picks

    @property
    def agreement(self) -> float:
        """Smallest pick over the largest, in (0, 1]; at 0.1 the rules are a factor 10 apart."""
        return self._read.agreement

    def describe_agreement(self) -> str:
        """Describe how far the picks of the rules lie apart, and what follows."""
        factor = 1 / self.agreement
        if factor < _APART:
            return f"the rules agree within a factor {factor:.1f}"
        return f"the rules disagree by a factor {factor:.0f}, so look at the curve"

    @property
    def refusal(self) -> str | None:
        """Why no rate can be read off, and what to do; ``None`` if one can."""
        return self._read.refusal

    @property
    def read_by(self) -> Rule:
        """The rule of the suggestion: ``rule``, or ``before_rise`` if that is the only pick.

        On a curve that is flat and then rises no other rule has one.
        """
        return "before_rise" if list(self.picks) == ["before_rise"] else self.rule

    @property
    def suggestion(self) -> float | None:
        """The suggested rate of the last trained layer group; ``None`` if the curve is refused."""
        return self.picks.get(self.read_by)

    @property
    def group_lrs(self) -> dict[str, float]:
        """The suggested rate of each layer group by its name, 0 where it is frozen."""
        lr = self.suggestion
        return {} if lr is None else {name: lr * r for name, r in self.group_ratios.items()}

    @override
    def __repr__(self) -> str:
        if self.suggestion is None:
            return f"LRCurve({len(self.lrs)} steps, no suggestion: {self.refusal})"
        picks = ", ".join(f"{rule} {lr:.2e}" for rule, lr in self.picks.items())
        return f"LRCurve({len(self.lrs)} steps, suggestion {self.suggestion:.2e}; {picks})"

    def _repr_png_(self) -> bytes:
        return self.plot()._repr_png_()

    def table(self) -> pd.DataFrame:
        """Return ``lr``, ``loss`` and ``average_loss``, which the rules see, of each step."""
        averages = average_losses(self.lrs, self.losses)
        return pd.DataFrame({"lr": self.lrs, "loss": self.losses, "average_loss": averages})

    def to_json(self) -> str:
        """Return everything as JSON text; what is not finite is null."""
        content = {
            "suggestion": self.suggestion,
            "rule": self.read_by,
            "refusal": self.refusal,
            "agreement": self.agreement if self.picks else None,
            "picks": self.picks,
            "group_lrs": self.group_lrs,
            "on": self.on,
            "lrs": list(self.lrs),
            "losses": [loss if math.isfinite(loss) else None for loss in self.losses],
        }
        return json.dumps(content, indent=2, allow_nan=False) + "\n"

    def plot(self, path: str | Path | None = None) -> ShownFigure:
        """Draw the loss against the rate on a log axis, with the suggestion and the other picks.

        Args:
            path: File to write, such as ``lr_finder.png``; nothing is written if ``None``.

        Returns:
            The figure, for a notebook or a logger.
        """
        return draw_lr_curve(
            self.lrs,
            self.losses,
            average_losses(self.lrs, self.losses),
            self.picks,
            path,
            rule=self.read_by,
            refusal=self.refusal,
            split="validation" if self.on == "val" else "training",
        )

    def send(self, loggers: Sequence[Logger], step: int) -> None:
        """Send the picks to loggers as numbers, and the figure to those that take images."""
        numbers = {f"lr_finder/{rule}": lr for rule, lr in self.picks.items()}
        for logger in loggers:
            if numbers:
                logger.log_metrics(numbers, step=step)
            if isinstance(logger, TensorBoardLogger):
                experiment: Any = logger.experiment
                experiment.add_figure("lr_finder", self.plot(), global_step=step)
            elif isinstance(logger, WandbLogger):
                logger.log_image("lr_finder", [self.plot()], step=step)
