"""Train and measure on a table with several gloo processes, or one, and note what was seen.

``test_tables.py`` calls ``work``, and starts this script, which forks.
"""

import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from helpers.processes import fork_group

from lightning_fastrecipes.data.tables.columns import TableColumns
from lightning_fastrecipes.data.tables.datamodule import TabularDataModule
from lightning_fastrecipes.tasks.multi_target import TabularMultiTarget
from lightning_fastrecipes.tasks.tabular import TabularRegressor


def work_alone(rank: int, folder: Path, num_processes: int) -> None:
    torch.save(work(folder, num_processes), folder / f"process-{rank}-of-{num_processes}.pt")


class Notes(pl.Callback):
    """Note the target, which tells rows apart, of every row, and the masks of every batch."""

    def __init__(self) -> None:
        self.trained: dict[int, list[list[float]]] = {}
        self.masks: list[list[list[bool]]] = []
        self.measured: list[float] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.trained.setdefault(trainer.current_epoch, []).append(batch[1].tolist())
        self.masks.append((batch[0].codes == 0).tolist())

    def on_validation_batch_end(self, trainer, pl_module, outputs, *args) -> None:
        if not trainer.sanity_checking:
            self.measured += outputs["targets"].tolist()


def work(folder: Path, num_processes: int) -> dict[str, Any]:
    data = TabularDataModule(
        folder / "table.csv",
        TableColumns("row", ["shop"], ["km"]),
        split="part",
        batch_size=12 // num_processes,
        eval_batch_size=4,
        mask_fraction=0.3,
        cache=folder / f"cache-{num_processes}",
    )
    torch.manual_seed(0)
    model = TabularRegressor(
        network={"layers": (4,), "dropout": (0.0,)},
        metrics={"mse": "torchmetrics.MeanSquaredError"},
    )
    notes = Notes()
    strategy = {"devices": num_processes} | ({"strategy": "ddp"} if num_processes > 1 else {})
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[notes], max_epochs=2, **strategy,
    )  # fmt: skip
    found: dict[str, Any] = {"before": trainer.validate(model, data, verbose=False)[0]}
    found["measured"] = list(notes.measured)
    predictions = trainer.predict(model, data.predict_dataloader(folder / "table.csv"))
    found["predictions"] = torch.cat(predictions)
    trainer.fit(model, data)
    found["weights"] = torch.cat([one.detach().flatten() for one in model.parameters()])
    found["made"] = sorted(
        str(file.stat().st_mtime_ns) for file in folder.glob(f"cache-{num_processes}/*/*")
    )
    several = TabularDataModule(
        folder / "table.csv",
        TableColumns(["row", "kind"], ["shop"], ["km"], {"row": "regression", "kind": "classes"}),
        split="part",
        steps=[{"derive": {"kind": "row % 3 == 0"}}],
        eval_batch_size=4,
        cache="off",
    )
    torch.manual_seed(0)
    both = TabularMultiTarget(network={"layers": (4,), "dropout": (0.0,)})
    found["several"] = trainer.validate(both, several, verbose=False)[0]
    found["weighted"] = weighted(folder, num_processes, strategy)
    return found | {"trained": notes.trained, "masks": notes.masks}


def weighted(folder: Path, num_processes: int, strategy: dict[str, Any]) -> dict[str, float]:
    """Train on whole batches of rows that count differently, without what differs by process."""
    data = TabularDataModule(
        folder / "table.csv",
        TableColumns("row", ["shop"], ["km"], weight="count"),
        split="part",
        batch_size=12 // num_processes,
        eval_batch_size=4,
        mask_fraction=0.0,
        cache="off",
    )
    torch.manual_seed(0)
    network = {"layers": (4,), "dropout": (0.0,), "embedding_dropout": 0.0}
    model = TabularRegressor(network=network, norm_policy="eval", lr=0.1)
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, max_epochs=3, limit_train_batches=2, **strategy,
    )  # fmt: skip
    trainer.fit(model, data)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


if __name__ == "__main__":
    fork_group(int(sys.argv[2]), work_alone, Path(sys.argv[1]), int(sys.argv[2]))
