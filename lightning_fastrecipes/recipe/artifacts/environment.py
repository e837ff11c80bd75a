"""What a run happens on: versions, processes and memory."""

import ctypes
import resource
import sys
from importlib.metadata import version

import torch

from lightning_fastrecipes._lightning import LIGHTNING, rank_zero_only

PACKAGES = ("torch", "torchvision", "torchmetrics", "timm", "numpy", "pandas")


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that results may depend on."""
    lightning = LIGHTNING.partition(".")[0].replace("_", "-")
    return {name: version(name) for name in ("lightning-fastrecipes", lightning, *PACKAGES)}


def default_device() -> torch.device:
    """Return the CUDA device if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def is_first_process() -> bool:
    """Return whether this is the process that writes files."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0


def leave_process_group() -> None:
    """Leave the process group of a distributed training, if there is one.

    A process that ends without leaving can abort: a thread of gloo may still hold a tensor of the
    last exchange and need the interpreter to free it (PyTorch, pull request 179291). Lightning
    leaves only groups of NCCL.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def keep_freed_memory() -> None:
    """Let this process reuse the memory that it frees instead of returning it to the system.

    By default, glibc asks the system for new memory for every large tensor, and the system has to
    clear it. On a CPU that can take longer than the arithmetic: a step of an EfficientNet-Lite0 on
    32 images of 224 px takes 1.0 s instead of 3.7 s on two cores. The process never shrinks.
    Without glibc nothing changes.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # Windows has no library without a name
        return
    # From malloc.h: no separate mapping for any block, and nothing returned from the heap's end.
    m_trim_threshold, m_mmap_max, never = -1, -4, -1
    set_option(m_mmap_max, 0)
    set_option(m_trim_threshold, never)


def reset_peak_memory() -> None:
    """Start to measure the peak memory of the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory_mib() -> float:
    """Return the peak memory of the GPU during the stage, or of this process since it started."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)
