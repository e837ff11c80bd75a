"""Resize and augment images on two gloo processes, or on one, and write down what came out.

``test_images_on_two_processes.py`` calls ``work``, and starts this script, which forks.
"""

import multiprocessing
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from lightning_fastrecipes import (
    SGDR,
    Geometry,
    ImageClassifier,
    ImageFolderDataModule,
    ProgressiveResizing,
    TestTimeAugmentation,
)
from lightning_fastrecipes.data.common.split_choice import FractionSplit


def main(photos: Path, folder: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": "0"}
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=work_alone, args=(r, photos, folder)) for r in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    sys.exit(max(abs(process.exitcode) for process in processes))


def work_alone(rank: int, photos: Path, folder: Path) -> None:
    os.environ["LOCAL_RANK"] = str(rank)
    torch.save(work(photos, num_processes=2), folder / f"process-{rank}.pt")


class Sizes(pl.Callback):
    """Note epoch, size and number of images of each training batch, and the rate."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, int]] = []
        self.lrs: list[float] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.seen.append((trainer.current_epoch, batch[0].shape[-1], len(batch[0])))
        self.lrs.append(trainer.optimizers[0].param_groups[-1]["lr"])


def work(photos: Path, num_processes: int) -> dict[str, Any]:
    def trainer(*callbacks: pl.Callback, **options: Any) -> pl.Trainer:
        strategy = {"strategy": "ddp", "devices": 2} if num_processes == 2 else {"devices": 1}
        return pl.Trainer(
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=list(callbacks),
            **strategy,
            **options,
        )

    images = ImageFolderDataModule(
        photos,
        image_size=24,
        batch_size=6 // num_processes,
        num_workers=0,
        augmentation="top_down",
        split=FractionSplit(0.38, 0.25),
    )
    torch.manual_seed(0)
    model = ImageClassifier("test_resnet.r160_in1k", num_classes=2, head="linear", num_groups=2)
    augmented = TestTimeAugmentation(3, plain_weight="learn")
    quiet = {"datamodule": images, "verbose": False}
    found: dict[str, Any] = {"val": trainer(augmented).validate(model, **quiet)[0]}
    found["weight"] = augmented.weight
    found["test"] = trainer(augmented).test(model, **quiet)[0]
    # A loader of its own serves no whole images.
    within = TestTimeAugmentation(3, "augmentation", "top_down")
    predictions = trainer(within).predict(model, images.eval_dataloader("val"))
    found["predictions"] = torch.cat(predictions)
    sizes, batches = {0: 16, 1: 24}, {0: 4 // num_processes, 1: 6 // num_processes}
    noted = Sizes()
    resizing = ProgressiveResizing(sizes, batches, validate_at="last")
    images.geometry = Geometry(normalize="dataset")
    trainer(SGDR(cycle_len=2), resizing, noted, max_epochs=2).fit(model, images)
    measured = [model.input_spec.mean, model.input_spec.std, model.input_spec.normalize]
    return found | {"seen": noted.seen, "lrs": noted.lrs, "measured": measured}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
