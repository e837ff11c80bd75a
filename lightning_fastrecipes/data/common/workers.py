"""How many workers and threads this machine has room for."""

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

from lightning_fastrecipes.life_signs import track
from lightning_fastrecipes.messages import shown

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

logger = logging.getLogger(__name__)

_MAX_WORKERS = 8
_MOST_ASKED, _MOST_PER_CORE = 16, 4
_TINY = 64
_GROUP, _TIMED = 64, 2  # items for each core, and how many of them all tell how long they take
_SHORT = 300e-6  # seconds: below it, threads that wait for Python's lock take longer than one


def num_cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def num_loader_workers(num_images: int, num_local_processes: int = 1) -> int:
    """Choose how many workers a loader gets, leaving a core to each training process.

    Below 64 images there are none: they cost more than they bring. Else there are 1 to 8.

    >>> num_loader_workers(10)
    0
    """
    if num_images < _TINY:
        return 0
    return max(1, min(_MAX_WORKERS, num_cores() // num_local_processes - 1))


def bounded_workers(asked: int) -> int:
    """Return as many workers as were asked for, but no more than 16 or four per core.

    A recipe of a larger machine, or of a stranger, would fill the memory of this one.
    """
    most = max(_MOST_ASKED, _MOST_PER_CORE * num_cores())
    if asked > most:
        _say_fewer(asked, most)
    return min(asked, most)


@cache
def _say_fewer(asked: int, most: int) -> None:
    logger.warning(
        "`num_workers` is %d in place of %s, since this machine has %d cores. The numbers are the"
        " same with any.",
        most,
        shown(asked),
        num_cores(),
    )


def map_threads(
    function: Callable[[_Item], _Result], items: Sequence[_Item], what: str | None = None
) -> list[_Result]:
    """Call a function on every item, and return the results in order.

    There is a thread per core, but for items so short, as images of 64 pixels are, that threads
    would only wait for one another: two of each 64 per core tell.

    ``what`` is what a life sign calls it, such as ``Checking images``; there is none if ``None``.
    """
    with ThreadPoolExecutor(num_cores()) as threads:
        found = _mapped(function, items, threads)
        return list(found if what is None else track(found, what, len(items)))


def _mapped(
    function: Callable[[_Item], _Result], items: Sequence[_Item], threads: ThreadPoolExecutor
) -> Iterator[_Result]:
    group = _GROUP * num_cores()
    for start in range(0, len(items), group):
        timed, rest = start + _TIMED, min(start + group, len(items))
        began = time.perf_counter()
        first = [function(item) for item in items[start:timed]]
        is_short = time.perf_counter() - began < _SHORT * len(first)
        yield from first
        others = items[timed:rest]
        yield from map(function, others) if is_short else threads.map(function, others)
