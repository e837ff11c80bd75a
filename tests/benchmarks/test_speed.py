"""Speed as ratios, measured in turn on one machine: ``pytest -m benchmark -s``.

``FASTRECIPES_PHOTOS`` names a folder of photos, one folder per class.
"""

import os
import statistics
import subprocess
import sys
import time

import pytest
import pytorch_lightning as pl
import torch

from lightning_fastrecipes import FeatureDataModule, ImageClassifier, ImageFolderDataModule
from lightning_fastrecipes.recipe.defaults import default_precision

pytestmark = pytest.mark.benchmark


class EpochSeconds(pl.Callback):
    """Note the seconds of every training epoch, validation left out."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        self.started = time.perf_counter()

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self.seconds.append(time.perf_counter() - self.started)


def seconds_per_epoch(model, data, max_epochs: int) -> list[float]:
    clock = EpochSeconds()
    trainer = pl.Trainer(
        max_epochs=max_epochs, callbacks=[clock], precision=default_precision("auto", model),
        limit_val_batches=0, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, datamodule=data)
    return clock.seconds


def test_epochs_on_cached_features_are_a_hundred_times_faster_than_full_ones() -> None:
    photos = os.environ.get("FASTRECIPES_PHOTOS")
    if not photos:
        pytest.skip("FASTRECIPES_PHOTOS names no folder of photos")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    images = ImageFolderDataModule(photos, batch_size=32, valid_fraction=0.25)
    model = ImageClassifier("tf_efficientnet_lite0", num_classes=2)
    model.to(memory_format=torch.channels_last)
    ratios, live_ratios = [], []
    for _ in range(2):  # in turn, so that a noisy neighbour hits both
        model.freeze()
        cached = seconds_per_epoch(model, FeatureDataModule(images, model), 6)[1:]
        live = seconds_per_epoch(model, images, 1)
        model.unfreeze()
        full = seconds_per_epoch(model, images, 1)
        ratios += [full[0] / value for value in cached]
        live_ratios += [live[0] / value for value in cached]
        print(f"cached {cached}, live head {live}, full {full}")
    for name, values in (("full", ratios), ("live head", live_ratios)):
        print(f"{name} / cached: {min(values):.0f} to {max(values):.0f}")
    assert statistics.median(ratios) >= 100


def test_the_import_costs_at_most_a_fifth_more_than_lightning_itself() -> None:
    def seconds(module: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
        return time.perf_counter() - started

    ratios = [seconds("lightning_fastrecipes") / seconds("pytorch_lightning") for _ in range(5)]
    print(f"import: {min(ratios):.2f} to {max(ratios):.2f}")
    assert statistics.median(ratios) <= 1.2
