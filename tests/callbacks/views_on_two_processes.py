"""Predict views with modules of all kinds on two gloo processes, or on one, and note the numbers.

``test_views_on_two_processes.py`` calls ``work``, and starts this script, which forks.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from helpers.processes import fork_group
from helpers.public_modules import (
    Ages,
    AutoEncoder,
    CatsAndDogs,
    Embedder,
    ImageNet,
    Masks,
    SoftmaxInside,
    Streets,
    Tags,
)
from helpers.trainers import quiet_trainer

from lightning_fastrecipes import TestTimeAugmentation

KINDS: dict[type, dict[str, Any]] = {
    ImageNet: {"outputs": "classes", "plain_weight": "learn"},
    SoftmaxInside: {"plain_weight": "learn"},
    CatsAndDogs: {"plain_weight": "learn"},
    Tags: {},
    Ages: {"outputs": "numbers"},
    Streets: {},
    Masks: {},
    Embedder: {"part": "logits"},
    AutoEncoder: {"outputs": "maps"},
}


def work(num_processes: int) -> dict[str, Any]:
    """Return what each kind measures and predicts."""
    found = {}
    strategy = {"strategy": "ddp"} if num_processes > 1 else {}
    for kind, arguments in KINDS.items():
        model, views = kind(), TestTimeAugmentation(3, "flips", **arguments)
        trainer = quiet_trainer(views, devices=num_processes, **strategy)
        measured = trainer.validate(model, kind.loader(8, 4 // num_processes), verbose=False)[0]
        predicted = trainer.predict(model, kind.loader(9, 3))
        merged = [one["probs"] if isinstance(one, dict) else one for one in predicted]
        found[kind.__name__] = (measured, torch.cat(merged), views.weight)
    return found


def note(rank: int, folder: Path) -> None:
    torch.save(work(2), folder / f"process-{rank}.pt")


if __name__ == "__main__":
    fork_group(2, note, Path(sys.argv[1]))
