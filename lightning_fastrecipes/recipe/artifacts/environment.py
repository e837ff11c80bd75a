"""What a run happens on: versions, processes and memory."""

import ctypes
import resource
import sys
from importlib.metadata import version

import torch

from lightning_fastrecipes._lightning import rank_zero_only

PACKAGES = ("pytorch-lightning", "torch", "torchvision", "torchmetrics", "timm", "numpy", "pandas")


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that results may depend on."""
    return {name: version(name) for name in ("lightning-fastrecipes", *PACKAGES)}


def is_first_process() -> bool:
    """Return whether this is the process that writes files."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0


def leave_process_group() -> None:
    """Leave the processes that this one trained with, where it is one of several.

    A process that ends without leaving can abort: a thread of gloo may still hold a tensor of the
    last exchange, and wants the interpreter to let go of it (PyTorch, pull request 179291).
    Lightning leaves only groups of NCCL.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def keep_freed_memory() -> None:
    """Let this process reuse the memory that it frees, in place of returning it to the system.

    With glibc's own settings every large tensor is memory anew, which the system has to clear: on
    a CPU that can take longer than the arithmetic (a step of an EfficientNet-Lite0 on 32
    images of 224 px: 1.0 for 3.7 s, two cores). The process stays as large as it ever was.
    Elsewhere than with glibc nothing changes.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # Windows has no library without a name
        return
    # Numbers of malloc.h: no block in a mapping of its own, nothing returned from the heap's end.
    m_trim_threshold, m_mmap_max, never = -1, -4, -1
    set_option(m_mmap_max, 0)
    set_option(m_trim_threshold, never)


def reset_peak_memory() -> None:
    """Begin to watch the memory of the card, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory_mib() -> float:
    """Peak of the card during the stage, or of this process since it began."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)
