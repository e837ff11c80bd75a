"""Train and measure on images some labels of which are unknown with two gloo processes, or one.

``test_unknown_labels.py`` calls ``work``, and starts this script, which forks.
"""

import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from helpers.processes import fork_group

from lightning_fastrecipes import ImageClassifier, ImageCSVDataModule, LabelTable, Tags

NAMES = ["a", "b", "c"]


def work(folder: Path, num_processes: int) -> dict[str, Any]:
    data = ImageCSVDataModule(
        pd.read_csv(folder / "labels.csv"),
        table=LabelTable(str(folder), labels=Tags(columns=NAMES)),
        split="split",
        image_size=32,
        batch_size=3,
        num_workers=0,
        cache="off",
    )
    torch.manual_seed(0)
    model = ImageClassifier(
        "test_efficientnet.r160_in1k",
        head={"layout": "linear", "dropout": 0.0},
        lr=1e-3,
        metrics={"auc": "torchmetrics.classification.MultilabelAUROC"},
    )
    strategy = {"strategy": "ddp", "devices": 2} if num_processes == 2 else {"devices": 1}
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, max_epochs=1, **strategy,
    )  # fmt: skip
    before = trainer.validate(model, data, verbose=False)[0]
    trainer.fit(model, data)
    weights = torch.cat([one.detach().flatten() for one in model.parameters()])
    return {"before": before, "weights": weights, "thresholds": model.thresholds}


def note(rank: int, folder: Path) -> None:
    torch.save(work(folder, 2), folder / f"process-{rank}.pt")


if __name__ == "__main__":
    fork_group(2, note, Path(sys.argv[1]))
