"""Checkpoints of a run, written as a whole on the disk of its folder."""

import io
from pathlib import Path
from typing import Any

import torch
from typing_extensions import override

from lightning_fastrecipes._lightning import TorchCheckpointIO
from lightning_fastrecipes.data.common.files import atomic_path, check_room
from lightning_fastrecipes.recipe.artifacts.run_folder import RunFolder


class WholeCheckpoints(TorchCheckpointIO):
    """Replace a checkpoint by a new one once that is whole, and beside it: never across disks.

    Lightning writes to a temporary folder, and half a file may take the place of the last good one
    if that is on another disk.
    """

    @override
    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)
        target = Path(path)
        with atomic_path(target) as temporary:
            check_room(target.parent, content.getbuffer().nbytes)
            temporary.write_bytes(content.getbuffer())


def check_room_for_stage(
    folder: RunFolder, stage: str, model: torch.nn.Module, *, averages: bool = False
) -> None:
    """Raise `NoRoomError`, before a stage is trained, if its disk has no room for a checkpoint.

    Before the first one, an optimizer is taken to keep two numbers for each trained weight;
    ``averages`` says whether the average and the weights as trained are written besides.
    """
    checkpoint = folder.checkpoint(stage)
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    trained = 5 if averages else 3
    weights = [(p.nbytes, trained if p.requires_grad else 1) for p in model.parameters()]
    expected = sum(num_bytes * times for num_bytes, times in weights)
    check_room(checkpoint.parent, expected)
