"""What a user would set by hand, set from the machine."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def trainer_arguments(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Fill up the arguments of a ``Trainer`` that a recipe leaves out.

    Args:
        chosen: What the recipe says of its trainer.

    Returns:
        The same with ``accelerator``, ``devices`` and ``precision``.
    """
    accelerator = str(chosen.get("accelerator", "auto"))
    precision = default_precision(accelerator)
    return {"accelerator": accelerator, "devices": 1, "precision": precision, **chosen}


def default_precision(accelerator: str) -> str:
    """Choose bfloat16 autocast where the processor or card computes with it, else 32 bits.

    Args:
        accelerator: Lightning's name: ``cpu``, ``gpu``, ``cuda``, ``auto`` and so on.

    Returns:
        ``bf16-mixed`` or ``32-true``.
    """
    wants_cuda = accelerator in {"auto", "gpu", "cuda"} and torch.cuda.is_available()
    if wants_cuda:
        return (
            "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
        )
    wants_cpu = accelerator == "cpu" or (accelerator == "auto" and not _has_mps())
    return "bf16-mixed" if wants_cpu and cpu_has_bfloat16() else "32-true"


def cpu_has_bfloat16() -> bool:
    """Tell whether the processor has instructions for bfloat16 (Linux; elsewhere no)."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


def _has_mps() -> bool:
    return torch.backends.mps.is_available()
