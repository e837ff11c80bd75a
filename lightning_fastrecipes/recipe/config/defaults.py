"""What a user would set by hand, set from the machine."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn


def trainer_arguments(chosen: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """Fill up the arguments of a ``Trainer`` that a recipe leaves out.

    Args:
        chosen: What the recipe says of its trainer.
        model: What is about to be trained, frozen as it will be.

    Returns:
        The same with ``accelerator``, ``devices`` and ``precision``.
    """
    accelerator = str(chosen.get("accelerator", "auto"))
    precision = default_precision(accelerator, model)
    return {"accelerator": accelerator, "devices": 1, "precision": precision, **chosen}


def default_precision(accelerator: str, model: nn.Module) -> str:
    """Choose bfloat16 autocast where the CPU or card is faster with it, else 32 bits.

    On a CPU the gradients of depthwise convolutions take longer in bfloat16 than all else
    gains (a step of an EfficientNet-Lite0 at 160 px: 0.92 for 0.59 s, of a ResNet-18 0.37 for
    0.86 s, two cores), so that such layers train in 32 bits there. Frozen ones do not matter.

    Args:
        accelerator: Lightning's name: ``cpu``, ``gpu``, ``cuda``, ``auto`` and so on.
        model: What is about to be trained, frozen as it will be.

    Returns:
        ``bf16-mixed`` or ``32-true``.
    """
    wants_cuda = accelerator in {"auto", "gpu", "cuda"} and torch.cuda.is_available()
    if wants_cuda:
        return (
            "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
        )
    wants_cpu = accelerator == "cpu" or (accelerator == "auto" and not _has_mps())
    faster = wants_cpu and cpu_has_bfloat16() and not _trains_depthwise(model)
    return "bf16-mixed" if faster else "32-true"


def cpu_has_bfloat16() -> bool:
    """Return whether the CPU has instructions for bfloat16 (Linux; elsewhere no)."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


def _trains_depthwise(model: nn.Module) -> bool:
    return any(
        isinstance(layer, nn.Conv2d)
        and layer.groups == layer.in_channels > 1
        and layer.weight.requires_grad
        for layer in model.modules()
    )


def _has_mps() -> bool:
    return torch.backends.mps.is_available()
