"""What every report has: results with intervals and baselines, curves, time, recipe, versions."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from lightning_fastrecipes import plain
from lightning_fastrecipes.functional.intervals import Interval
from lightning_fastrecipes.recipe.artifacts.history import read_history
from lightning_fastrecipes.recipe.artifacts.reading import RUN_CURE, read_json
from lightning_fastrecipes.recipe.config.documents import dump_document
from lightning_fastrecipes.reporting import blocks
from lightning_fastrecipes.reporting.blocks import Block
from lightning_fastrecipes.reporting.finished_run import SPLITS, FinishedRun

_MOST_POINTS = 400
_CURVE = plain.keys({"lrs": plain.items(plain.anything), "losses": plain.items(plain.anything)})

Measured = Mapping[str, Mapping[str, Interval]]
"""By split and metric: where the true value lies with 95 % confidence."""
Baselines = Mapping[str, Mapping[str, Mapping[str, float]]]
"""By split and name of a baseline: its metrics."""


def results_blocks(run: FinishedRun, intervals: Measured, baselines: Baselines) -> list[Block]:
    """Return the measured metrics beside their intervals and the baselines."""
    names = list(dict.fromkeys(name for found in baselines.values() for name in found))
    rows = []
    for split in SPLITS:
        size = len(run.predictions.get(split, ()))
        for name, value in run.results[split].items():
            low, high = intervals.get(split, {}).get(name, (None, None))
            others = [baselines.get(split, {}).get(base, {}).get(name) for base in names]
            between = None if low is None or high is None else f"{low:.4g} to {high:.4g}"
            rows.append([split, size or None, name, value, between, *others])
    note = (
        "Nothing was measured on the test split but these figures; the validation split was there"
        " to choose by. Where a column of an interval is empty, the metric has none here."
    )
    title = "Results, with 95 % confidence intervals"
    found = blocks.table(
        title, ["split", "rows", "metric", "value", "95 % interval", *names], rows, note
    )
    return [found] if found else [blocks.text("The evaluation measured nothing.")]


def history_of(run: FinishedRun) -> tuple[pd.DataFrame, str]:
    """Return the rows of the epochs, and a remark if they are those of one seed of several."""
    if len(run.history):
        return run.history, ""
    for home in sorted(run.folder.path.glob("seed-*")):
        found = read_history(home / "metrics.csv")
        if len(found):
            return found, f"Curves of {home.name}, one of the models that predict together."
    return run.history, ""


def curve_blocks(run: FinishedRun) -> list[Block | None]:
    """Return the losses, the metrics and the rate by epoch, and the curves of rate finders."""
    history, remark = history_of(run)
    found: list[Block | None] = [blocks.text(remark)] if remark else []
    epochs = list(range(1, len(history) + 1))
    first = history["stage"].ne(history["stage"].shift())
    marks = [[place, str(name)] for place, name in zip(epochs, history["stage"], strict=True)]
    marks = [mark for mark, begins in zip(marks, first, strict=True) if begins]

    def series(column: str, name: str) -> dict[str, Any]:
        return {"name": name, "points": list(zip(epochs, history[column], strict=True))}

    losses = [(name, name.removesuffix("_loss")) for name in ("train_loss", "val_loss")]
    lines = [series(name, label) for name, label in losses if name in history]
    shared: dict[str, Any] = {"x": "epoch", "marks": marks}
    found.append(blocks.plot("Loss", lines, y="loss", **shared))
    metrics = [str(n) for n in history if str(n).startswith("val_") and n != "val_loss"]
    for name in metrics:
        metric = name.removeprefix("val_")
        lines = [series(name, "val")]
        if f"train_{metric}" in history:
            lines.insert(0, series(f"train_{metric}", "train"))
        found.append(blocks.plot(metric, lines, y=metric, **shared))
    if "lr" in history:
        line = [series("lr", "rate of the head")]
        found.append(blocks.plot("Learning rate", line, y="rate", log_y=True, **shared))
    return found + _finder_blocks(run)


def _finder_blocks(run: FinishedRun) -> list[Block | None]:
    found = []
    for path in sorted(run.folder.path.glob("lr_finder_*.json")):
        curve = read_json(path, _CURVE, RUN_CURE)
        rates, losses = curve["lrs"], curve["losses"]
        stage = path.stem.removeprefix("lr_finder_")
        picked = curve.get("suggestion")
        marks = [[picked, f"{picked:.2g}"]] if picked else []
        series = [{"name": "loss", "points": list(zip(rates, losses, strict=False))}]
        title = f"Rate finder of the stage {stage}"
        found.append(
            blocks.plot(title, series, x="learning rate", y="loss", log_x=True, marks=marks)
        )
    return found


def time_blocks(run: FinishedRun) -> list[Block | None]:
    """Return where the time of the training went."""
    stages = run.results["stages"]
    total = sum(float(stage["seconds"]) for stage in stages)
    rows = []
    for stage in stages:
        speed = next((stage[name] for name in stage if name.endswith("_per_second")), None)
        share = 100 * float(stage["seconds"]) / total if total else None
        rows.append(
            [
                stage["name"], stage.get("epochs"), stage["seconds"], share, speed,
                stage.get("image_size"), stage.get("batch_size"), stage.get("peak_memory_mib"),
            ]
        )  # fmt: skip
    columns = [
        "stage", "epochs", "seconds", "% of the time", f"{_unit(run)} a second", "image size",
        "batch size", "memory (MiB)",
    ]  # fmt: skip
    filled = [any(row[place] is not None for row in rows) for place in range(len(columns))]
    kept = [column for column, is_there in zip(columns, filled, strict=True) if is_there]
    cells = [[cell for cell, is_there in zip(row, filled, strict=True) if is_there] for row in rows]
    return [blocks.table(f"Time: {total:,.0f} seconds of training", kept, cells)]


def recipe_blocks(run: FinishedRun) -> list[Block | None]:
    """Return the resolved recipe and the versions of the packages."""
    versions = run.results.get("versions") or {}
    content = dump_document(run.recipe.source)
    return [
        blocks.code("The recipe, as it was run", content),
        blocks.table("Versions", ["package", "version"], sorted(versions.items())),
    ]


def thinned(points: Sequence[Any], most: int = _MOST_POINTS) -> list[Any]:
    """Return at most so many points, evenly spread and with the last.

    >>> thinned(list(range(10)), 4)
    [0, 3, 6, 9]
    """
    if len(points) <= most:
        return list(points)
    step = (len(points) - 1) / (most - 1)
    return [points[round(place * step)] for place in range(most)]


def _unit(run: FinishedRun) -> str:
    return "rows" if run.is_table else "images"
