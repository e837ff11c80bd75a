"""What decoded images on disk buy, as ratios measured in turn: ``pytest -m benchmark -s``.

``FASTRECIPES_PHOTOS`` names a folder of photos, one folder per class.
"""

import itertools
import os
import statistics
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from lightning_fastrecipes import ImageClassifier, ImageFolderDataModule
from lightning_fastrecipes.data.images.options import Augmentation
from lightning_fastrecipes.functional.images.augment import augment_batch, draw_parameters
from lightning_fastrecipes.functional.random import seeded_generator
from lightning_fastrecipes.recipe.config.defaults import default_precision

pytestmark = pytest.mark.benchmark


@pytest.fixture
def photos() -> str:
    folder = os.environ.get("FASTRECIPES_PHOTOS")
    if not folder:
        pytest.skip("FASTRECIPES_PHOTOS names no folder of photos")
    return folder


def module(photos: str, cache: str, **options: Any) -> ImageFolderDataModule:
    """Make a datamodule as a trainer leaves it, with its cache written."""
    options = {"batch_size": 32, "split": 0.25, "seed": 1} | options
    data = ImageFolderDataModule(photos, cache=cache, **options)
    progress = SimpleNamespace(current=SimpleNamespace(processed=0))
    data.trainer = SimpleNamespace(
        lightning_module=None, fast_dev_run=False, num_devices=1,
        state=SimpleNamespace(fn=SimpleNamespace(value="fit")),
        fit_loop=SimpleNamespace(epoch_progress=progress),
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )  # fmt: skip
    data.prepare_data()
    data.setup("fit")
    return data


def images_per_second(data: ImageFolderDataModule) -> float:
    loader, count = data.train_dataloader(), 0
    started = time.perf_counter()
    for batch in loader:
        count += len(batch[0])
    return count / (time.perf_counter() - started)


@pytest.mark.parametrize(
    "options",
    [
        {"augmentation": "none"},
        {"augmentation": Augmentation("side_on", on_device=True)},
        {"augmentation": Augmentation("side_on")},
    ],
    ids=["plain", "augmented-on-the-device", "augmented-by-the-loader"],
)
def test_kept_images_are_read_three_times_faster_than_decoded(
    photos: str, tmp_path: Path, options: dict
) -> None:
    torch.set_num_threads(1)
    ratios = []
    decoding = module(photos, "off", num_workers=0, **options)
    keeping = module(photos, str(tmp_path), num_workers=0, **options)
    for _ in range(4):  # in turn, so that a noisy neighbour hits both
        decoded, kept = images_per_second(decoding), images_per_second(keeping)
        print(f"{options}: decoded {decoded:.0f}/s, kept {kept:.0f}/s")
        ratios.append(kept / decoded)
    print(f"{options}: {min(ratios):.1f} to {max(ratios):.1f} times")
    if options.get("augmentation") != Augmentation(
        "side_on"
    ):  # there the transforms take most of the time
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
    print(f"{min(milliseconds):.2f} to {max(milliseconds):.2f} ms a image of 224 px")
    assert statistics.median(milliseconds) <= 1.5


class Turns(pl.LightningDataModule):
    """Batches already in memory and those of a datamodule, some steps of each in turn.

    The machine's pace changes from minute to minute by more than what is measured, so that whole
    runs one after the other say nothing.
    """

    STEPS = 10
    UNTIMED = 3
    """Of each turn: at first, workers still fill their queue, or have it full."""

    def __init__(self, data: ImageFolderDataModule, in_memory: Any) -> None:
        super().__init__()
        self.data, self.in_memory = data, in_memory

    def of_loader(self, step: int) -> bool:
        return step // self.STEPS % 2 == 1

    def prepare_data(self) -> None:
        self.data.trainer = self.trainer
        self.data.prepare_data()

    def setup(self, stage: str) -> None:
        self.data.setup(stage)

    def train_dataloader(self) -> Any:
        return self

    def __iter__(self) -> Any:
        loader = itertools.chain.from_iterable(itertools.repeat(self.data.train_dataloader()))
        for step in itertools.count():
            yield next(loader) if self.of_loader(step) else self.in_memory

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if self.of_loader(self.trainer.global_step):
            return self.data.on_after_batch_transfer(batch, dataloader_idx)
        return batch


class Clock(pl.Callback):
    """Keep when each step ended."""

    def on_train_start(self, trainer, pl_module) -> None:
        self.ended = [time.perf_counter()]

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.ended.append(time.perf_counter())


@pytest.mark.parametrize("augmentation", ["none", "side_on"])
def test_the_loader_adds_a_tenth_to_the_time_of_the_steps(
    photos: str, tmp_path: Path, augmentation: str
) -> None:
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    options = {"image_size": 160, "batch_size": 32, "augmentation": Augmentation(on_device=True)}
    plain = module(photos, str(tmp_path), augmentation="none", **options)
    in_memory = next(iter(plain.train_dataloader()))
    turns = Turns(module(photos, str(tmp_path), augmentation=augmentation, **options), in_memory)
    model = ImageClassifier("tf_efficientnet_lite0", num_classes=2)
    model.to(memory_format=torch.channels_last)
    clock, num_turns = Clock(), 9
    pl.Trainer(
        max_steps=turns.STEPS * (2 * num_turns + 1), callbacks=[clock], logger=False,
        precision=default_precision("auto", model), enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    ).fit(model, datamodule=turns)  # fmt: skip
    steps = [after - before for before, after in itertools.pairwise(clock.ended)]
    pace = [
        statistics.mean(steps[start + turns.UNTIMED : start + turns.STEPS])
        for start in range(0, len(steps), turns.STEPS)
    ]
    # Each turn of the loader beside the turns before and after it.
    ratios = [
        2 * pace[turn] / (pace[turn - 1] + pace[turn + 1]) for turn in range(1, len(pace) - 1, 2)
    ]
    print(f"{augmentation}: {statistics.median(pace[::2]):.2f} s a step in memory,", end=" ")
    print("ratios", *(f"{ratio:.3f}" for ratio in sorted(ratios)))
    assert statistics.median(ratios) <= 1.1
