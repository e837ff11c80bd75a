"""What a process of a distributed run saw; imported by recipes of ``test_two_processes.py``.

``WITNESS`` names the folder for its notes.
"""

import atexit
import json
import os
import sys
from pathlib import Path

import pytorch_lightning as pl
import torch

from lightning_fastrecipes.nn.weights import weights_digest

NOTES = Path(os.environ["WITNESS"])
RANK = os.environ.get("LOCAL_RANK", "0")
SUFFIXES = {".npy", ".json", ".csv", ".ckpt", ".safetensors", ".png", ".yaml", ".txt", ".parquet"}


def _note(kind: str, content: str) -> None:
    descriptor = os.open(NOTES / f"{kind}-{RANK}", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{content}\n".encode())
    os.close(descriptor)


def _audit(event: str, arguments: tuple) -> None:
    if event == "os.rename":
        _note("written", str(arguments[1]))
    elif event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
        path, mode = Path(os.fsdecode(arguments[0])), arguments[1] or ""
        is_temporary = path.name.startswith(".")
        if set(mode) & set("wax+") and path.suffix in SUFFIXES and not is_temporary:
            _note("written", str(path))


sys.addaudithook(_audit)
# A process that ends inside its group aborts now and then.
atexit.register(lambda: _note("in-group", str(torch.distributed.is_initialized())))


class Witness(pl.Callback):
    """Note the weights and buffers of this process at the end of a stage."""

    def __init__(self, stage: str) -> None:
        self.stage = stage

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        note = {"stage": self.stage, "weights": weights_digest(pl_module)}
        _note("weights", json.dumps(note | {"world_size": trainer.world_size}))
