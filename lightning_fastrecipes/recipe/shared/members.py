"""Checkpoints of one model that predict together: loaded one after the other, or averaged."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lightning_fastrecipes import _lightning as pl
from lightning_fastrecipes import plain
from lightning_fastrecipes.functional.splits import spread_samples
from lightning_fastrecipes.nn.averaging import average_state, reestimate_batch_norm
from lightning_fastrecipes.recipe.artifacts.reading import RUN_CURE, named_errors, read_state
from lightning_fastrecipes.tasks.base import LayerGroupTask

MakeTrainer = Callable[..., pl.Trainer]
"""Takes callbacks and arguments of ``Trainer``."""


def load_member(path: Path, model: LayerGroupTask) -> None:
    """Load the weights of a checkpoint into a model; a `DataError` if they are not its own."""
    with named_errors(path, RUN_CURE):
        model.load_state_dict(_state(path))


def each_member(members: Mapping[str, Path], model: LayerGroupTask) -> Iterator[str]:
    """Load one checkpoint after the other into a model, and yield the name of each member.

    At the end the model is as it was.
    """
    before = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        for name, path in members.items():
            load_member(path, model)
            yield name
    finally:
        model.load_state_dict(before)


def load_average(
    paths: Iterable[Path], model: LayerGroupTask, data: Any, make_trainer: MakeTrainer
) -> None:
    """Load the mean weights of snapshots into a model, and measure its batch norm anew.

    Batch norm sees the training samples without augmentation, as the evaluation has them, all of
    them in every process, so that its statistics are the same everywhere.
    """
    device = make_trainer([], enable_checkpointing=False).strategy.root_device
    model.load_state_dict(average_state(_state(path) for path in paths))
    home = model.device
    model.to(device)

    def forward(batch: Any) -> None:
        model(model.transfer_batch_to_device(batch[0], device, 0))

    loader = data.eval_dataloader("train")
    num_workers = getattr(loader, "num_workers", 0)  # a loader of tables has none
    mixed = spread_samples(loader, len(loader.dataset), num_workers=num_workers)
    reestimate_batch_norm(model, mixed, forward)
    model.to(home)


def _state(path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = read_state(path, plain.anything, RUN_CURE)["state_dict"]
    return state
