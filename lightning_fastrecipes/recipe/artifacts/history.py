"""One CSV row per epoch, kept through an interruption."""

import csv
import time
from pathlib import Path
from typing import Any

import pandas as pd
from typing_extensions import override

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes.callbacks.epoch_table import EpochRows
from lightning_fastrecipes.data.common.files import write_atomically
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.messages import shown
from lightning_fastrecipes.recipe.artifacts.reading import RUN_CURE
from lightning_fastrecipes.recipe.artifacts.run_folder import BEGUN, RunFolder


class History(EpochRows):
    """Write losses, metrics, the head's highest rate and seconds of every epoch to one CSV.

    Rows of earlier stages stay; rows that a resumed stage trains again are replaced. Once a run is
    continued, rows say of which ``part`` they are.
    """

    def __init__(self, path: Path, stage: str) -> None:
        super().__init__()
        self.path = path
        self.stage = stage
        self.has_begun = False
        self.part = 1
        self.num_samples = 0
        self.train_seconds = 0.0

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.has_begun = True

    @override
    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self.num_samples += len(batch[1]) * trainer.world_size
        if batch_idx + 1 == trainer.num_training_batches:
            self.train_seconds += time.perf_counter() - self._epoch_started

    @override
    def take_row(self, trainer: pl.Trainer, row: dict[str, float]) -> None:
        history = read_history(self.path)
        again = (history["stage"] == self.stage) & (history["epoch"] >= trainer.current_epoch)
        kept = history[~again].to_dict("records")
        part = {"part": self.part} if self.part > 1 else {}
        table = pd.DataFrame([*kept, {"stage": self.stage, **row, **part}])
        if "part" in table:
            table["part"] = table["part"].fillna(1).astype(int)
        write_atomically(self.path, table.to_csv(index=False))


def last_epoch(folder: RunFolder) -> str:
    """Return the stage and epoch that a run has reached, and whether the next one is begun."""
    rows = read_history(folder.metrics).tail(1).to_dict("records")
    begun = next((folder.path / "checkpoints").glob(f"*{BEGUN}"), None)
    more = "" if begun is None else f", with a checkpoint within the next one ({begun.name})"
    if not rows:
        return f"before the end of its first epoch{more}"
    return f"after epoch {rows[0]['epoch'] + 1} of the stage {rows[0]['stage']}{more}"


def read_history(path: Path) -> pd.DataFrame:
    """Read the rows that ``History`` has written so far; none without a file."""
    if not path.is_file():
        return pd.DataFrame({"stage": pd.Series(dtype=str), "epoch": pd.Series(dtype=int)})
    text = path.read_text(encoding="utf-8", errors="replace")
    # Pandas would take what is missing for no numbers.
    lengths = {len(line) for line in csv.reader(text.replace("\0", "").splitlines()) if line}
    if len(lengths) != 1 or not text.endswith("\n"):
        raise DataError(
            f"{path} must be a table of epochs whose lines are whole, but one is cut. {RUN_CURE}"
        )
    try:
        history = pd.read_csv(path, dtype={"stage": str, "epoch": int})
    except (ValueError, OSError) as error:
        raise DataError(f"{path} must be a table of epochs: {error}. {RUN_CURE}") from error
    kinds = {str(name): kind.kind for name, kind in history.dtypes.items() if name != "stage"}
    is_whole = {"epoch", "train_loss", "val_loss"} <= set(kinds) and "stage" in history
    if not is_whole or not set(kinds.values()) <= set("ifb"):
        raise DataError(
            f"{path} must have the columns `stage`, `epoch`, `train_loss` and `val_loss`, with"
            f" numbers in all but the first, but has {shown(list(history))}. {RUN_CURE}"
        )
    return history
