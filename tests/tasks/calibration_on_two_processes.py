"""Fit a model that asks its data for everything, on two gloo processes or on one.

``test_norm_calibration.py`` calls ``work``, and starts this script, which forks.
"""

import multiprocessing
import os
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn

from lightning_fastrecipes import ImageArrayDataModule, ImageClassifier, ValidationGuard


def main(folder: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": "0"}
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=work_alone, args=(rank, folder)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    sys.exit(max(abs(process.exitcode) for process in processes))


def work_alone(rank: int, folder: Path) -> None:
    os.environ["LOCAL_RANK"] = str(rank)
    torch.save(work(num_processes=2), folder / f"process-{rank}.pt")


class Calibrated(pl.Callback):
    """Keep the backbone's state once the first step is prepared."""

    def on_before_backward(self, trainer, pl_module, loss) -> None:
        if trainer.global_step == 0:
            state = pl_module.backbone.state_dict().items()
            # The step itself has moved the statistics since.
            self.state = {k: v.clone() for k, v in state if "running" not in k}


def work(num_processes: int) -> dict[str, Any]:
    pl.seed_everything(0, verbose=False)
    strategy = {"strategy": "ddp", "devices": 2} if num_processes == 2 else {"devices": 1}
    draw = np.random.default_rng(1)
    images = draw.integers(0, 256, (64, 16, 16, 3), dtype=np.uint8)
    arrays = {"x_train": images, "y_train": np.arange(64) % 4, "x_test": 255 - images[:2]}
    data = ImageArrayDataModule(arrays, split=0.25, image_size=16, batch_size=16 // num_processes)
    backbone = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU()),
        nn.Sequential(nn.Conv2d(4, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU()),
    )
    model = ImageClassifier(backbone, pretrained=True, head={"hidden": 8})
    model.unfreeze()
    kept, guard = Calibrated(), ValidationGuard()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[kept, guard],
        **strategy,
    )
    trainer.fit(model, datamodule=data)
    return {
        "calibrated": kept.state,
        "end": {name: value.clone() for name, value in model.state_dict().items()},
        "classes": model.classes,
        "verdicts": guard.verdicts,
        "samples": guard._before["num_samples"],
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
