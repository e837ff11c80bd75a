"""A recipe with ranges, and what a search of it has left."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

LR, DROPOUT = {"log_uniform": [1e-4, 1e-1]}, {"uniform": [0.0, 0.5]}


def write_table(folder: Path) -> Path:
    """Write a table of two classes that numbers tell nearly apart, and a recipe with ranges."""
    draw = np.random.default_rng(0)
    km, shop = draw.normal(size=240), np.resize(["a", "b", "c"], 240)
    late = km + 0.8 * (shop == "a") + 0.5 * draw.normal(size=240) > 0.3
    frame = pd.DataFrame({"km": km, "shop": shop, "late": np.where(late, "yes", "no")})
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_csv(folder / "late.csv", index=False)
    columns = {"target": "late", "task": "classes", "categorical": ["shop"], "continuous": ["km"]}
    document = {
        "description": "Late or not.",
        "initial_checks": False,
        "validation_guard": False,
        "report": False,
        "data": {
            "class_path": "lightning_fastrecipes.TabularDataModule",
            "init_args": {
                "source": str(folder / "late.csv"), "columns": columns, "split": {"val": 0.4},
                "batch_size": 32,
            },
        },
        "model": {
            "class_path": "lightning_fastrecipes.TabularClassifier",
            "init_args": {"network": {"layers": [8], "dropout": DROPOUT}},
        },
        "trainer": {"accelerator": "cpu", "precision": "32-true"},
        "stages": {"all": {"max_epochs": 4, "lr": LR}},
    }  # fmt: skip
    path = folder / "late.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def search_content(out: Path) -> tuple[pd.DataFrame, dict]:
    """Return the table and the choice of a search, without what depends on the machine."""
    choice = json.loads((out / "choice.json").read_text())
    choice.pop("seconds")
    return pd.read_csv(out / "trials.csv").drop(columns="seconds"), choice
