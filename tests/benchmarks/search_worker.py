"""A search beside full trials of random values: `python search_worker.py TASK FOLDER COUNT`.

Prints a line of JSON: processor seconds and the accuracy on rows that neither has looked at, of
the search and of the best of COUNT full trials. TASK is ``digits`` (a table) or ``cells`` (images);
of ``heads`` it says what 64 heads take together, and one by one, of which COUNT are trained.
"""

import json
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.functional.ranges import best_first
from lightning_fastrecipes.recipe.config.documents import Place
from lightning_fastrecipes.recipe.config.merging import searched_document
from lightning_fastrecipes.searching.definition import Definition, define
from lightning_fastrecipes.searching.stacked import train_heads
from lightning_fastrecipes.searching.trials import PausingRun, Trial

NUM_FULL, NUM_HEADS = 60, 64
SAME = {
    "report": False, "initial_checks": False, "validation_guard": False,
    "trainer": {"accelerator": "cpu", "precision": "32-true"},
}  # fmt: skip


def callback(name: str, **arguments: Any) -> dict:
    return {"class_path": f"lightning_fastrecipes.{name}", "init_args": arguments}


def digits(folder: Path) -> dict:
    """1,797 digits of 8 x 8 pixels as a table."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    names = [f"p{number}" for number in range(pixels.shape[1])]
    frame = pd.DataFrame(pixels, columns=names).assign(digit=[f"d{label}" for label in labels])
    frame.to_csv(folder / "digits.csv", index=False)
    return {
        "description": "Digits as a table.",
        "data": {
            "class_path": "lightning_fastrecipes.TabularDataModule",
            "init_args": {
                "source": str(folder / "digits.csv"),
                "columns": {"target": "digit", "task": "classes", "continuous": names},
                "split": {"val": 0.2, "test": 0.3, "stratify": "digit"},
                "batch_size": 16,
            },
        },
        "model": {
            "class_path": "lightning_fastrecipes.TabularClassifier",
            "init_args": {
                "network": {
                    "layers": {"choice": [[50], [200, 100]]},
                    "dropout": {"uniform": [0.0, 0.6]},
                },
                "optim": {"weight_decay": {"log_uniform": [1e-4, 1.0]}},
            },
        },
        "stages": {
            "all": {
                "max_epochs": 27,
                "lr": {"log_uniform": [1e-5, 1e-1]},
                "callbacks": [callback("SGDR", cycle_len=27)],
            }
        },
    }


def cells(_: Path) -> dict:
    """Solar cells, a head of two layers on features of 96 pixels."""
    return {
        "description": "Solar cells.",
        "data": {
            "class_path": "lightning_fastrecipes.ImageCSVDataModule",
            "init_args": {
                "csv": "package:elpv_dataset/data/labels.csv",
                "table": {
                    "column_names": ["file", "probability", "type"],
                    "labels": {
                        "classes": ["functional", "defective"],
                        "probability_column": "probability",
                    },
                    "stratify_by": ["probability", "type"],
                },
                "split": {"val": 0.25, "test": 0.25},
                "image_size": 96,
                "batch_size": 16,
                "geometry": {"resize": "squish"},
            },
        },
        "model": {
            "class_path": "lightning_fastrecipes.ImageClassifier",
            "init_args": {
                "backbone": "tf_efficientnet_lite0",
                "weights": "package:efficientnet-lite0",
                "head": {"layout": "course", "dropout": {"uniform": [0.0, 0.8]}},
                "optim": {"weight_decay": {"log_uniform": [1e-4, 1.0]}},
            },
        },
        "stages": {
            "head": {
                "max_epochs": 18,
                "freeze_to": -1,
                "lr": {"log_uniform": [1e-5, 1e-1]},
                "precompute": True,
                "callbacks": [callback("SGDR", cycle_len=18)],
            }
        },
    }


def full_trials(definition: Definition, folder: Path, count: int) -> dict:
    """Train random values in full, and measure the best one on the test split."""
    draw, started = np.random.default_rng(0), time.process_time()
    epochs = None
    figures, trials = {}, {}
    for number in range(count):
        values = definition.values(draw.random(len(definition.ranges)).tolist())
        trial = trials[number] = Trial(number, folder / str(number), values)
        recipe = definition.recipe(values, trial.folder / "recipe.yaml")
        epochs = recipe.stages[-1].max_epochs
        trial.train(definition, epochs)
        found = trial.badness(0, definition.mode)
        figures.update({} if found is None else {number: found})
    seconds = time.process_time() - started
    best = trials[best_first(figures)[0]]
    recipe = definition.recipe(best.values, best.folder / "recipe.yaml")
    run = PausingRun(recipe, best.folder, epochs)
    for index in range(len(run.prepare())):
        run.run_stage(index)
    test = run.finish()["test"]["accuracy"]
    return {"seconds": seconds, "test": test, "values": best.values, "folder": str(best.folder)}


def searched(recipe: Path, out: Path) -> dict:
    started = time.process_time()
    assert main(["search", str(recipe), f"--out={out}"]) == 0
    choice = json.loads((out / "choice.json").read_text())
    values = [*choice["values"].values()]
    return {"seconds": time.process_time() - started, "test": choice["unseen"], "values": values}


def compare(task: str, folder: Path, count: int) -> dict:
    """Search, and train full trials of the same recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {"digits": digits, "cells": cells}[task](folder)
    recipe = folder / f"{task}.yaml"
    recipe.write_text(yaml.safe_dump(document | SAME, sort_keys=False))
    place = Place(recipe)
    definition = define(searched_document(place, [])[0], place, 1)
    warm = Trial(0, folder / "warm", definition.values([0.5] * len(definition.ranges)))
    warm.train(definition, 1)  # features and tables are cached for both
    found = {"search": searched(recipe, folder / "search")}
    full = full_trials(definition, folder / "full", count)
    full["seconds"] *= NUM_FULL / count
    ours, others = (
        pd.read_csv(Path(home) / "predictions_test.csv")["prediction"]
        for home in (folder / "search", full["folder"])
    )
    # Of a difference of -1, 0 or 1 a row, at most.
    error = float((ours != others).mean() / len(ours)) ** 0.5
    return found | {"full": full, "trained": count, "standard_error": error}


