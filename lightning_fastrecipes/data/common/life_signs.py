"""Say how far work has come that takes long: a bar on a terminal, else a line now and then."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from lightning_fastrecipes._lightning import rank_zero_only

_Item = TypeVar("_Item")

FIRST_LINE, NEXT_LINES = 5.0, 20.0
"""Seconds after which the first line is written, and between the next ones."""


def track(
    items: Iterable[_Item], what: str, total: int, size: Callable[[_Item], int] = lambda _: 1
) -> Iterator[_Item]:
    """Yield items, and say on the error stream how many of ``total`` are done.

    ``what`` is what is done to what, such as ``Decoding images``; ``size`` is how many an item
    counts for. Work of a few seconds leaves no line. Only the first process says something.
    """
    # Lightning sets the number of the process, or reads it from the environment.
    if getattr(rank_zero_only, "rank", 0) != 0:
        yield from items
    elif sys.stderr.isatty():
        yield from _bar(items, what, total, size)
    else:
        yield from _lines(items, what, total, size)


def _bar(
    items: Iterable[_Item], what: str, total: int, size: Callable[[_Item], int]
) -> Iterator[_Item]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        task = progress.add_task(what, total=total)
        for item in items:
            yield item
            progress.advance(task, size(item))


def _lines(
    items: Iterable[_Item], what: str, total: int, size: Callable[[Any], int]
) -> Iterator[_Item]:
    started = time.monotonic()
    due, done = started + FIRST_LINE, 0
    for item in items:
        yield item
        done += size(item)
        now = time.monotonic()
        if now >= due and done < total:
            due = now + NEXT_LINES
            left = (now - started) / done * (total - done) if done else 0.0
            sys.stderr.write(f"{what}: {done:,} of {total:,}, about {duration(left)} left\n")
            sys.stderr.flush()


def duration(seconds: float) -> str:
    """Write a time as people say it.

    >>> duration(7.4), duration(100), duration(4000), duration(90000)
    ('7 s', '2 min', '67 min', '25 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.0f} h"
