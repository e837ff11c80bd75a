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
from lightning_fastrecipes.recipe.config.defaults import cpu_has_bfloat16, default_precision

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
    images = ImageFolderDataModule(photos, batch_size=32, split=0.25)
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


STEP = """
import sys, time, statistics, os
import torch
from lightning_fastrecipes import ImageClassifier
from lightning_fastrecipes.recipe.artifacts.environment import keep_freed_memory

size, keeps, in_bfloat16 = int(sys.argv[1]), sys.argv[2] == "keep", sys.argv[3] == "bfloat16"
if keeps:
    keep_freed_memory()
torch.set_num_threads(len(os.sched_getaffinity(0)))
model = ImageClassifier("tf_efficientnet_lite0", num_classes=2)
model.to(memory_format=torch.channels_last)
images, seconds = torch.randint(256, (32, 3, size, size), dtype=torch.uint8), []
for _ in range(6):
    started = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=in_bfloat16):
        loss = model(images).logsumexp(1).mean()
    loss.backward()
    model.zero_grad()
    seconds.append(time.perf_counter() - started)
print(statistics.median(seconds[2:]))
"""


def seconds_of_a_step(*words: object) -> float:
    done = subprocess.run(
        [sys.executable, "-c", STEP, *map(str, words)], check=True, capture_output=True, text=True
    )
    return float(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("size", "slow", "quick", "bound"),
    [
        (224, ("return", "32 bits"), ("keep", "32 bits"), 1.5),
        (224, ("return", "bfloat16"), ("keep", "32 bits"), 1.5),
        (160, ("keep", "bfloat16"), ("keep", "32 bits"), 1.2),
    ],
    ids=["memory-kept", "both", "depthwise-in-32-bits"],
)
def test_a_step_on_a_processor_is_faster(size, slow, quick, bound) -> None:
    if "bfloat16" in slow and not cpu_has_bfloat16():
        pytest.skip("the CPU has no instructions for bfloat16")
    ratios = []
    for _ in range(3):  # in turn, so that a noisy neighbour hits both
        before, after = seconds_of_a_step(size, *slow), seconds_of_a_step(size, *quick)
        print(f"{size} px: {slow} {before:.2f} s, {quick} {after:.2f} s")
        ratios.append(before / after)
    print(f"{min(ratios):.2f} to {max(ratios):.2f}")
    assert statistics.median(ratios) >= bound


def test_the_import_costs_at_most_a_fifth_more_than_lightning_itself() -> None:
    def seconds(module: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
        return time.perf_counter() - started

    ratios = [seconds("lightning_fastrecipes") / seconds("pytorch_lightning") for _ in range(5)]
    print(f"import: {min(ratios):.2f} to {max(ratios):.2f}")
    assert statistics.median(ratios) <= 1.2
