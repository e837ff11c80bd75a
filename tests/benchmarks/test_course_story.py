"""The lessons as plain scripts at defaults: no step may lose what the one before it had.

``FASTRECIPES_FASHION`` names a folder with ``tags.csv`` (``image,tags``) and ``images``,
``FASTRECIPES_PHOTOS`` one folder of photos per class, ``FASTRECIPES_DIGITS`` an ``.npz`` of digits.
``pytest -m benchmark -s tests/benchmarks/test_course_story.py`` prints a line for each step.
"""

import os
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
from helpers.trainers import QUIET

import lightning_fastrecipes as fr
from lightning_fastrecipes.functional.training.worsening import is_clearly_worse

pytestmark = pytest.mark.benchmark

OPTIMIZERS = {
    "adamw": "torch.optim.AdamW",
    "sgd": {"class_path": "torch.optim.SGD", "init_args": {"momentum": 0.9}},
}
SEEDS = (0, 1, 2)
SIZES = (64, 128)
Story = Callable[[int], pl.LightningDataModule]


def given(variable: str) -> Path:
    """Return a folder or file that the environment names."""
    path = os.environ.get(variable)
    if not path:
        pytest.skip(f"{variable} names no data")
    return Path(path)


def fashion(folder: Path) -> Story:
    """Read 1,500 photos with all their tags."""
    root = given("FASTRECIPES_FASHION")
    rows = pd.read_csv(root / "tags.csv").rename(columns={"image": "file", "tags": "label"})
    chosen = sorted(random.Random(0).sample(range(len(rows)), 1500))
    rows.iloc[chosen].to_csv(folder / "tags.csv", index=False)
    table = fr.LabelTable(folder=root / "images", labels=fr.Tags(separator=" "))
    return lambda size: fr.ImageCSVDataModule(
        folder / "tags.csv", table=table, image_size=size, augmentation="side_on", split=0.2
    )


def photos(folder: Path) -> Story:
    """Read cats and dogs."""
    root = given("FASTRECIPES_PHOTOS")
    return lambda size: fr.ImageFolderDataModule(
        root, image_size=size, augmentation="side_on", split=0.25
    )


def cells(folder: Path) -> Story:
    """Read solar cells, each with the probability of a defect."""
    pytest.importorskip("elpv_dataset")
    labels = fr.SoftLabels(["functional", "defective"], probability_column="probability")
    table = fr.LabelTable(column_names=["file", "probability", "type"], labels=labels)
    return lambda size: fr.ImageCSVDataModule(
        "package:elpv_dataset/data/labels.csv",
        table=table,
        image_size=size,
        augmentation="top_down",
        split=0.2,
    )


def digits(folder: Path) -> Story:
    """Read 2,000 digits."""
    with np.load(given("FASTRECIPES_DIGITS")) as file:
        arrays = {name: file[name][:2000] for name in ("x_train", "y_train", "x_test", "y_test")}
    return lambda size: fr.ImageArrayDataModule(arrays, image_size=size, split=0.2)


def walk(story: Story, optimizer: str, seed: int) -> list[tuple[float, int]]:
    """Train head and all layers at each size; return score and number of validation images."""
    pl.seed_everything(seed, verbose=False)
    model = fr.ImageClassifier(
        "tf_efficientnet_lite0",
        weights="package:efficientnet-lite0",
        optim=fr.Optim(optimizer=OPTIMIZERS[optimizer]),
    )
    lr, scores = 1e-3, []
    for size in SIZES:
        images = story(size)
        for choose in (model.freeze, model.unfreeze):
            choose()
            lr = fr.lr_find(model, images).suggestion or lr
            rates = lr if choose == model.freeze else [lr / 9, lr / 3, lr]
            model.set_learning_rates(rates)
            trainer = pl.Trainer(**QUIET, max_epochs=3, callbacks=[fr.SGDR(1, cycle_mult=2)])
            trainer.fit(model, datamodule=images)
            name = "val_f2" if model.label_kind == "multi" else "val_accuracy"
            score = float(trainer.callback_metrics[name])
            print(
                f"{optimizer} seed {seed}: {choose.__name__} at {size} px, lr {lr:.1e}: {score:.4f}"
            )
            scores.append((score, len(images.eval_dataset("val"))))
    return scores


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("make", [fashion, photos, cells, digits])
def test_no_step_is_worse_than_the_one_before(make, optimizer, seed, tmp_path) -> None:
    found = walk(make(tmp_path), optimizer, seed)
    for (before, _), (after, count) in pairwise(found):
        assert not is_clearly_worse(before, after, count, higher_is_better=True)
    if make is fashion and optimizer == "adamw":
        assert found[-1][0] >= 0.82
