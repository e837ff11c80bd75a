"""A checkpoint at the end of each cycle, where the rates are lowest."""

import math
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.utilities.exceptions import (  # type: ignore[attr-defined]
    MisconfigurationException,
)

from lightning_fastrecipes.callbacks.schedule import find_cycle_ends
from lightning_fastrecipes.callbacks.sgdr import SGDR

SNAPSHOT_KEY = "fastrecipes_snapshot"
"""Where a snapshot says of which cycle it is and what was measured."""


class CycleSnapshots(pl.Callback):
    """Write a checkpoint after the last step of each cycle, and keep the last or the best of them.

    A snapshot is a full Lightning checkpoint, from which a fit can be resumed. Under the key
    ``fastrecipes_snapshot`` it holds ``cycle``, ``epoch`` and ``metrics``, the values that were
    logged for that epoch (none if it was not validated). Files are named ``cycle-1.ckpt`` and on.

    Args:
        dirpath: Folder for the snapshots; ``snapshots`` in the trainer's root folder if ``None``.
        keep: How many to keep, at least 1; all of them if ``None``.
        which: Keep the ``last`` or the ``best`` ones.
        monitor: Logged metric that says which are best.
        mode: Whether the best value is the lowest, ``min``, or the highest, ``max``.
        cycle_len: Length of the first cycle in epochs; that of the fit's schedule (``SGDR``,
            ``Triangular``, ``OneCycle``, ``FlatCosine``) if ``None``.
        cycle_mult: Growth of each cycle, if ``cycle_len`` is given.

    Attributes:
        paths: The snapshots that are kept, oldest first.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> CycleSnapshots(keep=3, which="best", monitor="val_loss").paths
        []

    Note:
        fast.ai 0.7 writes a cycle's snapshot before the last step of the cycle is taken.

    References:
        Huang et al., *Snapshot Ensembles: Train 1, get M for free* (2017).
    """

    def __init__(
        self,
        dirpath: str | Path | None = None,
        keep: int | None = None,
        which: Literal["last", "best"] = "last",
        monitor: str = "val_loss",
        mode: Literal["min", "max"] = "min",
        cycle_len: int | None = None,
        cycle_mult: int = 1,
    ) -> None:
        if keep is not None and keep < 1:
            raise ValueError(f"`keep` must be at least 1, got {keep}. Leave it out to keep all.")
        for name, value, choices in (
            ("which", which, ("last", "best")),
            ("mode", mode, ("min", "max")),
        ):
            if value not in choices:
                raise ValueError(f"`{name}` must be one of {', '.join(choices)}, got {value!r}.")
        self.dirpath = dirpath
        self.keep = keep
        self.which = which
        self.monitor = monitor
        self.mode = mode
        self.schedule = None if cycle_len is None else SGDR(cycle_len, cycle_mult)
        self._values: dict[str, float] = {}
        self._epoch_is_whole = False
        self._writing: dict[str, Any] | None = None

    @property
    def paths(self) -> list[Path]:
        """The snapshots that are kept, oldest first."""
        return [Path(path) for path in self._values]

    @property
    def state_key(self) -> str:
        """Tell callbacks with different folders apart in a checkpoint."""
        return f"{type(self).__name__}(dirpath={self.dirpath})"

    def state_dict(self) -> dict[str, Any]:
        """Give the kept snapshots and their values."""
        return {"values": dict(self._values)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the snapshots of the fit that is resumed, as far as they are still there."""
        values = state_dict["values"].items()
        self._values = {path: value for path, value in values if Path(path).is_file()}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Forget the snapshots of an earlier fit."""
        if stage == "fit":
            self._values = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse fits without cycles, or without the metric that is asked for, before they run."""
        ends = find_cycle_ends(trainer, "CycleSnapshots", self.schedule)
        every = trainer.check_val_every_n_epoch or 1
        unmeasured = [end for end in ends if end % every]
        if self.which == "best" and unmeasured:
            raise MisconfigurationException(
                f"To keep the best snapshots, every cycle must end with a validation, but cycles"
                f" end after {ends} epochs and `check_val_every_n_epoch` is {every}. Set it to 1,"
                " or keep the last ones."
            )

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Note whether the epoch is whole: `max_steps` may end it, and no cycle with it."""
        self._epoch_is_whole = batch_idx + 1 == trainer.num_training_batches

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write a snapshot if this epoch ends a cycle, and remove what is not to be kept."""
        ends = find_cycle_ends(trainer, "CycleSnapshots", self.schedule)
        epoch = trainer.current_epoch + 1
        # Lightning's stub has no `fast_dev_run`.
        is_rehearsal = bool(trainer.fast_dev_run)  # type: ignore[attr-defined]
        if epoch not in ends or not self._epoch_is_whole or is_rehearsal:
            return
        # Without a validation in this epoch, the values at hand are those of an earlier one.
        is_measured = epoch % (trainer.check_val_every_n_epoch or 1) == 0
        measured = trainer.callback_metrics if is_measured else {}
        metrics = {name: float(value) for name, value in measured.items()}
        if self.which == "best" and self.monitor not in metrics:
            raise MisconfigurationException(
                f"`monitor` must be a metric that the module logs, but {self.monitor!r} is none of"
                f" {sorted(metrics)}. Name one of them, or keep the last snapshots."
            )
        cycle = ends.index(epoch) + 1
        folder = Path(trainer.default_root_dir) / "snapshots"
        path = str(Path(self.dirpath or folder) / f"cycle-{cycle}.ckpt")
        self._values.pop(path, None)
        self._values[path] = metrics.get(self.monitor, math.nan)
        surplus = self._surplus()
        for old in surplus:
            del self._values[old]
        if path not in surplus:
            self._writing = {"cycle": cycle, "epoch": trainer.current_epoch, "metrics": metrics}
            trainer.save_checkpoint(path)
            self._writing = None
        for old in surplus:
            if old != path:
                trainer.strategy.remove_checkpoint(old)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note in a snapshot what it is one of; other checkpoints are left alone."""
        if self._writing is not None:
            checkpoint[SNAPSHOT_KEY] = self._writing

    def _surplus(self) -> list[str]:
        names = list(self._values)
        if self.keep is None or len(names) <= self.keep:
            return []
        if self.which == "best":
            sign = 1 if self.mode == "min" else -1
            values = {name: sign * value for name, value in self._values.items()}
            # What is not a number is worse than any number.
            names.sort(key=lambda n: -values[n] if math.isfinite(values[n]) else -math.inf)
        return names[: len(names) - self.keep]
