"""A page on which an image walks through a trained network, layer by layer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.labels.decisions import choose_thresholds
from lightning_fastrecipes.messages import shown
from lightning_fastrecipes.nn.walks import MOST_CHANNELS, Step, Walk, walk
from lightning_fastrecipes.recipe.artifacts.export_files import member_folders
from lightning_fastrecipes.recipe.artifacts.run_folder import RunFolder
from lightning_fastrecipes.recipe.images.export import load_export
from lightning_fastrecipes.reporting import blocks
from lightning_fastrecipes.reporting.finished_run import FinishedRun, read_run
from lightning_fastrecipes.reporting.image_looks import thumbnail
from lightning_fastrecipes.reporting.looks.exciting import Excited, find_exciting
from lightning_fastrecipes.reporting.looks.filters import first_filters
from lightning_fastrecipes.reporting.looks.maps import MOST_MAP_BYTES, pack, smaller
from lightning_fastrecipes.reporting.looks.served import served_image
from lightning_fastrecipes.reporting.page import render_data
from lightning_fastrecipes.trust import Trust

_LARGEST_SIDE = 128
_WITH_INPUT = 4
"""Channels of a pooling whose input is shown as well."""
_SERVED_SIDE = 320
_FARTHEST = 8
_CURVES = 5


@dataclass
class _Looked:
    """What a network is, and what it does with the image."""

    model: Any
    names: list[str]
    image: Tensor
    walk: Walk
    excited: Excited
    thresholds: Mapping[str, float]
    notes: list[str] = field(default_factory=list)


def layers_page(
    run: str | Path, image: str | Path, *, num_images: int | None = None, trust: Trust = ()
) -> str:
    """Return a page on which an image walks through a trained network.

    It shows what each layer gives, channel by channel; the training images that excite a channel
    most; the filters of the first convolution, before and after training; how max pooling chooses;
    how the softmax decides; and the probabilities while the image is shifted.

    Args:
        run: A run folder, or an export, which knows no training images and no earlier weights. Of
            several models the first is taken.
        image: The image.
        num_images: How many training images are looked at, at least 1; ``None`` takes as many as
            the network can see in some seconds, at most 256.
        trust: Modules whose networks the export may name, besides those of known packages.

    Returns:
        The page, as HTML in one file.

    Raises:
        DataNotFoundError: If there is no export, or no such image.
        DataError: If the image cannot be read, the run is not one of images, or is damaged.
    """
    path = Path(run)
    pixels = served_image(path, image)
    members = member_folders(path)
    model, description = load_export(members[0], trust=trust)
    served = pixels.to(model.device)
    folder = RunFolder(path)
    is_run = folder.recipe.is_file() and folder.results.is_file()
    finished = read_run(path, trust) if is_run else None
    found = walk(model, served, names=names_in(model))
    known: Any = getattr(model, "classes", None) or getattr(model, "number_names", ())
    looked = _Looked(
        model,
        list(known),
        served,
        found,
        find_exciting(finished, model, found.steps, names_in(model), num_images),
        choose_thresholds(description, with_views=False) or {},
    )
    if len(members) > 1:
        looked.notes.append(f"{shown(str(path))} holds {len(members)} models; this is the first.")
    content = _content(looked, finished)
    side = served.shape[-1]
    content["told"] = (
        f"{Path(image).name} in {model.backbone.name} of {path.name}, which sees it at"
        f" {side} x {side} pixels. Plain predictions, without views."
    )
    content["image"] = {"name": Path(image).name, "thumb": thumbnail(served[0], _SERVED_SIDE)}
    return render_data("Layers", content, ["layers.js"])


def names_in(model: Any) -> Callable[[str], str]:
    """Return how a module of a task is called here; nothing if its parts alone count."""
    is_whole = not any(True for _ in model.backbone.model.children())

    def name(own: str) -> str:
        if own == "backbone.model":
            return type(model.backbone.model).__name__ if is_whole else ""
        if own == "backbone" or not own.startswith(("backbone.model.", "head")):
            return ""
        return own.removeprefix("backbone.model.")

    return name


def _content(looked: _Looked, finished: FinishedRun | None) -> dict[str, Any]:
    steps, left = looked.walk.steps, looked.walk.left_out
    notes = [*looked.notes]
    if not steps:
        raise DataError("The network must have layers that give maps or numbers, but has none.")
    if left:
        more = f" and {len(left) - 5} others" if len(left) > 5 else ""
        notes.append(
            f"Left out, since they give no maps, tokens or numbers: {', '.join(left[:5])}{more}."
        )
    if not any(isinstance(step.module, nn.MaxPool2d) for step in steps):
        notes.append("The network has no layer of max pooling.")
    notes.append(looked.excited.told)
    return {
        "notes": notes,
        "most": MOST_CHANNELS,
        "steps": _steps(looked),
        "images": looked.excited.images,
        "filters": first_filters(looked.model, finished),
        **_decided(looked),
    }


def _steps(looked: _Looked) -> list[dict[str, Any]]:
    """Return the steps, with maps so small that all have room."""
    side = _LARGEST_SIDE
    while True:
        found = [_step(looked, place, step, side) for place, step in enumerate(looked.walk.steps)]
        size = sum(
            len(one[name]["values"])
            for step in found
            for one in step["channels"]
            for name in ("map", "taken")
            if one[name]
        )
        if size <= MOST_MAP_BYTES or side <= 7:
            return found
        side //= 2


def _step(looked: _Looked, place: int, step: Step, side: int) -> dict[str, Any]:
    maps, factor = smaller(step.maps, side)
    # A window of the input is seen where no pixel is a mean of several.
    taken = step.taken if factor == 1 else None
    name, run = step.key
    best = looked.excited.best
    channels = [
        {
            "number": number,
            "peak": step.maps[row].max().item(),
            "map": pack(maps[row]),
            "taken": pack(taken[row]) if taken is not None and row < _WITH_INPUT else None,
            "best": best[place][row] if best else [],
        }
        for row, number in enumerate(step.channels)
    ]
    return {
        "name": f"{name}, run {run + 1}" if run else name,
        "kind": type(step.module).__name__,
        "shape": step.shape,
        "factor": factor,
        "channels": channels,
        "window": _window(step.module) if taken is not None else None,
    }


def _window(pool: Any) -> dict[str, list[int]]:
    names = {"size": "kernel_size", "stride": "stride", "padding": "padding"}
    numbers = {short: getattr(pool, name) for short, name in names.items()}
    numbers["dilation"] = pool.dilation
    return {
        name: [value, value] if isinstance(value, int) else list(value)
        for name, value in numbers.items()
    }


@torch.no_grad()
def _decided(looked: _Looked) -> dict[str, Any]:
    """Return how the outputs become a decision, and what they are as the image is shifted."""
    model, image = looked.model, looked.image
    width = image.shape[-1]
    far = min(_FARTHEST, max(1, width // 4))
    shifts = list(range(-far, far + 1))
    columns = torch.arange(width, device=image.device)
    moved = [image[..., (columns - shift).clamp(0, width - 1)] for shift in shifts]
    outputs = model(image)
    values = model.probabilities(outputs).reshape(-1).float().cpu()
    found = model.probabilities(model(torch.cat(moved))).reshape(len(shifts), -1).float().cpu()
    order = values.argsort(descending=True, stable=True).tolist()
    is_number = not hasattr(model, "num_classes")
    series = [
        {"name": looked.names[place], "points": list(zip(shifts, column, strict=True))}
        for place in order[:_CURVES]
        for column in [found[:, place].tolist()]
    ]
    curve = blocks.plot(
        "As the image is shifted",
        series,
        x="pixels to the right",
        y="number" if is_number else "probability",
        **({} if is_number else {"unit_y": True}),
    )
    kind = "numbers" if is_number else str(model.label_kind)
    return {
        "kind": kind,
        "decision": _decision(kind, looked, outputs.reshape(-1).float().cpu(), values, order),
        "shifts": curve,
    }


def _decision(
    kind: str, looked: _Looked, outputs: Tensor, values: Tensor, order: list[int]
) -> Mapping[str, Any] | None:
    names, shares = looked.names, values.tolist()
    if kind == "numbers":
        return blocks.table("Numbers", ["number", "value"], zip(names, shares, strict=True))
    if kind == "multi":
        z = outputs.tolist()
        rows = [[names[k], shares[k], z[k], looked.thresholds.get(names[k])] for k in order]
        columns = ["label", "probability", "output z", "threshold"]
        note = "A probability is 1 / (1 + exp(-z)): each label is decided for itself."
        return blocks.table("Sigmoid", columns, rows, note)
    # One output that decides between two classes is that of the second, beside a 0.
    logits = outputs if len(outputs) > 1 else torch.cat([torch.zeros(1), outputs])
    powers = (logits - logits.max()).exp()
    z, power = logits.tolist(), powers.tolist()
    rows = [[names[k], shares[k], z[k], power[k]] for k in order]
    columns = ["class", "probability", "output z", "exp(z - largest z)"]
    note = f"A probability is exp(z - largest z) divided by its sum over classes, {sum(power):.4g}."
    return blocks.table("Softmax", columns, rows, note)
