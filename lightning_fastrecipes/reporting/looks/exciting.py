"""The training images that excite the channels of a network most."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from lightning_fastrecipes.life_signs import track
from lightning_fastrecipes.nn.operations import count_operations
from lightning_fastrecipes.nn.walks import Step, peaks
from lightning_fastrecipes.reporting.finished_run import FinishedRun
from lightning_fastrecipes.reporting.image_looks import thumbnail
from lightning_fastrecipes.reporting.image_report import short_name

_SHOWN = 9
_BATCH = 16
_FEWEST, _MOST = 36, 256
_WORK = 1.5e11
"""Multiply-adds that take a processor some seconds."""
_SEED = 0


@dataclass
class Excited:
    """The images of each channel of each step: places in ``images``, and the largest values.

    ``told`` says how many images were looked at, or why none.
    """

    told: str
    best: list[list[list[tuple[int, float]]]] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)


def find_exciting(
    run: FinishedRun | None,
    model: Any,
    steps: Sequence[Step],
    names: Callable[[str], str],
    num_images: int | None,
) -> Excited:
    """Look at the training images of a run, or at some of them."""
    if run is None:
        return Excited(
            "An export has no training images: those that excite a channel most are left out. Name"
            " the run folder to see them."
        )
    if run.data is None:
        return Excited(f"The training images are not to be had and left out: {run.missing}")
    dataset = run.data.eval_dataset("train")
    total = len(dataset)
    if not total:
        return Excited("The run has no training images.")
    asked = num_images or _affordable(model, run.data.image_size)
    places = np.arange(total)
    told = f"All {total:,} training images were looked at"
    if total > asked:
        places = np.sort(np.random.default_rng(_SEED).choice(total, asked, replace=False))
        told = f"{asked:,} of {total:,} training images, drawn at random, were looked at"
    told += "; a channel's images are those with its largest values."
    return _best(run, model, steps, names, dataset, places.tolist(), told)


def _affordable(model: Any, side: int) -> int:
    work = count_operations(model.backbone, side).forward
    return int(min(max(_WORK / work, _FEWEST), _MOST)) if work else _FEWEST


def _best(
    run: FinishedRun,
    model: Any,
    steps: Sequence[Step],
    names: Callable[[str], str],
    dataset: Any,
    places: list[int],
    told: str,
) -> Excited:
    """Run the images, and keep the first of each channel."""
    found = []
    batches = [places[start : start + _BATCH] for start in range(0, len(places), _BATCH)]
    for batch in track(batches, "Looking at training images", len(places), len):
        images = torch.stack([dataset[place][0] for place in batch]).to(model.device)
        found.append(peaks(model, images, steps, names))
    used = dict[int, int]()
    best = []
    for number in range(len(steps)):
        values = torch.cat([one[number] for one in found])
        order = values.argsort(dim=0, descending=True, stable=True)[:_SHOWN]
        best.append(
            [
                [
                    (used.setdefault(places[row], len(used)), values[row, channel].item())
                    for row in order[:, channel].tolist()
                ]
                for channel in range(values.shape[1])
            ]
        )
    targets = dataset.targets
    shown = [
        {
            "name": short_name(str(dataset.files[place])),
            "truth": _truth(run, targets[place]),
            "thumb": thumbnail(dataset[place][0]),
        }
        for place in used
    ]
    return Excited(told, best, shown)


def _truth(run: FinishedRun, target: Any) -> str:
    """Return the classes of an image in words; nothing of numbers, and of what has no label."""
    classes = run.description.get("classes")
    if classes is None:
        return ""
    if target.ndim == 0:
        return str(classes[int(target)]) if int(target) >= 0 else ""
    if run.description["label_kind"] != "multi":
        return str(classes[int(target.argmax())])
    return ", ".join(name for name, one in zip(classes, target, strict=True) if one >= 0.5)
