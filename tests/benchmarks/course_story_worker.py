"""One lesson as a plain script at defaults: ``python course_story_worker.py OUT.jsonl fashion``.

Trains the head, then all layers, at 64 and at 128 pixels, each at the rate that the finder picks,
and adds a line for each step to the file. Steps that the file has are not trained again: weights
after each step are kept beside it.
``FASTRECIPES_DATA`` names a folder with ``cats_dogs/CLASS/*.jpg``, ``fashion/tags.csv`` beside
``fashion/images`` and ``mnist.npz``; solar cells are those of the package ``elpv-dataset``.
"""

import argparse
import json
import os
import random
import tempfile
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch

import lightning_fastrecipes as fr

OPTIMIZERS = {
    "adamw": "torch.optim.AdamW",
    "sgd": {"class_path": "torch.optim.SGD", "init_args": {"momentum": 0.9}},
}
QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}
SIZES = (64, 128)
Story = Callable[[int], pl.LightningDataModule]


def fashion(data: Path, folder: Path, count: int) -> Story:
    """Read photos with all their tags."""
    rows = pd.read_csv(data / "fashion/tags.csv").rename(columns={"image": "file", "tags": "label"})
    chosen = sorted(random.Random(0).sample(range(len(rows)), count))
    rows.iloc[chosen].to_csv(folder / "tags.csv", index=False)
    table = fr.LabelTable(folder=data / "fashion/images", labels=fr.Tags(separator=" "))
    return lambda size: fr.ImageCSVDataModule(
        folder / "tags.csv", table=table, image_size=size, augmentation="side_on", split=0.2
    )


def photos(data: Path, folder: Path, count: int) -> Story:
    """Read cats and dogs, as many of each."""
    for source in sorted((data / "cats_dogs").iterdir()):
        (folder / source.name).mkdir()
        for file in sorted(source.glob("*.jpg"))[: count // 2]:
            (folder / source.name / file.name).symlink_to(file.resolve())
    return lambda size: fr.ImageFolderDataModule(
        folder, image_size=size, augmentation="side_on", split=0.25
    )


def cells(data: Path, folder: Path, count: int) -> Story:
    """Read all solar cells, each with the probability of a defect."""
    labels = fr.SoftLabels(["functional", "defective"], probability_column="probability")
    table = fr.LabelTable(column_names=["file", "probability", "type"], labels=labels)
    return lambda size: fr.ImageCSVDataModule(
        "package:elpv_dataset/data/labels.csv",
        table=table,
        image_size=size,
        augmentation="top_down",
        split=0.2,
    )


def digits(data: Path, folder: Path, count: int) -> Story:
    """Read digits."""
    with np.load(data / "mnist.npz") as file:
        arrays = {name: file[name][:count] for name in ("x_train", "y_train", "x_test", "y_test")}
    return lambda size: fr.ImageArrayDataModule(arrays, image_size=size, split=0.2)


STORIES = {"fashion": fashion, "photos": photos, "cells": cells, "digits": digits}


def build(optimizer: str) -> fr.ImageClassifier:
    """Build the model of every story; the labels follow from the data."""
    return fr.ImageClassifier(
        "tf_efficientnet_lite0",
        weights="package:efficientnet-lite0",
        optim=fr.Optim(optimizer=OPTIMIZERS[optimizer]),
    )


def take_step(
    model: fr.ImageClassifier, images: pl.LightningDataModule, before: float, *, frozen: bool
) -> dict[str, Any]:
    """Find a rate, train three epochs, and return what came."""
    started = time.perf_counter()
    if frozen:
        model.freeze()
    else:
        model.unfreeze()
    found = fr.lr_find(model, images)
    lr = found.suggestion or before
    model.set_learning_rates(lr if frozen else [lr / 9, lr / 3, lr])
    trainer = pl.Trainer(**QUIET, max_epochs=3, callbacks=[fr.SGDR(1, cycle_mult=2)])
    trainer.fit(model, datamodule=images)
    metrics = trainer.callback_metrics
    return {
        "lr": lr,
        "read_by": found.read_by if found.suggestion else None,
        "score": float(metrics["val_f2" if model.label_kind == "multi" else "val_accuracy"]),
        "train_loss": float(metrics["train_loss"]),
        "val_loss": float(metrics["val_loss"]),
        "num_val": len(images.eval_dataset("val")),
        "seconds": round(time.perf_counter() - started, 1),
    }


def main() -> None:
    """Tell what the file lacks of one story."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("story", choices=STORIES)
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="adamw")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1500, help="images, both splits together")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    options = parser.parse_args()
    known = {key: getattr(options, key) for key in ("story", "optimizer", "seed", "count")}
    kept = options.out.with_suffix("." + "-".join(map(str, known.values())) + ".pt")
    lines = options.out.read_text().splitlines() if options.out.is_file() else []
    told = [row for row in map(json.loads, lines) if known.items() <= row.items()]
    model, lr = build(options.optimizer), 1e-3
    with tempfile.TemporaryDirectory() as folder:
        data = Path(os.environ["FASTRECIPES_DATA"])
        story = STORIES[options.story](data, Path(folder), options.count)
        for number, (size, frozen) in enumerate(product(options.sizes, (True, False))):
            if number < len(told):
                lr = told[number]["lr"]
                continue
            pl.seed_everything(options.seed + 10 * number, verbose=False)
            images = story(size)
            if number == len(told) > 0:  # goes on from the step before
                images.prepare_data()
                images.setup("fit")
                model.adopt_targets(images)
                model.load_state_dict(torch.load(kept))
            found = take_step(model, images, lr, frozen=frozen)
            lr = found["lr"]
            torch.save(model.state_dict(), kept)
            row = known | {"step": f"{'head' if frozen else 'all'} {size}"} | found
            print(json.dumps(row), flush=True)
            with options.out.open("a") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
