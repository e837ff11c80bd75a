"""The filters of the first convolution of a network, before and after training."""

from typing import Any

import torch
from torch import Tensor, nn

from lightning_fastrecipes.nn.weights import read_checkpoint
from lightning_fastrecipes.reporting.finished_run import FinishedRun
from lightning_fastrecipes.reporting.looks.maps import pack

_MOST = 64
_COLOURS = 3


def first_filters(model: Any, run: FinishedRun | None) -> dict[str, Any]:
    """Return the filters that changed most, and in words what they are compared with."""
    found = first_convolution(model)
    if found is None:
        return {"told": ["The network has no convolution of images: there are no filters."]}
    name, layer = found
    after = layer.weight.detach().float().cpu()
    before, told = _before(run, name)
    if before is not None and before.shape != after.shape:
        before, told = None, "The weights before training are of another network."
    is_colour = after.shape[1] == _COLOURS
    lines = [f"`{name.removeprefix('backbone.model.')}`. {told}"]
    if not is_colour and after.shape[1] > 1:
        lines.append(f"Each is the mean over its {after.shape[1]} channels.")
    change = torch.zeros(len(after))
    if before is not None:
        norms = before.flatten(1).norm(dim=1).clamp_min(1e-12)
        change = (after - before).flatten(1).norm(dim=1) / norms
        lines.append(
            f"They changed by {100 * change.median():.2g} % in the middle, and"
            f" {100 * change.max():.2g} % at most."
            if change.any()
            else "None has changed: the layer was not trained."
        )
    order = change.argsort(descending=True, stable=True)[:_MOST].tolist()
    if len(after) > len(order):
        lines.append(f"{len(order)} of {len(after)} are shown.")
    items = [
        {
            "number": number,
            "change": None if before is None else change[number].item(),
            "before": None if before is None else _packed(before[number], is_colour=is_colour),
            "after": _packed(after[number], is_colour=is_colour),
        }
        for number in order
    ]
    return {"told": lines, "colour": is_colour, "items": items}


def first_convolution(model: Any) -> tuple[str, nn.Conv2d] | None:
    """Return the first convolution of a task's network, by its name in the task."""
    for name, module in model.named_modules():
        if name.startswith("backbone.model") and isinstance(module, nn.Conv2d):
            return name, module
    return None


def _packed(weight: Tensor, *, is_colour: bool) -> dict[str, Any]:
    """Return a filter as a grid: the channels of colours one below the other."""
    return pack(weight.flatten(0, 1) if is_colour else weight.mean(dim=0))


def _before(run: FinishedRun | None, name: str) -> tuple[Tensor | None, str]:
    """Return the weights before training, and what is known of them."""
    if run is None:
        return None, (
            "An export does not hold the weights that training began with. Name the run folder to"
            " compare with them."
        )
    if run.start is not None:
        kind = "the pretrained weights" if run.start.backbone.pretrained else "random weights"
        layer = run.start.get_submodule(name)
        return layer.weight.detach().float().cpu(), f"Before training they were {kind}."
    stage = run.recipe.stages[0].name
    path = run.folder.checkpoint(stage)
    key = f"{name}.weight"
    state = read_checkpoint(path, mmap=True)["state_dict"] if path.is_file() else {}
    if key not in state:
        return None, f"The weights before training are not to be had: {run.missing}"
    return state[key].float(), (
        f"The weights before training are not to be had; compared with those after stage {stage}."
    )
