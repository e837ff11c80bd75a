"""A checkpoint at the end of each cycle, where the rates are lowest."""

import math
from pathlib import Path
from typing import Any, Literal

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes._lightning import SetupError
from lightning_fastrecipes.callbacks.engine.cycles import CycleEnds, Monitor
from lightning_fastrecipes.callbacks.engine.keyed import KeyedCallback
from lightning_fastrecipes.callbacks.engine.stepping import mean_over_processes
from lightning_fastrecipes.callbacks.engine.whole_files import save_as_a_whole
from lightning_fastrecipes.errors import check_at_least, check_choice

SNAPSHOT_KEY = "fastrecipes_snapshot"
"""Where a snapshot says of which cycle it is and what was measured."""


class CycleSnapshots(KeyedCallback):
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
        if keep is not None:
            check_at_least("keep", keep, 1)
        check_choice("which", which, ("last", "best"))
        self.dirpath = dirpath
        self.keep = keep
        self.which = which
        self._monitor = Monitor(monitor, mode)
        place = None if dirpath is None else str(dirpath)
        self._set_key(dirpath=place, keep=keep, which=which, monitor=monitor, cycle_len=cycle_len)
        self._ends = CycleEnds("CycleSnapshots", cycle_len, cycle_mult)
        self._folder = Path(dirpath or "snapshots")
        self._values: dict[str, float] = {}
        self._validated_epoch: int | None = None
        self._writing: dict[str, Any] | None = None

    @property
    def paths(self) -> list[Path]:
        """The snapshots that are kept, oldest first."""
        return [self._folder / name for name in self._values]

    def state_dict(self) -> dict[str, Any]:
        """Return the kept snapshots by file name, and their values."""
        return {"values": dict(self._values)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the snapshots of the fit that is resumed."""
        self._values = dict(state_dict["values"])

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Set the folder; forget an earlier fit, unless the same trainer continues it."""
        super().setup(trainer, pl_module, stage)
        if stage == "fit":
            self._values = self._values if trainer.current_epoch else {}
            self._folder = Path(self.dirpath or Path(trainer.default_root_dir) / "snapshots")

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse fits without cycles, metric or folder of its own, before they run."""
        for other in pl.callbacks_of(trainer):
            if not isinstance(other, CycleSnapshots) or other is self:
                continue
            if other._folder.resolve() == self._folder.resolve():
                raise SetupError(
                    "Each `CycleSnapshots` must have a folder of its own, but two write to"
                    f" {self._folder}, where one would replace and remove files of the other. Give"
                    " them different `dirpath`."
                )
        ends = self._ends.epochs(trainer)
        is_validated = trainer.enable_validation and not self._ends.unvalidated(trainer)
        if self.which == "best" and not is_validated:
            raise SetupError(
                f"To keep the best snapshots, every cycle must end with a validation, but cycles"
                f" end after {ends} epochs, `check_val_every_n_epoch` is"
                f" {trainer.check_val_every_n_epoch}, and validation is"
                f" {'on' if trainer.enable_validation else 'off'}. Give a validation loader, set"
                " `check_val_every_n_epoch=1`, or keep the last ones."
            )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse validations that do not see the weights at the end of an epoch."""
        if self.which == "best":
            self._ends.refuse_early_validation(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note which epoch the logged values are of."""
        if not trainer.sanity_checking:
            self._validated_epoch = trainer.current_epoch

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write a snapshot if this epoch ends a cycle, and remove what is not to be kept."""
        cycle = self._ends.ending_cycle(trainer)
        if self.which == "best" and self._validated_epoch == trainer.current_epoch:
            # Said at the first validation, not at the end of a long cycle.
            self._monitor.check(trainer.callback_metrics)
        if cycle is None:
            return
        # Without a validation in this epoch, the logged values are those of an earlier one.
        is_measured = self._validated_epoch == trainer.current_epoch
        measured = trainer.callback_metrics if is_measured else {}
        if self.which == "best":
            self._monitor.check(measured)
        # Every process must decide alike, whatever a module logs on each of them.
        metrics = {
            name: mean_over_processes(trainer, value) for name, value in sorted(measured.items())
        }
        self._write(trainer, cycle, metrics)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note in a snapshot what it is one of; other checkpoints are left alone."""
        if self._writing is not None:
            checkpoint[SNAPSHOT_KEY] = self._writing

    def _write(self, trainer: pl.Trainer, cycle: int, metrics: dict[str, float]) -> None:
        name = f"cycle-{cycle}.ckpt"
        self._values.pop(name, None)
        self._values[name] = metrics.get(self._monitor.name, math.nan)
        surplus = self._surplus()
        for old in surplus:
            del self._values[old]
        if name not in surplus:
            self._writing = {"cycle": cycle, "epoch": trainer.current_epoch, "metrics": metrics}
            save_as_a_whole(trainer, self._folder / name)
            self._writing = None
        for old in surplus:
            if old != name:
                trainer.strategy.remove_checkpoint(self._folder / old)

    def _surplus(self) -> list[str]:
        names = list(self._values)
        if self.keep is None or len(names) <= self.keep:
            return []
        if self.which == "best":
            # What is infinite is worse than any number, as what is none.
            badness = {
                name: self._monitor.badness(value) if math.isfinite(value) else math.inf
                for name, value in self._values.items()
            }
            names.sort(key=lambda name: -badness[name])
        return names[: len(names) - self.keep]
