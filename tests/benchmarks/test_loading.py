"""What decoded pictures on disk buy, as ratios measured in turn: ``pytest -m benchmark -s``.

``FASTRECIPES_PHOTOS`` names a folder of photos, one folder per class.
"""

import os
import statistics
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from lightning_fastrecipes import ImageClassifier, ImageFolderDataModule
from lightning_fastrecipes.functional.augment import (
    augment_batch,
    draw_parameters,
    seeded_generator,
)
from lightning_fastrecipes.recipe.defaults import default_precision

pytestmark = pytest.mark.benchmark

NUM_BATCHES = 25


@pytest.fixture
def photos() -> str:
    folder = os.environ.get("FASTRECIPES_PHOTOS")
    if not folder:
        pytest.skip("FASTRECIPES_PHOTOS names no folder of photos")
    return folder


def module(photos: str, cache: str, **options: Any) -> ImageFolderDataModule:
    """Make a datamodule as a trainer leaves it, with its cache written."""
    options = {"batch_size": 32, "valid_fraction": 0.25, "seed": 1} | options
    data = ImageFolderDataModule(photos, cache=cache, **options)
    progress = SimpleNamespace(current=SimpleNamespace(processed=0))
    data.trainer = SimpleNamespace(
        lightning_module=None, fast_dev_run=False, num_devices=1,
        state=SimpleNamespace(fn=SimpleNamespace(value="fit")),
        fit_loop=SimpleNamespace(epoch_progress=progress),
    )  # fmt: skip
    data.prepare_data()
    data.setup("fit")
    return data


def pictures_per_second(data: ImageFolderDataModule) -> float:
    loader, count = data.train_dataloader(), 0
    started = time.perf_counter()
    for batch in loader:
        count += len(batch[0])
    return count / (time.perf_counter() - started)


@pytest.mark.parametrize(
    "options",
    [
        {"augmentation": "none"},
        {"augmentation": "side_on", "augment_on": "device"},
        {"augmentation": "side_on", "augment_on": "loader"},
    ],
    ids=["plain", "augmented-on-the-device", "augmented-by-the-loader"],
)
def test_kept_pictures_are_read_three_times_faster_than_decoded(
    photos: str, tmp_path: Path, options: dict
) -> None:
    torch.set_num_threads(1)
    ratios = []
    decoding = module(photos, "off", num_workers=0, **options)
    keeping = module(photos, str(tmp_path), num_workers=0, **options)
    for _ in range(4):  # in turn, so that a noisy neighbour hits both
        decoded, kept = pictures_per_second(decoding), pictures_per_second(keeping)
        print(f"{options}: decoded {decoded:.0f}/s, kept {kept:.0f}/s")
        ratios.append(kept / decoded)
    print(f"{options}: {min(ratios):.1f} to {max(ratios):.1f} times")
    if options.get("augment_on") != "loader":  # there the transforms take most of the time
        assert statistics.median(ratios) >= 3


def test_a_batch_is_augmented_in_little_processor_time() -> None:
    torch.set_num_threads(1)
    images = torch.randint(256, (32, 3, 256, 256), dtype=torch.uint8)
    drawn = draw_parameters(32, "side_on", 1.1, seeded_generator(0))
    milliseconds = []
    for _ in range(11):
        started = time.process_time()
        augment_batch(images, drawn, image_size=224)
        milliseconds.append((time.process_time() - started) * 1000 / len(images))
    print(f"{min(milliseconds):.2f} to {max(milliseconds):.2f} ms a picture of 224 px")
    assert statistics.median(milliseconds) <= 1.5


class Seconds(pl.Callback):
    """Time all steps but the first ten."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if batch_idx == 9:
            self.started = time.perf_counter()

    def on_train_end(self, trainer, pl_module) -> None:
        self.seconds = time.perf_counter() - self.started


def seconds_of_steps(data: Any) -> float:
    torch.manual_seed(0)
    model = ImageClassifier("tf_efficientnet_lite0", num_classes=2)
    model.to(memory_format=torch.channels_last)
    clock = Seconds()
    trainer = pl.Trainer(
        max_epochs=1, limit_train_batches=NUM_BATCHES, limit_val_batches=0, callbacks=[clock],
        precision=default_precision("auto"), logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    if isinstance(data, pl.LightningDataModule):
        trainer.fit(model, datamodule=data)
    else:
        trainer.fit(model, data)
    return clock.seconds


@pytest.mark.parametrize("augmentation", ["none", "side_on"])
def test_the_loader_adds_a_tenth_to_the_time_of_the_steps(
    photos: str, tmp_path: Path, augmentation: str
) -> None:
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    data = ImageFolderDataModule(
        photos, cache=str(tmp_path), augmentation=augmentation, augment_on="device",
        image_size=160, batch_size=32, valid_fraction=0.25,
    )  # fmt: skip
    seconds_of_steps(data)  # writes the cache
    data.augmentation = "none"
    in_memory = DataLoader(list(zip(*next(iter(data.train_dataloader())), strict=True)), 32)
    batch = next(iter(in_memory))
    fixed = DataLoader([batch] * NUM_BATCHES, batch_size=None)
    data.augmentation = augmentation
    ratios = []
    for _ in range(4):  # in turn, so that a noisy neighbour hits both
        memory, loader = seconds_of_steps(fixed), seconds_of_steps(data)
        print(f"{augmentation}: in memory {memory:.1f} s, loader {loader:.1f} s")
        ratios.append(loader / memory)
    print(f"{augmentation}: {min(ratios):.2f} to {max(ratios):.2f}")
    assert statistics.median(ratios) <= 1.1
