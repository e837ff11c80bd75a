"""Kill two gloo processes within an epoch, and go on in one, three, and three of other batches.

``test_begun_epochs.py`` starts this script, which forks.
"""

import json
import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from helpers.processes import free_port
from torch import Tensor, nn
from torchmetrics import MeanMetric

import lightning_fastrecipes as fr
from lightning_fastrecipes.errors import ConfigurationError

ROWS = 48


def data_of(kind: str, batch_size: int) -> pl.LightningDataModule:
    """Return rows or images whose target is their number."""
    if kind == "table":
        frame = pd.DataFrame({"shop": list("xyz") * 20, "row": np.arange(60.0)})
        split = {"train": list(range(ROWS)), "val": list(range(ROWS, 60))}
        columns = fr.TableColumns("row", ["shop"])
        return fr.TabularDataModule(frame, columns, split=split, batch_size=batch_size, cache="off")
    images = np.zeros((60, 8, 8), np.uint8)
    arrays = {"x_train": images[:ROWS], "y_train": np.arange(ROWS) / 1.0}
    arrays |= {"x_val": images[ROWS:], "y_val": np.arange(ROWS, 60) / 1.0}
    return fr.ImageArrayDataModule(arrays, labels=fr.Numbers(), image_size=8, batch_size=batch_size)


class Watched(pl.LightningModule):
    """Notes the targets of every step over all processes, and means of them."""

    def __init__(self, last_step: int | None) -> None:
        super().__init__()
        self.weight, self.mean = nn.Parameter(torch.zeros(())), MeanMetric()
        self.last_step = last_step
        self.steps: list[list[int]] = []
        self.means: list[list[float]] = []

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if self.global_step == self.last_step:
            os.kill(os.getpid(), signal.SIGKILL)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        targets = batch[1].float().flatten()
        seen = self.all_gather(targets).flatten()
        self.steps.append(sorted(int(one) for one in seen.round()))
        self.mean.update(targets)
        self.log("metric", self.mean, on_step=False, on_epoch=True)
        loss = self.weight * targets.mean()
        self.log("mean", targets.mean(), on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def on_train_epoch_end(self) -> None:
        found = self.trainer.callback_metrics
        self.means.append([round(float(found[name]), 4) for name in ("metric", "mean")])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def work(rank: int, folder: Path, name: str, how: dict[str, Any]) -> None:
    """Fit for two epochs, or until the kill, and note what was seen."""
    os.environ["LOCAL_RANK"] = str(rank)
    model, count = Watched(how.get("last_step")), how["processes"]
    saved = folder / f"{how['kind']}.ckpt"
    every = fr.SaveEvery(1, saved if "last_step" in how else folder / f"{name}.ckpt")
    strategy = {"devices": count} | ({"strategy": "ddp"} if count > 1 else {})
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[every], max_epochs=2, limit_val_batches=0,
        **strategy,
    )  # fmt: skip
    found: dict[str, Any] = {}
    try:
        data = data_of(how["kind"], how["batch_size"])
        trainer.fit(model, data, ckpt_path=saved if how.get("resumes") else None)
    except ConfigurationError as error:
        found["refused"] = str(error)
    if rank == 0:
        found |= {"steps": model.steps, "means": model.means}
        (folder / f"{name}.json").write_text(json.dumps(found))


def main(folder: Path) -> None:
    fork = multiprocessing.get_context("fork")
    for kind in ("table", "images"):
        for name, how in {
            "whole": {"processes": 1, "batch_size": 12},
            "killed": {"processes": 2, "batch_size": 6, "last_step": 2},
            "one": {"processes": 1, "batch_size": 12, "resumes": True},
            "three": {"processes": 3, "batch_size": 4, "resumes": True},
            "other": {"processes": 3, "batch_size": 6, "resumes": True},
        }.items():
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
            arguments = folder, f"{kind}-{name}", {"kind": kind} | how
            started = [
                fork.Process(target=work, args=(rank, *arguments))
                for rank in range(how["processes"])
            ]
            for one in started:
                one.start()
            for one in started:
                one.join()
            expected = -signal.SIGKILL if name == "killed" else 0
            assert [one.exitcode for one in started] == [expected] * len(started), (kind, name)


if __name__ == "__main__":
    os.environ["NODE_RANK"] = "0"
    main(Path(sys.argv[1]))
