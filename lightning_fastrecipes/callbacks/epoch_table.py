"""A table of all epochs that stays on the terminal, or in the notebook."""

import html
import math
import sys
import time
from abc import ABC, abstractmethod
from importlib import import_module
from typing import Any

from torch import Tensor
from typing_extensions import override

from lightning_fastrecipes import _lightning as pl

_LEAST_WIDTH = 10


class EpochRows(pl.OwnCallback, ABC):
    """Collect losses, metrics, the head's highest rate and the seconds of every epoch."""

    needs_whole_weights = False

    def __init__(self) -> None:
        self._epoch_started = 0.0
        self._highest_lr: float | None = None

    @abstractmethod
    def take_row(self, trainer: pl.Trainer, row: dict[str, float]) -> None:
        """Use the row of an epoch that has just ended; called in the first process alone."""

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"highest_lr": self._highest_lr}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._highest_lr = state_dict["highest_lr"]

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # A fit that is resumed within an epoch does not start one.
        self._epoch_started = time.perf_counter()

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._epoch_started = time.perf_counter()
        self._highest_lr = None

    @override
    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if trainer.optimizers:
            # The highest rate of the epoch, since a cycle ends near 0.
            lr = trainer.optimizers[0].param_groups[-1]["lr"]
            self._highest_lr = max(self._highest_lr or 0.0, float(lr))

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        logged = trainer.callback_metrics.items()
        metrics = {k: float(v) for k, v in logged if isinstance(v, Tensor)}
        if not trainer.is_global_zero:
            return
        losses = {name: metrics.pop(name, float("nan")) for name in ("train_loss", "val_loss")}
        rate = {} if self._highest_lr is None else {"lr": self._highest_lr}
        seconds = round(time.perf_counter() - self._epoch_started, 3)
        row = {"epoch": trainer.current_epoch, **losses, **metrics, **rate, "seconds": seconds}
        self.take_row(trainer, row)


class EpochTable(EpochRows):
    """Show losses, metrics, the head's highest rate and the seconds of every epoch, and keep them.

    A line an epoch in a terminal, a pipe or a log; in a notebook a table that grows. Every metric
    that is logged once an epoch has a column, whatever the module calls it. Epochs count from 1.
    Training is the same with and without this callback.

    Attributes:
        rows: Of each epoch of the last fit its number from 0 and the values that the table shows.

    Example:
        >>> EpochTable().rows
        []

    Note:
        Only the first process shows something. What a module logs in its own
        ``on_train_epoch_end`` comes after this callback, and is not in the table.

    References:
        The table under ``learn.fit`` of the fast.ai library.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []
        self._columns: list[str] = []
        self._display: Any = None

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.rows, self._columns, self._display = [], [], None

    @override
    def take_row(self, trainer: pl.Trainer, row: dict[str, float]) -> None:
        # Nothing to show of a loss that nobody logs.
        row = {k: v for k, v in row.items() if not (k.endswith("_loss") and math.isnan(v))}
        # A value that is logged by step and by epoch is there under three names.
        both = [name for name in row if f"{name}_epoch" in row]
        others = {f"{name}_{suffix}" for name in both for suffix in ("step", "epoch")}
        row = {name: value for name, value in row.items() if name not in others}
        self.rows.append(row)
        if _in_notebook():
            self._show_html(trainer)
            return
        if list(row) != self._columns:
            self._columns = list(row)
            _write({name: name for name in row})
        _write(self._texts(row, trainer.max_epochs))

    def _show_html(self, trainer: pl.Trainer) -> None:
        show = import_module("IPython.display")
        table = show.HTML(_html([self._texts(row, trainer.max_epochs) for row in self.rows]))
        if self._display is None:
            self._display = show.display(table, display_id=True)
        else:
            self._display.update(table)

    def _texts(self, row: dict[str, float], max_epochs: int | None) -> dict[str, str]:
        """Return what stands in each column of a row."""
        of_all = f"/{max_epochs}" if max_epochs and max_epochs > 0 else ""
        special = {
            "epoch": f"{int(row['epoch']) + 1}{of_all}",
            "lr": f"{row.get('lr', 0.0):.2e}",
            "seconds": f"{row['seconds']:.1f}",
        }
        return {name: special.get(name, f"{value:.4g}") for name, value in row.items()}


def _in_notebook() -> bool:
    """Return whether output goes to a notebook, which can replace what it shows."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def _write(cells: dict[str, str]) -> None:
    widths = {name: max(len(name), _LEAST_WIDTH) for name in cells}
    sys.stdout.write("  ".join(f"{text:>{widths[name]}}" for name, text in cells.items()) + "\n")
    sys.stdout.flush()


def _html(rows: list[dict[str, str]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(text.get(name, str()))}</td>' for name in names)}</tr>"
        for text in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
