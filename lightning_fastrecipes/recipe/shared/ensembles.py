"""Evaluate, export and average several checkpoints of a model in place of its last weights."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_fastrecipes.data.common.files import write_atomically
from lightning_fastrecipes.nn.averaging import average_state, reestimate_batch_norm
from lightning_fastrecipes.recipe.artifacts.export_files import ENSEMBLE
from lightning_fastrecipes.recipe.artifacts.snapshots import find_snapshots
from lightning_fastrecipes.recipe.config.schema import Recipe
from lightning_fastrecipes.recipe.shared.modality import MakeTrainer
from lightning_fastrecipes.tasks.base import LayerGroupTask


def choose_members(
    recipe: Recipe, folder: Path, members: Mapping[str, Path], is_rehearsal: bool
) -> dict[str, Path]:
    """Return which checkpoints an evaluation is of.

    Args:
        recipe: The recipe, which may want its snapshots.
        folder: Run folder.
        members: Name to checkpoint of models that were trained for this.
        is_rehearsal: Whether the run is one batch of everything, which leaves no snapshots.

    Returns:
        Name to checkpoint; none where the last weights are evaluated.
    """
    if recipe.evaluation.ensemble is not None and not is_rehearsal:
        return find_snapshots(recipe, folder)
    return dict(members)


def load_average(
    paths: Iterable[Path], model: LayerGroupTask, data: Any, make_trainer: MakeTrainer
) -> None:
    """Return a model the mean weights of snapshots, and measure its batch norm anew.

    Args:
        paths: The snapshots.
        model: The model.
        data: Its datamodule, as the evaluation wants it; its clean training samples are measured,
            all of them by every process, so that all processes have the same statistics.
        make_trainer: Its trainer says where to compute.
    """
    device = make_trainer([], enable_checkpointing=False).strategy.root_device
    model.load_state_dict(average_state(_state(path) for path in paths))
    home = model.device
    model.to(device)

    def forward(batch: Any) -> None:
        model(model.transfer_batch_to_device(batch[0], device, 0))

    reestimate_batch_norm(model, data.eval_dataloader("train"), forward)
    model.to(home)


def load_member(path: Path, model: LayerGroupTask) -> None:
    """Return a model the weights of a checkpoint."""
    model.load_state_dict(_state(path))


def each_member(members: Mapping[str, Path], model: LayerGroupTask) -> Iterator[str]:
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
            load_member(path, model)
            yield name
    finally:
        model.load_state_dict(before)


def export_members(
    folder: Path,
    members: Mapping[str, Path],
    model: LayerGroupTask,
    export: Callable[[Path], None],
    note: Mapping[str, Any] | None = None,
) -> None:
    """Export every member beside the one model, and note that they predict together.

    Args:
        folder: The ``export`` folder; what it says of members of an earlier run is removed.
        members: Name to checkpoint; none where one model predicts.
        model: The model that takes their weights.
        export: Writes the model as it is into a folder.
        note: What else to note, as plain values.
    """
    (folder / ENSEMBLE).unlink(missing_ok=True)
    if not members:
        return
    for name in each_member(members, model):
        export(folder / "members" / name)
    named = {"members": [f"members/{name}" for name in members], **(note or {})}
    write_atomically(folder / ENSEMBLE, json.dumps(named, indent=2) + "\n")


def measure(
    model: LayerGroupTask,
    predictions: Tensor,
    targets: Tensor,
    logits: Tensor,
    prepare: Callable[[Any], None] = lambda _metrics: None,
) -> dict[str, float]:
    """Measure merged predictions with the metrics of the task.

    Args:
        model: The model whose metrics and loss are taken.
        predictions: What metrics see. Shape ``(rows, ...)``.
        targets: As the datamodule gives them, one row each.
        logits: Those that have these predictions, for the loss.
        prepare: Called with the metrics before they see anything.

    Returns:
        Metric name, such as ``accuracy``, to value; ``loss`` is that of the merged predictions.
    """
    metrics: Any = model.phase_metrics["test_"]
    metrics = metrics.clone().cpu()
    metrics.reset()
    for metric in metrics.values():
        # Every process holds all rows.
        metric.sync_on_compute = False
    prepare(metrics)
    metrics.update(predictions, model.metric_targets(targets))
    values = metrics.compute().items()
    found = {name.removeprefix("test_"): float(value) for name, value in values}
    return {"loss": float(model.loss(logits, targets)), **found}


def _state(path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    return state
