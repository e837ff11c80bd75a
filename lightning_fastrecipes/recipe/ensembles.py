"""Evaluate, export and average several checkpoints of a model in place of its last weights."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_fastrecipes.data.files import write_atomically
from lightning_fastrecipes.data.image import ImageDataModule
from lightning_fastrecipes.nn.averaging import average_state, reestimate_batch_norm
from lightning_fastrecipes.recipe.export import export_model, named_thresholds
from lightning_fastrecipes.recipe.export_files import ENSEMBLE
from lightning_fastrecipes.tasks.image import ImageClassifier


def load_average(
    paths: Iterable[Path], model: ImageClassifier, images: ImageDataModule, device: torch.device
) -> None:
    """Give a model the mean weights of snapshots, and measure its batch norm anew.

    Args:
        paths: The snapshots.
        model: The model.
        images: Its datamodule, at the size of the evaluation; its clean training pictures are
            measured, all of them by every process, so that all processes have the same statistics.
        device: Where to compute.
    """
    model.load_state_dict(average_state(_state(path) for path in paths))
    home = model.device
    model.to(device)
    batches = images.eval_dataloader("train")
    reestimate_batch_norm(model, batches, lambda batch: model(batch[0].to(device)))
    model.to(home)


def each_member(members: Mapping[str, Path], model: ImageClassifier) -> Iterator[str]:
    """Load one checkpoint after the other into a model, and leave it as it was at the end.

    Args:
        members: Name to checkpoint.
        model: The model that takes their weights.

    Yields:
        Name of the member that is loaded.
    """
    before = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        for name, path in members.items():
            model.load_state_dict(_state(path))
            yield name
    finally:
        model.load_state_dict(before)


def export_members(
    folder: Path,
    members: Mapping[str, Path],
    model: ImageClassifier,
    images: ImageDataModule,
    views: Mapping[str, Any],
) -> None:
    """Export every member beside the last weights, and note that they predict together.

    With several labels the thresholds of the model, tuned on what they predict together, are noted.

    Args:
        folder: The ``export`` folder.
        members: Name to checkpoint.
        model: The model that takes their weights.
        images: Its datamodule, at the size of the evaluation.
        views: As ``describe_views`` gives them.
    """
    note: dict[str, Any] = {"members": [f"members/{name}" for name in members]}
    if model.thresholds is not None:
        note["thresholds"] = named_thresholds(model)
    for name in each_member(members, model):
        export_model(folder / "members" / name, model, images, views)
    write_atomically(folder / ENSEMBLE, json.dumps(note, indent=2) + "\n")


def measure(model: ImageClassifier, probabilities: Tensor, targets: Tensor) -> dict[str, float]:
    """Measure merged predictions with the metrics of the task.

    Args:
        model: The model whose metrics and loss are taken.
        probabilities: Merged predictions. Shape ``(rows, num_classes)``.
        targets: Class indices or probabilities, one row each.

    Returns:
        Metric name, such as ``accuracy``, to value; ``loss`` is that of the merged predictions.
    """
    metrics: Any = model.phase_metrics["test_"]
    metrics = metrics.clone().cpu()
    metrics.reset()
    for metric in metrics.values():
        # Every process holds all rows.
        metric.sync_on_compute = False
    model.fix_thresholds(metrics)
    metrics.update(probabilities, model.metric_targets(targets))
    logits = model.rules.logits(probabilities)
    values = metrics.compute().items()
    found = {name.removeprefix("test_"): float(value) for name, value in values}
    return {"loss": float(model.loss(logits, targets)), **found}


def _state(path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    return state