def heads(folder: Path, num_alone: int) -> dict:
    """Train linear heads of other rates and decays together, and some of them one by one."""
    folder.mkdir(parents=True, exist_ok=True)
    document = cells(folder) | SAME
    document["model"]["init_args"]["head"] = {"layout": "linear", "dropout": 0.0}
    path = folder / "heads.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    place = Place(path)
    definition = define(searched_document(place, [])[0], place, NUM_HEADS)
    shares = [(number + 0.5) / NUM_HEADS for number in range(NUM_HEADS)]
    values = [definition.values([1 - share, share]) for share in shares]
    train_heads(definition, values[:2], path)  # the features are computed
    started = time.process_time()
    stacked = train_heads(definition, values, path)
    together = time.process_time() - started
    started, losses = time.process_time(), []
    for number in range(0, NUM_HEADS, NUM_HEADS // num_alone):
        recipe = definition.recipe(values[number], path)
        run = PausingRun(recipe, folder / str(number), recipe.stages[0].max_epochs)
        run.prepare()
        run.run_stage(0)
        loss = run.stages[0]["metrics"]["val_loss"]
        losses.append((recipe.stages[0].lr, stacked[number].loss, loss))
    alone = (time.process_time() - started) * NUM_HEADS / len(losses)
    return {"together": together, "alone": alone, "losses": losses}


if __name__ == "__main__":
    task, home, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    with redirect_stdout(sys.stderr):
        found = heads(home, count) if task == "heads" else compare(task, home, count)
    print(json.dumps(found))
