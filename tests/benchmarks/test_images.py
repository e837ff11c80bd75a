"""Images against fastai, and what views cost, measured in turn: ``pytest -m benchmark -s``.

``FASTRECIPES_PHOTOS`` names a folder of photos, one folder per class. fastai is asked where it is
installed beside us.
"""

import os
import statistics
import time
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from lightning_fastrecipes import (
    SGDR,
    FeatureDataModule,
    ImageClassifier,
    ImageFolderDataModule,
    TestTimeAugmentation,
)
from lightning_fastrecipes.data.common.split_choice import FractionSplit
from lightning_fastrecipes.nn.weights import load_weights
from lightning_fastrecipes.recipe.artifacts.environment import keep_freed_memory
from lightning_fastrecipes.recipe.config.defaults import default_precision

try:
    from fastai.vision import all as fastai
except ImportError:
    fastai = None

pytestmark = pytest.mark.benchmark

ARCHITECTURE, WEIGHTS = "tf_efficientnet_lite0", "package:efficientnet-lite0"
SPLITS = {"image_size": 160, "batch_size": 32, "split": FractionSplit(0.05, 0.25)}


@pytest.fixture
def photos() -> str:
    folder = os.environ.get("FASTRECIPES_PHOTOS")
    if not folder:
        pytest.skip("FASTRECIPES_PHOTOS names no folder of photos")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    return folder


def quiet_trainer(**arguments: Any) -> pl.Trainer:
    return pl.Trainer(
        logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, **arguments,
    )  # fmt: skip


def train_head(photos: str) -> tuple[float, float]:
    """Train a head on frozen features, from nothing kept; give seconds and unseen accuracy."""
    pl.seed_everything(0)
    started = time.perf_counter()
    images = ImageFolderDataModule(photos, **SPLITS)
    model = ImageClassifier(ARCHITECTURE, num_classes=2, weights=WEIGHTS)
    model.to(memory_format=torch.channels_last)
    model.freeze()
    model.set_learning_rates(3e-4)
    schedule = SGDR(cycle_len=8)
    precision = default_precision("auto", model)
    trainer = quiet_trainer(max_epochs=8, callbacks=[schedule], precision=precision)
    trainer.fit(model, datamodule=FeatureDataModule(images, model))
    seconds = time.perf_counter() - started
    metrics = quiet_trainer().test(model, datamodule=images, verbose=False)[0]
    return seconds, metrics["test_accuracy"]


def fine_tune_by_fastai(photos: str) -> tuple[float, float]:
    """Run fastai's ``fine_tune(3)`` as it comes, on the same photos and weights."""
    images = ImageFolderDataModule(photos, cache="off", **SPLITS)
    images.prepare_data()
    images.setup("test")
    files = {s: images.eval_dataset(s).files for s in ("train", "val", "test")}
    root = fastai.Path(photos)
    paths = {split: [root / name for name in names] for split, names in files.items()}
    fastai.set_seed(0)
    started = time.perf_counter()
    table = [*paths["train"], *paths["val"]]
    block = fastai.DataBlock(
        blocks=(fastai.ImageBlock, fastai.CategoryBlock),
        get_items=lambda _: table,
        splitter=fastai.IndexSplitter(range(len(paths["train"]), len(table))),
        get_y=fastai.parent_label,
        item_tfms=fastai.RandomResizedCrop(SPLITS["image_size"], min_scale=0.5),
        batch_tfms=fastai.aug_transforms(),
    )
    loaders = block.dataloaders(root, bs=SPLITS["batch_size"], num_workers=0)
    learner = fastai.vision_learner(
        loaders, ARCHITECTURE, metrics=fastai.accuracy, pretrained=False, normalize=False
    )
    load_weights(learner.model[0].model, WEIGHTS, model_name=ARCHITECTURE)
    loaders.add_tfms([fastai.Normalize.from_stats([0.5] * 3, [0.5] * 3, cuda=False)], "after_batch")
    learner.freeze()
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(3)
        seconds = time.perf_counter() - started
        unseen = loaders.test_dl(paths["test"], with_labels=True)
        _, accuracy = learner.validate(dl=unseen)
    return seconds, float(accuracy)


def test_a_head_on_features_is_ten_times_faster_than_fastai_and_more_accurate(
    photos: str, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fastai is None:
        pytest.skip("fastai is not installed beside us")
    monkeypatch.setenv("FASTRECIPES_CACHE", str(tmp_path / "first"))
    ours = [train_head(photos)]
    theirs = fine_tune_by_fastai(photos)
    monkeypatch.setenv("FASTRECIPES_CACHE", str(tmp_path / "second"))
    ours.append(train_head(photos))
    for seconds, accuracy in ours:
        print(f"ours: {seconds:.1f} s, {accuracy:.2%}")
    print(f"fastai's fine_tune(3): {theirs[0]:.1f} s, {theirs[1]:.2%}")
    for seconds, accuracy in ours:
        assert accuracy >= 0.975
        assert accuracy > theirs[1]
        assert theirs[0] / seconds >= 10


def test_four_views_cost_five_plain_passes(photos: str) -> None:
    # As the command does; without it a third of the CPU's time goes to clearing pages.
    keep_freed_memory()
    images = ImageFolderDataModule(photos, **SPLITS | {"augmentation": "side_on"})
    model = ImageClassifier(ARCHITECTURE, num_classes=2, weights=WEIGHTS)
    model.to(memory_format=torch.channels_last)

    def seconds(*callbacks: pl.Callback) -> float:
        trainer = quiet_trainer(callbacks=list(callbacks))
        started = time.perf_counter()
        trainer.test(model, datamodule=images, verbose=False)
        return time.perf_counter() - started

    seconds()  # writes the cache
    views = TestTimeAugmentation(n=4)
    ratios = []
    for _ in range(4):
        # Plain passes on both sides, together about as long, so that a noisy neighbour hits both.
        before = [seconds(), seconds()]
        merged = seconds(views)
        plain = statistics.mean([*before, seconds(), seconds()])
        print(f"plain {plain:.1f} s, with 4 views {merged:.1f} s: {merged / plain:.2f}")
        ratios.append(merged / plain)
    print(f"with 4 views / plain: {min(ratios):.2f} to {max(ratios):.2f}")
    assert statistics.median(ratios) <= 5.1
